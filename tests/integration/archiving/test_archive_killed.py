"""An archive that is killed with `kill -9` at random moments, and then run again."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from typing import Any

import pytest
from bson import decode_all

from accounting.audit.verification import verify_trail
from accounting.db.backup.folder import open_backup
from accounting.db.client import CODEC_OPTIONS, MongoDatabase
from accounting.dev.processes import Server
from accounting.integrity.numbers import audit_all_numbers
from accounting.integrity.service import examine_store
from accounting.money import ZERO
from backups import names_in
from builders import TERMS
from fakes import FakePlatform, SettableClock, TestDatabase
from forked import Victim
from old_books import (
    KILLED_LEASE_SECONDS,
    WITH_INVOICES,
    archive_work,
    documents_of,
    write_many_old_invoices,
)

INVOICES = 200
KILLS = int(os.environ.get("ARCHIVE_KILLS", "6"))
SEED = int(os.environ.get("ARCHIVE_SEED", str(time.time_ns() % 10_000)))

Documents = dict[str, dict[Any, Any]]


@pytest.fixture
def dice() -> random.Random:
    print(f"ARCHIVE_SEED={SEED}")  # noqa: T201  # shown with a failure
    return random.Random(SEED)


def exported_in(folder: Path) -> Documents:
    """What the finished folders hold, each checked byte by byte."""
    found: Documents = {name: {} for name in WITH_INVOICES}
    for name in names_in(folder):
        if ".partial-" in name:
            continue
        backup = open_backup(folder / name)
        for collection in WITH_INVOICES:
            for batch in backup.batches(collection):
                rows = decode_all(b"".join(batch), CODEC_OPTIONS)
                found[collection] |= {row["_id"]: row for row in rows}
    return found


def together(exported: Documents, remaining: Documents) -> Documents:
    return {name: exported[name] | remaining[name] for name in WITH_INVOICES}


@pytest.mark.usefixtures("short_lived_transactions")
async def test_a_killed_archive_loses_nothing_and_is_finished_by_the_next(
    mongod: Server,
    real_db: TestDatabase,
    real_mongo: MongoDatabase,
    platform: FakePlatform,
    clock: SettableClock,
    tmp_path: Path,
    dice: random.Random,
) -> None:
    rows = await write_many_old_invoices(real_db, platform, clock, INVOICES)
    before = await documents_of(real_mongo)
    numbers = await audit_all_numbers(real_mongo, 2)

    def start() -> Victim:
        return Victim(archive_work, mongod.uri, real_mongo.name, tmp_path)

    steps = []
    for _ in range(KILLS):
        victim = start()
        left = await remaining_invoices(real_mongo)
        # Half of the kills in the export or before it, the others somewhere in the removal.
        goal = left - dice.randint(4, 60) if dice.random() < 0.6 else left
        await wait_for_removal(real_mongo, victim, goal)
        time.sleep(dice.uniform(0, 0.3))  # noqa: ASYNC251  # nothing else is to run meanwhile
        victim.kill()
        remaining = await documents_of(real_mongo)
        assert together(exported_in(tmp_path), remaining) == before
        # Nothing is half there: whatever belongs to an invoice is where it is.
        for name in ("invoice_payments", "invoice_notifications"):
            owners = {row["invoiceId"] for row in remaining[name].values()}
            assert owners <= remaining["invoices"].keys()
        steps.append(len(remaining["invoices"]))
        await outlive_the_lease(real_mongo)
    start().finish()

    remaining = await documents_of(real_mongo)
    new = {key for key, row in before["invoices"].items() if row["createdAt"].year == 2025}
    assert remaining["invoices"].keys() == new
    assert together(exported_in(tmp_path), remaining) == before
    assert len(set(steps)) > 1, f"no kill met the removal: {steps}"
    await check_books(real_db, platform)
    after = await audit_all_numbers(real_mongo, 2)
    assert (after.gaps, after.archived) == (numbers.gaps, INVOICES)
    guards = {row["_id"]: row async for row in real_mongo["payment_allocations"].find()}
    assert {guard["archived"] for guard in guards.values()} == {500}
    assert {guard["allocated"] for guard in guards.values()} == {550}
    assert guards.keys() == {row.id for row in rows}
    deleted = await real_mongo["audit_logs"].count_documents({"action": "INVOICE_DELETED"})
    assert deleted == INVOICES


async def check_books(db: TestDatabase, platform: FakePlatform) -> None:
    assert (await examine_store(db, platform, TERMS)).findings == []
    assert (await verify_trail(db.mongo)).findings == []
    assert ZERO not in {row["allocated"] async for row in db.mongo["payment_allocations"].find()}


async def remaining_invoices(mongo: MongoDatabase) -> int:
    return await mongo["invoices"].count_documents({})


async def wait_for_removal(mongo: MongoDatabase, victim: Victim, goal: int) -> None:
    """Until no more invoices than that are left; at once if so many are."""
    while victim.is_running and await remaining_invoices(mongo) > goal:
        pass


async def outlive_the_lease(mongo: MongoDatabase) -> None:
    """As it is when the killed one has been silent for long enough; faster than to wait."""
    assert KILLED_LEASE_SECONDS < 5
    await mongo["accounting_archives"].update_many(
        {"finishedAt": None}, [{"$set": {"leaseUntil": {"$subtract": ["$leaseUntil", 5_000]}}}]
    )
