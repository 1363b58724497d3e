"""Setting up and checking collections on a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from accounting.bootstrap import collection_specs
from accounting.db.client import (
    MongoDatabase,
    NotAReplicaSet,
    check_server,
    open_client,
    open_database,
)
from accounting.db.setup import ChangeKind, apply_changes, is_set_up, plan_changes
from accounting.dev.mongod import start_mongod
from accounting.dev.processes import Server
from accounting.errors import Misconfigured, Unavailable

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


async def test_apply_makes_what_plan_announced_and_then_nothing_is_left(
    empty: MongoDatabase,
) -> None:
    specs = collection_specs()
    announced = await plan_changes(empty, specs)
    done = await apply_changes(empty, specs)

    assert [str(change) for change in done] == [str(change) for change in announced]
    assert await plan_changes(empty, specs) == []
    assert await apply_changes(empty, specs) == []
    assert set(await empty.list_collection_names()) >= SEED_COLLECTIONS


async def test_two_at_once_end_in_the_same_state(empty: MongoDatabase) -> None:
    specs = collection_specs()

    await asyncio.gather(*(apply_changes(empty, specs) for _ in range(4)))

    assert await is_set_up(empty, specs)


async def test_every_index_of_the_seed_is_there(empty: MongoDatabase) -> None:
    await apply_changes(empty, collection_specs())

    for collection, wanted in SEED_INDEXES.items():
        present = await empty[collection].index_information()
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
    specs = collection_specs()
    await apply_changes(empty, specs)
    await empty.command(spoil)

    assert (await plan_changes(empty, specs))[0].kind is kind
    await apply_changes(empty, specs)
    assert await is_set_up(empty, specs)


async def test_an_index_of_another_definition_is_replaced(empty: MongoDatabase) -> None:
    specs = collection_specs()
    await apply_changes(empty, specs)
    await empty["invoices"].drop_index("invoiceNumber_1")
    await empty["invoices"].create_index("invoiceNumber", name="invoiceNumber_1")  # not unique

    [change] = await plan_changes(empty, specs)
    assert change.kind is ChangeKind.REPLACE_INDEX
    await apply_changes(empty, specs)
    assert (await empty["invoices"].index_information())["invoiceNumber_1"]["unique"] is True


async def test_an_unknown_index_is_told_and_left_alone(empty: MongoDatabase) -> None:
    specs = collection_specs()
    await apply_changes(empty, specs)
    await empty["invoices"].create_index("billingPeriod", name="theirs")

    [change] = await plan_changes(empty, specs)
    await apply_changes(empty, specs)

    assert change.kind is ChangeKind.UNKNOWN_INDEX
    assert await is_set_up(empty, specs)
    assert "theirs" in await empty["invoices"].index_information()


async def test_documents_stay_as_they_are(empty: MongoDatabase) -> None:
    await empty["invoices"].insert_one({"_id": 1, "old": True})

    await apply_changes(empty, collection_specs())

    assert await empty["invoices"].find().to_list(None) == [{"_id": 1, "old": True}]


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
