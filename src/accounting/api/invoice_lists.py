"""`GET /invoices`: sorts, pages and cursors (spec section 5, "Lists")."""

from __future__ import annotations

from litestar import Controller, get
from litestar.di import NamedDependency, Provide

from accounting.api.auth import CUSTOMERS_MAY, ApiRequest
from accounting.api.invoice_filters import Direction, SortBy, provide_invoice_filter
from accounting.api.invoice_views import InvoiceListView, view_invoices
from accounting.api.queries import PageCursor, PageLimit, PageNumber
from accounting.api.schemas import SortDirection, pagination
from accounting.bootstrap import Services
from accounting.clock import business_day
from accounting.db.paging import PAGE_LIMIT_DEFAULT, to_window
from accounting.invoices.listing import InvoiceFilter, InvoiceSort, list_invoices
from accounting.platform.user_book import UserBook
from accounting.platform.user_directory import UserDirectory


class InvoiceListController(Controller):
    """Lists of invoices: admins see all, customers their own that are not drafts."""

    path = "/invoices"
    tags = ["Invoices"]
    dependencies = {"wanted": Provide(provide_invoice_filter)}

    @get(operation_id="listInvoices", summary="List invoices", opt={CUSTOMERS_MAY: True})
    async def list_page(
        self,
        request: ApiRequest,
        services: NamedDependency[Services],
        user_book: NamedDependency[UserBook],
        users: NamedDependency[UserDirectory],
        wanted: NamedDependency[InvoiceFilter],
        sort_by: SortBy = InvoiceSort.CREATED_AT,
        sort_direction: Direction = SortDirection.DESCENDING,
        page: PageNumber = None,
        limit: PageLimit = PAGE_LIMIT_DEFAULT,
        cursor: PageCursor = None,
    ) -> InvoiceListView:
        """Days are inclusive and in the business time zone; customers see their own only.

        `q` is the start of an invoice number, or a part of a customer's name, e-mail or company as
        the platform had them at most 5 seconds ago.
        Give `nextCursor` of an answer as `cursor` to read on; it is null at the end. Pages by
        number are counted, those by cursor are not; an empty `cursor` begins without a count.
        """
        found = await list_invoices(
            user_book,
            wanted,
            services.terms.zone,
            sort_by=sort_by,
            descending=sort_direction is SortDirection.DESCENDING,
            window=to_window(page, limit, cursor),
            totals=services.totals,
        )
        today = business_day(services.db.clock(), services.terms.zone)
        return InvoiceListView(
            invoices=await view_invoices(users, request.user, found.items, today),
            pagination=pagination(found.number, found.limit, found.total),
            next_cursor=found.next_cursor,
        )
