"""The platform's collections held against their record: grown, changed, or the same."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import bson
import pytest
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import MongoClient
from pymongo.monitoring import (
    CommandFailedEvent,
    CommandListener,
    CommandStartedEvent,
    CommandSucceededEvent,
)

from accounting.db.client import MongoDatabase, open_client, open_database
from accounting.db.manifest import begin
from accounting.db.reference import (
    Verdict,
    Watched,
    read_reference,
    record_reference,
    verify_reference,
)
from accounting.dev.processes import Server
from accounting.platform.rules import PLATFORM_COLLECTIONS, SECRET_FIELDS
from backups import fill_platform, fill_with_every_type
from guarded import GuardedMongod

DATABASE = "reference_test"
PLATFORM = Watched(PLATFORM_COLLECTIONS, SECRET_FIELDS)
Change = Callable[[MongoDatabase], Awaitable[object]]


@pytest.fixture
async def mongo(mongod: Server) -> AsyncIterator[MongoDatabase]:
    """A platform of 2,500 documents, and the record of how it is."""
    client = open_client(mongod.uri)
    await client.drop_database(DATABASE)
    mongo = open_database(client, DATABASE)
    await fill_platform(mongo, share=0.05)
    await begin(mongo)
    await record_reference(mongo, PLATFORM)
    yield mongo
    await client.drop_database(DATABASE)
    client.close()


async def verdict_of(mongo: MongoDatabase, name: str) -> Verdict:
    """What is said of one collection; of all others that they are the same."""
    verdicts = {found.name: found for found in await verify_reference(mongo, PLATFORM)}
    for other, verdict in verdicts.items():
        if other != name:
            assert verdict.definition_changes == ()
            assert verdict.content is not None
            assert verdict.content.is_kept
            assert not verdict.content.is_grown
    return verdicts[name]


async def test_what_nobody_touched_is_the_same(mongo: MongoDatabase) -> None:
    verdict = await verdict_of(mongo, "users")

    assert verdict.definition_changes == ()
    assert verdict.content is not None
    assert (verdict.content.before, verdict.content.now) == (100, 100)
    assert verdict.content.is_kept


def ids_anywhere(count: int) -> list[bson.ObjectId]:
    """Ids of which some sort before all others, as those of a clock that runs behind do."""
    dice = random.Random(5)
    return [bson.ObjectId(dice.randbytes(12)) for _ in range(count)]


@pytest.mark.parametrize("ids", [[None] * 40, ids_anywhere(40)], ids=["after", "anywhere"])
async def test_new_documents_are_growth(mongo: MongoDatabase, ids: list[Any]) -> None:
    rows = [
        {"email": f"new {at}"} | ({"_id": found} if found else {}) for at, found in enumerate(ids)
    ]
    await mongo["users"].insert_many(rows)

    content = (await verdict_of(mongo, "users")).content

    assert content is not None
    assert content.is_grown
    assert (content.before, content.now, content.touched_at_least) == (100, 140, 0)


@pytest.mark.parametrize(
    ("change", "touched", "now"),
    [
        (lambda mongo: mongo["miners"].update_one({}, {"$set": {"amount": 0.05}}), 1, 500),
        (lambda mongo: mongo["miners"].update_one({}, {"$rename": {"name": "x"}}), 1, 500),
        (lambda mongo: mongo["miners"].delete_one({}), 1, 499),
        (lambda mongo: mongo["miners"].delete_many({}), 500, 0),
    ],
)
async def test_changed_and_removed_documents_are_counted(
    mongo: MongoDatabase, change: Change, touched: int, now: int
) -> None:
    await change(mongo)

    content = (await verdict_of(mongo, "miners")).content

    assert content is not None
    assert not content.is_kept
    assert (content.touched_at_least, content.now, content.unclear) == (touched, now, 0)


async def test_a_change_is_not_hidden_by_growth(mongo: MongoDatabase) -> None:
    await mongo["miners"].insert_many([{"name": f"new {at}"} for at in range(250)])
    await mongo["miners"].update_many({"amount": {"$lt": 1.05}}, {"$set": {"amount": -1.0}})

    content = (await verdict_of(mongo, "miners")).content

    assert content is not None
    # Two in one bucket count once, and buckets have four documents.
    assert 6 <= content.touched_at_least <= 11
    assert content.now == 750


async def test_a_document_replaced_by_a_new_one_is_seen(mongo: MongoDatabase) -> None:
    await mongo["miners"].delete_one({"name": "miners 250"})
    await mongo["miners"].insert_one({"name": "miners 250"})

    content = (await verdict_of(mongo, "miners")).content

    assert content is not None
    assert (content.touched_at_least, content.now) == (1, 500)


async def test_every_type_of_id_and_value_is_taken_in(mongo: MongoDatabase) -> None:
    await fill_with_every_type(mongo, "hardware")
    await record_reference(mongo, PLATFORM)
    assert (await verdict_of(mongo, "hardware")).content is not None

    await mongo["hardware"].update_one({"_id": 1.5}, {"$set": {"empty": "no more"}})

    content = (await verdict_of(mongo, "hardware")).content
    assert content is not None
    assert content.touched_at_least == 1


@pytest.mark.parametrize(
    ("change", "name", "said"),
    [
        (
            lambda mongo: mongo["users"].drop_index("users_email_key"),
            "users",
            'index users_email_key is gone: {"v": 2, "key": {"email": 1}, "unique": true',
        ),
        (
            lambda mongo: mongo["spaces"].create_index("createdAt", expireAfterSeconds=5),
            "spaces",
            'index createdAt_1 is new: {"v": 2, "key": {"createdAt": 1}, "expireAfterSeconds": 5}',
        ),
        (
            lambda mongo: mongo.command(
                "collMod",
                "miner_rate_history",
                index={"name": "createdAt_1", "expireAfterSeconds": 7},
            ),
            "miner_rate_history",
            "index createdAt_1 was",
        ),
        (
            lambda mongo: mongo.command("collMod", "users", validator={}),
            "users",
            'options were {"validator": {"$jsonSchema": {"required": ["email"]}}',
        ),
        (
            lambda mongo: mongo.command("collMod", "hardware", validator={"a": 1}),
            "hardware",
            'options were {} and are {"validator": {"a": 1}',
        ),
        (lambda mongo: mongo.drop_collection("hardware"), "hardware", "it was dropped"),
    ],
)
async def test_a_change_of_a_definition_is_named(
    mongo: MongoDatabase, change: Change, name: str, said: str
) -> None:
    await change(mongo)

    [line] = (await verdict_of(mongo, name)).definition_changes

    assert line.startswith(said)


async def test_a_platform_without_a_collection_is_fine(mongo: MongoDatabase) -> None:
    await mongo.drop_collection("hardware")
    await record_reference(mongo, PLATFORM)
    absent = await verify_reference(mongo, Watched(("hardware",)))
    await mongo["hardware"].insert_one({"new": True})
    come = await verify_reference(mongo, Watched(("hardware",)))

    assert (absent[0].exists, absent[0].has_come_since, absent[0].definition_changes) == (
        False,
        False,
        (),
    )
    assert (come[0].exists, come[0].has_come_since, come[0].definition_changes) == (True, True, ())


async def test_a_view_in_the_place_of_a_collection_is_said(mongo: MongoDatabase) -> None:
    await mongo.drop_collection("spaces")
    await mongo.create_collection("spaces", viewOn="users")

    verdict = await verdict_of(mongo, "spaces")

    assert verdict.definition_changes[0] == "it was a collection and is a view"


async def test_the_record_is_small_and_has_no_document_in_it(mongo: MongoDatabase) -> None:
    references = await read_reference(mongo)
    [row] = await mongo["accounting_meta"].find({"_id": "platform:cost_payments"}).to_list(None)

    assert set(references) == set(PLATFORM_COLLECTIONS)
    assert references["users"].without == ("password",)
    # 36 bytes for every fourth of 1,000 documents, and what the definition takes.
    assert len(bson.encode(row)) < 36 * 256 + 1_000
    assert "example.com" not in str(row)


class _Reads(CommandListener):
    def __init__(self) -> None:
        self.commands: list[dict[str, Any]] = []
        self.answers: list[Any] = []

    def started(self, event: CommandStartedEvent) -> None:
        self.commands.append(dict(event.command))

    def succeeded(self, event: CommandSucceededEvent) -> None:
        self.answers.append(event.reply)

    def failed(self, event: CommandFailedEvent) -> None: ...


async def test_passwords_never_leave_the_server(mongo: MongoDatabase, mongod: Server) -> None:
    reads = _Reads()
    client: AsyncIOMotorClient[dict[str, Any]] = AsyncIOMotorClient(
        mongod.uri, tz_aware=True, event_listeners=[reads]
    )
    watched = open_database(client, DATABASE)
    await record_reference(watched, PLATFORM)
    await verify_reference(watched, PLATFORM)
    client.close()

    finds = [command for command in reads.commands if command.get("find") == "users"]
    assert len(finds) == 2
    assert all(command["projection"] == {"password": 0} for command in finds)
    # Whether it is the same is not proven, then.
    await mongo["users"].update_many({}, {"$set": {"password": "another"}})
    content = (await verdict_of(mongo, "users")).content
    assert content is not None
    assert content.is_kept


async def test_two_rights_on_the_platform_are_enough(guarded: GuardedMongod) -> None:
    privileges = [
        {"resource": {"db": DATABASE, "collection": ""}, "actions": ["listCollections"]},
        {"resource": {"db": DATABASE, "collection": "accounting_meta"}, "actions": ["find"]},
        *(
            {"resource": {"db": DATABASE, "collection": name}, "actions": ["find", "listIndexes"]}
            for name in PLATFORM_COLLECTIONS
        ),
    ]
    with MongoClient[dict[str, Any]](guarded.uri) as administrator:
        administrator.drop_database(DATABASE)
        users = administrator[DATABASE]
        if not users.command("rolesInfo", "reader")["roles"]:
            users.command("createRole", "reader", privileges=privileges, roles=[])
    first = open_client(guarded.uri)
    await fill_platform(open_database(first, DATABASE), share=0.01)
    await begin(open_database(first, DATABASE))
    await record_reference(open_database(first, DATABASE), PLATFORM)
    first.close()

    reader = open_client(guarded.make_user("reader", "reader", database=DATABASE))
    verdicts = await verify_reference(open_database(reader, DATABASE), PLATFORM)
    reader.close()

    assert [verdict.content and verdict.content.is_kept for verdict in verdicts] == [True] * 7


async def test_a_reference_survives_being_stored(mongo: MongoDatabase) -> None:
    before = await read_reference(mongo)
    await record_reference(mongo, PLATFORM)
    after = await read_reference(mongo)

    for name, found in before.items():
        assert found.recorded_at < after[name].recorded_at
        assert replace(found, recorded_at=after[name].recorded_at) == after[name]
