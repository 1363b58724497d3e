"""`GET /customers`: the platform's customers, and where each stands (spec section 5)."""

from __future__ import annotations

from typing import Annotated

from litestar import Controller, get
from litestar.di import NamedDependency
from litestar.params import QueryParameter
from pydantic import Field

from accounting.api.invoice_views import UserView
from accounting.api.queries import PageCursor, PageLimit, PageNumber
from accounting.api.schemas import (
    BodyOut,
    CountOut,
    CursorOut,
    MoneyOut,
    Pagination,
    pagination,
)
from accounting.bootstrap import Services
from accounting.clock import business_day
from accounting.db.paging import PAGE_LIMIT_DEFAULT, to_window
from accounting.invoices.listing import check_search
from accounting.platform.rules import UserEntry, UserId
from accounting.platform.user_book import UserBook
from accounting.reports.customers import CustomerFigures, read_figures


class CustomerItemView(UserView):
    """A customer in a list; the wallet and the aging are in his balance."""

    active_miners: Annotated[CountOut, Field(examples=[5])]
    unit_price: Annotated[
        MoneyOut | None, Field(description="In effect today, per miner.", examples=["100.00"])
    ]
    outstanding: MoneyOut
    overdue: Annotated[MoneyOut, Field(examples=["250.00"])]
    open_invoices: Annotated[CountOut, Field(examples=[3])]


class CustomerListView(BodyOut):
    """A part of the customers."""

    customers: list[CustomerItemView]
    pagination: Pagination
    next_cursor: CursorOut


class CustomerListController(Controller):
    """The customers; for admins."""

    path = "/customers"
    tags = ["Customers"]

    @get(operation_id="listCustomers", summary="List customers")
    async def list_page(
        self,
        services: NamedDependency[Services],
        user_book: NamedDependency[UserBook],
        q: Annotated[
            str | None, QueryParameter(description="Part of a name, e-mail or company")
        ] = None,
        page: PageNumber = None,
        limit: PageLimit = PAGE_LIMIT_DEFAULT,
        cursor: PageCursor = None,
    ) -> CustomerListView:
        """By name in any case, then by id; users of the platform with role CLIENT, not deleted.

        Who is a customer, and his names, are as the platform had them at most 5 seconds ago; his
        miners, his price and what he owes are as of now.
        """
        found = await user_book.page(to_window(page, limit, cursor), text=check_search(q))
        today = business_day(services.db.clock(), services.terms.zone)
        figures = await read_figures(
            services.platform,
            [UserId(entry.id) for entry in found.items],
            today,
            services.terms.active_miner_statuses,
        )
        return CustomerListView(
            customers=[_view(entry, figures[UserId(entry.id)]) for entry in found.items],
            pagination=pagination(found.number, found.limit, found.total),
            next_cursor=found.next_cursor,
        )


def _view(entry: UserEntry, figures: CustomerFigures) -> CustomerItemView:
    return CustomerItemView(
        id=str(entry.id),
        name=entry.name,
        email=entry.email,
        company_name=entry.company_name,
        active_miners=figures.active_miners,
        unit_price=figures.unit_price,
        outstanding=figures.outstanding,
        overdue=figures.overdue,
        open_invoices=figures.open_invoices,
    )
