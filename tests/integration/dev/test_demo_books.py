"""The demo's year of invoices is made by the services, once, and only where nothing else is."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pymongo
import pytest
from bson import ObjectId
from pymongo.database import Database

from accounting.bootstrap import Services, billing_terms, bind_documents, collection_specs
from accounting.db.client import open_client, open_database
from accounting.db.database import Database as ServiceDatabase
from accounting.db.setup import apply_changes
from accounting.dev.demo import demo_customer_id, load_demo_platform
from accounting.dev.demo_books import BEN, DMITRI, GRETA, HUGO, INES, KIM, load_demo_books
from accounting.dev.processes import Server
from accounting.platform.reader import MongoPlatform
from accounting.simulation.days import SetClock
from api_app import settings
from integration.acceptance.invariants import check_invariants

DATABASE, YEAR = "demo_books_test", "demo_year_test"
NOW = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)
CONTENT = ("invoiceNumber", "userId", "status", "totalAmount", "amountPaid", "dueDate", "createdAt")

Books = Database[dict[str, Any]]


@pytest.fixture
def books(mongod: Server) -> Iterator[Books]:
    """An empty database, for a test that loads it in its own way."""
    with pymongo.MongoClient[dict[str, Any]](mongod.uri, tz_aware=True) as client:
        client.drop_database(DATABASE)
        yield client[DATABASE]
        client.drop_database(DATABASE)


@pytest.fixture(scope="module")
async def year(mongod: Server) -> AsyncIterator[Books]:
    """The demo data, for tests that only read it."""
    with pymongo.MongoClient[dict[str, Any]](mongod.uri, tz_aware=True) as client:
        client.drop_database(YEAR)
        assert await load(mongod, database=YEAR)
        yield client[YEAR]
        client.drop_database(YEAR)


@asynccontextmanager
async def services_at(
    uri: str, now: datetime, zone: str, database: str
) -> AsyncIterator[tuple[Services, SetClock]]:
    """The services on a clock, over a database that is set up."""
    configured, clock, client = settings(timezone=zone), SetClock(now), open_client(uri)
    mongo = open_database(client, database)
    await apply_changes(mongo, collection_specs())
    await bind_documents(mongo)
    db = ServiceDatabase(mongo, clock=clock)
    yield Services(db, MongoPlatform(mongo), billing_terms(configured), configured), clock
    client.close()


async def load(
    server: Server, *, now: datetime = NOW, zone: str = "UTC", database: str = DATABASE
) -> bool:
    load_demo_platform(server.uri, database, now=now)
    async with services_at(server.uri, now, zone, database) as (services, clock):
        return await load_demo_books(services, clock, now)


def content(books: Books) -> list[dict[str, Any]]:
    """The invoices without what is different each time: their ids."""
    wanted = {"_id": 0, **dict.fromkeys(CONTENT, 1)}
    return list(books["invoices"].find({}, wanted).sort("invoiceNumber"))


def rows(books: Books) -> dict[str, list[dict[str, Any]]]:
    return {name: list(books[name].find().sort("_id")) for name in books.list_collection_names()}


def test_every_kind_of_invoice_is_there_and_the_books_are_sound(year: Books) -> None:
    statuses = Counter(invoice["status"] for invoice in year["invoices"].find())
    assert statuses["PAID"] > 60
    assert statuses["OVERDUE"] > 3
    assert statuses["ISSUED"] > 3
    assert (statuses["DRAFT"], statuses["CANCELLED"], statuses["REFUNDED"]) == (1, 1, 1)
    paid_in_part = {"status": "OVERDUE", "amountPaid": {"$gt": 0}}
    assert year["invoices"].count_documents(paid_in_part) > 0
    assert check_invariants(year, without_mail=year["invoices"].distinct("_id")) == []


def test_the_price_changed_in_the_middle_of_the_year(year: Books) -> None:
    of_ben = year["invoices"].find({"userId": demo_customer_id(BEN)}).sort("createdAt")
    of_ines = {"userId": demo_customer_id(INES), "effectiveTo": None}
    to_come = year["customer_pricing_config"].find_one(of_ines)

    prices = [str(invoice["unitPrice"]) for invoice in of_ben]
    assert prices == ["95.00"] * 6 + ["110.00"] * 6
    assert to_come is not None
    assert to_come["effectiveFrom"] == datetime(2026, 12, 1, tzinfo=UTC)


def test_templates_are_active_paused_and_ended_and_some_bill_nothing(year: Books) -> None:
    def template(index: int) -> dict[str, Any]:
        [found] = year["recurring_invoices"].find({"userId": demo_customer_id(index)})
        return found

    assert template(BEN)["isActive"]
    assert not template(DMITRI)["isActive"]
    assert template(KIM)["endDate"] < NOW
    assert year["recurring_invoices"].count_documents({"autoIssue": True}) == 2
    items = [item for run in year["accounting_runs"].find() for item in run["items"]]
    assert {(item["id"], item["code"]) for item in items if item["status"] != "DONE"} == {
        (template(GRETA)["_id"], "no_price"),
        (template(HUGO)["_id"], "no_miners"),
    }


def test_nobody_is_written_to_about_the_past(year: Books) -> None:
    assert year["invoice_notifications"].count_documents({}) == 0


def test_the_payments_of_the_quick_start_stay_free(mongod: Server, year: Books) -> None:
    demo = load_demo_platform(mongod.uri, YEAR)

    free = {row["_id"] for row in year["cost_payments"].find({"userId": demo.customer_id})}
    assert len(demo.cost_payment_ids) == 2
    assert len(free) > 20
    assert not free & set(year["invoice_payments"].distinct("costPaymentId"))


@pytest.mark.parametrize(
    ("now", "zone"),
    [
        (datetime(2028, 2, 29, tzinfo=UTC), "Etc/GMT+12"),
        (datetime(2027, 1, 15, 23, 59, tzinfo=UTC), "Pacific/Kiritimati"),
        (datetime(2027, 4, 1, 12, 0, tzinfo=UTC), "America/New_York"),
    ],
)
async def test_it_is_a_year_before_any_day_and_nothing_lies_in_the_future(
    mongod: Server, books: Books, now: datetime, zone: str
) -> None:
    await load(mongod, now=now, zone=zone)

    for name in ("invoices", "audit_logs", "invoice_payments", "accounting_runs"):
        made = books[name].distinct("createdAt")
        assert max(made) <= now
        assert min(made) < now - timedelta(days=300)
    assert books["invoices"].count_documents({"status": "DRAFT"}) == 1
    assert books["invoices"].count_documents({"status": "OVERDUE"}) > 1


async def test_a_second_start_changes_nothing(mongod: Server, year: Books) -> None:
    before = rows(year)

    assert not await load(mongod, now=NOW + timedelta(days=40), database=YEAR)

    assert rows(year) == before


async def test_an_interrupted_load_is_made_anew_and_the_same_moment_gives_the_same_year(
    mongod: Server, books: Books, year: Books
) -> None:
    # As it is found when the process was killed in the middle of the year.
    load_demo_platform(mongod.uri, DATABASE, now=NOW)
    async with services_at(mongod.uri, NOW, "UTC", DATABASE):
        books["accounting_demo"].insert_one({})
        half = list(year["invoices"].find().limit(20))
        books["invoices"].insert_many([*half])
        books["audit_heads"].insert_many(list(year["audit_heads"].find().limit(20)))

    assert await load(mongod)

    assert content(books) == content(year)
    assert "accounting_demo" not in books.list_collection_names()
    assert check_invariants(books, without_mail=books["invoices"].distinct("_id")) == []


@pytest.mark.parametrize("collection", ["invoices", "recurring_invoices", "audit_logs"])
async def test_books_with_anything_in_them_stay_as_they_are(
    mongod: Server, books: Books, collection: str
) -> None:
    load_demo_platform(mongod.uri, DATABASE, now=NOW)
    async with services_at(mongod.uri, NOW, "UTC", DATABASE) as (services, clock):
        books.command(
            "insert", collection, documents=[{"_id": ObjectId()}], bypassDocumentValidation=True
        )

        assert not await load_demo_books(services, clock, NOW)

    assert books["customer_pricing_config"].count_documents({}) == 0


async def test_beside_a_real_platform_no_books_are_made(mongod: Server, books: Books) -> None:
    books["users"].insert_many(
        [{"email": "a@example.com", "role": "ADMIN"}, {"email": "b@example.com", "role": "CLIENT"}]
    )

    assert not await load(mongod)

    assert books["recurring_invoices"].count_documents({}) == 0
