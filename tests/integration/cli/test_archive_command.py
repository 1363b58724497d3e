"""`accounting archive` as an operator meets it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from accounting.bootstrap import bind_documents, collection_specs
from accounting.db.client import MongoDatabase, open_client, open_database
from accounting.db.setup import apply_changes
from accounting.dev.processes import Server
from backups import names_in
from fakes import FakePlatform, SettableClock, TestDatabase
from forked import run_forked
from old_books import OldBooks, documents_of, write_old_books
from service import clean_environment

DATABASE, TARGET = "archive_command_test", "archive_command_target"


@pytest.fixture
async def shop(mongod: Server) -> AsyncIterator[MongoDatabase]:
    client = open_client(mongod.uri)
    for name in (DATABASE, TARGET):
        await client.drop_database(name)
    mongo = open_database(client, DATABASE)
    await apply_changes(mongo, collection_specs())
    await bind_documents(mongo)
    yield mongo
    for name in (DATABASE, TARGET):
        await client.drop_database(name)
    client.close()


@pytest.fixture
async def books(shop: MongoDatabase, platform: FakePlatform, clock: SettableClock) -> OldBooks:
    books = await write_old_books(TestDatabase(shop, clock=clock), platform, clock)
    await load_ledger(shop, platform)
    return books


async def load_ledger(shop: MongoDatabase, platform: FakePlatform) -> None:
    """The platform's own rows, for the commands."""
    rows = [
        {
            "_id": row.id,
            "userId": row.user_id,
            "amount": float(row.amount),
            "type": "PAYMENT",
            "createdAt": datetime(2021, 1, 1, tzinfo=UTC),
        }
        for row in platform.cost_payments.values()
    ]
    await shop["cost_payments"].insert_many(rows)


async def command(server: Server, *words: str, database: str = DATABASE) -> CompletedProcess[str]:
    environment = clean_environment(MONGODB_URI=server.uri, MONGODB_DATABASE=database)
    return await asyncio.to_thread(run_forked, words, environment)


async def test_without_confirmation_it_shows_the_plan_and_changes_nothing(
    mongod: Server, shop: MongoDatabase, books: OldBooks, tmp_path: Path
) -> None:
    before = await documents_of(shop)

    shown = await command(mongod, "archive", "--older-than", "3y", "--out", str(tmp_path))

    assert shown.returncode == 0, shown.stderr
    for line in (
        "archive   CANCELLED  closed in 2021           1 invoices              500.00 USD",
        "archive   PAID       closed in 2021           4 invoices            1,200.00 USD",
        "archive   REFUNDED   closed in 2021           1 invoices              200.00 USD",
        "with                 6 payments",
        "with                 1 PDFs",
        "keep                 1 are the last of a recurring invoice",
        "keep                 3 are open or newer: 2 ISSUED, 1 PAID",
        "keep      the audit trail, numbers and prices, whole",
        "Nothing was changed.",
        f"accounting archive --older-than 3y --out {tmp_path} --confirm {DATABASE}",
    ):
        assert line in shown.stdout
    assert await documents_of(shop) == before
    assert names_in(tmp_path) == []


async def test_confirmed_it_archives_and_every_check_is_clean_after_it(
    mongod: Server, shop: MongoDatabase, books: OldBooks, tmp_path: Path
) -> None:
    asked = ("archive", "--older-than", "3y", "--out", str(tmp_path), "--confirm", DATABASE)
    recorded = await command(mongod, "db", "apply", "--record-platform")
    assert recorded.returncode == 0, recorded.stderr

    done = await command(mongod, *asked)

    assert done.returncode == 0, done.stderr
    [folder] = names_in(tmp_path)
    path = tmp_path / folder
    assert f"Archived 6 invoices of database {DATABASE} in {path}" in done.stdout
    assert f"accounting db restore --check {path}" in done.stdout
    assert await shop["invoices"].count_documents({}) == len(books.staying)
    for words in (("doctor",), ("audit", "verify"), ("numbers", "audit"), ("db", "verify")):
        checked = await command(mongod, *words)
        assert checked.returncode == 0, checked.stdout + checked.stderr
    numbers = await command(mongod, "numbers", "audit")
    assert "4 numbers and 6 archived ones on" in numbers.stdout
    assert "missing  " not in numbers.stdout
    restored = await command(mongod, "db", "restore", str(path), database=TARGET)
    assert restored.returncode == 0, restored.stderr
    assert await shop.client[TARGET]["invoices"].count_documents({}) == 6
    again = await command(mongod, *asked)
    assert (again.returncode, again.stdout.splitlines()[-1]) == (0, "Nothing to archive.")
    shown = await command(mongod, "archive", "--older-than", "3y")
    assert f"earlier              6 invoices in {path}" in shown.stdout


async def test_json_is_the_plan_or_what_was_made(
    mongod: Server, shop: MongoDatabase, books: OldBooks, tmp_path: Path
) -> None:
    planned = await command(mongod, "archive", "--older-than", "36m", "--json")
    plan = json.loads(planned.stdout)["plan"]
    assert (plan["invoices"], plan["payments"], plan["pdfs"]) == (6, 6, 1)
    assert plan["kept"] == {"last_of_template": 1}
    assert plan["shares"][1] == {
        "status": "PAID",
        "year": 2021,
        "invoices": 4,
        "amount": "1200.00",
    }

    asked = ("--older-than", "3y", "--out", str(tmp_path), "--confirm", DATABASE, "--json")
    done = await command(mongod, "archive", *asked)

    [made] = json.loads(done.stdout)["archives"]
    assert (made["removed"], made["left"]) == (6, 0)
    assert made["exported"]["payments"] == 6
    assert [made["folder"]] == [str(tmp_path / name) for name in names_in(tmp_path)]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "Give --older-than"),
        (("--older-than", "11m"), "--older-than 11m is no age"),
        (("--older-than", "3y", "--confirm", DATABASE), "--confirm needs --out"),
        (("--older-than", "3y", "--out", "/nowhere/at/all"), "does not exist"),
        (("--older-than", "3y", "--out", "/", "--confirm", "shop"), "--confirm names 'shop'"),
        (("--abandon", "--older-than", "3y"), "--abandon goes alone"),
    ],
)
async def test_what_was_asked_wrongly_is_refused_in_a_sentence(
    mongod: Server, shop: MongoDatabase, words: tuple[str, ...], said: str
) -> None:
    refused = await command(mongod, "archive", *words)

    assert refused.returncode != 0
    assert said in refused.stderr
    assert "Traceback" not in refused.stderr


async def test_an_interrupted_archive_is_told_of_finished_first_or_let_be(
    mongod: Server, shop: MongoDatabase, books: OldBooks, tmp_path: Path
) -> None:
    asked = ("archive", "--older-than", "3y", "--out", str(tmp_path), "--confirm", DATABASE)
    assert (await command(mongod, *asked)).returncode == 0
    # As if it had been killed before its last word.
    await shop["accounting_archives"].update_one(
        {},
        {
            "$set": {
                "finishedAt": None,
                "status": "REMOVING",
                "leaseUntil": datetime(2026, 1, 1, tzinfo=UTC),
            }
        },
    )

    shown = await command(mongod, "archive", "--older-than", "3y")
    finished = await command(mongod, *asked)
    let_be = await command(mongod, "archive", "--abandon")

    assert "was interrupted after 6 invoices" in shown.stdout
    assert "An earlier archive was interrupted, and is finished now:" in finished.stdout
    assert "Archived 6 invoices" in finished.stdout
    assert let_be.stdout == "No archive was interrupted.\n"


async def test_two_at_once_are_told_apart(
    mongod: Server, shop: MongoDatabase, books: OldBooks, tmp_path: Path
) -> None:
    asked = ("archive", "--older-than", "3y", "--out", str(tmp_path), "--confirm", DATABASE)
    assert (await command(mongod, *asked)).returncode == 0
    await shop["accounting_archives"].update_one(
        {}, {"$set": {"finishedAt": None, "leaseUntil": datetime(2100, 1, 1, tzinfo=UTC)}}
    )

    refused = await command(mongod, *asked)

    assert refused.returncode == 1
    assert "Another `accounting archive` is at work on" in refused.stderr
