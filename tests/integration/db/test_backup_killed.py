"""Backup, restore and rollback that are killed at random moments, and then run again."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from accounting.db.backup.failures import NotABackup
from accounting.db.backup.folder import open_backup
from accounting.db.backup.restoring import LOADING_PREFIX, MARK_COLLECTION
from accounting.db.backup.saving import back_up
from accounting.db.client import MongoDatabase, open_client, open_database
from accounting.dev.processes import Server
from accounting.platform.rules import PLATFORM_COLLECTIONS
from backups import (
    META,
    OUR_NAMES,
    SOME_NAMES,
    fill_ours,
    fill_platform,
    names_in,
    state_of,
)
from builders import NOW
from forked import Victim, backup_work, kill_at_random, restore_work, rollback_work

DATABASE, TARGET = "killed_test", "killed_test_target"
DOCUMENTS = 10_000
KILLS = int(os.environ.get("BACKUP_KILLS", "4"))
SEED = int(os.environ.get("BACKUP_SEED", str(time.time_ns() % 10_000)))


@pytest.fixture
def dice() -> random.Random:
    print(f"BACKUP_SEED={SEED}")  # noqa: T201  # shown with a failure
    return random.Random(SEED)


@pytest.fixture
async def shop(mongod: Server) -> AsyncIterator[MongoDatabase]:
    """A platform with our collections beside it."""
    client = open_client(mongod.uri)
    await client.drop_database(DATABASE)
    mongo = open_database(client, DATABASE)
    await fill_ours(mongo, documents=DOCUMENTS, names=SOME_NAMES)
    await fill_platform(mongo, share=0.01)
    yield mongo
    await client.drop_database(DATABASE)
    client.close()


@pytest.fixture
async def target(mongod: Server) -> AsyncIterator[MongoDatabase]:
    client = open_client(mongod.uri)
    await client.drop_database(TARGET)
    yield open_database(client, TARGET)
    await client.drop_database(TARGET)
    client.close()


def test_a_killed_backup_is_never_taken_for_a_whole_one(
    mongod: Server, shop: MongoDatabase, tmp_path: Path, dice: random.Random
) -> None:
    path = tmp_path / "backup"

    def start() -> Victim:
        return Victim(backup_work, mongod.uri, DATABASE, path)

    start().finish()  # the first of all processes takes longer
    shutil.rmtree(path)
    whole = start().finish()
    for _ in range(KILLS):
        if path.exists():
            assert open_backup(path).manifest.documents > DOCUMENTS
            shutil.rmtree(path)
        kill_at_random(start, dice, seconds_max=whole)
    if not path.exists():
        start().finish()

    assert open_backup(path).manifest.documents > DOCUMENTS


def test_a_backup_killed_while_it_is_written_has_another_name(
    mongod: Server, shop: MongoDatabase, tmp_path: Path
) -> None:
    victim = Victim(backup_work, mongod.uri, DATABASE, tmp_path / "backup")
    while victim.is_running and not names_in(tmp_path):
        pass
    victim.kill()

    [left_behind] = names_in(tmp_path)
    assert left_behind.startswith("backup.partial-")
    with pytest.raises(NotABackup):
        open_backup(tmp_path / left_behind)


async def test_a_killed_restore_is_repeated_until_it_is_the_original(
    mongod: Server,
    shop: MongoDatabase,
    target: MongoDatabase,
    tmp_path: Path,
    dice: random.Random,
) -> None:
    await back_up(shop, OUR_NAMES, tmp_path / "backup", now=NOW)
    before = await state_of(shop, SOME_NAMES)

    def start() -> Victim:
        return Victim(restore_work, mongod.uri, TARGET, tmp_path / "backup")

    whole = start().finish()
    await target.client.drop_database(TARGET)
    for _ in range(KILLS):
        kill_at_random(start, dice, seconds_max=whole)
        # Whatever has its name already is whole.
        named = [name for name in await target.list_collection_names() if name in SOME_NAMES]
        state = await state_of(target, named)
        assert state == {name: before[name] for name in named}
    if META not in await target.list_collection_names() or await _has_leftovers(target):
        start().finish()

    assert await state_of(target, SOME_NAMES) == before
    assert set(await target.list_collection_names()) == set(SOME_NAMES)


async def test_a_restore_killed_between_two_renames_is_finished(
    mongod: Server, shop: MongoDatabase, target: MongoDatabase, tmp_path: Path
) -> None:
    await back_up(shop, OUR_NAMES, tmp_path / "backup", now=NOW)

    victim = Victim(restore_work, mongod.uri, TARGET, tmp_path / "backup")
    while victim.is_running and META not in await target.list_collection_names():
        pass
    victim.kill()
    if await _has_leftovers(target):
        Victim(restore_work, mongod.uri, TARGET, tmp_path / "backup").finish()

    assert await state_of(target, SOME_NAMES) == await state_of(shop, SOME_NAMES)
    assert set(await target.list_collection_names()) == set(SOME_NAMES)


async def test_a_killed_rollback_loses_nothing_and_finishes_when_run_again(
    mongod: Server, shop: MongoDatabase, tmp_path: Path, dice: random.Random
) -> None:
    platform = await state_of(shop, PLATFORM_COLLECTIONS)
    ours = await state_of(shop, SOME_NAMES)
    await back_up(shop, OUR_NAMES, tmp_path / "backup", now=NOW)
    folder = tmp_path / "rolled back"
    folder.mkdir()
    whole_backup = Victim(backup_work, mongod.uri, DATABASE, tmp_path / "timed").finish()

    for _ in range(KILLS):
        kill_at_random(
            lambda: Victim(rollback_work, mongod.uri, DATABASE, folder),
            dice,
            seconds_min=whole_backup / 3,
            seconds_max=whole_backup * 1.1,
        )
        left = set(await shop.list_collection_names()) & set(SOME_NAMES)
        saved = {
            found.name
            for name in names_in(folder)
            if ".partial-" not in name
            for found in open_backup(folder / name).manifest.collections
        }
        assert set(SOME_NAMES) - left <= saved
        assert META in left or not left
        assert await state_of(shop, sorted(left)) == {name: ours[name] for name in left}
        assert await state_of(shop, PLATFORM_COLLECTIONS) == platform
        if not left:  # it was quicker; once more from the start
            Victim(restore_work, mongod.uri, DATABASE, tmp_path / "backup").finish()
    Victim(rollback_work, mongod.uri, DATABASE, folder).finish()

    assert set(await shop.list_collection_names()) == set(PLATFORM_COLLECTIONS)
    assert await state_of(shop, PLATFORM_COLLECTIONS) == platform


async def test_a_rollback_killed_between_two_drops_finishes_when_run_again(
    mongod: Server, shop: MongoDatabase, tmp_path: Path
) -> None:
    platform = await state_of(shop, PLATFORM_COLLECTIONS)

    victim = Victim(rollback_work, mongod.uri, DATABASE, tmp_path)
    while victim.is_running and set(SOME_NAMES) <= set(await shop.list_collection_names()):
        pass
    victim.kill()
    [first] = names_in(tmp_path)
    Victim(rollback_work, mongod.uri, DATABASE, tmp_path).finish()

    assert set(await shop.list_collection_names()) == set(PLATFORM_COLLECTIONS)
    assert await state_of(shop, PLATFORM_COLLECTIONS) == platform
    assert {found.name for found in open_backup(tmp_path / first).manifest.collections} == set(
        SOME_NAMES
    )


async def _has_leftovers(mongo: MongoDatabase) -> bool:
    names = await mongo.list_collection_names()
    return any(name == MARK_COLLECTION or name.startswith(LOADING_PREFIX) for name in names)
