"""`accounting simulate` as operators meet it: what it prints, how it ends, what it leaves."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from typing import Any

import pymongo
import pytest
from bson import Decimal128, ObjectId
from pymongo.database import Database

from accounting.clock import as_stored_day, utc_now
from accounting.db.scratch import MARK_COLLECTION
from accounting.dev.processes import Server
from guarded import GuardedMongod
from service import clean_environment, run_command

DATABASE = "simulate_test"
# The server looks for abandoned transactions twice in the lifetime that it was started with: every
# half minute. Until then a database cannot be dropped.
WAIT_SECONDS_MAX = 75

Books = Database[dict[str, Any]]


def today() -> date:
    return utc_now().date()


def in_days(days: int) -> str:
    return f"{today() + timedelta(days=days)}"


def a_template(books: Books, name: str, *, miners: int, auto_issue: bool = True) -> None:
    """A recurring invoice of a new customer at 10.00 per miner, first due tomorrow."""
    user_id, now = ObjectId(), utc_now()
    tomorrow = today() + timedelta(days=1)
    books["users"].insert_one(
        {"_id": user_id, "name": name, "email": "a@example.com", "role": "CLIENT", "password": "x"}
    )
    for _ in range(miners):
        books["miners"].insert_one({"userId": user_id, "status": "AUTO"})
    books["recurring_invoices"].insert_one(
        {
            "userId": user_id,
            "dayOfMonth": min(tomorrow.day, 28),
            "unitPrice": Decimal128("10.00"),
            "startDate": as_stored_day(today().replace(day=1)),
            "isActive": True,
            "autoIssue": auto_issue,
            "failedRuns": 0,
            "createdBy": ObjectId(),
            "createdAt": now,
            "updatedAt": now,
            "version": 1,
        }
    )


@pytest.fixture
def environment(mongod: Server) -> dict[str, str]:
    return clean_environment(MONGODB_URI=mongod.uri, MONGODB_DATABASE=DATABASE)


@pytest.fixture
def books(mongod: Server, environment: dict[str, str]) -> Iterator[Books]:
    with pymongo.MongoClient[dict[str, Any]](mongod.uri) as client:
        before = set(client.list_database_names())
        assert run_command(("db", "apply"), environment).returncode == 0
        yield client[DATABASE]
        for name in set(client.list_database_names()) - before:
            client.drop_database(name)


def scratch_databases(books: Books) -> list[str]:
    names = books.client.list_database_names()
    return [name for name in names if name.startswith(f"{DATABASE}_simulation_")]


def test_the_table_has_a_line_for_each_month_and_a_total(
    books: Books, environment: dict[str, str]
) -> None:
    a_template(books, "Ada Holm", miners=2)
    a_template(books, "Ben Okafor", miners=125, auto_issue=False)
    a_template(books, "Carla\x1b[31m\nRuiz", miners=0)

    shown = run_command(("simulate", "--until", in_days(40)), environment)

    assert shown.returncode == 0, shown.stderr
    first, *lines = shown.stdout.splitlines()
    assert first == (
        f"Simulated {in_days(0)} to {in_days(40)} (41 days) with 3 active recurring invoices."
    )
    rows = [line.split() for line in lines if re.match(r" (20\d\d-\d\d|total) ", line)]
    months = dict.fromkeys(f"{today() + timedelta(days=days):%Y-%m}" for days in range(41))
    assert [row[0] for row in rows] == [*months, "total"]
    assert rows[-1][:5] in (
        ["total", "2", "1", "1", "1,270.00"],
        # When the same day comes twice within forty days.
        ["total", "4", "2", "2", "2,540.00"],
    )
    assert "A draft stays one" in shown.stdout
    assert "Nobody pays here" in shown.stdout
    assert "skipped  no_miners: " in shown.stdout
    assert "Carla [31m Ruiz" in shown.stdout
    assert "days" in shown.stderr
    assert scratch_databases(books) == []


def test_the_figures_as_json(books: Books, environment: dict[str, str]) -> None:
    a_template(books, "Ada Holm", miners=2)
    a_template(books, "Carla Ruiz", miners=0)

    shown = run_command(("simulate", "--until", in_days(1), "--json"), environment)

    assert shown.returncode == 0, shown.stderr
    figures = json.loads(shown.stdout)
    assert (figures["from"], figures["until"]) == (in_days(0), in_days(1))
    assert figures["total"]["amount"] == "20.00"
    assert figures["total"]["invoiceMails"] == figures["total"]["issued"] == 1
    [skipped] = figures["notBilled"]
    assert (skipped["customer"], skipped["code"]) == ("Carla Ruiz", "no_miners")


def test_days_before_the_first_one_are_caught_up_on_it(
    books: Books, environment: dict[str, str]
) -> None:
    a_template(books, "Ada Holm", miners=2)

    shown = run_command(
        ("simulate", "--from", in_days(3), "--until", in_days(3), "--json"), environment
    )

    assert json.loads(shown.stdout)["total"]["issued"] == 1


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--until", in_days(-1)), "before"),
        (("--until", in_days(3_661)), "too far"),
        (("--until", in_days(2), "--from", in_days(3)), "before"),
        (("--until", in_days(2), "--from", in_days(-1)), "is over"),
        (("--until", "soon"), "soon"),
        ((), "--until"),
        (("--until", in_days(2), "--drop-left-behind"), "either"),
    ],
)
def test_a_wrong_day_is_one_sentence(
    environment: dict[str, str], arguments: tuple[str, ...], named: str
) -> None:
    refused = run_command(("simulate", *arguments), environment)

    assert refused.returncode != 0
    assert refused.stdout == ""
    assert "Traceback" not in refused.stderr
    assert named in refused.stderr.splitlines()[-1]


def start(environment: dict[str, str]) -> subprocess.Popen[str]:
    """A simulation that takes far longer than this test."""
    return subprocess.Popen(
        [sys.executable, "-m", "accounting", "simulate", "--until", in_days(3_000)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def is_under_way(books: Books) -> bool:
    names = scratch_databases(books)
    return any(books.client[name]["accounting_runs"].count_documents({}) > 2 for name in names)


@pytest.mark.usefixtures("short_lived_transactions")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_simulation_cleans_up(
    books: Books, environment: dict[str, str], number: signal.Signals
) -> None:
    a_template(books, "Ada Holm", miners=2)
    process = start(environment)
    wait_for(lambda: is_under_way(books))

    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=WAIT_SECONDS_MAX)

    assert (process.returncode, stdout) == (130, "")
    assert "Traceback" not in stderr
    assert scratch_databases(books) == []


@pytest.mark.usefixtures("short_lived_transactions")
def test_what_a_killed_simulation_leaves_is_named_and_dropped_on_request(
    books: Books, environment: dict[str, str]
) -> None:
    a_template(books, "Ada Holm", miners=2)
    process = start(environment)
    wait_for(lambda: is_under_way(books))
    process.kill()
    process.communicate(timeout=WAIT_SECONDS_MAX)
    [name] = scratch_databases(books)

    too_soon = run_command(("simulate", "--drop-left-behind"), environment)
    an_hour_ago = utc_now() - timedelta(hours=1)
    books.client[name][MARK_COLLECTION].update_one({}, {"$set": {"aliveAt": an_hour_ago}})
    named = run_command(("simulate", "--until", in_days(0)), environment)
    dropped = run_command(("simulate", "--drop-left-behind"), environment)
    again = run_command(("simulate", "--drop-left-behind"), environment)

    assert too_soon.stdout.startswith(f"in use   {name}, made ")
    assert named.returncode == 0
    assert name in named.stderr
    assert "--drop-left-behind" in named.stderr
    assert dropped.stdout.startswith(f"dropped  {name}, made ")
    assert scratch_databases(books) == []
    assert again.stdout == "Nothing was left behind.\n"


def test_a_user_without_the_rights_is_told_what_is_missing(guarded: GuardedMongod) -> None:
    def simulate_as(*roles: dict[str, str]) -> subprocess.CompletedProcess[str]:
        uri = guarded.make_user("simulator", *roles, database="admin")
        environment = clean_environment(MONGODB_URI=uri, MONGODB_DATABASE=DATABASE)
        return run_command(("simulate", "--until", in_days(0)), environment)

    refused = simulate_as({"role": "readWrite", "db": DATABASE})
    allowed = simulate_as(
        {"role": "readWriteAnyDatabase", "db": "admin"},
        {"role": "dbAdminAnyDatabase", "db": "admin"},
    )

    assert refused.returncode == 1
    [sentence] = [line for line in refused.stderr.splitlines() if line]
    assert "give it the roles readWriteAnyDatabase and dbAdminAnyDatabase" in sentence
    assert allowed.returncode == 0, allowed.stderr
