"""Which invoices, in which order: the query parameters of the list and of the export."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Annotated, Final, TypeAlias

from litestar.di import NamedDependency
from litestar.params import FromQuery, QueryParameter

from accounting.api.auth import ApiRequest
from accounting.api.schemas import SortDirection, check_amount, check_day, parse_id
from accounting.bootstrap import Services
from accounting.clock import business_day
from accounting.invoices.listing import InvoiceFilter, InvoiceSort, check_search
from accounting.invoices.rules import InvoiceStatus

# For the document; `check_amount` refuses what money cannot be.
_AMOUNT: Final = {"pattern": r"^-?[0-9]{1,10}(\.[0-9]{1,2})?$"}

SortBy: TypeAlias = Annotated[InvoiceSort, QueryParameter(name="sortBy")]
Direction: TypeAlias = Annotated[SortDirection, QueryParameter(name="sortDirection")]


async def provide_invoice_filter(
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
) -> InvoiceFilter:
    """Which invoices the caller asks for; customers get their own that are not drafts, no others.

    Raises Invalid naming the parameter.
    """
    actor = request.user
    today = business_day(services.db.clock(), services.terms.zone)
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
    return wanted
