"""Lists of invoices: filters, order, pages and cursors (spec section 5, "Lists")."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final
from zoneinfo import ZoneInfo

from accounting.clock import as_stored_day, start_of_day
from accounting.db.found import Found
from accounting.db.paging import Order, Page, Window, count, read_page, row_before, walk
from accounting.db.totals import Totals
from accounting.errors import Invalid
from accounting.invoices.documents import Invoice
from accounting.invoices.list_days import Needed, Range
from accounting.invoices.list_plan import Conditions, count_invoices, plan_list, plan_page
from accounting.invoices.rules import OPEN_STATUSES, InvoiceStatus
from accounting.platform.reader import CustomerSearch
from accounting.platform.rules import UserId

SEARCH_LENGTH_MAX: Final = 100
# More would be no answer to a search; it also bounds what is sent to the database.
CUSTOMERS_FOUND_MAX: Final = 2_000


class InvoiceSort(StrEnum):
    """What a list of invoices can be ordered by."""

    CREATED_AT = "createdAt"
    INVOICE_NUMBER = "invoiceNumber"
    TOTAL_AMOUNT = "totalAmount"
    STATUS = "status"
    DUE_DATE = "dueDate"
    ISSUED_DATE = "issuedDate"
    PAID_DATE = "paidDate"


@dataclass(frozen=True, slots=True)
class InvoiceFilter:
    """Which invoices; None does not narrow. Days are inclusive and in the business zone.

    `search` is the beginning of an invoice number, or a part of the name, e-mail or company that
    the platform knows the customer by now.
    """

    customer_id: UserId | None = None
    statuses: Sequence[InvoiceStatus] = ()
    billing_period: str | None = None
    issued_from: date | None = None
    issued_to: date | None = None
    due_from: date | None = None
    due_to: date | None = None
    amount_min: Decimal | None = None
    amount_max: Decimal | None = None
    overdue_on: date | None = None
    hides_drafts: bool = False
    search: str | None = None


class SearchTooWide(Invalid):
    """The text is found in so many customers that a list of their invoices says nothing."""

    def __init__(self) -> None:
        rule = f"matches more than {CUSTOMERS_FOUND_MAX} customers; give a longer text"
        super().__init__(f"q {rule}.", errors=[("q", rule)])


async def list_invoices(
    customers: CustomerSearch,
    wanted: InvoiceFilter,
    zone: ZoneInfo,
    *,
    sort_by: InvoiceSort,
    descending: bool,
    window: Window,
    totals: Totals | None = None,
) -> Page[Found]:
    """A part of the invoices as stored, by number or by cursor; ties by id.

    Pages by number have a total, which is exact up to COUNTED_MAX invoices; where there are more,
    it is as old as what `totals` remembers.
    Raises SearchTooWide, and Invalid naming `q` or `cursor`.
    """
    totals = totals or Totals()
    conditions = await _conditions(customers, wanted, zone)
    order = _order(sort_by, descending=descending)
    total = None if window.page is None else await count_invoices(conditions, totals)
    readings = plan_page(conditions, order, _needed(order, window), totals, total=total)
    return await read_page(Invoice, readings, order, window, total=total)


async def walk_invoices(
    customers: CustomerSearch,
    wanted: InvoiceFilter,
    zone: ZoneInfo,
    *,
    sort_by: InvoiceSort,
    descending: bool,
    fields: Sequence[str],
) -> AsyncIterator[list[dict[str, Any]]]:
    """All that `list_invoices` would show on its pages, as stored, in parts; ties by id.

    The parts are read one by one, when they are asked for. Raises SearchTooWide.
    """
    conditions = await _conditions(customers, wanted, zone)
    order = _order(sort_by, descending=descending)
    # One plan for all parts, so not one that finds and sorts very many rows for each of them.
    reading = await plan_list(conditions, order, follows_cursor=True)
    return walk(Invoice, reading, order, fields=fields)


def check_search(text: str | None) -> str | None:
    """A text to search for, without blanks around it. Raises Invalid naming `q`."""
    if text is None or not text.strip():
        return None
    rule = None
    if len(text) > SEARCH_LENGTH_MAX:
        rule = f"must have at most {SEARCH_LENGTH_MAX} characters"
    elif not text.isprintable():
        rule = "must not hold control characters"
    if rule:
        raise Invalid(f"q {rule}.", errors=[("q", rule)])
    return text.strip()


def _needed(order: Order, window: Window) -> Needed:
    if window.page is not None:
        return Needed(window.page * window.limit + 1)
    row = row_before(Invoice, order, window)
    after = row[0] if row and order.field == InvoiceSort.CREATED_AT else None
    return Needed(window.limit + 1, follows_cursor=row is not None, after=after)


def _order(sort_by: InvoiceSort, *, descending: bool) -> Order:
    return Order(sort_by.value, descending, is_unique=sort_by is InvoiceSort.INVOICE_NUMBER)


async def _conditions(
    customers: CustomerSearch, wanted: InvoiceFilter, zone: ZoneInfo
) -> Conditions:
    issued: Range = {}
    if wanted.issued_from is not None:
        issued["$gte"] = start_of_day(wanted.issued_from, zone)
    if wanted.issued_to is not None:
        issued["$lt"] = start_of_day(wanted.issued_to + timedelta(days=1), zone)
    ranges = {
        "issuedDate": issued,
        "dueDate": _range(wanted.due_from, wanted.due_to, as_stored_day),
        "totalAmount": _range(wanted.amount_min, wanted.amount_max, lambda value: value),
    }
    owners: Sequence[UserId] | None = None
    if wanted.customer_id is not None:
        owners = [wanted.customer_id]
    if wanted.search is not None:
        if await _is_number_start(wanted.search):
            ranges["invoiceNumber"] = _numbers_from(wanted.search)
        else:
            owners = await _customers_found(customers, wanted.search, owners)
    statuses, due_before = _statuses(wanted), None
    if wanted.overdue_on is not None:
        if await _is_any_to_be_marked(wanted.overdue_on):
            due_before = as_stored_day(wanted.overdue_on)
        else:
            statuses &= {InvoiceStatus.OVERDUE}
    return Conditions(
        customers=owners,
        statuses=statuses,
        billing_period=wanted.billing_period,
        ranges={field: bounds for field, bounds in ranges.items() if bounds},
        due_before=due_before,
    )


def _statuses(wanted: InvoiceFilter) -> frozenset[InvoiceStatus]:
    statuses = frozenset(wanted.statuses or InvoiceStatus)
    if wanted.hides_drafts:
        statuses -= {InvoiceStatus.DRAFT}
    if wanted.overdue_on is not None:
        statuses &= OPEN_STATUSES
    return statuses


async def _is_any_to_be_marked(today: date) -> bool:
    """Whether the daily job has still to mark invoices as OVERDUE.

    Where it has been, the status says it all and an index has them in order.
    """
    past_due = {"status": InvoiceStatus.ISSUED.value, "dueDate": {"$lt": as_stored_day(today)}}
    return await count(Invoice, past_due, hint="status_1_dueDate_1__id_1", limit=1) > 0


async def _is_number_start(text: str) -> bool:
    """Whether a search means numbers: digits alone, and an invoice's number begins so."""
    if not (text.isascii() and text.isdigit()):
        return False
    found = Invoice.get_motor_collection().find_one(
        {"invoiceNumber": _numbers_from(text)}, {"_id": 1}
    )
    return await found is not None


def _numbers_from(start: str) -> Range:
    # ":" is the character after "9"; a range needs no pattern and is exact on the unique index.
    return {"$gte": start, "$lt": f"{start}:"}


async def _customers_found(
    customers: CustomerSearch, text: str, among: Sequence[UserId] | None
) -> Sequence[UserId]:
    found = await customers.find_customer_ids(text, among=among, limit=CUSTOMERS_FOUND_MAX + 1)
    if len(found) > CUSTOMERS_FOUND_MAX:
        raise SearchTooWide
    return found


def _range(least: Any, most: Any, stored: Any) -> Range:
    bounds: Range = {}
    if least is not None:
        bounds["$gte"] = stored(least)
    if most is not None:
        bounds["$lte"] = stored(most)
    return bounds
