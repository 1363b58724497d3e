"""The setup's user on a MongoDB with access control: every setup command but `restore` is his."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.database import Database

from accounting.dev.demo import load_demo_platform
from accounting.platform.rules import PLATFORM_COLLECTIONS
from guarded import GuardedMongod, WithRoles
from service import clean_environment, run_command

DATABASE = "setup_user"

Mongo = Database[dict[str, Any]]
Run = Callable[..., CompletedProcess[str]]


@pytest.fixture(scope="module")
def users(guarded: GuardedMongod) -> WithRoles:
    load_demo_platform(guarded.uri, DATABASE)
    return guarded.with_roles(DATABASE)


@pytest.fixture
def administrator(guarded: GuardedMongod) -> Iterator[Mongo]:
    with MongoClient[dict[str, Any]](guarded.uri) as client:
        yield client[DATABASE]


@pytest.fixture
def as_setup(users: WithRoles) -> Run:
    return _runner(users.setup_uri)


@pytest.fixture
def as_service(users: WithRoles) -> Run:
    return _runner(users.service_uri)


@pytest.fixture
def archive_as_setup(users: WithRoles) -> Run:
    return _runner(users.setup_uri, "archive")


def _runner(uri: str, command: str = "db") -> Run:
    environment = clean_environment(MONGODB_URI=uri, MONGODB_DATABASE=DATABASE)
    return lambda *arguments: run_command((command, *arguments), environment)


def platform_of(mongo: Mongo) -> tuple[Any, Any]:
    hashes = mongo.command("dbHash", collections=list(PLATFORM_COLLECTIONS))["collections"]
    return hashes, {name: mongo[name].index_information() for name in PLATFORM_COLLECTIONS}


def test_it_plans_applies_verifies_backs_up_and_rolls_back(
    as_setup: Run, administrator: Mongo, tmp_path: Path
) -> None:
    before = platform_of(administrator)

    planned, applied, verified = as_setup("plan"), as_setup("apply"), as_setup("verify")
    assert (planned.returncode, applied.returncode, verified.returncode) == (2, 0, 0), (
        planned.stderr + applied.stderr + verified.stderr
    )

    # What another version or a hand would have left: each is put right again.
    administrator["invoices"].drop_index("status_1")
    administrator["invoice_payments"].drop_index("invoiceId_1_costPaymentId_1")
    administrator["invoice_payments"].create_index(
        [("invoiceId", 1), ("costPaymentId", 1)], name="invoiceId_1_costPaymentId_1"
    )
    administrator.command(
        "collMod", "idempotency_keys", index={"name": "createdAt_1", "expireAfterSeconds": 1}
    )
    administrator.command("collMod", "audit_logs", validator={})
    drifted, repaired, verified = as_setup("verify"), as_setup("apply"), as_setup("verify")
    assert (drifted.returncode, repaired.returncode, verified.returncode) == (1, 0, 0), (
        repaired.stderr + verified.stderr
    )

    backed_up = as_setup("backup", "--platform", "--out", str(tmp_path / "backup"))
    rolled_back = as_setup("rollback", "--confirm", DATABASE, "--out", str(tmp_path))
    assert (backed_up.returncode, rolled_back.returncode) == (0, 0), (
        backed_up.stderr + rolled_back.stderr
    )
    assert set(administrator.list_collection_names()) == set(PLATFORM_COLLECTIONS)
    assert platform_of(administrator) == before


def test_neither_user_can_do_the_work_of_the_other(
    as_setup: Run, as_service: Run, archive_as_setup: Run, administrator: Mongo, tmp_path: Path
) -> None:
    assert as_setup("apply").returncode == 0
    names = set(administrator.list_collection_names())

    for refused, said in (
        (as_service("apply"), "lacks what the setup needs: dropCollection"),
        (as_service("rollback", "--confirm", DATABASE, "--out", str(tmp_path)), "may not"),
        (as_setup("check", "--for", "service"), "missing rights"),
        (archive_as_setup("--older-than", "3y"), "lacks what the service needs: insert"),
    ):
        assert refused.returncode == 1
        assert said in refused.stderr
        assert "Traceback" not in refused.stderr
    assert set(administrator.list_collection_names()) == names
