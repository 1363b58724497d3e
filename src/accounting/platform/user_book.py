"""The platform's users in memory: customers by name, in pages, and whoever has a text in his name.

No index of the platform serves either, and the service makes none there. Each search is a walk
through all users, 20,000 of them some 18 ms of the server, and sorting and counting them for a page
takes it longer. So they are read as a whole, 0.2 s, and kept for a few seconds, and as long as the
server says that nobody has changed (spec section 5, `/customers` and the `q` of lists).
"""

from __future__ import annotations

import asyncio
import heapq
import time
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Final, TypeAlias

from accounting.db.paging import Order, Page, Window, read_cursor, write_cursor
from accounting.ids import StoredId
from accounting.platform.reader import Platform
from accounting.platform.rules import UserEntry, UserId

# The same as for roles; what is older is never shown.
KEPT_SECONDS_MAX: Final = 5.0
# From this age on the next list is fetched while the present one is still shown.
FETCHED_AHEAD_SECONDS: Final = 2.5
# Some 95 MB. More users are not kept: each page reads them and each search is the server's, slow
# and still right.
USERS_KEPT_MAX: Final = 200_000
# Some 2 ms, and then other requests have their turn.
_MERGED_AT_ONCE: Final = 1_000
# So many are sorted sooner than found in order.
_SORTED_MAX: Final = 2_000
# Some 4 MB at most.
_FOUND_TEXTS_MAX: Final = 250
_FOUND_ROWS_MAX: Final = 2_000
BY_NAME: Final = Order("name", is_descending=False)

# Name in one case and id, which are the order; name, e-mail and company as they are shown; whether
# he is a customer. The garbage collector leaves plain tuples of plain values
# alone; entries and ids as objects would be 80,000 more for it to look at with 20,000 users.
_Row: TypeAlias = tuple[str, bytes, str, str, str | None, bool]
_ID: Final = 1
_IS_CUSTOMER: Final = 5


@dataclass(frozen=True, slots=True)
class _Kept:
    """All users as they were read, and those of them who are customers in their order.

    `text` is what is searched of each, one after the other, and `starts` where each begins: one
    search through one text takes a fifth of the time of many searches in texts all over the memory.
    """

    read_at: float
    digest: object | None
    users: Sequence[_Row]
    customers: Sequence[_Row]
    text: bytes
    starts: Sequence[int]
    # What was searched lately: further pages and other lists ask for the same.
    found: dict[bytes, Sequence[_Row]] = field(default_factory=dict)

    def with_text(self, part: str, limit: int | None = None) -> Sequence[_Row]:
        """The first users with this text in name, e-mail or company, in any case, as read."""
        wanted = _searched(part)
        if wanted in self.found:
            return self.found[wanted][:limit]
        found = self._search(wanted, limit)
        if len(found) <= _FOUND_ROWS_MAX and len(found) != limit:
            if len(self.found) >= _FOUND_TEXTS_MAX:
                self.found.clear()
            self.found[wanted] = found
        return found

    def _search(self, wanted: bytes, limit: int | None) -> list[_Row]:
        found: list[_Row] = []
        at = self.text.find(wanted)
        while at >= 0 and len(found) != limit:
            index = bisect_right(self.starts, at) - 1
            found.append(self.users[index])
            is_last = index + 1 == len(self.starts)
            at = -1 if is_last else self.text.find(wanted, self.starts[index + 1])
        return found

    def customers_with_text(self, part: str) -> list[_Row]:
        """The customers with this text in their order."""
        found = [row for row in self.with_text(part) if row[_IS_CUSTOMER]]
        if len(found) <= _SORTED_MAX:
            return sorted(found)
        ids = {row[_ID] for row in found}
        return [row for row in self.customers if row[_ID] in ids]


_NOTHING: Final = _Kept(float("-inf"), None, (), (), b"", ())


class UserBook:
    """All users, as they were at most KEPT_SECONDS_MAX ago; for one process."""

    def __init__(
        self,
        platform: Platform,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        kept_max: int = USERS_KEPT_MAX,
    ) -> None:
        self._platform = platform
        self._monotonic = monotonic
        self._kept_max = kept_max
        self._are_too_many = False
        self._kept = _NOTHING
        self._reading: asyncio.Task[_Kept] | None = None

    async def page(self, window: Window, *, text: str | None = None) -> Page[UserEntry]:
        """A part of the customers by name in any case, then by id.

        `text` is a part of name, e-mail or company, in any case. Raises CursorNotValid.
        """
        start = 0 if window.page is None else (window.page - 1) * window.limit
        after = read_cursor(window.cursor, BY_NAME, _is_place) if window.cursor else None
        kept = await self._fresh()
        customers = kept.customers_with_text(text) if text else kept.customers
        if after is not None:
            name, last_id = after
            start = bisect_right(customers, (name, last_id.binary), key=_place)
        rows = customers[start : start + window.limit]
        has_more = start + window.limit < len(customers)
        total = None if window.page is None else len(customers)
        next_cursor = _cursor(rows[-1]) if rows and has_more else None
        return Page([_entry(row) for row in rows], window.limit, window.page, total, next_cursor)

    async def find_customer_ids(
        self, text: str, *, limit: int, among: Iterable[UserId] | None = None
    ) -> list[UserId]:
        """Users with this text in name, e-mail or company, in any case; deleted ones have invoices.

        `among` narrows; of more than `limit` it is open which are found.
        """
        if self._are_too_many:
            return await self._platform.find_customer_ids(text, limit=limit, among=among)
        kept = await self._fresh()
        if among is None:
            return [UserId(row[_ID]) for row in kept.with_text(text, limit)]
        wanted = {user_id.binary for user_id in among}
        found = [row[_ID] for row in kept.with_text(text) if row[_ID] in wanted]
        return [UserId(user_id) for user_id in found[:limit]]

    async def _fresh(self) -> _Kept:
        age = self._monotonic() - self._kept.read_at
        if age > FETCHED_AHEAD_SECONDS:
            reading = self._read_once()
            if age > KEPT_SECONDS_MAX:
                # Others may wait for it as well: who goes away must not end it.
                return await asyncio.shield(reading)
        return self._kept

    def _read_once(self) -> asyncio.Task[_Kept]:
        if self._reading is None:
            self._reading = asyncio.create_task(self._read())
            self._reading.add_done_callback(self._keep)
        return self._reading

    async def _read(self) -> _Kept:
        read_at = self._monotonic()
        # Before the list, so that what changes meanwhile shows in the next one.
        digest = await self._platform.digest_users()
        if digest is not None and digest == self._kept.digest:
            return replace(self._kept, read_at=read_at)
        users: list[_Row] = []
        runs: list[list[_Row]] = []
        text, starts = bytearray(), array("Q")
        async for part in self._platform.walk_users():
            rows = [_row(user) for user in part]
            users += rows
            for _, _, name, email, company, _ in rows:
                starts.append(len(text))
                # A line break, which no search has, keeps two of them from being found as one.
                text += _searched(f"{name}\n{email}\n{company or ''}\n")
            runs.append(sorted(row for row in rows if row[_IS_CUSTOMER]))
        return _Kept(read_at, digest, users, await _merge(runs), bytes(text), starts)

    def _keep(self, reading: asyncio.Task[_Kept]) -> None:
        self._reading = None
        # A failure is told to those who wait; without any, the next one who asks tries again.
        if reading.cancelled() or reading.exception() is not None:
            return
        # Once they are, searches read no more; a page that is asked for does, and may take it back.
        self._are_too_many = len(reading.result().users) > self._kept_max
        self._kept = _NOTHING if self._are_too_many else reading.result()


async def _merge(runs: Iterable[list[_Row]]) -> list[_Row]:
    """One sorted list of many, bit by bit: sorting all at once would hold up everybody else."""
    merged: list[_Row] = []
    rest = heapq.merge(*runs)
    while some := list(islice(rest, _MERGED_AT_ONCE)):
        merged += some
        await asyncio.sleep(0)
    return merged


def _row(user: UserEntry) -> _Row:
    return (user.name.casefold(), user.id.binary, *user[1:])


def _searched(text: str) -> bytes:
    # As bytes: one emoji would make the characters of all users four times as wide.
    return text.casefold().encode("utf-8", "surrogatepass")


def _entry(row: _Row) -> UserEntry:
    _, user_id, name, email, company_name, is_customer = row
    return UserEntry(StoredId(user_id), name, email, company_name, is_customer)


def _place(row: _Row) -> tuple[str, bytes]:
    return row[:2]


def _cursor(row: _Row) -> str:
    name, user_id = _place(row)
    return write_cursor(BY_NAME, name, StoredId(user_id))


def _is_place(name: Any, user_id: Any) -> bool:
    return isinstance(name, str) and isinstance(user_id, StoredId)
