"""`GET /audit-logs`: who did what, for administrators (spec sections 5 and 7)."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from litestar import Controller, get
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from accounting.api.invoice_views import AuditEntryView, view_trail
from accounting.api.queries import PageCursor, PageLimit, PageNumber
from accounting.api.schemas import BodyOut, CursorOut, Pagination, check_day, pagination, parse_id
from accounting.audit.listing import AuditFilter, list_entries
from accounting.audit.rules import AuditAction, EntityType
from accounting.bootstrap import Services
from accounting.db.paging import PAGE_LIMIT_DEFAULT, to_window
from accounting.platform.user_directory import UserDirectory


class AuditLogListView(BodyOut):
    """A page of the audit trail, newest first."""

    audit_logs: list[AuditEntryView]
    pagination: Pagination
    next_cursor: CursorOut


class AuditLogController(Controller):
    """The audit trail over all entities; for admins."""

    path = "/audit-logs"
    tags = ["Audit"]

    @get(operation_id="listAuditLogs", summary="List audit entries")
    async def list_page(
        self,
        services: NamedDependency[Services],
        users: NamedDependency[UserDirectory],
        action: Annotated[list[AuditAction] | None, QueryParameter()] = None,
        entity_type: Annotated[EntityType | None, QueryParameter(name="entityType")] = None,
        entity_id: Annotated[str | None, QueryParameter(name="entityId")] = None,
        user_id: Annotated[str | None, QueryParameter(name="userId")] = None,
        from_: Annotated[date | None, QueryParameter(name="from")] = None,
        to: Annotated[date | None, QueryParameter()] = None,
        page: PageNumber = None,
        limit: PageLimit = PAGE_LIMIT_DEFAULT,
        cursor: PageCursor = None,
    ) -> AuditLogListView:
        """Newest first; days are inclusive and in the business time zone.

        Give `nextCursor` of an answer as `cursor` to read on; it is null at the end.
        """
        wanted = AuditFilter(
            actions=action or (),
            entity_type=entity_type,
            entity_id=parse_id("entityId", entity_id) if entity_id is not None else None,
            user_id=parse_id("userId", user_id) if user_id is not None else None,
            created_from=check_day("from", from_),
            created_to=check_day("to", to),
        )
        found = await list_entries(
            wanted,
            services.terms.zone,
            to_window(page, limit, cursor),
            totals=services.totals,
        )
        trail = await view_trail(users, found.items)
        return AuditLogListView(
            audit_logs=trail.audit_logs,
            pagination=pagination(found.number, found.limit, found.total),
            next_cursor=found.next_cursor,
        )
