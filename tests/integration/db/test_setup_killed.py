"""`apply` killed at any moment, and two at once: it ends as if it had been done in one go."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from accounting.db.client import MongoDatabase, open_client, open_database
from accounting.db.manifest import begin, intend, read_manifest
from accounting.db.planning import plan_setup
from accounting.db.setup import apply_changes
from accounting.dev.processes import Server
from forked import Victim
from setups import (
    NEW_SPECS,
    PAGES,
    SHEETS,
    apply_work,
    everything_of,
    forget_the_killed,
    nothing_work,
    set_up_old,
)

DATABASE = "setup_killed_test"
ROUNDS, KILLS_PER_ROUND = 7, 3


@pytest.fixture
async def mongo(mongod: Server) -> AsyncIterator[MongoDatabase]:
    client = open_client(mongod.uri)
    await client.drop_database(DATABASE)
    yield open_database(client, DATABASE)
    await client.drop_database(DATABASE)
    client.close()


async def numbers_are_unique(mongo: MongoDatabase) -> bool:
    """Whether some index refuses a second document with the same number."""
    return any(
        definition.get("unique") and definition["key"] == [("number", 1)]
        for definition in (await mongo[SHEETS].index_information()).values()
    )


async def test_killed_at_random_and_run_again_it_ends_as_in_one_go(
    mongo: MongoDatabase, mongod: Server, tmp_path: Path
) -> None:
    Victim(nothing_work, mongod.uri, DATABASE, tmp_path).finish()
    seconds_to_start = Victim(nothing_work, mongod.uri, DATABASE, tmp_path).finish()
    await set_up_old(mongo)
    seconds = Victim(apply_work, mongod.uri, DATABASE, tmp_path).finish()
    in_one_go = await everything_of(mongo)
    dice, half_done = random.Random(6), 0
    for _ in range(ROUNDS):
        await mongo.client.drop_database(DATABASE)
        await set_up_old(mongo)
        for _ in range(KILLS_PER_ROUND):
            victim = Victim(apply_work, mongod.uri, DATABASE, tmp_path)
            # Each of them begins where the one before was killed, and so has less to do.
            await asyncio.sleep(dice.uniform(seconds_to_start, (seconds_to_start + seconds) / 2))
            victim.kill()
            half_done += not (await read_manifest(mongo)).is_finished
            assert await numbers_are_unique(mongo)
            await forget_the_killed(mongo)

        await apply_changes(mongo, NEW_SPECS)

        assert await everything_of(mongo) == in_one_go
    assert half_done >= ROUNDS


async def test_several_processes_at_once_end_as_one_does(
    mongo: MongoDatabase, mongod: Server, tmp_path: Path
) -> None:
    await set_up_old(mongo)
    await apply_changes(mongo, NEW_SPECS)
    alone = await everything_of(mongo)
    await mongo.client.drop_database(DATABASE)
    await set_up_old(mongo)

    at_once = [Victim(apply_work, mongod.uri, DATABASE, tmp_path) for _ in range(3)]
    while any(victim.is_running for victim in at_once):
        assert await numbers_are_unique(mongo)
        await asyncio.sleep(0.01)
    for victim in at_once:
        victim.finish()

    assert await everything_of(mongo) == alone


async def test_a_collection_is_ours_from_the_moment_it_is_made(mongo: MongoDatabase) -> None:
    [_, pages] = NEW_SPECS
    await begin(mongo)
    await intend(mongo, pages, new_collection=True, indexes=[])
    assert (await read_manifest(mongo)).made_by_us == ()

    # Killed here, before it could confirm it.
    await mongo.create_collection(PAGES, validator=pages.validator)

    assert (await read_manifest(mongo)).made_by_us == (PAGES,)
    [finish, create] = (await plan_setup(mongo, [pages])).needed
    assert finish.kind.value.startswith("finish the record")
    await apply_changes(mongo, [pages])
    assert (await read_manifest(mongo)).is_finished
    assert create.name == "sheet_1"


async def test_one_that_somebody_else_made_meanwhile_is_not_ours(mongo: MongoDatabase) -> None:
    [_, pages] = NEW_SPECS
    await begin(mongo)
    await intend(mongo, pages, new_collection=True, indexes=[])

    await mongo[PAGES].insert_one({"theirs": True})

    assert (await read_manifest(mongo)).made_by_us == ()
    assert (await plan_setup(mongo, [pages])).blocking != []
    [found] = (await read_manifest(mongo)).collections
    assert not found.is_adopted
