"""Which index serves a list of invoices.

Equality, then sort: a list that names customers, a month or statuses is read in its order from the
index of (customer, month or status, sort field, id), and a list that names none is merged from the
six statuses by the same indexes. That leaves a range of one field in the order of another, which no
index serves: either the rows in the range are read and sorted, or all rows are read in order and
those outside the range passed over. Which is less work depends on the numbers, so both are
estimated by counts on an index that stop early.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any, Final

from accounting.actor import SYSTEM_USER_ID
from accounting.db.paging import Order, Reading, count, count_all
from accounting.db.totals import Asked, Totals
from accounting.invoices.documents import Invoice
from accounting.invoices.list_days import (
    CreationWindow,
    DayRange,
    Needed,
    Range,
    find_windows,
)
from accounting.invoices.rules import InvoiceStatus
from accounting.platform.rules import UserId

# The server merges up to 200 scans of an index into one order; beyond that it would sort.
MERGED_CUSTOMERS_MAX: Final = 100
# So few rows are sorted whatever else there is, and so few are passed over.
FEW: Final = 2_000
# So many are sorted without asking further: about 20 ms.
SORTED_MAX: Final = 20_000
# Where the estimates of more work stop: about 20 ms of reading index keys.
ESTIMATE_MAX: Final = 50_000
# What is counted one by one even where most are wanted: about 10 ms.
COUNTED_MAX: Final = 20_000
# Fields that follow the course of time, and so each other.
_IN_TIME: Final = frozenset({"createdAt", "invoiceNumber", "issuedDate", "dueDate", "paidDate"})
_IN_PIECES: Final = frozenset({"issuedDate", "dueDate", "totalAmount"})


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a list is narrowed by, in stored terms; `customers` None are all, and none comes twice.

    `due_before`: only OVERDUE ones, and ISSUED ones that were due before that day.
    """

    customers: Sequence[UserId] | None = None
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
    def many_customers_alone(self) -> Sequence[UserId]:
        """The customers, if they are too many to be merged and the only condition."""
        is_so = (
            self.customers is not None
            and len(self.customers) > MERGED_CUSTOMERS_MAX
            and replace(self, customers=None) == Conditions()
        )
        return self.customers or () if is_so else ()

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
            names = sorted(status.value for status in self.statuses)
            parts.append({"status": _one_of(names, nothing="")})
        if self.due_before is not None:
            overdue = {"status": InvoiceStatus.OVERDUE.value}
            parts.append({"$or": [overdue, {"dueDate": {"$lt": self.due_before}}]})
        return {"$and": parts} if parts else {}


async def plan_list(
    conditions: Conditions, order: Order, *, follows_cursor: bool = False
) -> Reading:
    """How to read this list in this order, from any place on, with the least work.

    `follows_cursor`: the rows before the range have been passed over already.
    """
    found = await _by_index(conditions, order, _days(conditions, order))
    return found or await _by_all(conditions, order, follows_cursor=follows_cursor)


async def plan_page(
    conditions: Conditions,
    order: Order,
    needed: Needed,
    totals: Totals,
    *,
    total: int | None = None,
) -> AsyncGenerator[Reading, None]:
    """The same for a page: what finds its rows with less work, if it finds enough of them, first.

    `total` is how many there are in all, where that is known.
    """
    days = _days(conditions, order)
    found = await _by_index(conditions, order, days, total, totals)
    if found is None and days:
        every = _in_order(Conditions(statuses=conditions.statuses), order)
        async for window in find_windows(days, every, order, needed, totals):
            yield _within(window, conditions, order, days)
    yield found or await _by_all(conditions, order, follows_cursor=needed.follows_cursor)


async def _by_index(
    conditions: Conditions,
    order: Order,
    days: DayRange | None,
    total: int | None = None,
    totals: Totals | None = None,
) -> Reading | None:
    """Read little more than what is wanted; None where no index has it so."""
    return (
        _by_equality(conditions, order, days)
        or await _by_few(conditions, order, total, totals)
        or _by_merging(conditions, days)
    )


async def _by_all(conditions: Conditions, order: Order, *, follows_cursor: bool) -> Reading:
    """Sort all of a range, or pass over what is outside."""
    found = await _by_sorting(conditions, order, follows_cursor=follows_cursor)
    return found or _in_order(conditions, order)


def _by_equality(conditions: Conditions, order: Order, days: DayRange | None) -> Reading | None:
    """Read in order from an index that begins with a value, or some, of a condition."""
    query = conditions.query()
    if conditions.customers is not None and len(conditions.customers) <= MERGED_CUSTOMERS_MAX:
        return Reading(query, _index("userId", order.field))
    if conditions.billing_period is not None:
        return Reading(query, _index("billingPeriod", order.field))
    if days and days.merged and conditions.is_every_status:
        return Reading(_both(days.merged, query), days.index)
    return None


async def _by_few(
    conditions: Conditions, order: Order, total: int | None, totals: Totals | None
) -> Reading | None:
    """Find the rows by a condition that has but few, and sort them.

    Each condition has at least as many as all of them together, and a single one just as many.
    """
    if total is not None and total > FEW:
        return None
    if total is None and totals and totals.knows_more_than(FEW, _asked_for(conditions)):
        return None
    for name in _others(conditions, order):
        is_counted = total is not None and conditions.only_range == name
        if is_counted or await _has_few(conditions, name, conditions.bounds[name]):
            return Reading(conditions.query(), _finding_index(conditions, name))
    return None


def _by_merging(conditions: Conditions, days: DayRange | None) -> Reading | None:
    """Merge some days; other conditions are then looked at."""
    if days is None or days.merged is None:
        return None
    return Reading(_both(days.merged, conditions.query()), days.index)


def _within(
    window: CreationWindow, conditions: Conditions, order: Order, days: DayRange
) -> Reading:
    """Find what was created within a window: in order, or by looking at each day."""
    created: Range = {"createdAt": window.bounds}
    if window.is_read_in_order:
        reading = _in_order(conditions, order)
        return Reading(_both(created, reading.query), reading.index)
    return Reading(_both(days.condition, created, conditions.query()), days.index)


async def _by_sorting(
    conditions: Conditions, order: Order, *, follows_cursor: bool
) -> Reading | None:
    """Find the rows by a condition and sort them, where that is less than to read all in order."""
    for name in _others(conditions, order):
        if await _is_less_to_sort(conditions, name, order, follows_cursor=follows_cursor):
            return Reading(conditions.query(), _finding_index(conditions, name))
    return None


def _others(conditions: Conditions, order: Order) -> list[str]:
    return [name for name in conditions.bounds if name != order.field]


async def count_invoices(conditions: Conditions, totals: Totals) -> int:
    """How many; exactly, unless there are so many that the totals of this process are told.

    Where most of very many are wanted, those that are not wanted are counted and subtracted from
    the number that the server keeps of all.
    """
    if customers := conditions.many_customers_alone:
        hint = _counting_index(conditions)
        exactly = partial(count, Invoice, conditions.query(), hint=hint)
        return await totals.count_of_ids(Invoice, "userId", customers, exactly)
    if conditions.is_narrowed_by_status_alone and InvoiceStatus.PAID in conditions.statuses:
        everything = await count_all(Invoice)
        if everything > COUNTED_MAX:
            unwanted = {"status": {"$in": sorted(frozenset(InvoiceStatus) - conditions.statuses)}}
            return everything - await totals.count(Asked(Invoice, unwanted, "status_1", None, {}))
    return await totals.count(_asked_for(conditions))


def _asked_for(conditions: Conditions) -> Asked:
    """The same for a count, with the first range that can be added up from pieces by itself."""
    hint = _counting_index(conditions)
    name = next(iter(conditions.ranges), None)
    if name not in _IN_PIECES:
        return Asked(Invoice, conditions.query(), hint, None, {})
    others = {field: bounds for field, bounds in conditions.ranges.items() if field != name}
    query = replace(conditions, ranges=others).query()
    return Asked(Invoice, query, hint, name, conditions.ranges[name])


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


def _in_order(conditions: Conditions, order: Order) -> Reading:
    if order.is_unique and conditions.is_every_status:
        return Reading(conditions.query(), f"{order.field}_1")
    index = "status_1__id_1" if order.field == "status" else _index("status", order.field)
    return Reading(conditions.query(names_all_statuses=True), index)


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
    if before is None or await _has_few(conditions, name, before):
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


async def _has_few(conditions: Conditions, name: str, bounds: Range) -> bool:
    return await _estimate(conditions, name, bounds, FEW + 1) <= FEW


async def _estimate(conditions: Conditions, name: str, bounds: Range, most: int) -> int:
    """How many rows have this field within the bounds, among the statuses; counts up to `most`."""
    among = Conditions(statuses=conditions.statuses).query()
    index = _finding_index(conditions, name)
    return await count(Invoice, {name: bounds} | among, hint=index, limit=most)


def _before(bounds: Range, order: Order) -> Range | None:
    """What lies outside the range on the side where reading in this order begins."""
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


def _days(conditions: Conditions, order: Order) -> DayRange | None:
    """The days of the first range that has some, for the order of creation.

    Not of overdue ones, which are few.
    """
    if order.field != "createdAt" or conditions.due_before is not None:
        return None
    found = (DayRange.of(name, bounds) for name, bounds in conditions.ranges.items())
    return next((days for days in found if days), None)


def _both(*parts: Mapping[str, Any]) -> dict[str, Any]:
    return {"$and": [part for part in parts if part]}


def _index(first: str, second: str) -> str:
    """The name of the index on two fields and the id; a unique number needs no id."""
    return f"{first}_1_{second}_1" + ("" if second == "invoiceNumber" else "__id_1")


def _one_of(values: Iterable[Any], *, nothing: object) -> Any:
    # The server would plan a sort for an empty `$in`.
    listed = list(values) or [nothing]
    return listed[0] if len(listed) == 1 else {"$in": listed}
