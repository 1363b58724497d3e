"""Ranges of days in the order of creation: of the default order of lists, the filters by time.

An index on a day and `createdAt` has the invoices of each day in their order. The server merges
some months of days into one order. Of more days it finds those that were created since an instant
by one look at each day, however many invoices the day has; so a page needs only an instant since
which enough were created.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import MAXYEAR, UTC, date, datetime, timedelta
from typing import Any, Final, TypeAlias

from accounting.clock import as_stored_day, utc_now
from accounting.db.paging import Order, Reading
from accounting.db.totals import Totals
from accounting.invoices.documents import Invoice

Range: TypeAlias = dict[str, Any]

# The server merges up to 200 scans of an index into one order; beyond that it would sort.
MERGED_DAYS_MAX: Final = 190
# A page that is further from its beginning than that is found otherwise.
ROWS_MAX: Final = 2_000
SPREAD: Final = timedelta(days=2_000)
SHORTEST_STEP: Final = timedelta(hours=1)
STEPS_GROW_BY: Final = 4
LONGEST_STEP: Final = timedelta(days=40 * 365)
# Windows that are read in order grow to some hundred rows; of these a few must be wanted.
IN_ORDER_WINDOWS: Final = 3
# Where the day of each is stored; numbers begin with that day.
DAY_FIELDS: Final[Mapping[str, str]] = {
    "dueDate": "dueDate",
    "issuedDate": "issuedDay",
    "invoiceNumber": "invoiceGeneratedDate",
}
NO_DAYS: Final = timedelta()
# New invoices are due within so many days, most of them.
DAYS_AHEAD: Final = {"dueDate": timedelta(days=60)}
_DATE_DIGITS: Final = 8
_DATE: Final = re.compile(r"(....)(..)(..)")
_MONTHS: Final = 12
_DAYS: Final = 31
_ONE_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Needed:
    """So many rows of a list are read: the first ones, or those after a cursor.

    `after` is when the row of the cursor was created, in a list in order of creation.
    """

    rows: int
    follows_cursor: bool = False
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

    def is_open_at_the_start_of(self, order: Order, today: date) -> bool:
        """Whether what comes first in order of creation is likely to be within."""
        if order.is_descending:
            return self.last is None or self.last >= today + DAYS_AHEAD.get(self.field, NO_DAYS)
        return self.first is None

    @property
    def condition(self) -> Range:
        ends = {"$gte": self.first, "$lte": self.last}
        return {self.field: {name: as_stored_day(day) for name, day in ends.items() if day}}


@dataclass(frozen=True, slots=True)
class CreationWindow:
    """Bounds of `createdAt`; whatever was created on their other side comes later in the list.

    `is_read_in_order`: what is within is likely to be wanted, more than the days of the range are.
    """

    bounds: Range
    is_read_in_order: bool


async def find_windows(
    days: DayRange, every: Reading, order: Order, needed: Needed, totals: Totals
) -> AsyncIterator[CreationWindow]:
    """Windows, ever wider, of which the first with enough rows will do; none where it takes long.

    The first would do if all rows were created evenly over some years and a fourth were wanted.
    `every` reads all rows of the list's statuses in its order.
    """
    if needed.rows > ROWS_MAX:
        return
    # Only how fast it is depends on the day.
    is_open = days.is_open_at_the_start_of(order, utc_now().date())
    if needed.after is not None:
        begin: datetime | None = needed.after
    elif is_open:
        begin = await _find_created(every, order.keys)
    else:
        keys = [(name, order.keys[0][1]) for name in (days.field, "createdAt", "_id")]
        begin = await _find_created(Reading(days.condition, days.index), keys)
    if begin is None:
        return
    spread = STEPS_GROW_BY * SPREAD / max(1, await totals.count_all(Invoice))
    step = max(SHORTEST_STEP, needed.rows * spread)
    number = 0
    while step < LONGEST_STEP:
        try:
            end = begin - step if order.is_descending else begin + step
        except OverflowError:  # a cursor may name any instant that there is
            return
        bounds = {"$gte" if order.is_descending else "$lte": end}
        yield CreationWindow(bounds, is_open and number < IN_ORDER_WINDOWS)
        step, number = step * STEPS_GROW_BY, number + 1


async def _find_created(first: Reading, keys: list[tuple[str, int]]) -> datetime | None:
    """When the first row was created: near the list's beginning; None if there is none."""
    found: dict[str, Any] | None = await Invoice.get_motor_collection().find_one(
        dict(first.query), {"createdAt": 1, "_id": 0}, sort=keys, hint=first.index
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
