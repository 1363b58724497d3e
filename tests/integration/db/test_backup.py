"""Backups of a real server: what is saved, of which moment, and what stops one."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import bson
import pytest
from pymongo import MongoClient

from accounting import __version__
from accounting.db.backup.failures import (
    BackupNotWritten,
    DefinitionsChanged,
    NotACollection,
    NothingToBackUp,
    NotOfOneMoment,
    SnapshotGone,
)
from accounting.db.backup.folder import open_backup
from accounting.db.backup.saving import back_up
from accounting.db.client import MongoDatabase, open_client, open_database
from accounting.dev.mongod import start_mongod
from accounting.dev.processes import Server
from accounting.errors import Unavailable
from backups import (
    EVERY_TYPE,
    MANY,
    MIXED,
    OUR_NAMES,
    SOME_NAMES,
    fill_ours,
    fill_platform,
    names_in,
    stored_documents,
)
from builders import NOW

DATABASE = "backup_test"


@pytest.fixture
async def shop(mongod: Server) -> AsyncIterator[MongoDatabase]:
    """A database of its own, empty at first."""
    client = open_client(mongod.uri)
    await client.drop_database(DATABASE)
    yield open_database(client, DATABASE)
    await client.drop_database(DATABASE)
    client.close()


async def test_documents_are_saved_byte_for_byte(shop: MongoDatabase, tmp_path: Path) -> None:
    await fill_ours(shop, documents=3, names=SOME_NAMES)

    manifest = await back_up(shop, OUR_NAMES, tmp_path / "out", now=NOW)

    saved = stored_documents(tmp_path / "out" / DATABASE / f"{MIXED}.bson.gz")
    assert saved[: len(EVERY_TYPE)] == [bson.encode(document) for document in EVERY_TYPE]
    assert b"undefined" in saved[-1]
    counts = [await shop[name].count_documents({}) for name in SOME_NAMES]
    assert [found.documents for found in manifest.collections] == counts
    assert open_backup(tmp_path / "out").manifest == manifest


async def test_what_a_backup_says_of_itself(shop: MongoDatabase, tmp_path: Path) -> None:
    await fill_ours(shop, documents=3, names=SOME_NAMES)

    await back_up(shop, OUR_NAMES, tmp_path / "out", now=NOW)

    said = json.loads((tmp_path / "out" / "backup.json").read_text())
    server = await shop.client.server_info()
    sizes = {saved["name"]: saved["documents"] for saved in said.pop("collections")}
    assert said == {
        "format": 1,
        "madeBy": __version__,
        "madeAt": NOW.isoformat().replace("+00:00", "Z"),
        "serverVersion": server["version"],
        "database": DATABASE,
        "isOfOneMoment": True,
    }
    assert (sizes[MIXED], sizes[MANY]) == (len(EVERY_TYPE) + 1, 3)


async def test_the_definition_is_the_one_on_the_server(shop: MongoDatabase, tmp_path: Path) -> None:
    await fill_ours(shop, names=SOME_NAMES)

    await back_up(shop, OUR_NAMES, tmp_path / "out", now=NOW)

    packed = (tmp_path / "out" / DATABASE / f"{MIXED}.metadata.json.gz").read_bytes()
    metadata = json.loads(gzip.decompress(packed))
    [info] = [info async for info in await shop.list_collections(filter={"name": MIXED})]
    assert metadata["uuid"] == bytes(info["info"]["uuid"]).hex()
    assert metadata["options"]["validator"]["$jsonSchema"]["bsonType"] == "object"
    assert [index["name"] for index in metadata["indexes"]] == [
        index["name"] async for index in shop[MIXED].list_indexes()
    ]


async def test_nothing_of_the_platform_is_read_unless_it_is_asked_for(
    shop: MongoDatabase, tmp_path: Path
) -> None:
    await fill_ours(shop, names=SOME_NAMES)
    await fill_platform(shop, share=0.01)

    await back_up(shop, OUR_NAMES, tmp_path / "ours", now=NOW)
    await back_up(shop, [*OUR_NAMES, "users"], tmp_path / "both", now=NOW)

    assert list((tmp_path / "ours").rglob("users*")) == []
    [document, *_] = stored_documents(tmp_path / "both" / DATABASE / "users.bson.gz")
    assert "password" in bson.decode(document)
    assert list((tmp_path / "both").rglob("miners*")) == []


async def test_all_collections_are_of_one_moment(
    mongod: Server, shop: MongoDatabase, tmp_path: Path
) -> None:
    await shop["first"].insert_one({"_id": 1})
    await shop["second"].insert_one({"_id": 1})
    with MongoClient[dict[str, object]](mongod.uri) as client:

        def write(done: int, _total: int) -> None:
            if done == 1:  # the first one is saved, the second one not yet
                for name in ("first", "second"):
                    client[DATABASE][name].insert_one({})

        names = ["first", "second"]
        whole = await back_up(shop, names, tmp_path / "whole", now=NOW, on_progress=write)
        await shop["first"].delete_many({"_id": {"$ne": 1}})
        await shop["second"].delete_many({"_id": {"$ne": 1}})
        torn = await back_up(
            shop, names, tmp_path / "torn", now=NOW, is_of_one_moment=False, on_progress=write
        )

    assert [saved.documents for saved in whole.collections] == [1, 1]
    assert [saved.documents for saved in torn.collections] == [1, 2]
    assert not open_backup(tmp_path / "torn").manifest.is_of_one_moment


async def test_a_moment_that_the_server_has_forgotten_is_said(
    mongod: Server, shop: MongoDatabase, tmp_path: Path
) -> None:
    await shop["first"].insert_one({"_id": 1})
    await shop["second"].insert_one({"_id": 1})
    with MongoClient[dict[str, object]](mongod.uri) as client:
        client.admin.command("setParameter", 1, minSnapshotHistoryWindowInSeconds=0)

        def let_time_pass(done: int, _total: int) -> None:
            for number in range(20 if done == 1 else 0):
                client[DATABASE]["other"].insert_one({"number": number})
            client.admin.command("fsync")

        try:
            with pytest.raises(SnapshotGone, match="minSnapshotHistoryWindowInSeconds"):
                await back_up(
                    shop,
                    ["first", "second"],
                    tmp_path / "out",
                    now=NOW,
                    on_progress=let_time_pass,
                )
        finally:
            client.admin.command("setParameter", 1, minSnapshotHistoryWindowInSeconds=300)

    assert names_in(tmp_path) == []


@pytest.mark.parametrize(
    "change", [{"createIndexes": "a", "indexes": [{"key": {"x": 1}, "name": "x"}]}, {"drop": "a"}]
)
async def test_an_apply_during_the_backup_is_noticed(
    mongod: Server, shop: MongoDatabase, tmp_path: Path, change: dict[str, object]
) -> None:
    await shop["a"].insert_one({"_id": 1})
    with (
        MongoClient[dict[str, object]](mongod.uri) as client,
        pytest.raises(DefinitionsChanged, match="run it again"),
    ):
        await back_up(
            shop,
            ["a"],
            tmp_path / "out",
            now=NOW,
            on_progress=lambda done, total: client[DATABASE].command(change),
        )

    assert names_in(tmp_path) == []


async def test_a_wrong_database_is_not_saved_as_nothing(
    shop: MongoDatabase, tmp_path: Path
) -> None:
    with pytest.raises(NothingToBackUp, match=DATABASE):
        await back_up(shop, OUR_NAMES, tmp_path / "out", now=NOW)

    assert names_in(tmp_path) == []


async def test_a_view_is_refused(shop: MongoDatabase, tmp_path: Path) -> None:
    await shop.create_collection("users", viewOn="people")

    with pytest.raises(NotACollection, match="users is a view"):
        await back_up(shop, ["users"], tmp_path / "out", now=NOW)


async def test_a_collection_without_a_past_is_said_and_can_be_saved_as_it_is(
    shop: MongoDatabase, tmp_path: Path
) -> None:
    await shop.create_collection("users", capped=True, size=4096)
    await shop["users"].insert_one({"_id": 1})

    with pytest.raises(NotOfOneMoment, match="capped"):
        await back_up(shop, ["users"], tmp_path / "out", now=NOW)

    saved = await back_up(shop, ["users"], tmp_path / "out", now=NOW, is_of_one_moment=False)
    assert saved.documents == 1


async def test_a_cancelled_backup_leaves_nothing(shop: MongoDatabase, tmp_path: Path) -> None:
    await fill_ours(shop, names=SOME_NAMES)
    work = asyncio.create_task(back_up(shop, OUR_NAMES, tmp_path / "out", now=NOW))

    work.cancel()

    with pytest.raises(asyncio.CancelledError):
        await work
    assert names_in(tmp_path) == []


async def test_a_server_that_dies_meanwhile_leaves_nothing(data_dir: Path, tmp_path: Path) -> None:
    with start_mongod(data_dir) as server:
        client = open_client(server.uri + "&serverSelectionTimeoutMS=500")
        mongo = open_database(client, DATABASE)
        await mongo["a"].insert_one({"_id": 1})
        await mongo["b"].insert_one({"_id": 1})

        with pytest.raises(Unavailable):
            await back_up(
                mongo,
                ["a", "b"],
                tmp_path / "out",
                now=NOW,
                on_progress=lambda done, total: os.kill(server.child.pid, signal.SIGKILL),
            )
        client.close()

    assert names_in(tmp_path) == ["data"]


async def test_a_missing_parent_is_no_reason_to_make_one(
    shop: MongoDatabase, tmp_path: Path
) -> None:
    await fill_ours(shop, names=SOME_NAMES)

    with pytest.raises(BackupNotWritten, match="No such file or directory"):
        await back_up(shop, OUR_NAMES, tmp_path / "not mounted" / "out", now=NOW)

    assert names_in(tmp_path) == []
