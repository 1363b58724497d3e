"""`accounting doctor`, `jobs run integrity` and `numbers audit` as operators meet them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import date
from subprocess import CompletedProcess

import pytest
from bson import Decimal128, ObjectId

from accounting.bootstrap import bind_documents, collection_specs
from accounting.db.client import MongoDatabase, open_client, open_database
from accounting.db.setup import apply_changes
from accounting.dev.processes import Server
from accounting.invoices.numbers import take_numbers
from api_app import an_api
from builders import NOW, a_customer, an_issued_invoice
from fakes import FakePlatform, SettableClock, TestDatabase
from service import clean_environment, run_command

DATABASE = "doctor_commands_test"


@pytest.fixture
async def store(mongod: Server, platform: FakePlatform) -> AsyncIterator[MongoDatabase]:
    """A database of its own with one issued invoice and a number that was never used."""
    client = open_client(mongod.uri)
    await client.drop_database(DATABASE)
    mongo = open_database(client, DATABASE)
    await apply_changes(mongo, collection_specs())
    await bind_documents(mongo)
    db = TestDatabase(mongo, clock=SettableClock(NOW))
    await an_issued_invoice(db, platform, a_customer())
    await mongo["invoice_notifications"].delete_many({})
    await take_numbers(date(2026, 1, 12), 1, 2)
    yield mongo
    await client.drop_database(DATABASE)
    client.close()


@pytest.fixture
def environment(mongod: Server) -> dict[str, str]:
    return clean_environment(MONGODB_URI=mongod.uri, MONGODB_DATABASE=DATABASE)


async def command(environment: dict[str, str], *arguments: str) -> CompletedProcess[str]:
    return await asyncio.to_thread(run_command, arguments, environment)


async def test_a_sound_store_is_said_to_be_sound(
    store: MongoDatabase, environment: dict[str, str]
) -> None:
    ran = await command(environment, "doctor")
    job = await command(environment, "jobs", "run", "integrity")

    assert (ran.returncode, ran.stdout.splitlines()[-1][:6]) == (0, "Sound.")
    assert "1 invoices, 0 payments, 1 numbers" in ran.stdout
    assert (job.returncode, job.stdout[:35]) == (0, "integrity: the store is sound, 4 do")


async def test_a_wrong_amount_is_named_and_repaired_when_asked_for(
    store: MongoDatabase, environment: dict[str, str]
) -> None:
    await store["invoices"].update_one({}, {"$set": {"amountPaid": Decimal128("7.00")}})

    found = await command(environment, "doctor")
    job = await command(environment, "jobs", "run", "integrity")
    as_json = await command(environment, "doctor", "--json")
    repaired = await command(environment, "doctor", "--repair", "--yes")
    again = await command(environment, "doctor")

    sentence = "Invoice 2026011201 says 7.00 is paid; its payments add up to 0.00."
    assert found.returncode == 1
    assert sentence in found.stdout
    assert "`accounting doctor --repair` shows and makes the repairs." in found.stdout
    assert "The store is not sound: 1 findings." in found.stderr
    assert job.returncode == 1
    assert "1 amount_paid_wrong" in job.stderr
    report = json.loads(as_json.stdout)
    assert (as_json.returncode, report["counts"]) == (1, {"amount_paid_wrong": 1})
    assert report["findings"][0]["sentence"] == sentence
    assert repaired.returncode == 0
    assert "set amountPaid of 2026011201 to 0.00, and the status that follows" in repaired.stdout
    assert "1 repairs made. Looked again:" in repaired.stdout
    assert again.returncode == 0
    entry = await store["audit_logs"].find_one(sort=[("_id", -1)])
    assert entry is not None
    assert entry["userId"] == ObjectId("0" * 24)
    assert entry["changes"] == {"before": {"amountPaid": "7.00"}, "after": {"amountPaid": "0.00"}}


async def test_numbers_are_audited(store: MongoDatabase, environment: dict[str, str]) -> None:
    ran = await command(environment, "numbers", "audit")
    as_json = await command(environment, "numbers", "audit", "--json")

    assert ran.returncode == 0
    assert "missing  2026011202  never written: its transaction failed" in ran.stdout
    assert "1 numbers on 1 days: 0 twice, 1 missing (0 deleted, 1 never written)." in ran.stdout
    [gap] = json.loads(as_json.stdout)["gaps"]
    assert (gap["number"], gap["isDeleted"]) == ("2026011202", False)


async def test_the_metrics_tell_of_the_last_examination(
    store: MongoDatabase, environment: dict[str, str], platform: FakePlatform
) -> None:
    await store["invoices"].update_one({}, {"$set": {"amountPaid": Decimal128("7.00")}})
    await command(environment, "jobs", "run", "integrity")

    db = TestDatabase(store, clock=SettableClock(NOW))
    async with an_api(db, platform) as api:
        metrics = (await api.get("/metrics")).text

    assert 'accounting_integrity_findings{kind="amount_paid_wrong"} 1.0' in metrics
    assert 'accounting_integrity_findings{kind="orphan_payment"} 0.0' in metrics
