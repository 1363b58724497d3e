"""Ranges of days in the order of creation: of the default order of lists, the filters by time.

An index on a day and `createdAt` has the invoices of each day in their order. The server merges
some months of days into one order. Of more days it finds those that were created since an instant
by one look at each day, however many invoices the day has; so a page needs only an instant since
which enough were created.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import MAXYEAR, UTC, date, datetime, timedelta
from typing import Any, Final, TypeAlias

from accounting.clock import as_stored_day
from accounting.db.paging import Order, count, count_all
from accounting.invoices.documents import Invoice

Range: TypeAlias = dict[str, Any]

# The server merges up to 200 scans of an index into one order; beyond that it would sort.
MERGED_DAYS_MAX: Final = 190
# A page that is further from its beginning than that is found otherwise.
ROWS_MAX: Final = 2_000
SPREAD_DAYS: Final = 2_000
STEPS_GROW_BY: Final = 4
LONGEST_STEP: Final = timedelta(days=40 * 365)
# Of so many first rows that are looked at, a fourth must be wanted.
FIRST_ROWS_MAX: Final = 400
# Where the day of each is stored; numbers begin with that day.
DAY_FIELDS: Final[Mapping[str, str]] = {
    "dueDate": "dueDate",
    "issuedDate": "issuedDay",
    "invoiceNumber": "invoiceGeneratedDate",
}
_DATE_DIGITS: Final = 8
_DATE: Final = re.compile(r"(....)(..)(..)")
_MONTHS: Final = 12
_DAYS: Final = 31
_ONE_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Needed:
    """So many rows are read from a list in order of creation, after those created at `after`."""

    rows: int
    after: datetime | None = None


@dataclass(frozen=True, slots=True)
class DayRange:
    """The days that hold every row of a range; None is an open end."""

    field: str
    first: date | None
    last: date | None

    @classmethod
    def of(cls, name: str, bounds: Range) -> DayRange | None:
        """The days of a field's range; None where they are not known."""
        if name not in DAY_FIELDS:
            return None
        first, last = (_days_of_number if name == "invoiceNumber" else _days_of_time)(bounds)
        return cls(DAY_FIELDS[name], first, last)

    @property
    def index(self) -> str:
        return f"{self.field}_1_createdAt_1__id_1"

    @property
    def merged(self) -> Range | None:
        """Each day by itself, for an order that is merged; None where there are too many."""
        if self.first is None or self.last is None:
            return None
        number = (self.last - self.first).days + 1
        if number > MERGED_DAYS_MAX:
            return None
        days = [as_stored_day(self.first + _ONE_DAY * day) for day in range(number)]
        return {self.field: {"$in": days}}

    def is_open_at_the_start_of(self, order: Order) -> bool:
        """Whether what comes first in order of creation is likely to be within."""
        return (self.last if order.is_descending else self.first) is None

    @property
    def condition(self) -> Range:
        ends = {"$gte": self.first, "$lte": self.last}
        return {self.field: {name: as_stored_day(day) for name, day in ends.items() if day}}


async def find_window(
    days: DayRange, query: Mapping[str, Any], order: Order, needed: Needed
) -> Range | None:
    """Bounds of `createdAt` within which the rows lie that are needed; None if that takes too long.

    Whatever was created on the other side of the bounds comes later in the list.
    """
    if needed.rows > ROWS_MAX:
        return None
    begin = needed.after or await _first_created(days, order)
    if begin is None:
        return None
    among: list[Mapping[str, Any]] = [days.condition, query]
    # Four times what would do if all were spread evenly over some years.
    days_at_first = 4 * needed.rows * SPREAD_DAYS // max(1, await count_all(Invoice))
    step = timedelta(days=max(1, days_at_first))
    while step < LONGEST_STEP:
        bounds = _up_to(begin - step if order.is_descending else begin + step, order)
        if await _are_enough(among, bounds, order, needed, days.index):
            return bounds
        step *= STEPS_GROW_BY
    return None


async def find_first_rows(query: Mapping[str, Any], order: Order, needed: Needed) -> Range | None:
    """The same where the first rows of all are likely to be wanted; None if too few of them are."""
    looked_at = STEPS_GROW_BY * needed.rows
    if looked_at > FIRST_ROWS_MAX:
        return None
    unseen = _unseen(order, needed)
    farthest: dict[str, Any] | None = await Invoice.get_motor_collection().find_one(
        {"createdAt": unseen} if unseen else {},
        {"createdAt": 1, "_id": 0},
        sort=[("createdAt", order.keys[0][1])],
        skip=looked_at,
        hint="createdAt_1",
    )
    if farthest is None:
        return None
    bounds = _up_to(farthest["createdAt"], order)
    return bounds if await _are_enough([query], bounds, order, needed, "createdAt_1") else None


async def _are_enough(
    among: Sequence[Mapping[str, Any]], bounds: Range, order: Order, needed: Needed, index: str
) -> bool:
    """Whether so many rows as are needed, and come after what was seen, lie within the bounds."""
    wanted = {"$and": [*among, {"createdAt": bounds | _unseen(order, needed)}]}
    return await count(Invoice, wanted, hint=index, limit=needed.rows) == needed.rows


def _up_to(created: datetime, order: Order) -> Range:
    """From the beginning of the list up to this moment of creation."""
    return {"$gte" if order.is_descending else "$lte": created}


def _unseen(order: Order, needed: Needed) -> Range:
    """What the order has after the row that was seen last; all, if there is none."""
    return {"$lt" if order.is_descending else "$gt": needed.after} if needed.after else {}


async def _first_created(days: DayRange, order: Order) -> datetime | None:
    """When an invoice of the first day was created, in this order: near the list's beginning."""
    direction = order.keys[0][1]
    found: dict[str, Any] | None = await Invoice.get_motor_collection().find_one(
        days.condition,
        {"createdAt": 1, "_id": 0},
        sort=[(days.field, direction), ("createdAt", direction), ("_id", direction)],
        hint=days.index,
    )
    return found["createdAt"] if found else None


def _days_of_time(bounds: Range) -> tuple[date | None, date | None]:
    low, high = bounds.get("$gte"), bounds.get("$lte")
    if "$lt" in bounds:
        high = bounds["$lt"] - timedelta(milliseconds=1)
    return _day(low), _day(high)


def _day(instant: datetime | None) -> date | None:
    return instant.astimezone(UTC).date() if instant else None


def _days_of_number(bounds: Range) -> tuple[date | None, date | None]:
    """The days with which numbers begin that begin so; none where no calendar has them."""
    start: str = bounds["$gte"][:_DATE_DIGITS]
    beyond = str(int(start) + 1).zfill(len(start))
    end = _first_day_from(beyond) if len(beyond) == len(start) else None
    return _first_day_from(start), end - _ONE_DAY if end else None


def _first_day_from(digits: str) -> date | None:
    """The first day that is written with these digits first, or with greater ones."""
    year, month, day = (int(part) for part in _DATE.findall(digits.ljust(_DATE_DIGITS, "0"))[0])
    if not year:
        return None
    if month > _MONTHS or (month == _MONTHS and day > _DAYS):
        return date(year + 1, 1, 1) if year < MAXYEAR else None
    try:
        return date(year, max(month, 1), max(day, 1))
    except ValueError:
        return date(year, month + 1, 1)
