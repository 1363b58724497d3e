"""Setting up and checking collections on a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from accounting import __version__
from accounting.bootstrap import collection_specs
from accounting.db.client import (
    MongoDatabase,
    NotAReplicaSet,
    check_server,
    open_client,
    open_database,
)
from accounting.db.comparison import Change, ChangeKind
from accounting.db.document import index
from accounting.db.manifest import META, Manifest, read_manifest
from accounting.db.planning import Watcher, plan_setup
from accounting.db.schema import CollectionSpec
from accounting.db.setup import apply_changes, is_set_up
from accounting.dev.mongod import start_mongod
from accounting.dev.processes import Server
from accounting.errors import Misconfigured, Unavailable
from setups import NEW_SPECS, PAGES, SHEETS, set_up_old

SEED_COLLECTIONS = {
    "invoices",
    "recurring_invoices",
    "customer_pricing_config",
    "invoice_payments",
    "audit_logs",
    "invoice_notifications",
}
# Every @@index and @@unique of the seed, by the keys in order.
SEED_INDEXES = {
    "invoices": ["userId", "status", "dueDate", "createdAt", "invoiceNumber"],
    "recurring_invoices": ["userId", "isActive", "dayOfMonth", "startDate"],
    "customer_pricing_config": ["userId,effectiveFrom", "userId", "effectiveFrom", "effectiveTo"],
    "invoice_payments": ["invoiceId", "costPaymentId", "invoiceId,costPaymentId"],
    "audit_logs": ["entityId", "entityType", "userId", "createdAt", "action"],
    "invoice_notifications": ["invoiceId", "status", "sentTo", "createdAt", "sentAt"],
}
SEED_UNIQUE = {
    ("invoices", "invoiceNumber"),
    ("customer_pricing_config", "userId,effectiveFrom"),
    ("invoice_payments", "invoiceId,costPaymentId"),
}


@pytest.fixture
async def empty(mongod: Server) -> AsyncIterator[MongoDatabase]:
    """A database of its own with nothing in it."""
    client = open_client(mongod.uri)
    await client.drop_database("setup_test")
    yield open_database(client, "setup_test")
    await client.drop_database("setup_test")
    client.close()


async def server_time(mongo: MongoDatabase) -> datetime:
    now: datetime = (await mongo.command("hello"))["localTime"]
    return now.replace(tzinfo=UTC)


async def test_apply_makes_what_plan_announced_and_then_nothing_is_left(
    empty: MongoDatabase,
) -> None:
    specs = collection_specs()
    announced = (await plan_setup(empty, specs)).needed
    seen: list[Change] = []
    done = await apply_changes(empty, specs, watcher=Watcher(on_done=seen.append))

    assert [str(change) for change in done] == [str(change) for change in announced]
    assert seen == done
    assert (await plan_setup(empty, specs)).changes == []
    assert await apply_changes(empty, specs) == []
    assert set(await empty.list_collection_names()) >= {*SEED_COLLECTIONS, META}


async def test_two_at_once_end_in_the_same_state(empty: MongoDatabase) -> None:
    await asyncio.gather(*(apply_changes(empty, NEW_SPECS) for _ in range(4)))

    assert await is_set_up(empty, NEW_SPECS)
    assert (await plan_setup(empty, NEW_SPECS)).changes == []


async def test_every_index_of_the_seed_is_there(real_mongo: MongoDatabase) -> None:
    for collection, wanted in SEED_INDEXES.items():
        present = await real_mongo[collection].index_information()
        by_keys: dict[str, list[dict[str, object]]] = {}
        for definition in present.values():
            keys = ",".join(name for name, _ in definition["key"])
            by_keys.setdefault(keys, []).append(definition)
        assert set(wanted) <= by_keys.keys()
        for keys in wanted:
            if (collection, keys) in SEED_UNIQUE:
                assert any(definition.get("unique") for definition in by_keys[keys])


@pytest.mark.parametrize(
    ("spoil", "kind"),
    [
        ({"dropIndexes": "invoices", "index": "dueDate_1"}, ChangeKind.CREATE_INDEX),
        ({"collMod": "invoices", "validator": {}}, ChangeKind.SET_VALIDATOR),
        ({"collMod": "invoices", "validationLevel": "off"}, ChangeKind.SET_VALIDATOR),
        ({"collMod": "invoices", "validationAction": "warn"}, ChangeKind.SET_VALIDATOR),
        ({"drop": "invoice_payments"}, ChangeKind.CREATE_COLLECTION),
    ],
)
async def test_drift_is_found_and_repaired(
    empty: MongoDatabase, spoil: dict[str, object], kind: ChangeKind
) -> None:
    specs = [spec for spec in collection_specs() if spec.name in ("invoices", "invoice_payments")]
    await apply_changes(empty, specs)
    await empty.command(spoil)

    assert (await plan_setup(empty, specs)).changes[0].kind is kind
    assert not await is_set_up(empty, specs)
    await apply_changes(empty, specs)
    assert await is_set_up(empty, specs)


async def test_an_unknown_index_is_told_and_left_alone(empty: MongoDatabase) -> None:
    specs = [spec for spec in collection_specs() if spec.name == "invoices"]
    await apply_changes(empty, specs)
    await empty["invoices"].create_index("billingPeriod", name="theirs")

    [change] = (await plan_setup(empty, specs)).changes

    assert change.kind is ChangeKind.UNKNOWN_INDEX
    assert await apply_changes(empty, specs) == []
    assert await is_set_up(empty, specs)
    assert "theirs" in await empty["invoices"].index_information()


async def test_an_index_of_an_older_version_is_told_and_left_alone(empty: MongoDatabase) -> None:
    await apply_changes(empty, NEW_SPECS)
    newest = [CollectionSpec(SHEETS, NEW_SPECS[0].validator, ())]

    found = (await plan_setup(empty, newest)).changes

    assert {change.kind for change in found} == {ChangeKind.OBSOLETE_INDEX}
    assert {change.name for change in found} == {"number", "code", "seenAt_1", "kept_1", "kind_1"}
    assert await apply_changes(empty, newest) == []


async def test_a_hidden_index_is_brought_back(empty: MongoDatabase) -> None:
    await apply_changes(empty, NEW_SPECS)
    await empty.command("collMod", SHEETS, index={"name": "kept_1", "hidden": True})

    [change] = (await plan_setup(empty, NEW_SPECS)).changes
    await apply_changes(empty, NEW_SPECS)

    assert change.kind is ChangeKind.CHANGE_INDEX
    assert await is_set_up(empty, NEW_SPECS)


async def test_a_time_to_live_of_nothing_is_one(empty: MongoDatabase) -> None:
    with_none = CollectionSpec(PAGES, {}, (index("at"),))
    at_once = CollectionSpec(PAGES, {}, (index("at", expire_after_seconds=0),))
    await apply_changes(empty, [with_none])

    [change] = (await plan_setup(empty, [at_once])).changes
    await apply_changes(empty, [at_once])

    assert change.kind is ChangeKind.CHANGE_INDEX
    assert (await empty[PAGES].index_information())["at_1"]["expireAfterSeconds"] == 0


async def test_the_record_says_what_was_made_and_in_which_version(
    real_mongo: MongoDatabase,
) -> None:
    specs = collection_specs()

    manifest = await read_manifest(real_mongo)

    assert manifest.made_by_us == tuple(spec.name for spec in specs)
    assert manifest.is_finished
    assert {found.version for found in manifest.collections} == {__version__}
    assert {(found.collection, found.name) for found in manifest.indexes} == {
        (spec.name, wanted.document["name"]) for spec in specs for wanted in spec.indexes
    }
    assert all(found.is_confirmed for found in manifest.indexes)


async def test_the_record_has_the_time_of_the_server(empty: MongoDatabase) -> None:
    before = await server_time(empty)
    await apply_changes(empty, NEW_SPECS)
    after = await server_time(empty)

    manifest = await read_manifest(empty)

    assert all(before <= found.created_at <= after for found in manifest.collections)
    assert manifest.applied_at is not None
    assert before <= manifest.applied_at <= after


async def test_without_a_record_nothing_is_ours(empty: MongoDatabase) -> None:
    await empty["invoices"].insert_one({"_id": 1})

    assert await read_manifest(empty) == Manifest()


async def test_a_dropped_collection_is_made_again_and_is_ours(empty: MongoDatabase) -> None:
    await apply_changes(empty, NEW_SPECS)
    await empty.drop_collection(PAGES)
    first = (await read_manifest(empty)).collection(PAGES)

    await apply_changes(empty, NEW_SPECS)

    again = (await read_manifest(empty)).collection(PAGES)
    assert first is not None
    assert again is not None
    assert first.created_by_us
    assert again.created_by_us
    assert again.created_at > first.created_at


async def test_an_upgrade_keeps_documents_and_the_day_a_collection_was_made(
    empty: MongoDatabase,
) -> None:
    await set_up_old(empty)
    before = await empty[SHEETS].find().to_list(None)
    made = (await read_manifest(empty)).collection(SHEETS)

    await apply_changes(empty, NEW_SPECS)

    assert await empty[SHEETS].find().to_list(None) == before
    assert (await read_manifest(empty)).collection(SHEETS) == made
    assert await is_set_up(empty, NEW_SPECS)


async def test_a_standalone_server_is_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    with start_mongod(tmp_path_factory.mktemp("alone"), replica_set=None) as server:
        client = open_client(server.uri)
        with pytest.raises(NotAReplicaSet, match="replica set"):
            await check_server(open_database(client, "any"))
        client.close()


async def test_a_server_that_is_not_there_is_said_in_one_sentence() -> None:
    client = open_client("mongodb://127.0.0.1:9/?serverSelectionTimeoutMS=200")

    with pytest.raises(Unavailable, match="does not answer") as refused:
        await check_server(open_database(client, "any"))

    assert "\n" not in refused.value.sentence
    assert len(refused.value.sentence) < 200
    client.close()


@pytest.mark.parametrize("uri", ["mongodb://", "mongodb://host:port"])
def test_an_address_that_is_none_is_refused(uri: str) -> None:
    with pytest.raises(Misconfigured, match="ACCOUNTING_MONGODB_URI"):
        open_client(uri)
