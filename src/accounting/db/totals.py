"""How many rows a list has, when there are too many to count them for every page.

Up to COUNTED_MAX rows are counted each time, and that number is exact. More are added up from
pieces that are counted once and then remembered for REMEMBERED_SECONDS: a range of time from months
and thirds of months, a range of amounts from round amounts, and what is left at both ends. A range
that begins or ends elsewhere shares nearly all of its pieces, so that other ranges cost little more
than the same one again.

Rows that are never changed or removed need no such limit: pieces that are over are remembered for
good, and the number is exact. Of these, the day that is not over is counted each time.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cached_property, partial
from typing import Any, Final, TypeAlias

import bson
from pymongo import ASCENDING, DESCENDING

from accounting.clock import Clock, after, utc_now
from accounting.db.client import CODEC_OPTIONS, DriverError
from accounting.db.document import BaseDocument
from accounting.db.id_counts import IdCounts
from accounting.db.paging import Query, count, count_all
from accounting.ids import ObjectId

COUNTED_MAX: Final = 5_000
REMEMBERED_SECONDS: Final = 60.0
# What is asked for at this age is told, and counted again behind the scenes, one after the other,
# so that nobody who asks often ever waits for all pieces at once.
RENEWED_SECONDS: Final = 30.0
FOREVER: Final = float("inf")
REMEMBERED_MAX: Final = 20_000
# So many counts are under way at once; more would only wait for each other in the server.
AT_ONCE: Final = 4
# Of smaller pieces there would be more to ask for than rows to save.
STEP_MIN: Final = Decimal(10)
STEP_MAX: Final = Decimal(10**9)
_CENT: Final = Decimal("0.01")
_MONTH_DAYS_MAX: Final = timedelta(days=31)
_THIRDS: Final = (11, 21)
_MILLISECOND: Final = timedelta(milliseconds=1)

# From a value up to, and without, another one.
Piece: TypeAlias = tuple[Any, Any]
EVERYTHING: Final[Piece] = (None, None)


@dataclass(frozen=True)
class Asked:
    """Rows of a kind: those that `query` finds, whose `field` is within `bounds` if it is named.

    `hint` names an index that has all of this. `settles_after_seconds`: rows whose time in `field`
    is so long ago are there for good, and none will come.
    """

    document: type[BaseDocument]
    query: Query
    hint: str | None
    field: str | None
    bounds: Mapping[str, Any]
    settles_after_seconds: float | None = None

    @cached_property
    def name(self) -> Hashable:
        """What tells its pieces from those of other rows."""
        query = bson.encode(self.query, codec_options=CODEC_OPTIONS)
        return (self.document, self.field, query)

    def within(self, bounds: Mapping[str, Any]) -> Query:
        """The query for other bounds of the field."""
        if not bounds or self.field is None:
            return self.query
        narrowed = {self.field: dict(bounds)}
        return {"$and": [narrowed, self.query]} if self.query else narrowed


@dataclass(slots=True)
class _Known:
    """Something that was asked of the server, or is being asked right now."""

    answer: asyncio.Task[Any]
    forget_at: float
    renew_at: float

    def is_good_at(self, now: float) -> bool:
        """Whether it may still be told; what failed is asked again."""
        has_failed = self.answer.done() and (
            self.answer.cancelled() or self.answer.exception() is not None
        )
        return now < self.forget_at and not has_failed


@dataclass(frozen=True, slots=True)
class _Parts:
    """What adds up to a total: pieces that are remembered, and what is counted each time."""

    pieces: Sequence[Piece]
    edges: Sequence[Mapping[str, Any]] = ()


class Totals:
    """The totals of one process."""

    def __init__(
        self,
        *,
        clock: Clock = utc_now,
        counted_max: int = COUNTED_MAX,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self.counted_max = counted_max
        self._monotonic = monotonic
        self._known: OrderedDict[Hashable, _Known] = OrderedDict()
        self._of_ids: dict[tuple[type[BaseDocument], str], IdCounts] = {}
        self._turn_to_count_ids = asyncio.Lock()
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._turn_to_renew = asyncio.Semaphore(1)
        self._renewals: set[asyncio.Task[None]] = set()

    async def count(self, asked: Asked) -> int:
        """How many rows there are; exact up to `counted_max`, and of settled rows always."""
        parts = self._told_parts(asked)
        if parts is None or not self._are_more_than(self.counted_max, asked, parts):
            counted = await _count(asked, asked.bounds, limit=self.counted_max + 1)
            if counted <= self.counted_max:
                return counted
        if parts is None:
            parts = await self._find_parts(asked)
        known, unknown = 0, list[Piece]()
        for piece in parts.pieces:
            answer = self._told(_piece_key(asked, piece))
            if answer is None:
                unknown.append(piece)
            else:
                known += answer
                self._renew_in_time(asked, piece)
        counts = await asyncio.gather(
            *(self._count_piece(asked, piece) for piece in unknown),
            *(_count(asked, edge) for edge in parts.edges),
        )
        return known + sum(counts)

    async def count_all(self, document: type[BaseDocument]) -> int:
        """About how many rows there are of a kind, narrowed by nothing."""
        find = partial(count_all, document)
        return int(await self._remember((document,), REMEMBERED_SECONDS, find))

    async def count_of_ids(
        self,
        document: type[BaseDocument],
        field: str,
        ids: Sequence[ObjectId],
        exactly: Callable[[], Awaitable[int]],
    ) -> int:
        """How many rows have one of these ids in a field that has an index of its own.

        Many are told from memory, at most REMEMBERED_SECONDS behind; `exactly` counts them where
        they are few, or not known yet.
        """
        counts = self._of_ids.get((document, field))
        if counts is None:
            counts = IdCounts(
                document,
                field,
                renewed_seconds=RENEWED_SECONDS,
                remembered_seconds=REMEMBERED_SECONDS,
                monotonic=self._monotonic,
            )
            self._of_ids[document, field] = counts
        if (known := counts.count(ids)) is None:
            # One by one, so that what makes all of them known is soon done.
            async with self._turn_to_count_ids:
                if (known := counts.count(ids)) is None:
                    return await exactly()
        return known if known > self.counted_max else await exactly()

    def knows_more_than(self, number: int, asked: Asked) -> bool:
        """Whether what is remembered says that there are more rows."""
        parts = self._told_parts(asked)
        return parts is not None and self._are_more_than(number, asked, parts)

    async def close(self) -> None:
        """Give up what is being counted again."""
        for renewal in self._renewals:
            renewal.cancel()
        await asyncio.gather(*self._renewals, return_exceptions=True)
        for counts in self._of_ids.values():
            await counts.close()

    def _are_more_than(self, number: int, asked: Asked, parts: _Parts) -> bool:
        known = (self._told(_piece_key(asked, piece)) or 0 for piece in parts.pieces)
        return sum(known) > number

    def _told_parts(self, asked: Asked) -> _Parts | None:
        """None where it is not remembered what there is to be parted."""
        ends = self._told(_ends_key(asked)) if asked.field else ()
        return None if ends is None else _parts_between(asked, ends, self._settled_day(asked))

    async def _find_parts(self, asked: Asked) -> _Parts:
        find = partial(_find_ends, asked)
        ends = await self._remember(_ends_key(asked), REMEMBERED_SECONDS, find)
        return _parts_between(asked, ends, self._settled_day(asked))

    async def _count_piece(self, asked: Asked, piece: Piece) -> int:
        async def find() -> int:
            async with self._turns:
                return await _count(asked, _bounds_of(piece))

        seconds = self._seconds_to_remember(asked, piece)
        if not seconds:
            return await find()
        return int(await self._remember(_piece_key(asked, piece), seconds, find))

    def _renew_in_time(self, asked: Asked, piece: Piece) -> None:
        known = self._known[_piece_key(asked, piece)]
        if self._monotonic() >= known.renew_at:
            known.renew_at = FOREVER  # by nobody else
            renewal = asyncio.create_task(self._renew(asked, piece))
            self._renewals.add(renewal)
            renewal.add_done_callback(self._renewals.discard)

    async def _renew(self, asked: Asked, piece: Piece) -> None:
        async with self._turn_to_renew:
            counted_at = self._monotonic()
            answer = asyncio.ensure_future(_count(asked, _bounds_of(piece)))
            try:
                await answer
            except DriverError:
                return  # whoever asks when it is forgotten is told what is wrong
        self._keep(_piece_key(asked, piece), answer, counted_at, REMEMBERED_SECONDS)

    def _seconds_to_remember(self, asked: Asked, piece: Piece) -> float:
        settled = self._settled(asked)
        if settled is None:
            return REMEMBERED_SECONDS
        return FOREVER if piece[1] <= settled else 0.0

    def _settled(self, asked: Asked) -> datetime | None:
        """Until when the rows are there for good; None for rows that change."""
        if asked.settles_after_seconds is None:
            return None
        return after(self._clock(), seconds=-asked.settles_after_seconds)

    def _settled_day(self, asked: Asked) -> datetime | None:
        """The beginning of that day: the past is counted once, and the day itself is short."""
        settled = self._settled(asked)
        return settled and settled.replace(hour=0, minute=0, second=0, microsecond=0)

    def _told(self, key: Hashable) -> Any:
        """What is remembered, None where that is nothing."""
        known = self._known.get(key)
        if known is None or not known.answer.done() or not known.is_good_at(self._monotonic()):
            return None
        return known.answer.result()

    async def _remember(
        self, key: Hashable, seconds: float, find: Callable[[], Coroutine[Any, Any, Any]]
    ) -> Any:
        """What `find` answered within that time; asked at once by many, it is found once."""
        known, now = self._known.get(key), self._monotonic()
        if known is None or not known.is_good_at(now):
            known = self._keep(key, asyncio.ensure_future(find()), now, seconds)
        # Whoever gives up waiting does not take the answer from the others.
        return await asyncio.shield(known.answer)

    def _keep(
        self, key: Hashable, answer: asyncio.Task[Any], asked_at: float, seconds: float
    ) -> _Known:
        renewed = FOREVER if seconds == FOREVER else RENEWED_SECONDS
        known = _Known(answer, asked_at + seconds, asked_at + renewed)
        self._known[key] = known
        self._known.move_to_end(key)
        if len(self._known) > REMEMBERED_MAX:
            self._known.popitem(last=False)
        return known


def _piece_key(asked: Asked, piece: Piece) -> Hashable:
    return (asked.name, piece)


def _ends_key(asked: Asked) -> Hashable:
    return (asked.document, asked.field)


def _bounds_of(piece: Piece) -> Mapping[str, Any]:
    low, high = piece
    return {} if low is None else {"$gte": low, "$lt": high}


async def _count(asked: Asked, bounds: Mapping[str, Any], *, limit: int | None = None) -> int:
    return await count(asked.document, asked.within(bounds), hint=asked.hint, limit=limit)


async def _find_ends(asked: Asked) -> tuple[Any, ...]:
    """The least and the greatest value of the field among all rows; none where all are null."""
    name = str(asked.field)
    rows, wanted = asked.document.get_motor_collection(), {name: {"$ne": None}}
    first = await rows.find_one(wanted, {name: 1, "_id": 0}, sort=[(name, ASCENDING)])
    last = await rows.find_one(wanted, {name: 1, "_id": 0}, sort=[(name, DESCENDING)])
    return (first[name], last[name]) if first and last else ()


def _parts_between(asked: Asked, ends: tuple[Any, ...], settled_day: datetime | None) -> _Parts:
    """What the rows are added up from; all at once where the field is not named or always null."""
    if not ends or not asked.bounds:
        return _Parts([EVERYTHING]) if not asked.bounds else _Parts([], [asked.bounds])
    first, last = ends
    low, high = _half_open(asked.bounds)
    low, beyond = first if low is None else max(low, first), _after(last)
    edges: list[Mapping[str, Any]] = []
    if high is None or high > beyond:  # there may be newer ones by now
        edges.append({"$gte": max(low, beyond), **({"$lt": high} if high is not None else {})})
        high = beyond
    return _Parts(list(split(low, high, settled_day)), edges)


def split(low: Any, high: Any, settled_day: datetime | None = None) -> Iterator[Piece]:
    """A range in pieces: round ones that other ranges have as well, and the rests at both ends."""
    if isinstance(low, datetime):
        return _split_time(low, high, settled_day)
    return _split_amount(low, high)


def _split_time(low: datetime, high: datetime, settled_day: datetime | None) -> Iterator[Piece]:
    """Thirds up to the month's end, months, thirds; what follows the settled days by itself.

    Ranges begin and end with days, so that there are few enough rests to remember them.
    """
    while low < high:
        month = low.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        next_month = (month + _MONTH_DAYS_MAX).replace(day=1)
        thirds = [month.replace(day=day) for day in _THIRDS]
        is_whole_month = low == month and next_month <= high
        ends = [next_month] if is_whole_month else [*thirds, next_month, high]
        if settled_day is not None:
            ends.append(settled_day)
        end = min(end for end in ends if end > low)
        yield low, end
        low = end


def _split_amount(low: Decimal, high: Decimal) -> Iterator[Piece]:
    """Tens up to a hundred, hundreds up to a thousand and so on, and down again."""
    while low < high:
        step = STEP_MIN
        while step < STEP_MAX and not low % (step * 10) and low + step * 10 <= high:
            step *= 10
        end = min(high, (low // step + 1) * step)
        yield low, end
        low = end


def _half_open(bounds: Mapping[str, Any]) -> Piece:
    low, high = bounds.get("$gte"), bounds.get("$lt")
    if "$lte" in bounds:
        high = _after(bounds["$lte"])
    return low, high


def _after(value: Any) -> Any:
    """The next value that a field of this kind can have."""
    return value + (_MILLISECOND if isinstance(value, datetime) else _CENT)
