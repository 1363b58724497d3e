"""`GET /audit-logs`: who did what, for administrators (spec sections 5 and 7)."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from litestar import Controller, get
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from accounting.api.invoice_views import AuditEntryView, view_trail
from accounting.api.schemas import BodyOut, Pagination, check_day, pagination, parse_id
from accounting.audit.listing import AuditFilter, list_entries
from accounting.audit.rules import AuditAction, EntityType
from accounting.bootstrap import Services
from accounting.db.paging import PAGE_LIMIT_DEFAULT, PAGE_LIMIT_MAX, PAGE_MAX, to_window


class AuditLogListView(BodyOut):
    """A page of the audit trail, newest first."""

    audit_logs: list[AuditEntryView]
    pagination: Pagination
    next_cursor: str | None


class AuditLogController(Controller):
    """The audit trail over all entities; for admins."""

    path = "/audit-logs"
    tags = ["Audit"]

    @get(summary="List audit entries")
    async def list_page(
        self,
        services: NamedDependency[Services],
        action: Annotated[list[AuditAction] | None, QueryParameter()] = None,
        entity_type: Annotated[EntityType | None, QueryParameter(name="entityType")] = None,
        entity_id: Annotated[str | None, QueryParameter(name="entityId")] = None,
        user_id: Annotated[str | None, QueryParameter(name="userId")] = None,
        from_day: Annotated[date | None, QueryParameter(name="from")] = None,
        to_day: Annotated[date | None, QueryParameter(name="to")] = None,
        page: Annotated[int | None, QueryParameter(ge=1, le=PAGE_MAX)] = None,
        limit: Annotated[int, QueryParameter(ge=1, le=PAGE_LIMIT_MAX)] = PAGE_LIMIT_DEFAULT,
        cursor: Annotated[str | None, QueryParameter()] = None,
    ) -> AuditLogListView:
        """Newest first; days are inclusive and in the business time zone."""
        wanted = AuditFilter(
            actions=action or (),
            entity_type=entity_type,
            entity_id=parse_id("entityId", entity_id) if entity_id else None,
            user_id=parse_id("userId", user_id) if user_id else None,
            created_from=check_day("from", from_day),
            created_to=check_day("to", to_day),
        )
        found = await list_entries(wanted, services.terms.zone, to_window(page, limit, cursor))
        trail = await view_trail(services.platform, found.items)
        return AuditLogListView(
            audit_logs=trail.audit_logs,
            pagination=pagination(found.number, found.limit, found.total),
            next_cursor=found.next_cursor,
        )
