"""The customers in pages: their order, search, cursors, and how old a page may be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from accounting.actor import Role
from accounting.db.paging import CursorNotValid, Order, Window, write_cursor
from accounting.ids import ObjectId, new_id
from accounting.platform.customers import (
    FETCHED_AHEAD_SECONDS,
    KEPT_SECONDS_MAX,
    CustomerBook,
)
from accounting.platform.rules import CustomerEntry
from builders import a_customer
from fakes import FakePlatform, Stopwatch


class CountingPlatform(FakePlatform):
    """Counts how often its customers are read; is slow, can fail, and may have no digest."""

    reads = 0
    has_digest = True
    failure: Exception | None = None

    async def walk_customers(self) -> AsyncIterator[list[CustomerEntry]]:
        self.reads += 1
        await asyncio.sleep(0.01)
        if self.failure is not None:
            raise self.failure
        async for part in super().walk_customers():
            yield part

    async def digest_customers(self) -> object | None:
        users = [user for user in self.users.values() if user.is_customer]
        return users if self.has_digest else None


@pytest.fixture
def host() -> CountingPlatform:
    return CountingPlatform()


@pytest.fixture
def watch() -> Stopwatch:
    return Stopwatch()


@pytest.fixture
def book(host: CountingPlatform, watch: Stopwatch) -> CustomerBook:
    return CustomerBook(host, monotonic=watch)


def names(customers: list[CustomerEntry]) -> list[str]:
    return [customer.name for customer in customers]


async def walk(book: CustomerBook, limit: int, text: str | None = None) -> AsyncIterator[str]:
    cursor: str | None = ""
    while cursor is not None:
        page = await book.page(Window(limit, None, cursor), text=text)
        assert (page.number, page.total) == (None, None)
        for name in names(page.items):
            yield name
        cursor = page.next_cursor


async def test_customers_are_ordered_by_name_in_any_case_then_by_id(
    host: CountingPlatform, book: CustomerBook
) -> None:
    second, first = sorted([new_id(), new_id()], reverse=True)
    for user_id, name in ((second, "bea"), (first, "Bea"), (new_id(), "zoe"), (new_id(), "Åsa")):
        host.add_user(a_customer(id=user_id, name=name))
    host.add_user(a_customer(name="ada"))

    page = await book.page(Window(10, 1))

    assert names(page.items) == ["ada", "Bea", "bea", "zoe", "Åsa"]
    assert (page.total, page.next_cursor) == (5, None)


async def test_staff_and_deleted_users_are_not_listed(
    host: CountingPlatform, book: CustomerBook
) -> None:
    for changes in ({"role": Role.ADMIN}, {"is_deleted": True}, {"role": Role.UNKNOWN}):
        host.add_user(a_customer(**changes))

    assert (await book.page(Window(10, 1))).total == 0


async def test_pages_by_number_and_by_cursor_show_the_same(
    host: CountingPlatform, book: CustomerBook
) -> None:
    for serial in range(23):
        host.add_user(a_customer(name=f"Customer {serial % 7}"))

    by_number = [await book.page(Window(5, page)) for page in range(1, 7)]
    by_cursor = [name async for name in walk(book, 5)]

    assert [len(page.items) for page in by_number] == [5, 5, 5, 5, 3, 0]
    assert by_cursor == [name for page in by_number for name in names(page.items)]
    assert len({customer.id for page in by_number for customer in page.items}) == 23


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("ada", ["Ada Holm"]),
        ("STONE.example", ["Bob Stone"]),
        ("northern", ["Ada Holm"]),
        ("o", ["Ada Holm", "Bob Stone", "Zoe Straße"]),
        (".*", []),
        ("(", []),
        ("holmada", []),  # the end of the name and the beginning of the e-mail
        ("strasse", ["Zoe Straße"]),
    ],
)
async def test_a_search_is_a_part_of_name_email_or_company(
    host: CountingPlatform, book: CustomerBook, text: str, found: list[str]
) -> None:
    host.add_user(a_customer())
    host.add_user(a_customer(name="Bob Stone", email="bob@stone.example", company_name=None))
    host.add_user(a_customer(name="Zoe Straße", email="z@x.test", company_name=None))

    page = await book.page(Window(10, 1), text=text)

    assert names(page.items) == found
    assert page.total == len(found)
    assert [name async for name in walk(book, 1, text)] == found


@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        write_cursor(Order("name"), "ada", new_id()),
        write_cursor(Order("email", False), "ada", new_id()),
        write_cursor(Order("name", False), 5, new_id()),
        write_cursor(Order("name", False), "ada", "66f0c0ffee00000000000101"),
        write_cursor(Order("name", False), {"$gt": ""}, new_id()),
    ],
    ids=["no cursor", "descending", "other field", "number", "text as id", "operator"],
)
async def test_a_cursor_of_another_list_is_refused(book: CustomerBook, cursor: str) -> None:
    with pytest.raises(CursorNotValid):
        await book.page(Window(10, None, cursor))


async def test_a_page_is_never_older_than_it_may_be(
    host: CountingPlatform, book: CustomerBook, watch: Stopwatch
) -> None:
    assert (await book.page(Window(10, 1))).total == 0
    host.add_user(a_customer())

    watch.seconds += FETCHED_AHEAD_SECONDS
    kept = (await book.page(Window(10, 1))).total
    watch.seconds += KEPT_SECONDS_MAX - FETCHED_AHEAD_SECONDS + 0.1
    fresh = (await book.page(Window(10, 1))).total

    assert (kept, fresh, host.reads) == (0, 1, 2)


async def test_the_next_list_is_fetched_before_somebody_has_to_wait(
    host: CountingPlatform, book: CustomerBook, watch: Stopwatch
) -> None:
    await book.page(Window(10, 1))
    host.add_user(a_customer())
    watch.seconds += FETCHED_AHEAD_SECONDS + 0.1

    at_once = (await book.page(Window(10, 1))).total
    await asyncio.sleep(0.1)
    then = (await book.page(Window(10, 1))).total

    assert (at_once, then, host.reads) == (0, 1, 2)


async def test_many_who_ask_at_once_share_one_reading(
    host: CountingPlatform, book: CustomerBook
) -> None:
    host.add_user(a_customer())

    pages = await asyncio.gather(*(book.page(Window(10, 1)) for _ in range(20)))

    assert {page.total for page in pages} == {1}
    assert host.reads == 1


async def test_who_goes_away_does_not_end_the_reading_of_others(
    host: CountingPlatform, book: CustomerBook
) -> None:
    host.add_user(a_customer())
    first = asyncio.create_task(book.page(Window(10, 1)))
    second = asyncio.create_task(book.page(Window(10, 1)))
    await asyncio.sleep(0)

    first.cancel()

    assert (await second).total == 1
    assert host.reads == 1


async def test_a_failure_is_told_and_the_next_one_tries_again(
    host: CountingPlatform, book: CustomerBook
) -> None:
    host.failure = ConnectionError("away")
    with pytest.raises(ConnectionError):
        await book.page(Window(10, 1))
    host.failure = None
    host.add_user(a_customer(id=ObjectId("66f0c0ffee00000000000101")))

    assert (await book.page(Window(10, 1))).total == 1


async def test_too_many_to_keep_are_read_for_each_page(
    host: CountingPlatform, watch: Stopwatch
) -> None:
    book = CustomerBook(host, monotonic=watch, kept_max=0)
    for expected in (1, 2, 3):
        host.add_user(a_customer())

        assert (await book.page(Window(10, 1))).total == expected


@pytest.mark.parametrize(("has_digest", "reads"), [(True, 1), (False, 3)])
async def test_customers_that_have_not_changed_are_not_read_again(
    host: CountingPlatform,
    book: CustomerBook,
    watch: Stopwatch,
    has_digest: bool,
    reads: int,
) -> None:
    host.has_digest = has_digest
    host.add_user(a_customer())
    for _ in range(3):
        watch.seconds += KEPT_SECONDS_MAX + 0.1

        assert (await book.page(Window(10, 1))).total == 1
    assert host.reads == reads


async def test_a_changed_name_shows_in_time(
    host: CountingPlatform, book: CustomerBook, watch: Stopwatch
) -> None:
    ada = host.add_user(a_customer())
    await book.page(Window(10, 1))
    host.add_user(a_customer(id=ada.id, name="Ada Holm-Berg"))
    watch.seconds += KEPT_SECONDS_MAX + 0.1

    assert names((await book.page(Window(10, 1))).items) == ["Ada Holm-Berg"]
