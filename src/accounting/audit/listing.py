"""Lists of audit entries: filters, newest first, in pages (spec section 5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial
from typing import Any, Final
from zoneinfo import ZoneInfo

from accounting.audit.documents import AuditLog
from accounting.audit.rules import AuditAction, EntityType
from accounting.clock import start_of_day
from accounting.db.paging import Order, Page, Window, count_all, list_page
from accounting.ids import ObjectId

NEWEST_FIRST: Final = Order("createdAt")
BY_ENTITY: Final = "entityId_1_createdAt_1__id_1"


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which entries; None does not narrow. Days are inclusive and in the business zone."""

    actions: Sequence[AuditAction] = ()
    entity_type: EntityType | None = None
    entity_id: ObjectId | None = None
    user_id: ObjectId | None = None
    created_from: date | None = None
    created_to: date | None = None

    def to_query(self, zone: ZoneInfo) -> dict[str, Any]:
        """The condition over stored names."""
        query: dict[str, Any] = {}
        if self.actions:
            query["action"] = {"$in": sorted({action.value for action in self.actions})}
        if self.entity_type is not None:
            query["entityType"] = self.entity_type.value
        if self.entity_id is not None:
            query["entityId"] = self.entity_id
        if self.user_id is not None:
            query["userId"] = self.user_id
        created = {}
        if self.created_from is not None:
            created["$gte"] = start_of_day(self.created_from, zone)
        if self.created_to is not None:
            created["$lt"] = start_of_day(self.created_to + timedelta(days=1), zone)
        return query | ({"createdAt": created} if created else {})


async def list_entries(wanted: AuditFilter, zone: ZoneInfo, window: Window) -> Page[AuditLog]:
    """A page of entries, newest first. Raises CursorNotValid."""
    query = wanted.to_query(zone)
    # Millions of entries are not counted one by one only to say how many there are in all.
    total = None if query else partial(count_all, AuditLog)
    # Of one entity's few entries, any index looks good to the server, also with a sort.
    hint = BY_ENTITY if wanted.entity_id else None
    return await list_page(AuditLog, query, NEWEST_FIRST, window, hint=hint, total=total)
