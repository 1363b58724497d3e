"""The users in memory: customers in pages, whom a search finds, and how old both may be."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest

from accounting.actor import Role
from accounting.db.paging import CursorNotValid, Order, Window, write_cursor
from accounting.ids import ObjectId, new_id
from accounting.platform.rules import PlatformUser, UserEntry, UserId
from accounting.platform.user_book import FETCHED_AHEAD_SECONDS, KEPT_SECONDS_MAX, UserBook
from builders import a_customer
from fakes import FakePlatform, Stopwatch


class CountingPlatform(FakePlatform):
    """Counts how often it is read and searched; is slow, can fail, and may have no digest."""

    reads = 0
    searches = 0
    has_digest = True
    failure: Exception | None = None

    async def walk_users(self) -> AsyncIterator[list[UserEntry]]:
        self.reads += 1
        await asyncio.sleep(0.01)
        if self.failure is not None:
            raise self.failure
        async for part in super().walk_users():
            yield part

    async def digest_users(self) -> object | None:
        return await super().digest_users() if self.has_digest else None

    async def find_customer_ids(
        self, text: str, *, limit: int, among: Iterable[UserId] | None = None
    ) -> list[UserId]:
        self.searches += 1
        return await super().find_customer_ids(text, limit=limit, among=among)


@pytest.fixture
def host() -> CountingPlatform:
    return CountingPlatform()


@pytest.fixture
def watch() -> Stopwatch:
    return Stopwatch()


@pytest.fixture
def book(host: CountingPlatform, watch: Stopwatch) -> UserBook:
    return UserBook(host, monotonic=watch)


def names(customers: list[UserEntry]) -> list[str]:
    return [customer.name for customer in customers]


async def walk(book: UserBook, limit: int, text: str | None = None) -> AsyncIterator[str]:
    cursor: str | None = ""
    while cursor is not None:
        page = await book.page(Window(limit, None, cursor), text=text)
        assert (page.number, page.total) == (None, None)
        for name in names(page.items):
            yield name
        cursor = page.next_cursor


async def test_customers_are_ordered_by_name_in_any_case_then_by_id(
    host: CountingPlatform, book: UserBook
) -> None:
    second, first = sorted([new_id(), new_id()], reverse=True)
    for user_id, name in ((second, "bea"), (first, "Bea"), (new_id(), "zoe"), (new_id(), "Åsa")):
        host.add_user(a_customer(id=user_id, name=name))
    host.add_user(a_customer(name="ada"))

    page = await book.page(Window(10, 1))

    assert names(page.items) == ["ada", "Bea", "bea", "zoe", "Åsa"]
    assert (page.total, page.next_cursor) == (5, None)


async def test_staff_and_deleted_users_are_not_listed(
    host: CountingPlatform, book: UserBook
) -> None:
    for changes in ({"role": Role.ADMIN}, {"is_deleted": True}, {"role": Role.UNKNOWN}):
        host.add_user(a_customer(**changes))

    assert (await book.page(Window(10, 1))).total == 0


async def test_pages_by_number_and_by_cursor_show_the_same(
    host: CountingPlatform, book: UserBook
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
    host: CountingPlatform, book: UserBook, text: str, found: list[str]
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
async def test_a_cursor_of_another_list_is_refused(book: UserBook, cursor: str) -> None:
    with pytest.raises(CursorNotValid):
        await book.page(Window(10, None, cursor))


async def test_a_page_is_never_older_than_it_may_be(
    host: CountingPlatform, book: UserBook, watch: Stopwatch
) -> None:
    assert (await book.page(Window(10, 1))).total == 0
    host.add_user(a_customer())

    watch.seconds += FETCHED_AHEAD_SECONDS
    kept = (await book.page(Window(10, 1))).total
    watch.seconds += KEPT_SECONDS_MAX - FETCHED_AHEAD_SECONDS + 0.1
    fresh = (await book.page(Window(10, 1))).total

    assert (kept, fresh, host.reads) == (0, 1, 2)


async def test_the_next_list_is_fetched_before_somebody_has_to_wait(
    host: CountingPlatform, book: UserBook, watch: Stopwatch
) -> None:
    await book.page(Window(10, 1))
    host.add_user(a_customer())
    watch.seconds += FETCHED_AHEAD_SECONDS + 0.1

    at_once = (await book.page(Window(10, 1))).total
    await asyncio.sleep(0.1)
    then = (await book.page(Window(10, 1))).total

    assert (at_once, then, host.reads) == (0, 1, 2)


async def test_many_who_ask_at_once_share_one_reading(
    host: CountingPlatform, book: UserBook
) -> None:
    host.add_user(a_customer())

    pages = await asyncio.gather(*(book.page(Window(10, 1)) for _ in range(20)))

    assert {page.total for page in pages} == {1}
    assert host.reads == 1


async def test_who_goes_away_does_not_end_the_reading_of_others(
    host: CountingPlatform, book: UserBook
) -> None:
    host.add_user(a_customer())
    first = asyncio.create_task(book.page(Window(10, 1)))
    second = asyncio.create_task(book.page(Window(10, 1)))
    await asyncio.sleep(0)

    first.cancel()

    assert (await second).total == 1
    assert host.reads == 1


async def test_a_failure_is_told_and_the_next_one_tries_again(
    host: CountingPlatform, book: UserBook
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
    book = UserBook(host, monotonic=watch, kept_max=0)
    for expected in (1, 2, 3):
        host.add_user(a_customer())

        assert (await book.page(Window(10, 1))).total == expected


@pytest.mark.parametrize(("has_digest", "reads"), [(True, 1), (False, 3)])
async def test_customers_that_have_not_changed_are_not_read_again(
    host: CountingPlatform,
    book: UserBook,
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
    host: CountingPlatform, book: UserBook, watch: Stopwatch
) -> None:
    ada = host.add_user(a_customer())
    await book.page(Window(10, 1))
    host.add_user(a_customer(id=ada.id, name="Ada Holm-Berg"))
    watch.seconds += KEPT_SECONDS_MAX + 0.1

    assert names((await book.page(Window(10, 1))).items) == ["Ada Holm-Berg"]


def a_staff_member() -> PlatformUser:
    return a_customer(name="Ada Staff", email="s@x.test", company_name=None, role=Role.ADMIN)


def a_deleted_user() -> PlatformUser:
    return a_customer(name="Gone", email="gone@x.test", company_name="ADAMANT", is_deleted=True)


@pytest.mark.parametrize(
    "text", ["ada", "ADA", "STAFF", "gone@x", "holm", "northern hash", "ltd\nx", ".*", "x.test"]
)
async def test_a_search_finds_whom_the_platform_finds(
    host: CountingPlatform, book: UserBook, text: str
) -> None:
    people = [a_customer(), a_staff_member(), a_deleted_user(), a_customer(role=Role.UNKNOWN)]
    for user in people:
        host.add_user(user)
    some = [people[0].id, people[2].id, new_id()]

    for among in (None, some, []):
        found = await book.find_customer_ids(text, limit=10, among=among)

        expected = await FakePlatform.find_customer_ids(host, text, limit=10, among=among)
        assert sorted(found) == sorted(expected)
    assert (host.reads, host.searches) == (1, 0)


async def test_a_search_finds_staff_and_deleted_users_which_no_page_shows(
    host: CountingPlatform, book: UserBook
) -> None:
    ada, staff, gone = a_customer(), a_staff_member(), a_deleted_user()
    for user in (gone, staff, ada):
        host.add_user(user)

    found = await book.find_customer_ids("ada", limit=10)
    page = await book.page(Window(10, 1), text="ada")

    assert set(found) == {ada.id, staff.id, gone.id}
    assert all(type(user_id) is ObjectId for user_id in found)
    assert (names(page.items), page.total) == (["Ada Holm"], 1)


@pytest.mark.parametrize(("limit", "number"), [(1, 1), (6, 6), (7, 7), (8, 7)])
async def test_a_search_finds_no_more_than_its_limit(
    host: CountingPlatform, book: UserBook, limit: int, number: int
) -> None:
    for _ in range(7):
        host.add_user(a_customer())

    found = await book.find_customer_ids("holm", limit=limit)

    assert len(set(found)) == len(found) == number


async def test_what_was_searched_before_is_found_again_whatever_the_limit(
    host: CountingPlatform, book: UserBook
) -> None:
    users = [host.add_user(a_customer()) for _ in range(7)]
    for limit in (2, 10, 2, 7, 10):
        found = await book.find_customer_ids("holm", limit=limit)
        assert len(set(found)) == min(limit, 7)
        assert (await book.page(Window(3, 1), text="HOLM")).total == 7
    for serial in range(300):
        assert await book.find_customer_ids(f"nobody {serial}", limit=10) == []

    assert set(await book.find_customer_ids("holm", limit=10)) == {user.id for user in users}


@pytest.mark.parametrize(
    ("changes", "is_listed", "is_found"),
    [
        ({"is_deleted": True}, False, False),
        ({"role": Role.ADMIN}, False, False),
        ({"email": "a@new.test"}, True, True),
    ],
)
async def test_a_change_shows_in_pages_and_searches_in_time(
    host: CountingPlatform,
    book: UserBook,
    watch: Stopwatch,
    changes: dict[str, Any],
    is_listed: bool,
    is_found: bool,
) -> None:
    ada = host.add_user(a_customer())
    assert (await book.page(Window(10, 1))).total == 1
    assert await book.find_customer_ids("new.test", limit=10) == []
    host.add_user(a_customer(id=ada.id, **changes))
    watch.seconds += KEPT_SECONDS_MAX + 0.1

    found = await book.find_customer_ids("new.test", limit=10)

    assert found == ([ada.id] if is_found else [])
    assert await book.find_customer_ids("ada holm", limit=10) == [ada.id]
    assert (await book.page(Window(10, 1))).total == int(is_listed)


async def test_a_search_is_never_older_than_it_may_be(
    host: CountingPlatform, book: UserBook, watch: Stopwatch
) -> None:
    assert await book.find_customer_ids("ada", limit=10) == []
    ada = host.add_user(a_customer())

    kept = await book.find_customer_ids("ada", limit=10)
    watch.seconds += KEPT_SECONDS_MAX + 0.1
    fresh = await book.find_customer_ids("ada", limit=10)

    assert (kept, fresh) == ([], [ada.id])


async def test_of_too_many_to_keep_a_search_is_the_platforms_own(
    host: CountingPlatform, watch: Stopwatch
) -> None:
    book = UserBook(host, monotonic=watch, kept_max=3)
    expected = {host.add_user(a_customer()).id for _ in range(3)}
    assert set(await book.find_customer_ids("holm", limit=10)) == expected
    expected.add(host.add_user(a_customer()).id)
    watch.seconds += KEPT_SECONDS_MAX + 0.1

    for searches in range(3):
        assert set(await book.find_customer_ids("holm", limit=10)) == expected
        assert (host.reads, host.searches) == (2, searches)
        expected.add(host.add_user(a_customer()).id)


async def test_users_who_are_few_enough_again_are_kept_again(
    host: CountingPlatform, watch: Stopwatch
) -> None:
    book = UserBook(host, monotonic=watch, kept_max=1)
    ada, bob = host.add_user(a_customer()), host.add_user(a_customer())
    assert set(await book.find_customer_ids("holm", limit=10)) == {ada.id, bob.id}
    del host.users[bob.id]

    assert (await book.page(Window(10, 1))).total == 1
    assert await book.find_customer_ids("holm", limit=10) == [ada.id]
    assert (host.reads, host.searches) == (2, 0)


async def test_many_parts_become_one_list_in_order(host: CountingPlatform, book: UserBook) -> None:
    host.users_at_once = 2
    for serial in range(7):
        host.add_user(a_customer(name=f"Customer {serial * 3 % 7}"))

    assert [name async for name in walk(book, 3)] == [f"Customer {serial}" for serial in range(7)]


async def test_a_page_of_very_many_found_is_in_the_same_order(
    host: CountingPlatform, book: UserBook
) -> None:
    for serial in range(2_101):
        email = f"user{serial}@example.com"
        host.add_user(a_customer(name=f"Kim {serial * 7 % 2_101:04}", email=email))

    found = await book.page(Window(50, page=3), text="EXAMPLE")

    assert [entry.name for entry in found.items] == [
        f"Kim {number:04}" for number in range(100, 150)
    ]
    assert found.total == 2_101


async def test_a_text_that_no_name_can_have_finds_nobody(
    host: CountingPlatform, book: UserBook
) -> None:
    host.add_user(a_customer(name="Ada \N{GRINNING FACE}"))

    assert await book.find_customer_ids("\ud83d", limit=10) == []
    assert len(await book.find_customer_ids("\N{GRINNING FACE}", limit=10)) == 1


async def test_those_who_are_kept_are_no_work_for_the_garbage_collector(
    host: CountingPlatform, book: UserBook
) -> None:
    for _ in range(500):
        host.add_user(a_customer())
    gc.collect()
    before = len(gc.get_objects())

    await book.page(Window(10, 1))
    gc.collect()

    assert len(gc.get_objects()) - before < 100
