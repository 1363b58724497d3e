"""`accounting jobs run seal` and `accounting audit verify` as operators meet them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from subprocess import CompletedProcess
from typing import Any

import pytest

from accounting.bootstrap import bind_documents, collection_specs
from accounting.clock import utc_now
from accounting.db.client import MongoDatabase, open_client, open_database
from accounting.db.setup import apply_changes
from accounting.dev.processes import Server
from service import clean_environment, run_command
from trails import fill_trail

DATABASE = "audit_commands_test"
CHAINS, ENTRIES_EACH, DAYS = 12, 5, 3


@pytest.fixture
async def trail(mongod: Server) -> AsyncIterator[MongoDatabase]:
    """A database of its own with a trail of the last days."""
    client = open_client(mongod.uri)
    await client.drop_database(DATABASE)
    mongo = open_database(client, DATABASE)
    await apply_changes(mongo, collection_specs())
    await bind_documents(mongo)
    start = utc_now().replace(hour=0, minute=0) - timedelta(days=DAYS)
    await fill_trail(mongo, chains=CHAINS, entries_each=ENTRIES_EACH, start=start, days=DAYS - 1)
    yield mongo
    await client.drop_database(DATABASE)
    client.close()


@pytest.fixture
def environment(mongod: Server) -> dict[str, str]:
    return clean_environment(MONGODB_URI=mongod.uri, MONGODB_DATABASE=DATABASE)


async def command(environment: dict[str, str], *arguments: str) -> CompletedProcess[str]:
    return await asyncio.to_thread(run_command, arguments, environment)


async def test_a_sound_trail_is_verified_and_timed(
    trail: MongoDatabase, environment: dict[str, str]
) -> None:
    sealed = await command(environment, "jobs", "run", "seal")
    again = await command(environment, "jobs", "run", "seal")
    verified = await command(environment, "audit", "verify")

    last = await trail["audit_seals"].find_one(sort=[("day", -1)])
    assert last is not None
    assert sealed.stdout.rstrip().endswith(f"the last {last['day'].date()} with {last['hash']}")
    assert again.stdout == "seal: every day that is over was sealed\n"
    assert verified.returncode == 0, verified.stderr
    assert verified.stdout.startswith("Verified: 60 entries in 12 chains, ")
    assert verified.stdout.endswith(" s.\n")
    assert "audit trail" in verified.stderr


async def test_an_edited_entry_is_named_and_the_exit_code_is_1(
    trail: MongoDatabase, environment: dict[str, str]
) -> None:
    victim = await trail["audit_logs"].find_one({"seq": 3})
    assert victim is not None
    await trail["audit_logs"].update_one({"_id": victim["_id"]}, {"$set": {"description": "-"}})

    checked = await command(environment, "audit", "verify")

    assert checked.returncode == 1
    [finding, summary] = checked.stdout.splitlines()
    assert finding.split(maxsplit=1)[0] == "edited"
    assert f"Invoice {victim['entityId']} seq 3 was edited" in finding
    assert f"(entry {victim['_id']})" in finding
    assert summary.startswith("Checked: 60 entries")
    assert "not the one that was recorded: 1 finding." in checked.stderr
    assert "Traceback" not in checked.stderr


async def test_the_report_as_json(trail: MongoDatabase, environment: dict[str, str]) -> None:
    victim = await trail["audit_logs"].find_one_and_delete({"seq": ENTRIES_EACH})
    assert victim is not None

    checked = await command(environment, "audit", "verify", "--json")

    assert checked.returncode == 1
    report: dict[str, Any] = json.loads(checked.stdout)
    assert report["entries"] == CHAINS * ENTRIES_EACH - 1
    assert report["findingCount"] == 1
    assert report["seconds"] > 0
    [finding] = report["findings"]
    assert finding["kind"] == "removed"
    assert (finding["entityId"], finding["seq"]) == (str(victim["entityId"]), ENTRIES_EACH)


async def test_no_day_is_sealed_before_it_is_over(
    trail: MongoDatabase, environment: dict[str, str]
) -> None:
    next_year = f"{utc_now().year + 1}-01-01"

    await command(environment, "jobs", "run", "seal", "--as-of", next_year)

    last = await trail["audit_seals"].find_one(sort=[("day", -1)])
    assert last is not None
    assert last["endsAt"] <= utc_now()
