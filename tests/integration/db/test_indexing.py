"""Indexes on collections that are in use: writers go on, and no duplicate ever gets in."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from pymongo.errors import DuplicateKeyError

from accounting.db.client import MongoDatabase, open_client, open_database
from accounting.db.comparison import GUARD_SUFFIX, Change, ChangeKind
from accounting.db.document import index
from accounting.db.indexing import guard_of
from accounting.db.manifest import META
from accounting.db.obstacles import DuplicatesCame
from accounting.db.planning import Watcher, plan_setup
from accounting.db.schema import CollectionSpec
from accounting.db.setup import apply_changes, is_set_up
from accounting.db.turns import LOCK_ID, SILENT_SECONDS_MAX, TurnLost, my_turn
from accounting.dev.processes import Server
from setups import NEW_SPECS, SHEETS, everything_of, forget_the_killed, set_up_old

DATABASE = "indexing_test"
MANY = 200_000


@pytest.fixture
async def mongo(mongod: Server) -> AsyncIterator[MongoDatabase]:
    client = open_client(mongod.uri)
    await client.drop_database(DATABASE)
    yield open_database(client, DATABASE)
    await client.drop_database(DATABASE)
    client.close()


async def fill_with_many(mongo: MongoDatabase) -> None:
    """Documents that the server makes itself, which is the quickest."""
    await mongo["one"].insert_one({})
    code = {"$mod": [{"$multiply": ["$number", 7_919]}, MANY]}
    kind = {"$concat": ["kind ", {"$toString": "$number"}]}
    pipeline = [
        {"$project": {"_id": 0, "number": {"$range": [0, MANY]}}},
        {"$unwind": "$number"},
        {"$set": {"code": code, "kind": kind}},
        {"$out": SHEETS},
    ]
    await mongo["one"].aggregate(pipeline).to_list(None)


async def test_writes_go_on_while_indexes_are_built_on_many_documents(
    mongo: MongoDatabase,
) -> None:
    await apply_changes(mongo, [CollectionSpec(SHEETS, {}, ())])
    await fill_with_many(mongo)
    wanted = (index("number", unique=True), index("code"), index("kind", "-code"))
    shown: list[tuple[str, int, int]] = []
    watcher = Watcher(on_progress=lambda *progress: shown.append(progress))

    building = asyncio.ensure_future(
        apply_changes(mongo, [CollectionSpec(SHEETS, {}, wanted)], watcher=watcher)
    )
    started, slowest, written = time.monotonic(), 0.0, 0
    while not building.done():
        before = time.monotonic()
        await mongo[SHEETS].insert_one({"number": -1 - written, "code": 1})
        slowest = max(slowest, time.monotonic() - before)
        written += 1
    took = time.monotonic() - started
    await building

    # A build that stopped the writers would let one of them wait for all of it.
    assert written > 20
    assert slowest < took / 2
    assert await mongo[SHEETS].count_documents({}) == MANY + written
    # The server reads all documents, then sorts what it found, then adds what was written since.
    assert {name for name, _, _ in shown} == {"building indexes of sheets"}
    assert any(0 < done <= total and total >= MANY for _, done, total in shown)


async def test_a_unique_index_is_replaced_without_a_moment_without_one(
    mongo: MongoDatabase,
) -> None:
    await set_up_old(mongo, documents=20_000)
    apply = asyncio.ensure_future(apply_changes(mongo, NEW_SPECS))
    tried = 0
    while not apply.done():
        # A number that is there: each index in its turn has to refuse it.
        with pytest.raises(DuplicateKeyError):
            await mongo[SHEETS].insert_one({"number": tried, "code": -1 - tried, "kind": "late"})
        tried += 1
    await apply

    assert tried > 10
    assert await is_set_up(mongo, NEW_SPECS)
    assert not any(name.endswith(GUARD_SUFFIX) for name in await mongo[SHEETS].index_information())


async def test_what_each_index_needs_is_planned(mongo: MongoDatabase) -> None:
    await set_up_old(mongo)

    changes = [change for change in (await plan_setup(mongo, NEW_SPECS)).needed if change.name]

    assert {change.name: change.kind for change in changes if change.collection == SHEETS} == {
        "number": ChangeKind.REPLACE_INDEX,
        "code": ChangeKind.CHANGE_INDEX,
        "seenAt_1": ChangeKind.CHANGE_INDEX,
        "kind_1": ChangeKind.CREATE_INDEX,
    }
    [number] = [change for change in changes if change.name == "number"]
    assert number.before == 'number; unique; only where {"kind": "late"}'
    assert number.after == "number; unique"


async def test_duplicates_that_came_meanwhile_are_named_and_still_let_in(
    mongo: MongoDatabase,
) -> None:
    await set_up_old(mongo)

    async def write_a_duplicate(is_resumed: bool) -> None:
        await mongo[SHEETS].insert_one({"_id": "late", "number": 999, "code": 5})

    with pytest.raises(DuplicatesCame, match="1 value of code") as refused:
        await apply_changes(mongo, NEW_SPECS, before_changes=write_a_duplicate)

    assert refused.value.code == "duplicates_came"
    assert set(refused.value.obstacle.details[0].split(", ids ")[1].split(", ")) == {"5", "late"}
    await mongo[SHEETS].insert_one({"_id": "later", "number": 1_000, "code": 5})
    await mongo[SHEETS].delete_many({"_id": {"$in": ["late", "later"]}})
    await apply_changes(mongo, NEW_SPECS)
    assert await is_set_up(mongo, NEW_SPECS)


async def test_a_guard_that_was_left_behind_is_dropped(mongo: MongoDatabase) -> None:
    await apply_changes(mongo, NEW_SPECS)
    in_one_go = await everything_of(mongo)
    guard = guard_of(NEW_SPECS[0].indexes[0])
    assert guard is not None
    await mongo[SHEETS].create_indexes([guard])

    [change] = (await plan_setup(mongo, NEW_SPECS)).changes
    # The service can work with it.
    assert await is_set_up(mongo, NEW_SPECS)
    await apply_changes(mongo, NEW_SPECS)

    assert change == Change(
        ChangeKind.DROP_GUARD, SHEETS, f"number{GUARD_SUFFIX}", before=change.before
    )
    assert await everything_of(mongo) == in_one_go


async def test_a_guard_for_another_index_is_built_anew(mongo: MongoDatabase) -> None:
    await set_up_old(mongo)
    await mongo[SHEETS].create_index(
        "kind", name=f"number{GUARD_SUFFIX}", partialFilterExpression={"kind": "x"}
    )

    await apply_changes(mongo, NEW_SPECS)

    assert (await plan_setup(mongo, NEW_SPECS)).changes == []


def test_a_guard_holds_what_its_index_holds() -> None:
    some = {"kind": {"$type": "string"}}
    whole = guard_of(index("a", "-b", unique=True))
    partial = guard_of(index("a", unique=True, only_if=some, expire_after_seconds=5))

    assert guard_of(index("a")) is None
    assert whole is not None
    assert partial is not None
    assert dict(whole.document["key"]) == {"a": 1, "b": -1}
    assert whole.document["unique"]
    assert whole.document["partialFilterExpression"] == {"_id": {"$exists": True}}
    assert partial.document["partialFilterExpression"] == {
        "$and": [some, {"_id": {"$exists": True}}]
    }
    assert "expireAfterSeconds" not in partial.document


async def test_the_second_waits_for_its_turn(mongo: MongoDatabase) -> None:
    await apply_changes(mongo, NEW_SPECS)
    order: list[str] = []
    waited_for: list[str] = []

    async def second() -> None:
        async with my_turn(mongo, waited_for.append):
            order.append("second")

    async with my_turn(mongo, waited_for.append) as turn:
        waiting = asyncio.ensure_future(second())
        await asyncio.sleep(0.7)
        await turn.require()
        order.append("first")
    await waiting

    assert order == ["first", "second"]
    assert len(waited_for) == 1
    assert await mongo[META].find_one({"_id": LOCK_ID}) is None


async def test_who_was_silent_for_long_has_lost_his_turn(mongo: MongoDatabase) -> None:
    await apply_changes(mongo, NEW_SPECS)

    async with my_turn(mongo, lambda host: None) as first:
        await forget_the_killed(mongo)
        async with my_turn(mongo, lambda host: None) as second:
            await second.require()
            with pytest.raises(TurnLost, match="has taken over") as lost:
                await first.require()

    assert lost.value.code == "turn_lost"
    assert SILENT_SECONDS_MAX < 60


async def test_an_index_that_is_still_being_built_is_not_there_yet(mongo: MongoDatabase) -> None:
    await apply_changes(mongo, [CollectionSpec(SHEETS, {}, ())])
    await mongo[SHEETS].insert_many([{"number": at} for at in range(50_000)])
    wanted = [CollectionSpec(SHEETS, {}, (index("number", unique=True),))]
    # As a killed apply leaves it: the server goes on with the build.
    building = asyncio.ensure_future(mongo[SHEETS].create_index("number", unique=True))
    for _ in range(10_000):
        if "number_1" in await mongo[SHEETS].index_information():
            break

    was_set_up = await is_set_up(mongo, wanted)
    was_building = not building.done()
    await apply_changes(mongo, wanted)

    assert was_building
    assert not was_set_up
    assert await is_set_up(mongo, wanted)
    assert await building == "number_1"
