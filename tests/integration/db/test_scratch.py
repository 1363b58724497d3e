"""A scratch database is there while it is needed, and nothing but our own is ever dropped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pymongo import MongoClient

from accounting.db.client import Client, MongoDatabase, open_client, open_database
from accounting.db.scratch import (
    MARK_COLLECTION,
    NAME_BYTES_MAX,
    SILENT_SECONDS_MAX,
    MayNotMakeDatabase,
    drop_left_behind,
    list_scratch_databases,
    scratch_database,
)
from accounting.dev.processes import Server
from guarded import GuardedMongod

PURPOSE = "trial"
BOOKS = "scratch_books"
LEFT_BEHIND = f"{BOOKS}_{PURPOSE}_0123456789ab"


@pytest.fixture
async def books(mongod: Server) -> AsyncIterator[MongoDatabase]:
    """A database with content on a server with others, which are all dropped at the end."""
    client = open_client(mongod.uri)
    before = set(await client.list_database_names())
    mongo = open_database(client, BOOKS)
    await mongo["invoices"].insert_one({"number": 1})
    yield mongo
    for name in set(await client.list_database_names()) - before:
        await client.drop_database(name)
    client.close()


async def names(client: Client) -> set[str]:
    return set(await client.list_database_names())


async def leave_behind(
    mongo: MongoDatabase, name: str, *, of_database: str = BOOKS, silent_seconds: float = 3_600
) -> None:
    """What a process leaves that was killed so long ago."""
    alive_at = datetime.now(UTC) - timedelta(seconds=silent_seconds)
    await mongo.client[name][MARK_COLLECTION].insert_one(
        {"_id": "mark", "ofDatabase": of_database, "createdAt": alive_at, "aliveAt": alive_at}
    )


async def test_it_is_empty_beside_the_real_one_and_gone_at_the_end(books: MongoDatabase) -> None:
    before = await names(books.client)

    async with scratch_database(books, PURPOSE) as scratch:
        assert await names(books.client) == before | {scratch.name}
        assert scratch.name.startswith(f"{BOOKS}_{PURPOSE}_")
        assert await scratch["invoices"].count_documents({}) == 0
        await scratch["invoices"].insert_one({"number": 2})
        assert await books["invoices"].distinct("number") == [1]

    assert await names(books.client) == before


async def test_two_at_once_are_two(books: MongoDatabase) -> None:
    async with (
        scratch_database(books, PURPOSE) as first,
        scratch_database(books, PURPOSE) as second,
    ):
        assert first.name != second.name
        listed = await list_scratch_databases(books, PURPOSE)

    assert {(found.name, found.is_in_use) for found in listed} == {
        (first.name, True),
        (second.name, True),
    }


async def test_a_long_work_shows_signs_of_life(books: MongoDatabase) -> None:
    async with scratch_database(books, PURPOSE, sign_of_life_seconds=0.05) as scratch:
        mark = {"_id": "mark"}
        hour_ago = datetime.now(UTC) - timedelta(hours=1)
        await scratch[MARK_COLLECTION].update_one(mark, {"$set": {"aliveAt": hour_ago}})

        await asyncio.sleep(1)

        [listed] = await list_scratch_databases(books, PURPOSE)
        assert listed.is_in_use
        assert await drop_left_behind(books, PURPOSE) == []


async def test_it_is_dropped_when_its_work_is_cancelled(books: MongoDatabase) -> None:
    before = await names(books.client)
    is_made = asyncio.Event()

    async def work() -> None:
        async with scratch_database(books, PURPOSE):
            is_made.set()
            await asyncio.sleep(60)

    task = asyncio.create_task(work())
    await is_made.wait()
    assert await names(books.client) != before
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert await names(books.client) == before


@pytest.mark.parametrize("name", ["x" * 63, "ä" * 30])
async def test_a_long_name_is_cut_to_what_mongodb_takes(books: MongoDatabase, name: str) -> None:
    long_one = open_database(books.client, name)

    async with scratch_database(long_one, PURPOSE) as scratch:
        assert len(scratch.name.encode()) <= NAME_BYTES_MAX
        [found] = await list_scratch_databases(long_one, PURPOSE)

    assert found.name == scratch.name


async def test_only_what_was_left_behind_is_dropped(books: MongoDatabase) -> None:
    await leave_behind(books, LEFT_BEHIND)
    kept = {
        "no mark": f"{BOOKS}_{PURPOSE}_1123456789ab",
        "marked for another": f"{BOOKS}_{PURPOSE}_2123456789ab",
        "another purpose": f"{BOOKS}_other_3123456789ab",
        "another name": f"{BOOKS}_{PURPOSE}_2026",
        "its own name goes on": f"{BOOKS}_{PURPOSE}_4123456789ab_copy",
        "in use": f"{BOOKS}_{PURPOSE}_5123456789ab",
    }
    await books.client[kept["no mark"]]["invoices"].insert_one({"number": 3})
    await leave_behind(books, kept["marked for another"], of_database="other_books")
    await leave_behind(books, kept["another purpose"])
    await leave_behind(books, kept["another name"])
    await leave_behind(books, kept["its own name goes on"])
    await leave_behind(books, kept["in use"], silent_seconds=SILENT_SECONDS_MAX - 60)

    listed = await list_scratch_databases(books, PURPOSE)
    dropped = await drop_left_behind(books, PURPOSE)

    assert [(found.name, found.is_in_use) for found in listed] == [
        (LEFT_BEHIND, False),
        (kept["in use"], True),
    ]
    assert [found.name for found in dropped] == [LEFT_BEHIND]
    assert await names(books.client) >= {BOOKS, *kept.values()}
    assert LEFT_BEHIND not in await names(books.client)


@pytest.mark.parametrize(
    "roles",
    [
        [{"role": "readWrite", "db": BOOKS}],
        # May make it and not drop it.
        [{"role": "readWriteAnyDatabase", "db": "admin"}],
    ],
)
async def test_without_the_rights_nothing_is_made(
    guarded: GuardedMongod, roles: list[dict[str, str]]
) -> None:
    uri = guarded.make_user("scratcher", *roles, database="admin")
    client = open_client(uri)
    with MongoClient[dict[str, Any]](guarded.uri) as administrator:
        before = set(administrator.list_database_names())

        with pytest.raises(MayNotMakeDatabase, match="readWriteAnyDatabase and dbAdminAnyDatabase"):
            async with scratch_database(open_database(client, BOOKS), PURPOSE):
                pass

        assert set(administrator.list_database_names()) == before
    client.close()
