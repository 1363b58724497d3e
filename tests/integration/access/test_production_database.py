"""A database as the platform has it in production: set up, proven, used, saved, rolled back.

Everything an operator does from the first day to the last, each as the user who has the rights for
it, on a MongoDB with access control; the service is used in between.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from accounting.db.client import open_client, open_database
from accounting.dev.mail_catcher import MailCatcher
from accounting.dev.processes import Server
from accounting.ids import ObjectId
from accounting.platform.rules import PLATFORM_COLLECTIONS
from backups import OUR_NAMES, PLATFORM_DOCUMENTS, SEEN_AT, fill_platform, state_of
from guarded import GuardedMongod
from integration.access.everything import do_everything
from service import run_command, running_service, service_environment

DATABASE, RESTORED = "production_like", "production_restored"
ADMIN_ID, CUSTOMER_ID = ObjectId("65e000000000000000000001"), ObjectId("65e000000000000000000002")


@pytest.fixture
def platform(guarded: GuardedMongod) -> Any:
    """50,000 documents with the platform's own indexes and options, and two people we know."""
    with MongoClient[dict[str, Any]](guarded.uri, tz_aware=True) as client:
        for name in (DATABASE, RESTORED):
            client.drop_database(name)
        asyncio.run(_on(guarded.uri, DATABASE, fill_platform))
        mongo = client[DATABASE]
        users = {ADMIN_ID: ("Alex Admin", "ADMIN"), CUSTOMER_ID: ("Ada Holm", "CLIENT")}
        mongo["users"].insert_many(
            {"_id": user_id, "name": name, "role": role, "email": f"{role}@example.com".lower()}
            for user_id, (name, role) in users.items()
        )
        mongo["cost_payments"].insert_many(
            {"userId": CUSTOMER_ID, "type": "PAYMENT", "amount": amount, "createdAt": SEEN_AT}
            for amount in (300.0, 200.0)
        )
        mongo["miners"].insert_many(
            {"name": f"known {number}", "userId": CUSTOMER_ID, "status": "ACTIVE"}
            for number in range(5)
        )
        yield mongo
        for name in (DATABASE, RESTORED):
            client.drop_database(name)


async def _on(uri: str, database: str, work: Any, *arguments: Any) -> Any:
    client = open_client(uri)
    try:
        return await work(open_database(client, database), *arguments)
    finally:
        client.close()


def test_the_platform_is_the_same_from_the_first_plan_to_the_rollback(
    platform: Any,
    guarded: GuardedMongod,
    redis_server: Server,
    mail_catcher: MailCatcher,
    tmp_path: Path,
) -> None:
    roles = guarded.with_roles(DATABASE)
    environment = service_environment(
        guarded.server,
        redis_url=redis_server.uri.removesuffix("/0") + "/8",
        smtp_url=mail_catcher.uri,
        database=DATABASE,
    )
    environment |= {
        "ACCOUNTING_MONGODB_URI": roles.service_uri,
        "ACCOUNTING_REQUIRE_LEAST_PRIVILEGE": "true",
        "ACCOUNTING_RATE_LIMIT": "100000/minute",
    }

    def operator(*words: str, code: int = 0, **settings: str) -> str:
        mine = {"ACCOUNTING_MONGODB_URI": roles.setup_uri} | settings
        done = run_command(("db", *words), environment | mine)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    def state(names: Any, database: str = DATABASE) -> dict[str, Any]:
        found: dict[str, Any] = asyncio.run(_on(guarded.uri, database, state_of, names))
        return found

    before = state(PLATFORM_COLLECTIONS)
    assert before.keys() == set(PLATFORM_COLLECTIONS)
    counted = [platform[name].count_documents({}) for name in PLATFORM_COLLECTIONS]
    assert sum(counted) == PLATFORM_DOCUMENTS + 9

    assert "+ invoices" in operator("plan", code=2)
    operator("apply")
    assert "byte for byte" in operator("verify", "--strict")
    assert "Nothing to do" in operator("apply")
    assert state(PLATFORM_COLLECTIONS) == before

    with running_service(
        environment, tmp_path, setup_uri=roles.setup_uri, platform_uri=guarded.uri
    ) as service:
        assert (service.demo.admin_id, service.demo.customer_id) == (ADMIN_ID, CUSTOMER_ID)
        do_everything(service)
    assert platform["audit_logs"].count_documents({}) > 50
    assert "byte for byte" in operator("verify", "--strict")
    assert state(PLATFORM_COLLECTIONS) == before

    ours = state(OUR_NAMES)
    operator("backup", "--out", str(tmp_path / "saved"))
    elsewhere = {"ACCOUNTING_MONGODB_URI": guarded.uri, "ACCOUNTING_MONGODB_DATABASE": RESTORED}
    operator("restore", str(tmp_path / "saved"), **elsewhere)
    assert state(OUR_NAMES, RESTORED) == ours

    operator("rollback", "--confirm", DATABASE, "--out", str(tmp_path))
    assert set(platform.list_collection_names()) == set(PLATFORM_COLLECTIONS)
    assert state(PLATFORM_COLLECTIONS) == before
