"""`Database.run` on a server that conflicts, fails and forgets to confirm."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from accounting.bootstrap import bind_documents, collection_specs
from accounting.db.client import ConnectionLost, MongoDatabase, open_client, open_database
from accounting.db.database import OutcomeUnknown, TooBusy, Transaction
from accounting.db.setup import apply_changes
from accounting.dev.mongod import start_mongod
from accounting.dev.processes import Server
from accounting.idempotency.rules import LEASE_SECONDS
from accounting.invoices.documents import AccountingCounter, Invoice
from builders import ADMIN
from fakes import FakePlatform, SettableClock, TestDatabase
from write_app import DRAFT, a_write_api

KEY = {"Idempotency-Key": "k"}
CONNECTION_FAILS = {"closeConnection": True}
CONFIRMATION_FAILS = {"writeConcernError": {"code": 64, "errmsg": "no majority in time"}}


async def count_up(tx: Transaction) -> None:
    await AccountingCounter(id="c", value=1).add(tx)


@pytest.fixture(scope="module")
def fragile_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A MongoDB that can be told to fail, and that ends what its clients left open after 1 s."""
    extra_args = (
        *("--setParameter", "enableTestCommands=1"),
        *("--setParameter", "transactionLifetimeLimitSeconds=1"),
    )
    with start_mongod(tmp_path_factory.mktemp("fragile"), extra_args=extra_args) as server:
        yield server


@pytest.fixture
async def fragile(fragile_server: Server) -> AsyncIterator[MongoDatabase]:
    client = open_client(fragile_server.uri)
    mongo = open_database(client, "fragile")
    await apply_changes(mongo, collection_specs())
    await bind_documents(mongo)
    yield mongo
    await fail_commits(mongo, "off")
    await client.drop_database("fragile")
    client.close()


async def fail_commits(mongo: MongoDatabase, mode: Any, **how: Any) -> None:
    data = {"failCommands": ["commitTransaction"], **how}
    await mongo.client.admin.command("configureFailPoint", "failCommand", mode=mode, data=data)


@pytest.mark.parametrize("failure", [CONNECTION_FAILS, CONFIRMATION_FAILS])
async def test_a_commit_is_sent_until_it_is_confirmed(
    fragile: MongoDatabase, failure: dict[str, Any]
) -> None:
    await fail_commits(fragile, {"times": 5}, **failure)  # the driver itself sends it twice

    await TestDatabase(fragile).run(ADMIN, count_up)

    assert await AccountingCounter.find_all().count() == 1


async def test_a_commit_that_is_never_confirmed_is_an_unknown_outcome(
    fragile: MongoDatabase,
) -> None:
    await fail_commits(fragile, "alwaysOn", **CONFIRMATION_FAILS)
    started = time.monotonic()

    with pytest.raises(OutcomeUnknown):
        await TestDatabase(fragile, patience_seconds=0.3).run(ADMIN, count_up)

    assert time.monotonic() - started < 5
    assert await AccountingCounter.find_all().count() == 1


async def test_with_a_key_the_unknown_outcome_is_looked_up(
    fragile: MongoDatabase, platform: FakePlatform
) -> None:
    await fail_commits(fragile, "alwaysOn", **CONFIRMATION_FAILS)
    hasty = TestDatabase(fragile, patience_seconds=0.3)

    async with a_write_api(hasty, platform) as api:
        answer = await api.post("/invoices", json=DRAFT, headers=KEY)

    assert answer.status_code == 201
    assert await Invoice.find_all().count() == 1


async def test_a_commit_that_never_arrives_can_be_repeated_with_its_key(
    fragile: MongoDatabase, platform: FakePlatform, clock: SettableClock
) -> None:
    await fail_commits(fragile, "alwaysOn", **CONNECTION_FAILS)
    hasty = TestDatabase(fragile, clock=clock, patience_seconds=0.3)

    async with a_write_api(hasty, platform) as api:
        answers = []
        for _ in range(20):
            answers.append(await api.post("/invoices", json=DRAFT, headers=KEY))
            if answers[-1].is_success:
                break
            await fail_commits(fragile, "off")
            # The open transaction may hold the key until the server ends it.
            clock.move(seconds=LEASE_SECONDS)

    assert answers[0].status_code == 503
    assert answers[0].json()["code"] == "outcome_unknown"
    assert {answer.status_code for answer in answers[1:-1]} <= {409, 503}
    assert answers[-1].status_code == 201
    assert await Invoice.find_all().count() == 1


async def test_writers_in_the_way_are_waited_for_only_so_long(
    real_db: TestDatabase, real_mongo: MongoDatabase
) -> None:
    hasty = TestDatabase(real_mongo, patience_seconds=0.3)
    await real_db.run(ADMIN, count_up)

    async def change(tx: Transaction) -> None:
        counters = AccountingCounter.get_motor_collection()
        await counters.update_one({"_id": "c"}, {"$inc": {"value": 1}}, session=tx.session)

    async with await real_mongo.client.start_session() as other:
        other.start_transaction()
        await real_mongo["accounting_counters"].update_one(
            {"_id": "c"}, {"$inc": {"value": 1}}, session=other
        )
        started = time.monotonic()
        with pytest.raises(TooBusy):
            await hasty.run(ADMIN, change)
        waited = time.monotonic() - started
        await other.abort_transaction()

    assert 0.3 <= waited < 2
    await hasty.run(ADMIN, change)


async def test_a_server_that_is_away_is_not_called_busy() -> None:
    client = open_client("mongodb://127.0.0.1:9/?serverSelectionTimeoutMS=100")
    away = TestDatabase(open_database(client, "away"), patience_seconds=0.1)

    async def read(tx: Transaction) -> None:
        await away.mongo["invoices"].find_one({}, session=tx.session)

    with pytest.raises(ConnectionLost):
        await away.run(ADMIN, read)
    client.close()


async def test_what_is_also_done_is_done_at_each_attempt_and_undoes_the_effect(
    real_db: TestDatabase, real_mongo: MongoDatabase
) -> None:
    seen: list[object] = []

    async def refuse(_: Transaction, result: object) -> None:
        seen.append(result)
        raise ValueError("refused")

    with pytest.raises(ValueError, match="refused"):
        await real_db.also(refuse).run(ADMIN, count_up)

    assert seen == [None]
    assert await AccountingCounter.find_all().count() == 0
    await real_db.run(ADMIN, count_up)  # the database itself stays as it was


async def test_keys_are_deleted_by_the_server_after_a_day(real_mongo: MongoDatabase) -> None:
    indexes = await real_mongo["idempotency_keys"].index_information()

    assert indexes["createdAt_1"]["expireAfterSeconds"] == 86_400
