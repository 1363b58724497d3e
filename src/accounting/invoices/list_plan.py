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
# So few rows are sorted whatever else there is, and so few are passed over.
FEW: Final = 2_000
# So many are sorted without asking further: about 20 ms.
SORTED_MAX: Final = 20_000
# Where the estimates of more work stop: about 20 ms of reading index keys.
ESTIMATE_MAX: Final = 50_000
# What is counted one by one even where most are wanted: about 10 ms.
COUNTED_MAX: Final = 20_000
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
    def bounds(self) -> Mapping[str, Range]:
        """Every field that has a value or a range of values."""
        if self.billing_period is None:
            return self.ranges
        return {**self.ranges, "billingPeriod": {"$eq": self.billing_period}}

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
        parts: list[dict[str, Any]] = [{name: bounds} for name, bounds in self.bounds.items()]
        if self.customers is not None:
            parts.append({"userId": _one_of(self.customers, nothing=SYSTEM_USER_ID)})
        if names_all_statuses or not self.is_every_status:
            names = (status.value for status in self.statuses)
            parts.append({"status": _one_of(names, nothing="")})
        if self.due_before is not None:
            overdue = {"status": InvoiceStatus.OVERDUE.value}
            parts.append({"$or": [overdue, {"dueDate": {"$lt": self.due_before}}]})
        return {"$and": parts} if parts else {}


@dataclass(frozen=True, slots=True)
class ListPlan:
    """The query and the name of the index to read it from."""

    query: Mapping[str, Any]
    index: str


async def plan_list(
    conditions: Conditions, order: Order, *, follows_cursor: bool = False
) -> ListPlan:
    """How to read this list in this order with the least work.

    `follows_cursor`: the rows before the range have been passed over already.
    """
    query = conditions.query()
    if conditions.customers is not None and len(conditions.customers) <= MERGED_CUSTOMERS_MAX:
        return ListPlan(query, _index("userId", order.field))
    if order.field == "createdAt" and conditions.billing_period is not None:
        return ListPlan(query, _index("billingPeriod", "createdAt"))
    if order.field == "createdAt" and (days := _due_days(conditions)):
        return ListPlan({"dueDate": {"$in": days}}, _index("dueDate", "createdAt"))

    others = [name for name in conditions.bounds if name != order.field]
    for name in others:
        if await _estimate(conditions, name, conditions.bounds[name], FEW + 1) <= FEW:
            return ListPlan(query, _finding_index(conditions, name))
    for name in others:
        if await _is_less_to_sort(conditions, name, order, follows_cursor=follows_cursor):
            return ListPlan(query, _finding_index(conditions, name))
    return _in_order(conditions, order)


async def count_invoices(conditions: Conditions) -> int:
    """Exactly how many.

    Where most of very many are wanted, those that are not wanted are counted and subtracted from
    the number that the server keeps of all.
    """
    if conditions.is_narrowed_by_status_alone and InvoiceStatus.PAID in conditions.statuses:
        everything = await count_all(Invoice)
        if everything > COUNTED_MAX:
            unwanted = {"status": {"$in": sorted(frozenset(InvoiceStatus) - conditions.statuses)}}
            return everything - await count(Invoice, unwanted, hint="status_1")
    return await count(Invoice, conditions.query(), hint=_counting_index(conditions))


def _counting_index(conditions: Conditions) -> str | None:
    """The index that has most of what must be known; without a hint the server tries out all."""
    narrowing = next(iter(conditions.bounds), None)
    if conditions.customers is not None:
        has_index = narrowing is not None and narrowing != "billingPeriod"
        return _index("userId", str(narrowing) if has_index else "status")
    if conditions.due_before is not None:
        return _index("status", "dueDate")
    if narrowing is not None:
        return _finding_index(conditions, narrowing)
    return None if conditions.is_every_status else "status_1"


def _in_order(conditions: Conditions, order: Order) -> ListPlan:
    if order.is_unique and conditions.is_every_status:
        return ListPlan(conditions.query(), f"{order.field}_1")
    index = "status_1__id_1" if order.field == "status" else _index("status", order.field)
    return ListPlan(conditions.query(names_all_statuses=True), index)


async def _is_less_to_sort(
    conditions: Conditions, name: str, order: Order, *, follows_cursor: bool
) -> bool:
    """Whether to find the rows by this condition and sort them, or to read all in order.

    Sorting looks at each row found; reading in order passes over those that come before the range,
    which are many or none where both fields follow time. Where they have nothing to do with each
    other, a row of the range is soon met.
    """
    if order.field not in _IN_TIME or name not in _IN_TIME:
        return False
    bounds = conditions.bounds[name]
    before = _before(bounds, order)
    if before is None or await _estimate(conditions, name, before, FEW + 1) <= FEW:
        return False
    found = await _estimate(conditions, name, bounds, ESTIMATE_MAX)
    if found <= SORTED_MAX:
        return True
    if follows_cursor and found == ESTIMATE_MAX:
        # Only the last page reads on to the end of the index for nothing.
        return False
    passed_over = [(name, before)]
    if order.field in conditions.bounds:  # reading in order stays within its own range
        passed_over.append((order.field, conditions.bounds[order.field]))
    estimates = (_estimate(conditions, *passed, found) for passed in passed_over)
    return min(await asyncio.gather(*estimates)) >= found


async def _estimate(conditions: Conditions, name: str, bounds: Range, most: int) -> int:
    """How many rows have this field within the bounds, among the statuses; counts up to `most`."""
    among = Conditions(statuses=conditions.statuses).query()
    index = _finding_index(conditions, name)
    return await count(Invoice, {name: bounds} | among, hint=index, limit=most)


def _before(bounds: Range, order: Order) -> Range | None:
    """What lies outside the range on the side where reading in this order begins."""
    if equal := bounds.get("$eq"):
        return {"$gt" if order.is_descending else "$lt": equal}
    opposites = {"$lt": "$gte", "$lte": "$gt"} if order.is_descending else {"$gte": "$lt"}
    outside = {opposites[name]: value for name, value in bounds.items() if name in opposites}
    return outside or None


def _finding_index(conditions: Conditions, name: str) -> str:
    """The index that finds rows by this field and has what else is needed to count them."""
    if name == "billingPeriod":
        return _index("billingPeriod", "createdAt")
    if not conditions.is_every_status:
        return _index("status", name)
    return "invoiceNumber_1" if name == "invoiceNumber" else _index(name, "createdAt")


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
