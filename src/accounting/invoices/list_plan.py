"""Which index serves a list of invoices.

Equality, then sort: a list that names customers or statuses is read in its order from the index of
(customer or status, sort field, id), and a list that names neither is merged from the six statuses
by the same indexes. That leaves a range of one field in the order of another, which no index
serves: either the rows in the range are read and sorted, or all rows are read in order and those
outside the range passed over. Which is less work depends on the numbers, so both are estimated by
counts on an index that stop early.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, TypeAlias

from accounting.actor import SYSTEM_USER_ID
from accounting.db.paging import Order, count, count_all
from accounting.invoices.documents import Invoice
from accounting.invoices.rules import InvoiceStatus
from accounting.platform.rules import UserId

Range: TypeAlias = dict[str, Any]

# The server merges up to 200 scans of an index into one order; beyond that it would sort.
MERGED_CUSTOMERS_MAX: Final = 100
MERGED_DAYS_MAX: Final = 190
# Where the two estimates of work stop: about 15 ms of reading index keys.
ESTIMATE_MAX: Final = 50_000
# Rows sorted rather than passing over others, when range and order have nothing to do with each
# other: then one row in (all / found) is in the range wherever the reading begins.
SORTED_MAX: Final = 2_000
# What is counted one by one even where most are wanted: about 20 ms.
COUNTED_MAX: Final = 100_000
# Fields that follow the course of time, and so each other.
_IN_TIME: Final = frozenset(
    {"createdAt", "invoiceNumber", "billingPeriod", "issuedDate", "dueDate", "paidDate"}
)
_CLOSED: Final = {"$gte", "$lte"}


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a list is narrowed by, in stored terms; `customers` None are all customers.

    `due_before`: only OVERDUE ones, and ISSUED ones that were due before that day.
    """

    customers: frozenset[UserId] | None = None
    statuses: frozenset[InvoiceStatus] = frozenset(InvoiceStatus)
    billing_period: str | None = None
    ranges: Mapping[str, Range] = field(default_factory=dict)
    due_before: datetime | None = None

    @property
    def is_every_status(self) -> bool:
        return self.statuses == frozenset(InvoiceStatus)

    @property
    def is_narrowed_by_status_alone(self) -> bool:
        return not self.ranges and self._has_ranges_and_statuses_alone

    @property
    def only_range(self) -> str | None:
        """The field whose range is the only condition besides the status, if it is so."""
        is_so = len(self.ranges) == 1 and self._has_ranges_and_statuses_alone
        return next(iter(self.ranges)) if is_so else None

    @property
    def _has_ranges_and_statuses_alone(self) -> bool:
        others = (self.customers, self.billing_period, self.due_before)
        return all(other is None for other in others)

    def query(self, *, names_all_statuses: bool = False) -> dict[str, Any]:
        """The query; an index that begins with the status needs every status to be named."""
        parts: list[dict[str, Any]] = [{name: bounds} for name, bounds in self.ranges.items()]
        if self.customers is not None:
            parts.append({"userId": _one_of(self.customers, nothing=SYSTEM_USER_ID)})
        if names_all_statuses or not self.is_every_status:
            names = (status.value for status in self.statuses)
            parts.append({"status": _one_of(names, nothing="")})
        if self.billing_period is not None:
            parts.append({"billingPeriod": self.billing_period})
        if self.due_before is not None:
            overdue = {"status": InvoiceStatus.OVERDUE.value}
            parts.append({"$or": [overdue, {"dueDate": {"$lt": self.due_before}}]})
        return {"$and": parts} if parts else {}


@dataclass(frozen=True, slots=True)
class ListPlan:
    """The query and the index to read it from; `is_sorted` when the rows found must be sorted."""

    query: Mapping[str, Any]
    index: str
    is_sorted: bool = False


@dataclass(frozen=True, slots=True)
class _Narrowing:
    """One condition of a list, the index that finds its rows, and the work that each way is.

    `found` rows meet it; `before` rows lie on the side where reading in order begins, and would be
    passed over. Both stop at ESTIMATE_MAX.
    """

    field: str
    index: str
    found: int
    before: int


async def plan_list(conditions: Conditions, order: Order) -> ListPlan:
    """How to read this list in this order with the least work."""
    query = conditions.query()
    if conditions.customers is not None and len(conditions.customers) <= MERGED_CUSTOMERS_MAX:
        return ListPlan(query, _index("userId", order.field))
    if order.field == "createdAt" and conditions.billing_period is not None:
        return ListPlan(query, _index("billingPeriod", "createdAt"))
    if order.field == "createdAt" and (days := _due_days(conditions)):
        return ListPlan({"dueDate": {"$in": days}}, _index("dueDate", "createdAt"))

    own_rows = ESTIMATE_MAX
    if order.field in conditions.ranges:
        own_rows = await _estimate(conditions, order.field, conditions.ranges[order.field])
    others = [name for name in _narrowing_fields(conditions) if name != order.field]
    measured = await asyncio.gather(*(_measure(conditions, name, order) for name in others))
    best = min(measured, key=lambda narrowing: narrowing.found, default=None)
    if best and best.found < own_rows and _is_less_to_sort(best, order):
        return ListPlan(_query_for(best.index, conditions), best.index, is_sorted=True)
    return _in_order(conditions, order)


async def count_invoices(conditions: Conditions) -> int:
    """Exactly how many.

    Where most of very many are wanted, those that are not wanted are counted and subtracted from
    the number that the server keeps of all.
    """
    if conditions.is_narrowed_by_status_alone and InvoiceStatus.PAID in conditions.statuses:
        everything = await count_all(Invoice)
        if everything > COUNTED_MAX:
            unwanted = frozenset(InvoiceStatus) - conditions.statuses
            return everything - await count(Invoice, {"status": {"$in": sorted(unwanted)}})
    only = conditions.only_range
    index = _finding_index(conditions, only) if only else None
    # No index begins with the amount; named, the statuses lead to one.
    names_all = "totalAmount" in conditions.ranges
    return await count(Invoice, conditions.query(names_all_statuses=names_all), hint=index)


def _in_order(conditions: Conditions, order: Order) -> ListPlan:
    if order.is_unique and conditions.is_every_status:
        return ListPlan(conditions.query(), f"{order.field}_1")
    index = "status_1__id_1" if order.field == "status" else _index("status", order.field)
    return ListPlan(_query_for(index, conditions), index)


def _is_less_to_sort(narrowing: _Narrowing, order: Order) -> bool:
    if narrowing.found <= SORTED_MAX:
        return True
    if not _follow_each_other(narrowing.field, order.field):
        return False
    return narrowing.found <= narrowing.before


def _follow_each_other(narrowing: str, sort: str) -> bool:
    return narrowing in _IN_TIME and sort in _IN_TIME


async def _measure(conditions: Conditions, name: str, order: Order) -> _Narrowing:
    """How many rows one condition leaves, and how many come before them in the order."""
    index = _finding_index(conditions, name)
    bounds = conditions.ranges.get(name)
    if bounds is None:
        found = await _estimate(conditions, name, conditions.billing_period)
        return _Narrowing(name, index, found, ESTIMATE_MAX)
    found, before = await asyncio.gather(
        _estimate(conditions, name, bounds),
        _estimate(conditions, name, _side(bounds, order.is_descending)),
    )
    return _Narrowing(name, index, found, before)


async def _estimate(conditions: Conditions, name: str, bounds: object) -> int:
    """How many rows have this field within the bounds, among the statuses; at most ESTIMATE_MAX."""
    if bounds is None:
        return 0
    index = _finding_index(conditions, name)
    among = Conditions(statuses=conditions.statuses)
    query = {name: bounds} | _query_for(index, among)
    return await count(Invoice, query, hint=index, limit=ESTIMATE_MAX)


def _narrowing_fields(conditions: Conditions) -> list[str]:
    fields = list(conditions.ranges)
    if conditions.billing_period is not None:
        fields.append("billingPeriod")
    return fields


def _side(bounds: Range, is_descending: bool) -> Range | None:
    """What lies beyond the range on the side where a reading in order begins."""
    opposites = {"$lt": "$gte", "$lte": "$gt"} if is_descending else {"$gte": "$lt"}
    beyond = {opposites[name]: value for name, value in bounds.items() if name in opposites}
    return beyond or None


def _finding_index(conditions: Conditions, name: str) -> str:
    """The index that finds rows by this field, if possible without reading the rows."""
    if name == "invoiceNumber" and conditions.is_every_status:
        return "invoiceNumber_1"
    if name == "billingPeriod":
        return _index("billingPeriod", "createdAt")
    if name in ("issuedDate", "dueDate") and conditions.is_every_status:
        return _index(name, "createdAt")
    return _index("status", name)


def _query_for(index: str, conditions: Conditions) -> dict[str, Any]:
    return conditions.query(names_all_statuses=index.startswith("status_"))


def _due_days(conditions: Conditions) -> list[datetime]:
    """A range of due dates as its days, which the server can merge in any order.

    None where the range is open, too long, or not all there is.
    """
    if conditions.only_range != "dueDate" or not conditions.is_every_status:
        return []
    bounds = conditions.ranges["dueDate"]
    if bounds.keys() != _CLOSED:
        return []
    days = (bounds["$lte"] - bounds["$gte"]).days + 1
    if days > MERGED_DAYS_MAX:
        return []
    return [bounds["$gte"] + timedelta(days=day) for day in range(days)]


def _index(first: str, second: str) -> str:
    """The name of the index on two fields and the id; a unique number needs no id."""
    return f"{first}_1_{second}_1" + ("" if second == "invoiceNumber" else "__id_1")


def _one_of(values: Iterable[Any], *, nothing: object) -> Any:
    # The server would plan a sort for an empty `$in`.
    listed = sorted(values) or [nothing]
    return listed[0] if len(listed) == 1 else {"$in": listed}
