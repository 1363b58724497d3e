"""`GET /invoices`: filters, sorts, pages and cursors (spec section 5, "Lists")."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Annotated, Final

from litestar import Controller, get
from litestar.di import NamedDependency
from litestar.params import FromQuery, QueryParameter

from accounting.api.auth import CUSTOMERS_MAY, ApiRequest
from accounting.api.invoice_views import InvoiceListView, view_invoices
from accounting.api.queries import PageCursor, PageLimit, PageNumber
from accounting.api.schemas import SortDirection, check_amount, check_day, pagination, parse_id
from accounting.bootstrap import Services
from accounting.clock import business_day
from accounting.db.paging import PAGE_LIMIT_DEFAULT, to_window
from accounting.invoices.listing import InvoiceFilter, InvoiceSort, check_search, list_invoices
from accounting.invoices.rules import InvoiceStatus

# For the document; `check_amount` refuses what money cannot be.
_AMOUNT: Final = {"pattern": r"^-?[0-9]{1,10}(\.[0-9]{1,2})?$"}


class InvoiceListController(Controller):
    """Lists of invoices: admins see all, customers their own that are not drafts."""

    path = "/invoices"
    tags = ["Invoices"]

    @get(operation_id="listInvoices", summary="List invoices", opt={CUSTOMERS_MAY: True})
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
        min_amount: Annotated[
            Decimal | None, QueryParameter(name="minAmount", schema_extra=_AMOUNT)
        ] = None,
        max_amount: Annotated[
            Decimal | None, QueryParameter(name="maxAmount", schema_extra=_AMOUNT)
        ] = None,
        overdue: FromQuery[bool | None] = None,
        q: Annotated[
            str | None,
            QueryParameter(description="Start of a number, or part of a customer's name or e-mail"),
        ] = None,
        sort_by: Annotated[InvoiceSort, QueryParameter(name="sortBy")] = InvoiceSort.CREATED_AT,
        sort_direction: Annotated[
            SortDirection, QueryParameter(name="sortDirection")
        ] = SortDirection.DESCENDING,
        page: PageNumber = None,
        limit: PageLimit = PAGE_LIMIT_DEFAULT,
        cursor: PageCursor = None,
    ) -> InvoiceListView:
        """Days are inclusive and in the business time zone; customers see their own only.

        `q` is the start of an invoice number, or a part of a customer's name, e-mail or company.
        Give `nextCursor` of an answer as `cursor` to read on; it is null at the end. Pages by
        number are counted, those by cursor are not; an empty `cursor` begins without a count.
        """
        actor, zone = request.user, services.terms.zone
        today = business_day(services.db.clock(), zone)
        wanted = InvoiceFilter(
            customer_id=parse_id("customerId", customer_id) if customer_id is not None else None,
            statuses=status or (),
            billing_period=billing_period,
            issued_from=check_day("startDate", start_date),
            issued_to=check_day("endDate", end_date),
            due_from=check_day("dueFrom", due_from),
            due_to=check_day("dueTo", due_to),
            amount_min=check_amount("minAmount", min_amount),
            amount_max=check_amount("maxAmount", max_amount),
            overdue_on=today if overdue else None,
            search=check_search(q),
        )
        if not actor.is_admin:
            wanted = replace(wanted, customer_id=actor.user_id, hides_drafts=True)
        found = await list_invoices(
            services.platform,
            wanted,
            zone,
            sort_by=sort_by,
            descending=sort_direction is SortDirection.DESCENDING,
            window=to_window(page, limit, cursor),
        )
        return InvoiceListView(
            invoices=await view_invoices(services.platform, actor, found.items, today),
            pagination=pagination(found.number, found.limit, found.total),
            next_cursor=found.next_cursor,
        )
