"""`GET /invoices`: filters, sorts, pages and cursors (spec section 5, "Lists")."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Final

from litestar import Controller, Request, get
from litestar.di import NamedDependency
from litestar.params import FromQuery, QueryParameter

from accounting.actor import Actor
from accounting.api.auth import CUSTOMERS_MAY
from accounting.api.invoice_views import InvoiceListView, view_invoices
from accounting.api.schemas import SortDirection, check_amount, check_day, pagination, parse_id
from accounting.bootstrap import Services
from accounting.clock import business_day
from accounting.invoices.listing import InvoiceFilter, InvoiceSort, list_invoices
from accounting.invoices.rules import InvoiceStatus

PAGE_LIMIT_DEFAULT: Final = 10
PAGE_LIMIT_MAX: Final = 100
PAGE_MAX: Final = 1_000_000

ApiRequest = Request[Actor, str, Any]


class InvoiceListController(Controller):
    """Lists of invoices: admins see all, customers their own that are not drafts."""

    path = "/invoices"
    tags = ["Invoices"]

    @get(summary="List invoices", opt={CUSTOMERS_MAY: True})
    async def list_page(
        self,
        request: ApiRequest,
        services: NamedDependency[Services],
        customer_id: Annotated[str | None, QueryParameter(name="customerId")] = None,
        status: Annotated[list[InvoiceStatus] | None, QueryParameter(name="status")] = None,
        billing_period: Annotated[
            str | None,
            QueryParameter(name="billingPeriod", pattern=r"^[0-9]{4}-(0[1-9]|1[0-2])$"),
        ] = None,
        start_date: Annotated[date | None, QueryParameter(name="startDate")] = None,
        end_date: Annotated[date | None, QueryParameter(name="endDate")] = None,
        due_from: Annotated[date | None, QueryParameter(name="dueFrom")] = None,
        due_to: Annotated[date | None, QueryParameter(name="dueTo")] = None,
        min_amount: Annotated[Decimal | None, QueryParameter(name="minAmount")] = None,
        max_amount: Annotated[Decimal | None, QueryParameter(name="maxAmount")] = None,
        overdue: FromQuery[bool | None] = None,
        sort_by: Annotated[InvoiceSort, QueryParameter(name="sortBy")] = InvoiceSort.CREATED_AT,
        sort_direction: Annotated[
            SortDirection, QueryParameter(name="sortDirection")
        ] = SortDirection.DESCENDING,
        page: Annotated[int, QueryParameter(ge=1, le=PAGE_MAX)] = 1,
        limit: Annotated[int, QueryParameter(ge=1, le=PAGE_LIMIT_MAX)] = PAGE_LIMIT_DEFAULT,
    ) -> InvoiceListView:
        """Days are inclusive and in the business time zone; customers see their own only."""
        actor, zone = request.user, services.terms.zone
        today = business_day(services.db.clock(), zone)
        wanted = InvoiceFilter(
            customer_id=parse_id("customerId", customer_id) if customer_id else None,
            statuses=status or (),
            billing_period=billing_period,
            issued_from=check_day("startDate", start_date),
            issued_to=check_day("endDate", end_date),
            due_from=check_day("dueFrom", due_from),
            due_to=check_day("dueTo", due_to),
            amount_min=check_amount("minAmount", min_amount),
            amount_max=check_amount("maxAmount", max_amount),
            overdue_on=today if overdue else None,
        )
        if not actor.is_admin:
            wanted = replace(wanted, customer_id=actor.user_id, hides_drafts=True)
        invoices, total = await list_invoices(
            wanted,
            zone,
            sort_by=sort_by,
            descending=sort_direction is SortDirection.DESCENDING,
            page=page,
            limit=limit,
        )
        views = await view_invoices(services.platform, actor, invoices, today)
        return InvoiceListView(invoices=views, pagination=pagination(page, limit, total))
