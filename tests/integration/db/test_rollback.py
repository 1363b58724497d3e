"""Rolling back on a real server: only what the setup has made goes, and nothing is lost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import MongoClient
from pymongo.monitoring import (
    CommandFailedEvent,
    CommandListener,
    CommandStartedEvent,
    CommandSucceededEvent,
)

from accounting.bootstrap import collection_specs
from accounting.clock import utc_now
from accounting.db.backup.failures import (
    BackupExists,
    NotConfirmed,
    NothingKnownToBeOurs,
    RecordNamesThePlatform,
    StillInUse,
)
from accounting.db.backup.folder import open_backup
from accounting.db.backup.progress import OnProgress, show_nothing
from accounting.db.backup.restoring import LOADING_PREFIX, MARK_COLLECTION, restore
from accounting.db.backup.rollback import (
    RollbackPlan,
    drop_unfinished_restore,
    plan_rollback,
    require_confirmed,
    roll_back,
)
from accounting.db.backup.saving import back_up
from accounting.db.client import MongoDatabase, open_client, open_database
from accounting.db.manifest import META
from accounting.db.setup import apply_changes, is_set_up
from accounting.dev.processes import Server
from accounting.platform.rules import PLATFORM_COLLECTIONS, TOKEN_BLACKLIST
from backups import (
    EVERY_TYPE,
    MANY,
    MIXED,
    OUR_NAMES,
    PLATFORM_DOCUMENTS,
    SAVED_PLATFORM,
    SOME_NAMES,
    fill_ours,
    fill_platform,
    state_of,
)
from builders import NOW

DATABASE, TARGET = "rollback_test", "rollback_test_target"
NEVER_OURS = (*PLATFORM_COLLECTIONS, TOKEN_BLACKLIST)


@pytest.fixture
async def shop(mongod: Server) -> AsyncIterator[MongoDatabase]:
    """A database of its own, empty at first."""
    client = open_client(mongod.uri)
    await client.drop_database(DATABASE)
    yield open_database(client, DATABASE)
    await client.drop_database(DATABASE)
    client.close()


@pytest.fixture
async def target(mongod: Server) -> AsyncIterator[MongoDatabase]:
    client = open_client(mongod.uri)
    await client.drop_database(TARGET)
    yield open_database(client, TARGET)
    await client.drop_database(TARGET)
    client.close()


async def planned(mongo: MongoDatabase) -> RollbackPlan:
    return await plan_rollback(mongo, our_names=OUR_NAMES, platform_names=NEVER_OURS)


async def rolled_back(
    mongo: MongoDatabase, target: Path, on_progress: OnProgress = show_nothing
) -> set[str]:
    plan = await planned(mongo)
    saved = await roll_back(mongo, plan, target, now=NOW, on_progress=on_progress)
    return {found.name for found in saved.collections}


async def test_a_database_like_the_one_in_production_from_apply_to_rollback(
    shop: MongoDatabase, target: MongoDatabase, tmp_path: Path
) -> None:
    await fill_platform(shop)
    platform = await state_of(shop, PLATFORM_COLLECTIONS)
    counts = [await shop[name].count_documents({}) for name in PLATFORM_COLLECTIONS]
    assert sum(counts) == PLATFORM_DOCUMENTS

    await fill_ours(shop, documents=10_000)
    ours = await state_of(shop, OUR_NAMES)
    assert ours.keys() == set(OUR_NAMES)
    await back_up(shop, [*OUR_NAMES, *SAVED_PLATFORM], tmp_path / "all", now=NOW)
    saved = await rolled_back(shop, tmp_path / "ours")

    assert await state_of(shop, PLATFORM_COLLECTIONS) == platform
    assert set(await shop.list_collection_names()) == set(PLATFORM_COLLECTIONS)
    assert saved == set(OUR_NAMES)

    # Both backups are the original again: the one beside the platform, the other with it.
    await restore(shop, open_backup(tmp_path / "ours"), platform_names=NEVER_OURS)
    assert await state_of(shop, OUR_NAMES) == ours
    assert await state_of(shop, PLATFORM_COLLECTIONS) == platform
    assert await is_set_up(shop, collection_specs())
    everything = open_backup(tmp_path / "all")
    await restore(target, everything, platform_names=NEVER_OURS, with_platform=True)
    assert await state_of(target, OUR_NAMES) == ours
    assert await state_of(target, SAVED_PLATFORM) == {
        name: platform[name] for name in SAVED_PLATFORM
    }


async def test_what_is_restored_can_be_rolled_back(
    shop: MongoDatabase, target: MongoDatabase, tmp_path: Path
) -> None:
    await fill_ours(shop, names=SOME_NAMES)
    await back_up(shop, SOME_NAMES, tmp_path / "backup", now=NOW)
    await restore(target, open_backup(tmp_path / "backup"), platform_names=NEVER_OURS)

    await rolled_back(target, tmp_path / "again")

    assert await target.list_collection_names() == []


async def test_the_plan_counts_what_will_be_dropped(shop: MongoDatabase) -> None:
    await fill_platform(shop, share=0.01)
    await fill_ours(shop, documents=7, names=SOME_NAMES)

    plan = await planned(shop)

    counts = {found.name: found.documents for found in plan.collections}
    assert counts.keys() == set(SOME_NAMES)
    assert (counts[MANY], counts[MIXED]) == (7, len(EVERY_TYPE) + 1)
    assert plan.collections[-1].name == META
    assert plan.newest_document_at is not None
    assert abs((utc_now() - plan.newest_document_at).total_seconds()) < 60


async def test_documents_are_dropped_for_those_only_who_name_the_database(
    shop: MongoDatabase,
) -> None:
    await fill_ours(shop, names=SOME_NAMES)
    plan = await planned(shop)

    with pytest.raises(NotConfirmed, match=f"--confirm {DATABASE}"):
        require_confirmed(shop, plan, None)
    with pytest.raises(NotConfirmed, match="'production', but the database is 'rollback_test'"):
        require_confirmed(shop, plan, "production")
    require_confirmed(shop, plan, DATABASE)


async def test_empty_collections_need_no_confirmation(shop: MongoDatabase, tmp_path: Path) -> None:
    await apply_changes(shop, collection_specs()[:3])

    require_confirmed(shop, await planned(shop), None)
    with pytest.raises(NotConfirmed):
        require_confirmed(shop, await planned(shop), "production")

    await rolled_back(shop, tmp_path / "out")
    assert await shop.list_collection_names() == []


async def test_a_collection_that_was_there_before_us_is_kept(
    shop: MongoDatabase, tmp_path: Path
) -> None:
    await fill_ours(shop, names=SOME_NAMES)
    await shop[META].update_one(
        {"kind": "collection", "name": MANY}, {"$set": {"origin": "ADOPTED"}}
    )
    before = await state_of(shop, [MANY])

    plan = await planned(shop)
    await rolled_back(shop, tmp_path / "out")

    assert plan.adopted == (MANY,)
    assert await shop.list_collection_names() == [MANY]
    assert await state_of(shop, [MANY]) == before


async def test_nothing_is_dropped_without_a_record_of_what_is_ours(shop: MongoDatabase) -> None:
    await shop["invoices"].insert_one({"_id": 1})
    await shop["users"].insert_one({"_id": 1})

    with pytest.raises(NothingKnownToBeOurs, match="exist: invoices"):
        await planned(shop)


async def test_a_record_that_names_the_platform_is_not_followed(shop: MongoDatabase) -> None:
    await fill_ours(shop, names=SOME_NAMES)
    await shop[META].update_one({"kind": "collection"}, {"$set": {"name": "users"}})

    with pytest.raises(RecordNamesThePlatform, match="users"):
        await planned(shop)


async def test_nothing_is_dropped_when_it_cannot_be_saved(
    shop: MongoDatabase, tmp_path: Path
) -> None:
    await fill_ours(shop, names=SOME_NAMES)
    before = await state_of(shop, SOME_NAMES)

    with pytest.raises(BackupExists):
        await rolled_back(shop, tmp_path)

    assert await state_of(shop, SOME_NAMES) == before


async def test_what_the_service_writes_after_the_backup_is_not_lost(
    mongod: Server, shop: MongoDatabase, tmp_path: Path
) -> None:
    await fill_ours(shop, documents=1, names=SOME_NAMES)
    with MongoClient[dict[str, object]](mongod.uri) as client:
        running = client[DATABASE][MANY]

        def write(done: int, total: int) -> None:
            if done == total:
                running.insert_one({"_id": "late", "seq": 9}, bypass_document_validation=True)

        with pytest.raises(StillInUse, match=f"wrote to {MANY} meanwhile. Nothing was"):
            await rolled_back(shop, tmp_path / "out", on_progress=write)

    assert set(await shop.list_collection_names()) == set(SOME_NAMES)
    # The service is stopped now.
    await rolled_back(shop, tmp_path / "again")
    assert await shop.list_collection_names() == []
    assert open_backup(tmp_path / "again").manifest.documents > 0


class _Service(CommandListener):
    """Makes a collection anew at the moment in which it has been dropped."""

    def __init__(self, uri: str) -> None:
        self._uri = uri

    def started(self, event: CommandStartedEvent) -> None: ...

    def succeeded(self, event: CommandSucceededEvent) -> None:
        if event.command_name == "drop":
            with MongoClient[dict[str, object]](self._uri) as client:
                client[DATABASE][MIXED].update_one({"_id": "late"}, {"$set": {}}, upsert=True)

    def failed(self, event: CommandFailedEvent) -> None: ...


async def test_what_the_service_makes_anew_keeps_the_record_until_it_is_stopped(
    mongod: Server, shop: MongoDatabase, tmp_path: Path
) -> None:
    await fill_ours(shop, names=SOME_NAMES)
    client: AsyncIOMotorClient[dict[str, Any]] = AsyncIOMotorClient(
        mongod.uri, tz_aware=True, event_listeners=[_Service(mongod.uri)]
    )

    with pytest.raises(StillInUse, match=f"wrote to {MIXED}"):
        await rolled_back(open_database(client, DATABASE), tmp_path / "out")
    client.close()

    assert set(await shop.list_collection_names()) == {META, MIXED}
    # What the service has made is not what the setup made: it is named, and stays.
    assert (await planned(shop)).unknown == (MIXED,)
    await rolled_back(shop, tmp_path / "again")
    assert await shop.list_collection_names() == [MIXED]


async def test_what_was_dropped_before_is_not_missed(shop: MongoDatabase, tmp_path: Path) -> None:
    await fill_ours(shop, names=SOME_NAMES)
    await shop.drop_collection(MIXED)

    plan = await planned(shop)
    await rolled_back(shop, tmp_path / "out")

    assert plan.gone == (MIXED,)
    assert await shop.list_collection_names() == []


async def test_a_database_without_anything_of_ours_has_nothing_to_drop(
    shop: MongoDatabase,
) -> None:
    await shop["users"].insert_one({"_id": 1})

    assert (await planned(shop)).collections == ()


async def test_what_a_killed_restore_has_loaded_is_dropped(shop: MongoDatabase) -> None:
    await shop["users"].insert_one({"_id": 1})
    await shop[f"{LOADING_PREFIX}accounting_counters"].insert_one({"_id": 1})
    await shop[MARK_COLLECTION].insert_one({"_id": "restore", "phase": "loading"})

    assert await drop_unfinished_restore(shop) == 1

    assert await shop.list_collection_names() == ["users"]
