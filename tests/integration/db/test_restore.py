"""Restoring on a real server: the same database again, and nothing that exists is touched."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from accounting.db.backup.failures import (
    BackupDamaged,
    CollectionsExist,
    NoPlatformInBackup,
    NotAsSaved,
    NotLoaded,
    PlatformExists,
    RestoreTakenOver,
    RestoreUnfinished,
)
from accounting.db.backup.folder import Backup, open_backup
from accounting.db.backup.restoring import LOADING_PREFIX, MARK_COLLECTION, restore
from accounting.db.backup.saving import back_up
from accounting.db.client import MongoDatabase, open_client, open_database
from accounting.dev.mongod import start_mongod
from accounting.dev.processes import Server
from accounting.errors import Misconfigured, Unavailable
from accounting.platform.rules import PLATFORM_COLLECTIONS, TOKEN_BLACKLIST
from backups import (
    MANY,
    MIXED,
    SAVED_PLATFORM,
    SOME_NAMES,
    fill_ours,
    fill_platform,
    state_of,
)
from builders import NOW

SOURCE, TARGET = "restore_test_source", "restore_test_target"
NEVER_OURS = (*PLATFORM_COLLECTIONS, TOKEN_BLACKLIST)


@pytest.fixture(scope="module")
async def source(mongod: Server) -> AsyncIterator[MongoDatabase]:
    """Some of our collections, all full, and some of the platform's; no test changes them."""
    client = open_client(mongod.uri)
    await client.drop_database(SOURCE)
    mongo = open_database(client, SOURCE)
    await fill_ours(mongo, documents=6_000, names=SOME_NAMES)
    await fill_platform(mongo, share=0.01)
    yield mongo
    await client.drop_database(SOURCE)
    client.close()


@pytest.fixture(scope="module")
async def backup(source: MongoDatabase, tmp_path_factory: pytest.TempPathFactory) -> Backup:
    path = tmp_path_factory.mktemp("backups") / "ours"
    await back_up(source, SOME_NAMES, path, now=NOW)
    return open_backup(path)


@pytest.fixture(scope="module")
async def with_platform(source: MongoDatabase, tmp_path_factory: pytest.TempPathFactory) -> Backup:
    """A backup that has some of the platform in it."""
    path = tmp_path_factory.mktemp("backups") / "both"
    await back_up(source, [*SOME_NAMES, *SAVED_PLATFORM], path, now=NOW)
    return open_backup(path)


@pytest.fixture
async def target(mongod: Server) -> AsyncIterator[MongoDatabase]:
    """Another database, empty at first."""
    client = open_client(mongod.uri)
    await client.drop_database(TARGET)
    yield open_database(client, TARGET)
    await client.drop_database(TARGET)
    client.close()


async def restored(mongo: MongoDatabase, backup: Backup, **choices: Any) -> set[str]:
    made = await restore(mongo, backup, platform_names=NEVER_OURS, **choices)
    return {found.name for found in made.collections}


async def test_an_empty_database_becomes_the_one_that_was_saved(
    source: MongoDatabase, target: MongoDatabase, backup: Backup
) -> None:
    names = await restored(target, backup)

    assert await state_of(target, SOME_NAMES) == await state_of(source, SOME_NAMES)
    assert names == set(await target.list_collection_names()) == set(SOME_NAMES)


async def test_the_validator_is_in_force_again(target: MongoDatabase, backup: Backup) -> None:
    await restored(target, backup)

    # What it would refuse was put back all the same; what is new has to obey it.
    assert await target[MIXED].find_one({"_id": "text"}) is not None
    with pytest.raises(Exception, match="failed validation"):
        await target[MIXED].insert_one({"_id": "another text"})


async def test_progress_ends_at_the_number_of_documents(
    target: MongoDatabase, backup: Backup
) -> None:
    seen: list[tuple[int, int]] = []

    await restored(target, backup, on_progress=lambda done, total: seen.append((done, total)))

    assert seen[-1] == (backup.manifest.documents, backup.manifest.documents)
    assert len(seen) > 3


async def test_a_collection_with_documents_is_named_and_nothing_is_done(
    target: MongoDatabase, backup: Backup
) -> None:
    await target[MIXED].insert_one({"_id": 1})
    await target[MANY].insert_many([{"_id": 1}, {"_id": 2}])

    with pytest.raises(CollectionsExist) as refused:
        await restored(target, backup)

    assert f"accounting_counters (2 documents), {MIXED} (1 documents)" in refused.value.sentence
    assert set(await target.list_collection_names()) == {MANY, MIXED}
    assert await target[MIXED].count_documents({}) == 1


async def test_an_empty_collection_is_not_replaced_either(
    target: MongoDatabase, backup: Backup
) -> None:
    await target.create_collection(MIXED)
    before = await state_of(target, SOME_NAMES)

    with pytest.raises(CollectionsExist, match=rf"empty, {MIXED}\. `accounting db rollback`"):
        await restored(target, backup)

    assert await state_of(target, SOME_NAMES) == before


async def test_a_platform_beside_it_is_not_touched(target: MongoDatabase, backup: Backup) -> None:
    await fill_platform(target, share=0.01)
    before = await state_of(target, PLATFORM_COLLECTIONS)

    await restored(target, backup)

    assert await state_of(target, PLATFORM_COLLECTIONS) == before


async def test_the_platform_in_a_backup_is_left_out_unless_it_is_asked_for(
    target: MongoDatabase, with_platform: Backup
) -> None:
    made = await restore(target, with_platform, platform_names=NEVER_OURS)

    assert made.left_out == SAVED_PLATFORM
    assert set(await target.list_collection_names()) == set(SOME_NAMES)


async def test_the_platform_is_made_where_none_is(
    source: MongoDatabase, target: MongoDatabase, with_platform: Backup
) -> None:
    await restored(target, with_platform, with_platform=True)

    names = [*SOME_NAMES, *SAVED_PLATFORM]
    assert await state_of(target, names) == await state_of(source, names)


@pytest.mark.parametrize("present", ["users", "hardware", "token_blacklist"])
async def test_a_database_with_anything_of_a_platform_gets_no_other(
    target: MongoDatabase, with_platform: Backup, present: str
) -> None:
    await target.create_collection(present)

    with pytest.raises(PlatformExists, match=present):
        await restored(target, with_platform, with_platform=True)

    assert await target.list_collection_names() == [present]


async def test_a_platform_that_is_not_in_the_backup_is_not_passed_over(
    target: MongoDatabase, backup: Backup
) -> None:
    with pytest.raises(NoPlatformInBackup):
        await restored(target, backup, with_platform=True)

    assert await target.list_collection_names() == []


async def test_what_an_index_refuses_leaves_nothing_behind(
    target: MongoDatabase, backup: Backup
) -> None:
    unique = {"v": 2, "key": {"no such field": 1}, "name": "one", "unique": True}
    spoiled = replace(backup.definitions[MANY], indexes=(unique,))
    definitions = {**backup.definitions, MANY: spoiled}

    with pytest.raises(Misconfigured, match="duplicate key"):
        await restored(target, replace(backup, definitions=definitions))

    assert await target.list_collection_names() == []


async def test_a_backup_that_loses_a_document_after_its_check_is_noticed(
    target: MongoDatabase, backup: Backup
) -> None:
    collections = [
        saved.model_copy(update={"documents": saved.documents + 1}) if saved.documents else saved
        for saved in backup.manifest.collections
    ]
    manifest = backup.manifest.model_copy(update={"collections": tuple(collections)})

    with pytest.raises(NotAsSaved, match="in the backup"):
        await restored(target, replace(backup, manifest=manifest))

    assert await target.list_collection_names() == []


async def test_a_backup_that_is_damaged_after_its_check_is_named(
    target: MongoDatabase, backup: Backup, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(backup.path, copy)
    file = copy / SOURCE / "accounting_counters.bson.gz"
    file.write_bytes(file.read_bytes()[:5_000])

    with pytest.raises(BackupDamaged, match=r"accounting_counters\.bson\.gz"):
        await restored(target, replace(backup, path=copy))

    assert await target.list_collection_names() == []


async def test_of_two_restores_at_once_the_later_one_goes_on(
    mongod: Server, source: MongoDatabase, target: MongoDatabase, backup: Backup
) -> None:
    second: list[asyncio.Task[set[str]]] = []

    def begin_second(_done: int, _total: int) -> None:
        if not second:
            second.append(asyncio.ensure_future(restored(target, backup)))

    with pytest.raises((RestoreTakenOver, NotLoaded)):
        await restored(target, backup, on_progress=begin_second)
    outcome = await asyncio.gather(*second, return_exceptions=True)

    # It may have stumbled over the last batch of the first one; then it made nothing.
    if isinstance(outcome[0], BaseException):
        assert isinstance(outcome[0], NotLoaded | NotAsSaved)
        await restored(target, backup)
    assert await state_of(target, SOME_NAMES) == await state_of(source, SOME_NAMES)
    assert set(await target.list_collection_names()) == set(SOME_NAMES)


async def leave_at_the_renaming(target: MongoDatabase, backup: Backup, renamed: int) -> list[str]:
    """What a restore leaves behind that was killed after so many renames; those still to do."""
    await restored(target, backup)
    names = [saved.name for saved in backup.manifest.collections]
    for name in names[renamed:]:
        await target[name].rename(LOADING_PREFIX + name)
    mark = {"_id": "restore", "run": "1", "digest": backup.digest, "phase": "renaming"}
    await target[MARK_COLLECTION].insert_one({**mark, "path": str(backup.path), "names": names})
    return names[renamed:]


@pytest.mark.parametrize("renamed", [0, 1, len(SOME_NAMES)])
async def test_a_restore_killed_while_renaming_is_finished_by_the_next(
    source: MongoDatabase, target: MongoDatabase, backup: Backup, renamed: int
) -> None:
    await leave_at_the_renaming(target, backup, renamed)

    names = await restored(target, backup)

    assert names == set(await target.list_collection_names()) == set(SOME_NAMES)
    assert await state_of(target, SOME_NAMES) == await state_of(source, SOME_NAMES)


async def test_a_restore_killed_while_renaming_is_not_mixed_with_another_backup(
    source: MongoDatabase, target: MongoDatabase, backup: Backup, tmp_path: Path
) -> None:
    left = await leave_at_the_renaming(target, backup, 1)
    await back_up(source, SOME_NAMES[:2], tmp_path / "other", now=NOW)

    with pytest.raises(RestoreUnfinished, match=str(backup.path)):
        await restored(target, open_backup(tmp_path / "other"))

    assert await target[LOADING_PREFIX + left[0]].count_documents({}) > 0


async def test_what_the_service_made_meanwhile_is_not_overwritten(
    target: MongoDatabase, backup: Backup
) -> None:
    left = await leave_at_the_renaming(target, backup, 1)
    await target[left[1]].insert_one({"_id": "made by the service"})

    with pytest.raises(CollectionsExist, match=left[1]):
        await restored(target, backup)

    assert await target[left[1]].count_documents({}) == 1


async def test_a_server_that_dies_meanwhile_leaves_no_collection_under_its_name(
    source: MongoDatabase, backup: Backup, data_dir: Path
) -> None:
    with start_mongod(data_dir) as server:
        client = open_client(server.uri + "&serverSelectionTimeoutMS=500")
        mongo = open_database(client, TARGET)

        with pytest.raises(Unavailable):
            await restored(
                mongo,
                backup,
                on_progress=lambda done, total: os.kill(server.child.pid, signal.SIGKILL),
            )
        client.close()

    with start_mongod(data_dir) as server:
        client = open_client(server.uri)
        mongo = open_database(client, TARGET)
        assert not set(await mongo.list_collection_names()) & set(SOME_NAMES)
        await restored(mongo, backup)
        assert await state_of(mongo, SOME_NAMES) == await state_of(source, SOME_NAMES)
        client.close()
