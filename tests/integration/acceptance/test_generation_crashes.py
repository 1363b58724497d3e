"""Generation is exactly once: workers and database killed, messages doubled, runs at once."""

from __future__ import annotations

import os
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import date
from decimal import Decimal
from pathlib import Path
from threading import Barrier
from typing import Any, Final, TypeAlias

import pymongo
import pytest
from bson import ObjectId
from pymongo.database import Database

from accounting.actor import SYSTEM
from accounting.clock import utc_now
from accounting.dev.processes import Server
from accounting.worker.app import make_celery
from api_app import settings
from integration.acceptance.billing_world import World, a_world
from integration.acceptance.chaos import (
    DATABASE,
    WORKER,
    Chaos,
    Crew,
    MortalMongod,
    is_over,
    sweeping,
    wait_for,
)
from integration.acceptance.doubled_queue import doubled_queue
from integration.acceptance.generation_books import check_generation
from service import Service, run_command, running_service, service_environment

Books: TypeAlias = Database[dict[str, Any]]

pytestmark = pytest.mark.real_mongo

# A small form for every day; `make chaos` is the full one.
TEMPLATES: Final = int(os.environ.get("CHAOS_TEMPLATES", "800"))
KILLS: Final = int(os.environ.get("CHAOS_KILLS", "2"))
# A minute unless an operator sets it, which is long for a test.
TRANSACTION_SECONDS: Final = int(os.environ.get("CHAOS_TRANSACTION_SECONDS", "3"))
WORKERS: Final = 4
SMTP_NOBODY: Final = "smtp://127.0.0.1:9"


@pytest.fixture
def seed(say: Callable[[str], None]) -> int:
    """What the templates and the moments of the kills follow from, not who is at work then."""
    seed = int(os.environ.get("CHAOS_SEED") or random.randrange(1_000_000))
    say(f"seed {seed}")
    return seed


@pytest.fixture
def redis_url(redis_server: Server) -> str:
    return redis_server.uri.removesuffix("/0") + "/8"


@pytest.mark.timeout(1_800)
def test_workers_and_a_database_killed_at_random_bill_every_month_exactly_once(
    redis_url: str, tmp_path: Path, seed: int, say: Callable[[str], None]
) -> None:
    world = a_world(TEMPLATES, utc_now().date(), seed)
    with ExitStack() as stack:
        mongod = MortalMongod(tmp_path, TRANSACTION_SECONDS)
        stack.callback(mongod.stop)
        queue = stack.enter_context(doubled_queue(redis_url))
        environment = service_environment(
            mongod.server, redis_url=queue.url, smtp_url=SMTP_NOBODY, database="chaos"
        )
        mongo = stack.enter_context(a_set_up_database(environment, world))
        crew = Crew(WORKERS, environment, tmp_path / "workers")
        stack.callback(crew.stop)
        crew.start()
        crew.wait_until_ready()
        celery = make_celery(settings(redis_url=queue.url))
        chaos = Chaos(mongo, mongod, crew, random.Random(seed))

        celery.send_task("recurring.generate")
        with sweeping(celery):
            chaos.rage(KILLS, len(world.bills))
            chaos.wait_until_over()
        crew.stop()

        say(chaos.figures())
        say(f"{queue.messages} messages, each delivered twice; {books_in_short(mongo)}")
        assert check_generation(mongo, world) == []
        assert {kill.victim for kill in chaos.kills if not kill.is_over} == {WORKER, DATABASE}
        assert_verified(environment)
        assert_another_run_makes_nothing(environment, world, mongo)


@pytest.mark.timeout(300)
def test_two_schedulers_and_a_manual_run_at_once_bill_every_month_exactly_once(
    mongod: Server, redis_url: str, tmp_path: Path, seed: int, say: Callable[[str], None]
) -> None:
    world = a_world(TEMPLATES, utc_now().date(), seed)
    environment = service_environment(
        mongod, redis_url=redis_url, smtp_url=SMTP_NOBODY, database="chaos_schedulers"
    )
    with ExitStack() as stack:
        service = stack.enter_context(running_service(environment, tmp_path / "service"))
        crew = Crew(WORKERS - 1, environment, tmp_path / "workers")
        stack.callback(crew.stop)
        crew.start()
        crew.wait_until_ready()
        world.store(service.mongo)

        start_at_once(service, schedulers=2)
        wait_for(lambda: is_over(service.mongo))
        crew.stop()
        service.worker.stop()

        say(books_in_short(service.mongo))
        assert check_generation(service.mongo, world) == []
        actors = {run["actor"]["userId"] for run in runs_of(service.mongo)}
        assert actors == {SYSTEM.user_id, service.demo.admin_id}
        assert_verified(environment)
        assert_another_run_makes_nothing(environment, world, service.mongo)


def test_after_an_outage_the_next_run_bills_each_missed_month_at_the_price_of_its_day(
    mongod: Server, redis_url: str, seed: int, say: Callable[[str], None]
) -> None:
    as_of = date(2026, 3, 2)
    world = a_world(60, as_of, seed)
    environment = service_environment(
        mongod, redis_url=redis_url, smtp_url=SMTP_NOBODY, database="chaos_outage"
    )
    with a_set_up_database(environment, world) as mongo:
        said = run_generate(environment, world, "--as-of", as_of.isoformat())

        assert said.startswith(f"generate: {len(world.bills)} invoices made for {as_of}, ")
        assert check_generation(mongo, world) == []
        say(books_in_short(mongo))
        # The price list did change within the outage, or this says little.
        prices: dict[ObjectId, set[Decimal]] = defaultdict(set)
        for bill in world.bills.values():
            prices[bill.template.id].add(bill.unit_price)
        assert sum(len(different) > 1 for different in prices.values()) > len(world.templates) / 3


@contextmanager
def a_set_up_database(environment: dict[str, str], world: World) -> Iterator[Books]:
    """The collections as `db apply` makes them, and the world stored in them."""
    applied = run_command(("db", "apply"), environment)
    assert applied.returncode == 0, applied.stderr
    uri, name = environment["ACCOUNTING_MONGODB_URI"], environment["ACCOUNTING_MONGODB_DATABASE"]
    with pymongo.MongoClient[dict[str, Any]](uri, tz_aware=True) as client:
        world.store(client[name])
        yield client[name]


def start_at_once(service: Service, *, schedulers: int) -> None:
    """So many times what a schedule sends, and a person's own run, in the same moment."""
    celery = make_celery(settings(redis_url=service.environment["ACCOUNTING_REDIS_URL"]))
    together = Barrier(schedulers + 1)

    def schedule() -> None:
        together.wait()
        celery.send_task("recurring.generate")

    def ask() -> None:
        together.wait()
        answer = service.api.post("/recurring-invoices/run", headers=service.as_admin(), json={})
        assert answer.status_code == 202, answer.text

    with ThreadPoolExecutor(schedulers + 1) as threads:
        started = [threads.submit(schedule) for _ in range(schedulers)] + [threads.submit(ask)]
        for one in started:
            one.result()
    # Else the run of a schedule that comes last could start after the others are over.
    wait_for(lambda: len({run["actor"]["userId"] for run in runs_of(service.mongo)}) == 2)


def runs_of(mongo: Books) -> list[dict[str, Any]]:
    """The runs that somebody asked for, without their parts."""
    return list(mongo["accounting_runs"].find({"partOf": None}))


def assert_verified(environment: dict[str, str]) -> None:
    verified = run_command(("audit", "verify"), environment)
    assert verified.returncode == 0, verified.stdout + verified.stderr


def run_generate(environment: dict[str, str], world: World, *options: str) -> str:
    """What the command says; it fails where a month cannot be billed."""
    ran = run_command(("jobs", "run", "generate", *options), environment)
    assert ran.returncode == (1 if world.failures else 0), ran.stderr
    return ran.stdout


def assert_another_run_makes_nothing(
    environment: dict[str, str], world: World, mongo: Books
) -> None:
    invoices = list(mongo["invoices"].find())
    assert run_generate(environment, world).startswith("generate: 0 invoices made for ")
    assert list(mongo["invoices"].find()) == invoices


def books_in_short(mongo: Books) -> str:
    """How much was done, as a line."""
    runs, parts = (
        runs_of(mongo),
        mongo["accounting_runs"].count_documents({"partOf": {"$ne": None}}),
    )
    counts = [Counter(run["counts"]) for run in runs]
    total = sum(counts, Counter())
    [counter] = mongo["accounting_counters"].find()
    invoices = mongo["invoices"].count_documents({})
    return (
        f"{invoices} invoices out of {counter['value']} numbers; {len(runs)} runs in {parts} parts "
        f"with {total['total']} items: {total['done']} done, {total['skipped']} skipped, "
        f"{total['failed']} failed"
    )
