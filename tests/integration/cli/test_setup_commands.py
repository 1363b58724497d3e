"""`accounting db plan`, `apply` and `verify` as an operator meets them, beside a platform."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from subprocess import CompletedProcess
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.database import Database

from accounting import __version__
from accounting.bootstrap import collection_specs
from accounting.db.client import open_client, open_database
from accounting.db.manifest import META
from accounting.dev.processes import Server
from accounting.platform.rules import PLATFORM_COLLECTIONS
from backups import fill_platform, state_of
from forked import run_forked
from guarded import GuardedMongod
from service import clean_environment

DATABASE = "setup_commands_test"
Mongo = Database[dict[str, Any]]


class Operator:
    """Somebody at a terminal, with a database."""

    def __init__(self, uri: str, mongo: Mongo) -> None:
        self.mongo = mongo
        self._environment = clean_environment(MONGODB_URI=uri, MONGODB_DATABASE=DATABASE)

    def types(self, *words: str) -> CompletedProcess[str]:
        done = run_forked(("db", *words), self._environment)
        assert "Traceback" not in done.stderr
        assert "\x1b" not in done.stdout  # colours are for terminals
        return done


@pytest.fixture
def operator(mongod: Server) -> Iterator[Operator]:
    with MongoClient[dict[str, Any]](mongod.uri) as client:
        client.drop_database(DATABASE)
        asyncio.run(_make_platform(mongod.uri))
        yield Operator(mongod.uri, client[DATABASE])
        client.drop_database(DATABASE)


async def _make_platform(uri: str) -> None:
    client = open_client(uri)
    await fill_platform(open_database(client, DATABASE), share=0.02)
    client.close()


def lines_with(word: str, output: str) -> list[str]:
    return [line for line in output.splitlines() if line.startswith(word)]


def last_error(done: CompletedProcess[str]) -> str:
    """The sentence that the command ends with."""
    return done.stderr.strip().splitlines()[-1]


async def _state(uri: str) -> dict[str, Any]:
    client = open_client(uri)
    found = await state_of(open_database(client, DATABASE), PLATFORM_COLLECTIONS)
    client.close()
    return found


def test_the_way_of_an_operator(operator: Operator, mongod: Server) -> None:
    platform = asyncio.run(_state(mongod.uri))
    planned = operator.types("plan")
    early = operator.types("verify")
    applied = operator.types("apply")
    verified = operator.types("verify", "--strict")
    again = operator.types("apply")
    nothing = operator.types("plan")

    assert planned.returncode == 2
    assert planned.stdout.startswith(f"database  {DATABASE}, MongoDB 6.0")
    assert "+ invoices                  is not there; will be made with its rules" in planned.stdout
    assert "    + index invoiceNumber_1" in planned.stdout
    assert "next      accounting db apply" in planned.stdout
    assert early.returncode == 1
    assert "run `accounting db apply`" in last_error(early)

    assert applied.returncode == 0
    assert len(lines_with("made ", applied.stdout)) == 1 + len(collection_specs())
    assert len(lines_with("recorded ", applied.stdout)) == len(PLATFORM_COLLECTIONS)
    assert "no document was changed, and nothing of the platform" in applied.stdout
    assert "next      accounting db verify" in applied.stdout

    assert verified.returncode == 0
    assert len(lines_with("ok ", verified.stdout)) == len(PLATFORM_COLLECTIONS)
    assert "byte for byte" in verified.stdout
    assert (again.returncode, again.stdout.splitlines()[1:]) == (
        0,
        ["Nothing to do: all was in place."],
    )
    assert nothing.returncode == 0
    assert asyncio.run(_state(mongod.uri)) == platform


def test_the_plan_for_programs(operator: Operator) -> None:
    found = operator.types("plan", "--json")

    plan = json.loads(found.stdout)
    by_name = {collection["name"]: collection for collection in plan["collections"]}
    assert found.returncode == 2
    assert (plan["database"], plan["isBlocked"]) == (DATABASE, False)
    assert list(by_name) == [META, *(spec.name for spec in collection_specs())]
    assert by_name["invoices"]["exists"] is False
    assert {
        "kind": "CREATE_INDEX",
        "name": "invoiceNumber_1",
        "before": "",
        "after": "invoiceNumber; unique",
        "isNeeded": True,
    } in by_name["invoices"]["changes"]
    assert plan["changesNeeded"] == sum(len(found["changes"]) for found in by_name.values())


def test_what_differs_is_said_as_it_is_and_as_it_will_be(operator: Operator) -> None:
    operator.types("apply")
    mongo = operator.mongo
    mongo["invoices"].drop_index("invoiceNumber_1")
    mongo["invoices"].create_index("invoiceNumber")
    mongo["invoices"].create_index("theirs")
    mongo.command("collMod", "audit_logs", validator={})

    said = operator.types("plan").stdout

    assert f"~ invoices                  0 documents, made by accounting {__version__} on " in said
    assert "~ index invoiceNumber_1                          invoiceNumber; unique\n" in said
    assert "        is now: invoiceNumber\n        changed where it is" in said
    assert "? index theirs_1                                 theirs: not made by accounting" in said
    assert "+ all rules; there are none now" in said
    assert "to do     2 changes" in said


def test_an_obstacle_is_one_sentence_with_its_documents(operator: Operator) -> None:
    operator.mongo["mail_optouts"].insert_one({"theirs": True})
    operator.types("apply", "--adopt", "mail_optouts", "--keep-refused")
    operator.mongo["invoices"].drop_index("invoiceNumber_1")
    operator.mongo.command("collMod", "invoices", validator={})
    operator.mongo["invoices"].insert_many([{"_id": at, "invoiceNumber": "1"} for at in range(3)])

    planned = operator.types("plan")
    applied = operator.types("apply")

    assert planned.returncode == 2
    assert "stop      2 obstacles" in planned.stdout
    assert applied.returncode == 1
    assert "invoiceNumber 1: 3 documents, ids 0, 1, 2" in applied.stderr
    assert "_id 0" in applied.stderr
    assert last_error(applied).startswith(
        "accounting: Nothing was changed. invoices has 1 value of invoiceNumber in more than one"
    )
    assert "(1 more: see `accounting db plan`)" in last_error(applied)


def test_an_adopted_collection_stays_at_a_rollback(operator: Operator, tmp_path: Any) -> None:
    operator.mongo["mail_optouts"].insert_one({"_id": 1})
    refused = operator.types("apply")
    operator.types("apply", "--adopt", "mail_optouts", "--keep-refused")

    rolled_back = operator.types("rollback", "--confirm", DATABASE, "--out", str(tmp_path))

    assert refused.returncode == 1
    assert "mail_optouts is there with 1 document," in last_error(refused)
    assert rolled_back.returncode == 0, rolled_back.stderr
    assert set(operator.mongo.list_collection_names()) == {*PLATFORM_COLLECTIONS, "mail_optouts"}
    assert operator.mongo["mail_optouts"].find_one() == {"_id": 1}


def test_a_living_platform_is_no_failure_unless_asked(operator: Operator) -> None:
    operator.types("apply")
    operator.mongo["miners"].insert_many([{"new": 1}, {"new": 2}])
    operator.mongo["cost_payments"].update_one({}, {"$set": {"amount": 1e6}})

    verified = operator.types("verify")
    strict = operator.types("verify", "--strict")

    assert verified.returncode == 0
    assert any("2 new documents; the 200 of " in line for line in lines_with("ok", verified.stdout))
    [changed] = lines_with("note", verified.stdout)
    assert "cost_payments       at least 1 of the 400 documents of " in changed
    assert strict.returncode == 1
    assert "documents of the platform's cost_payments are not as recorded" in last_error(strict)


def test_a_changed_definition_fails_until_it_is_taken(operator: Operator) -> None:
    operator.types("apply")
    operator.mongo["users"].create_index("name")
    operator.mongo["invoices"].drop_index("status_1")

    verified = operator.types("verify", "--definitions-only")
    applied = operator.types("apply")
    still = operator.types("verify")
    operator.types("apply", "--record-platform")
    taken = operator.types("verify")

    assert verified.returncode == 1
    assert 'DIFFERS   users               index name_1 is new: {"v": 2' in verified.stdout
    assert "definitions of the platform's users are not as they were" in last_error(verified)
    # An apply does not wipe out what nobody may have seen yet.
    assert applied.returncode == 0
    assert len(lines_with("recorded ", applied.stdout)) == len(PLATFORM_COLLECTIONS) - 1
    assert len(lines_with("kept ", applied.stdout)) == 1
    assert still.returncode == 1
    assert taken.returncode == 0


def test_the_setup_user_can_do_all_of_it_and_the_service_is_told(guarded: GuardedMongod) -> None:
    with MongoClient[dict[str, Any]](guarded.uri) as client:
        client.drop_database(DATABASE)
        asyncio.run(_make_platform(guarded.uri))
        users = guarded.with_roles(DATABASE)
        setup = Operator(users.setup_uri, client[DATABASE])
        service = Operator(users.service_uri, client[DATABASE])

        refused = service.types("apply")
        before = client[DATABASE].list_collection_names()
        applied = setup.types("apply")
        verified = setup.types("verify", "--strict")
        planned = setup.types("plan")

        assert refused.returncode == 1
        assert "lacks what the setup needs" in last_error(refused)
        assert set(before) == set(PLATFORM_COLLECTIONS)
        assert applied.returncode == 0, applied.stderr
        assert verified.returncode == 0, verified.stderr
        assert planned.returncode == 0
        client.drop_database(DATABASE)
