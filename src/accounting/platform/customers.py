"""The customers by name, in pages (spec section 5, `/customers`).

No index of the platform gives its users in the order of their names, and the service makes none
there. Sorting 20,000 users for each page takes the server some 15 ms and counting them as long;
so the list is read as a whole, 0.1 s, and kept for a few seconds, and as long as the server says
that no customer has changed.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any, Final, NamedTuple

from accounting.db.paging import Order, Page, Window, read_cursor, write_cursor
from accounting.ids import StoredId
from accounting.platform.reader import Platform
from accounting.platform.rules import CustomerEntry

# The same as for roles; what is older is never shown.
KEPT_SECONDS_MAX: Final = 5.0
# From this age on the next list is fetched while the present one is still shown.
FETCHED_AHEAD_SECONDS: Final = 2.5
# Some 150 MB. More customers are not kept but read for each page: slow, and still right.
CUSTOMERS_KEPT_MAX: Final = 200_000
BY_NAME: Final = Order("name", is_descending=False)


class _ListedCustomer(NamedTuple):
    """A customer, and how he is sorted and searched."""

    entry: CustomerEntry
    place: tuple[str, StoredId]
    searched: str


@dataclass(frozen=True, slots=True)
class _Kept:
    read_at: float
    digest: object | None
    customers: Sequence[_ListedCustomer]


class CustomerBook:
    """All customers, as they were at most KEPT_SECONDS_MAX ago; for one process."""

    def __init__(
        self,
        platform: Platform,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        kept_max: int = CUSTOMERS_KEPT_MAX,
    ) -> None:
        self._platform = platform
        self._monotonic = monotonic
        self._kept_max = kept_max
        self._kept = _Kept(float("-inf"), None, ())
        self._reading: asyncio.Task[_Kept] | None = None

    async def page(self, window: Window, *, text: str | None = None) -> Page[CustomerEntry]:
        """A part of the customers by name in any case, then by id.

        `text` is a part of name, e-mail or company, in any case. Raises CursorNotValid.
        """
        start = 0 if window.page is None else (window.page - 1) * window.limit
        after = read_cursor(window.cursor, BY_NAME, _is_place) if window.cursor else None
        customers = await self._customers()
        if text:
            part = text.casefold()
            customers = [customer for customer in customers if part in customer.searched]
        if after is not None:
            start = bisect_right(customers, after, key=_place)
        items = customers[start : start + window.limit]
        has_more = start + window.limit < len(customers)
        total = None if window.page is None else len(customers)
        next_cursor = write_cursor(BY_NAME, *items[-1].place) if items and has_more else None
        entries = [customer.entry for customer in items]
        return Page(entries, window.limit, window.page, total, next_cursor)

    async def _customers(self) -> Sequence[_ListedCustomer]:
        age = self._monotonic() - self._kept.read_at
        if age > FETCHED_AHEAD_SECONDS:
            reading = self._read_once()
            if age > KEPT_SECONDS_MAX:
                # Others may wait for it as well: who goes away must not end it.
                return (await asyncio.shield(reading)).customers
        return self._kept.customers

    def _read_once(self) -> asyncio.Task[_Kept]:
        if self._reading is None:
            self._reading = asyncio.create_task(self._read())
            self._reading.add_done_callback(self._keep)
        return self._reading

    async def _read(self) -> _Kept:
        read_at = self._monotonic()
        # Before the list, so that what changes meanwhile shows in the next one.
        digest = await self._platform.digest_customers()
        if digest is not None and digest == self._kept.digest:
            return replace(self._kept, read_at=read_at)
        listed: list[_ListedCustomer] = []
        async for part in self._platform.walk_customers():
            listed += map(_listed, part)
        listed.sort(key=_place)
        return _Kept(read_at, digest, listed)

    def _keep(self, reading: asyncio.Task[_Kept]) -> None:
        self._reading = None
        # A failure is told to those who wait; without any, the next one who asks tries again.
        if reading.cancelled() or reading.exception() is not None:
            return
        if len(reading.result().customers) <= self._kept_max:
            self._kept = reading.result()


_place: Final = attrgetter("place")


def _listed(entry: CustomerEntry) -> _ListedCustomer:
    # One text; a line break, which no search has, keeps its parts from being found as one.
    searched = f"{entry.name}\n{entry.email}\n{entry.company_name or ''}".casefold()
    return _ListedCustomer(entry, (entry.name.casefold(), entry.id), searched)


def _is_place(name: Any, user_id: Any) -> bool:
    return isinstance(name, str) and isinstance(user_id, StoredId)
