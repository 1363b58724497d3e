"""The two users on a MongoDB with access control: each can do its part, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import OperationFailure

from accounting.access.needs import OUR_COLLECTIONS, SERVICE
from accounting.dev.mail_catcher import MailCatcher
from accounting.dev.processes import Server
from accounting.platform.rules import PLATFORM_COLLECTIONS, TOKEN_BLACKLIST
from guarded import SERVICE_USER, SETUP_USER, GuardedMongod, WithRoles
from integration.access.everything import do_everything
from service import Service, running_service, service_environment

DATABASE = "least_privilege"
UNAUTHORIZED = 13
PROFILE_BYTES = 256 * 1024 * 1024

Mongo = Database[dict[str, Any]]
Attempt = Callable[[Mongo, str], object]

WRITES_OF_DOCUMENTS: dict[str, Attempt] = {
    "insert": lambda mongo, name: mongo[name].insert_one({"written": True}),
    "update": lambda mongo, name: mongo[name].update_one({}, {"$set": {"written": True}}),
    "update many": lambda mongo, name: mongo[name].update_many({}, {"$set": {"written": True}}),
    "replace": lambda mongo, name: mongo[name].replace_one({}, {"written": True}),
    "upsert": lambda mongo, name: mongo[name].update_one(
        {"_id": "new"}, {"$set": {"written": True}}, upsert=True
    ),
    "find and modify": lambda mongo, name: mongo[name].find_one_and_update(
        {}, {"$set": {"written": True}}
    ),
    "find and delete": lambda mongo, name: mongo[name].find_one_and_delete({}),
    "delete": lambda mongo, name: mongo[name].delete_one({}),
    "delete many": lambda mongo, name: mongo[name].delete_many({}),
    "$out": lambda mongo, name: mongo["invoices"].aggregate([{"$out": name}]),
    "$merge": lambda mongo, name: mongo["invoices"].aggregate([{"$merge": name}]),
}
CHANGES_OF_DEFINITIONS: dict[str, Attempt] = {
    "create": lambda mongo, name: mongo.create_collection(name, check_exists=False),
    "drop": lambda mongo, name: mongo.command("drop", name),
    "create index": lambda mongo, name: mongo[name].create_index("written"),
    "time to live": lambda mongo, name: mongo[name].create_index("at", expireAfterSeconds=0),
    "drop indexes": lambda mongo, name: mongo.command("dropIndexes", name, index="*"),
    "validator": lambda mongo, name: mongo.command("collMod", name, validator={"a": 1}),
    "rename": lambda mongo, name: mongo[name].rename(f"{name}_old"),
    "rename onto": lambda mongo, name: mongo["mail_optouts"].rename(name, dropTarget=True),
    "cap": lambda mongo, name: mongo.command("convertToCapped", name, size=4096),
    "compact": lambda mongo, name: mongo.command("compact", name),
}
ATTEMPTS = WRITES_OF_DOCUMENTS | CHANGES_OF_DEFINITIONS
# To MongoDB whoever may insert may also make the collection, and merge into it.
IMPLIED_BY_INSERT = {"create", "$merge"}
PLATFORM = [*PLATFORM_COLLECTIONS, TOKEN_BLACKLIST]


@pytest.fixture(scope="module")
def users(guarded: GuardedMongod) -> WithRoles:
    return guarded.with_roles(DATABASE)


@pytest.fixture(scope="module")
def administrator(guarded: GuardedMongod) -> Iterator[Mongo]:
    with MongoClient[dict[str, Any]](guarded.uri) as client:
        yield client[DATABASE]


@pytest.fixture(scope="module")
def setup(users: WithRoles) -> Iterator[Mongo]:
    with MongoClient[dict[str, Any]](users.setup_uri) as client:
        yield client[DATABASE]


@pytest.fixture(scope="module")
def service(
    guarded: GuardedMongod,
    users: WithRoles,
    administrator: Mongo,
    redis_server: Server,
    mail_catcher: MailCatcher,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Service]:
    """API and worker as the service's user, on collections that the setup's user has made."""
    environment = service_environment(
        guarded.server,
        redis_url=redis_server.uri.removesuffix("/0") + "/7",
        smtp_url=mail_catcher.uri,
        database=DATABASE,
    )
    environment |= {
        "ACCOUNTING_MONGODB_URI": users.service_uri,
        "ACCOUNTING_REQUIRE_LEAST_PRIVILEGE": "true",
        "ACCOUNTING_RATE_LIMIT": "100000/minute",
    }
    administrator[TOKEN_BLACKLIST].insert_one({"token": "revoked"})
    with running_service(
        environment,
        tmp_path_factory.mktemp("least_privilege"),
        setup_uri=users.setup_uri,
        platform_uri=guarded.uri,
    ) as running:
        yield running


@pytest.fixture(scope="module")
def profile(administrator: Mongo, service: Service) -> Iterator[Mongo]:
    """The server notes every operation meanwhile, in `system.profile`."""
    administrator.create_collection("system.profile", capped=True, size=PROFILE_BYTES)
    administrator.command("profile", 2)
    yield administrator
    administrator.command("profile", 0)


def test_the_service_does_everything_and_uses_every_right_that_it_has(
    service: Service, profile: Mongo
) -> None:
    before = profile.command("dbHash", collections=PLATFORM)["collections"]

    do_everything(service)

    assert profile.command("dbHash", collections=PLATFORM)["collections"] == before
    used = used_rights(profile)
    granted = {
        (name, action)
        for name, need in SERVICE.needs.items()
        for action in need.actions
        # The server does not note these two.
        if action not in ("listIndexes", "listCollections")
    }
    assert used == granted


def used_rights(profile: Mongo) -> set[tuple[str, str]]:
    """Collection and action of everything that the service's user did, as the server noted it."""
    used: set[tuple[str, str]] = set()
    noted = profile["system.profile"].find({"user": f"{SERVICE_USER}@{DATABASE}"})
    for entry in noted:
        collection = entry["ns"].removeprefix(f"{DATABASE}.")
        used |= {(collection, action) for action in actions_of(entry)}
        for stage in entry.get("command", {}).get("pipeline", ()):
            if "$lookup" in stage:
                used.add((stage["$lookup"]["from"], "find"))
    return {(name, action) for name, action in used if name != "$cmd"}


def actions_of(entry: dict[str, Any]) -> set[str]:
    command = entry.get("command", {})
    match entry["op"]:
        case "query" | "getmore":
            return {"find"}
        case "insert" | "update" | "remove" as written:
            return {written} | ({"insert"} if command.get("upsert") else set())
    for name in ("aggregate", "count", "distinct"):
        if name in command:
            return {"find"}
    if "findAndModify" in command:
        written = "remove" if command.get("remove") else "update"
        return {"find", written} | ({"insert"} if command.get("upsert") else set())
    return set()


@pytest.mark.parametrize("name", PLATFORM)
def test_the_server_refuses_every_write_to_the_platform(
    service: Service, setup: Mongo, administrator: Mongo, name: str
) -> None:
    before = administrator.command("dbHash")["collections"].get(name)

    for mongo in (service.mongo, setup):
        assert refused(ATTEMPTS, mongo, name) == ATTEMPTS.keys()

    assert administrator.command("dbHash")["collections"].get(name) == before


@pytest.mark.parametrize("name", ["audit_logs", "audit_seals"])
def test_the_server_refuses_to_alter_the_trail(
    service: Service, administrator: Mongo, name: str
) -> None:
    before = administrator.command("dbHash")["collections"][name]
    altering = ATTEMPTS.keys() - {"insert", *IMPLIED_BY_INSERT}

    assert refused(ATTEMPTS, service.mongo, name) >= altering

    assert administrator.command("dbHash")["collections"][name] == before


def test_the_service_cannot_change_what_a_collection_is(
    service: Service, administrator: Mongo
) -> None:
    changes = CHANGES_OF_DEFINITIONS.keys() - IMPLIED_BY_INSERT
    for name in OUR_COLLECTIONS:
        assert refused(CHANGES_OF_DEFINITIONS, service.mongo, name) >= changes
    assert refused({"drop": lambda mongo, _: mongo.command("dropDatabase")}, service.mongo, "")


def test_the_setup_cannot_write_documents(setup: Mongo) -> None:
    for name in OUR_COLLECTIONS:
        assert refused(WRITES_OF_DOCUMENTS, setup, name) == WRITES_OF_DOCUMENTS.keys()


def test_neither_can_make_itself_more_than_it_is(service: Service, setup: Mongo) -> None:
    attempts: dict[str, Attempt] = {
        "grant": lambda mongo, name: mongo.command("grantRolesToUser", name, roles=["readWrite"]),
        "role": lambda mongo, name: mongo.command("updateRole", name, privileges=[], roles=[]),
        "user": lambda mongo, name: mongo.command("createUser", name, pwd="x", roles=["root"]),
        "password": lambda mongo, name: mongo.command("updateUser", name, pwd="x"),
    }

    for mongo in (service.mongo, setup):
        for name in (SERVICE_USER, SETUP_USER, SERVICE.role_name):
            assert refused(attempts, mongo, name) == attempts.keys()


def test_nothing_of_this_is_refused_to_an_administrator(administrator: Mongo) -> None:
    """So it is the right that lacks: the attempts themselves are good."""
    scratch = administrator.client[f"{DATABASE}_of_an_administrator"]
    for name in ("invoices", "mail_optouts", "users"):
        scratch[name].insert_one({})

    assert refused(ATTEMPTS, scratch, "users") == set()

    administrator.client.drop_database(scratch.name)


def refused(attempts: Mapping[str, Attempt], mongo: Mongo, name: str) -> set[str]:
    """Those attempts that the server refuses for want of a right."""
    return {
        called
        for called, attempt in attempts.items()
        if refusal(attempt, mongo, name) == UNAUTHORIZED
    }


def refusal(attempt: Attempt, mongo: Mongo, name: str) -> int | None:
    """The server's code for it; None when it was carried out."""
    try:
        attempt(mongo, name)
    except OperationFailure as error:
        return error.code
    return None
