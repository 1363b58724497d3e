"""Lists of audit entries: filters, newest first, in pages (spec section 5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any, Final
from zoneinfo import ZoneInfo

from accounting.audit.documents import AuditLog
from accounting.audit.rules import AuditAction, EntityType
from accounting.clock import start_of_day
from accounting.db.paging import Order, Page, Window, count_all, list_page
from accounting.db.totals import Asked, Totals
from accounting.ids import ObjectId

NEWEST_FIRST: Final = Order("createdAt")
BY_ENTITY: Final = "entityId_1_createdAt_1__id_1"
# An entry bears the time at which its transaction began, which may be committed a minute later.
SETTLES_AFTER_SECONDS: Final = 600
ALWAYS: Final = {"$gte": datetime(1970, 1, 1, tzinfo=UTC)}
# In this order: what narrows most.
_COUNTED_BY: Final = ("entityId", "userId", "action", "entityType")


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


async def list_entries(
    wanted: AuditFilter, zone: ZoneInfo, window: Window, *, totals: Totals | None = None
) -> Page[AuditLog]:
    """A page of entries, newest first; the total is exact. Raises CursorNotValid."""
    query = wanted.to_query(zone)
    # Of one entity's few entries, any index looks good to the server, also with a sort.
    hint = BY_ENTITY if wanted.entity_id else None
    total = partial(_count, query, totals or Totals())
    return await list_page(AuditLog, query, NEWEST_FIRST, window, hint=hint, total=total)


async def _count(query: dict[str, Any], totals: Totals) -> int:
    # Millions of entries are not counted one by one only to say how many there are in all.
    if not query:
        return await count_all(AuditLog)
    name = next((name for name in _COUNTED_BY if name in query), None)
    asked = Asked(
        AuditLog,
        {field: condition for field, condition in query.items() if field != "createdAt"},
        f"{name}_1_createdAt_1__id_1" if name else "createdAt_1__id_1",
        "createdAt",
        query.get("createdAt", ALWAYS),
        settles_after_seconds=SETTLES_AFTER_SECONDS,
    )
    return await totals.count(asked)
