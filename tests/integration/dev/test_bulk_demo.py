"""A large demo is what the services would have left: sound, complete, and the same each time."""

from __future__ import annotations

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import bson
import pymongo
import pytest
from beanie.odm.utils.dump import get_dict
from bson.codec_options import CodecOptions
from pymongo.database import Database as Books

from accounting.audit.documents import AuditHead, AuditLog
from accounting.bootstrap import bind_documents, collection_specs
from accounting.db.client import MongoDatabase, open_client, open_database
from accounting.db.database import Database
from accounting.db.document import BaseDocument
from accounting.db.setup import apply_changes, is_set_up
from accounting.dev.bulk.history import BulkOrder
from accounting.dev.bulk.load import LOADING_COLLECTION, NotEmpty, load_bulk
from accounting.dev.processes import Server
from accounting.errors import Misconfigured
from accounting.ids import ObjectId
from accounting.integrity.numbers import audit_all_numbers
from accounting.integrity.service import examine_store
from accounting.invoices.documents import AccountingCounter, Invoice
from accounting.invoices.rules import BillingTerms
from accounting.invoices.service import cancel_invoice, mark_overdue
from accounting.invoices.settlement import record_payment, refund_invoice
from accounting.notifications.documents import InvoiceNotification
from accounting.payments.documents import InvoicePayment, PaymentAllocation
from accounting.platform.reader import MongoPlatform
from accounting.pricing.documents import CustomerPricingConfig
from accounting.recurring.documents import RecurringInvoice
from builders import ADMIN, a_cost_payment, a_customer, an_issued_invoice
from fakes import FakePlatform, TestDatabase
from integration.acceptance.invariants import check_invariants
from service import clean_environment, run_command

DATABASE, YEARS = "bulk_demo_test", "bulk_demo_years_test"
ORDER = BulkOrder(
    invoices=1_500,
    customers=30,
    seed=7,
    now=datetime(2026, 11, 24, 3, 30, tzinfo=UTC),
    zone=ZoneInfo("America/New_York"),
)
TERMS = BillingTerms(zone=ORDER.zone)
WRITTEN: tuple[type[BaseDocument], ...] = (
    *(Invoice, RecurringInvoice, CustomerPricingConfig, InvoicePayment, PaymentAllocation),
    *(AuditLog, AuditHead, AccountingCounter, InvoiceNotification),
)

PLAIN: CodecOptions[dict[str, Any]] = CodecOptions(tz_aware=True)

Store = tuple[MongoDatabase, Books[dict[str, Any]]]


async def open_store(mongod: Server, name: str) -> AsyncIterator[Store]:
    client = open_client(mongod.uri)
    await client.drop_database(name)
    mongo = open_database(client, name)
    await apply_changes(mongo, collection_specs())
    with pymongo.MongoClient[dict[str, Any]](mongod.uri, tz_aware=True) as plain:
        yield mongo, plain[name]
    await client.drop_database(name)
    client.close()


@pytest.fixture(scope="module")
async def years(mongod: Server) -> AsyncIterator[Store]:
    """The demo, for tests that only read it."""
    async for mongo, books in open_store(mongod, YEARS):
        await load_bulk(mongo, collection_specs(), mongod.uri, ORDER)
        yield mongo, books


@pytest.fixture
async def empty(mongod: Server) -> AsyncIterator[Store]:
    """A database that is set up, for a test that loads it in its own way."""
    async for store in open_store(mongod, DATABASE):
        yield store


def content_of(books: Books[dict[str, Any]]) -> dict[str, str]:
    """A hash of each collection, but of those which the setup keeps for itself."""
    names = set(books.list_collection_names()) - {"accounting_meta"}
    return {name: hash_of(books[name].find().sort("_id")) for name in sorted(names)}


def hash_of(documents: Iterable[dict[str, Any]]) -> str:
    hashed = hashlib.sha256()
    for document in documents:
        hashed.update(bson.encode(dict(sorted(document.items()))))
    return hashed.hexdigest()


def test_every_invariant_of_the_books_holds(years: Store) -> None:
    _, books = years
    mailed = books["invoice_notifications"].distinct("invoiceId")
    without_mail = set(books["invoices"].distinct("_id")) - set(mailed)

    assert check_invariants(books, without_mail=without_mail) == []
    assert books["invoices"].count_documents({}) == 1_500
    assert books["invoices"].count_documents({"status": "PAID"}) > 1_300
    assert len(mailed) > 100


async def test_doctor_and_the_audit_of_numbers_find_nothing(years: Store) -> None:
    mongo, _ = years
    await bind_documents(mongo)
    db = Database(mongo, clock=lambda: ORDER.now)

    report = await examine_store(db, MongoPlatform(mongo), TERMS)
    numbers = await audit_all_numbers(mongo, TERMS.serial_width)

    assert [finding.sentence for finding in report.findings] == []
    assert report.looked_at["audit trail"] > 4 * 1_500
    assert (numbers.numbers, numbers.gaps, numbers.duplicates) == (1_500, [], [])


async def test_the_database_is_set_up_as_before(years: Store) -> None:
    mongo, books = years

    assert await is_set_up(mongo, collection_specs())
    assert LOADING_COLLECTION not in books.list_collection_names()
    assert "userId_1" in books["cost_payments"].index_information()


@pytest.mark.parametrize("document", WRITTEN, ids=lambda document: document.__name__)
async def test_documents_are_what_the_models_would_store(
    years: Store, document: type[BaseDocument]
) -> None:
    mongo, books = years
    await bind_documents(mongo)
    name: str = document.Settings.name  # type: ignore[attr-defined]  # every document of ours has it

    for raw in books[name].find().limit(300):
        read = document.model_validate(raw)
        assert bson.decode(bson.encode(get_dict(read, to_db=True)), PLAIN) == raw


def test_ids_tell_when_things_were_made(years: Store) -> None:
    _, books = years

    for name in ("invoices", "audit_logs", "invoice_payments", "invoice_notifications"):
        for row in books[name].find().limit(200):
            assert row["_id"].generation_time == row["createdAt"].replace(microsecond=0)


async def test_entries_tell_what_the_services_would_tell(
    years: Store, real_db: TestDatabase, platform: FakePlatform
) -> None:
    _, books = years
    customer = a_customer()
    first, second, third = [
        await an_issued_invoice(real_db, platform, customer, billing_period="2026-01")
        for _ in range(3)
    ]
    row = platform.add_cost_payment(a_cost_payment(customer))
    await real_db.run(ADMIN, record_payment, platform, ObjectId(first.id), row.id)
    await real_db.run(ADMIN, refund_invoice, ObjectId(first.id), "Paid by mistake")
    await real_db.run(ADMIN, cancel_invoice, ObjectId(second.id), "Billed twice")
    await mark_overdue(real_db, third.due_date.replace(year=2030))
    done = {"action": {"$not": {"$regex": "^EMAIL_"}}}
    by_services = told_by(await real_db.mongo["audit_logs"].find(done).to_list(None))
    by_demo = told_by(books["audit_logs"].find())

    assert {"INVOICE_PAID", "PAYMENT_REFUNDED", "INVOICE_OVERDUE"} <= by_services.keys()
    for action, told in by_services.items():
        assert told <= by_demo[action], action


def told_by(entries: Iterable[dict[str, Any]]) -> dict[str, set[Any]]:
    """Which fields the entries of each action have, and of which fields they tell."""
    told = defaultdict(set)
    for entry in entries:
        changed = (frozenset(entry["changes"][side]) for side in ("before", "after"))
        told[entry["action"]].add((frozenset(entry), *changed))
    return told


async def test_the_same_order_gives_the_same_documents(years: Store, empty: Store) -> None:
    mongo, books = empty

    await load_bulk(mongo, collection_specs(), mongo_uri(mongo), ORDER)

    assert content_of(books) == content_of(years[1])


async def test_a_database_with_data_is_left_alone(empty: Store) -> None:
    mongo, books = empty
    books["miners"].insert_one({"name": "somebody's"})

    with pytest.raises(NotEmpty, match="has data already, in miners;"):
        await load_bulk(mongo, collection_specs(), mongo_uri(mongo), ORDER)

    assert books["miners"].count_documents({}) == 1
    assert books["invoices"].count_documents({}) == 0
    assert len(books["invoices"].index_information()) > 10


async def test_a_database_that_is_not_set_up_is_left_alone(empty: Store) -> None:
    mongo, books = empty
    books.drop_collection("invoices")

    with pytest.raises(Misconfigured, match="run `accounting db apply` first"):
        await load_bulk(mongo, collection_specs(), mongo_uri(mongo), ORDER)

    assert "users" not in books.list_collection_names()


async def test_a_load_that_was_interrupted_is_begun_anew(years: Store, empty: Store) -> None:
    mongo, books = empty
    started = asyncio.create_task(
        load_bulk(mongo, collection_specs(), mongo_uri(mongo), replace(ORDER, invoices=30_000))
    )
    while books["invoices"].estimated_document_count() < 1_000:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    started.cancel()
    await asyncio.wait([started])
    assert len(books["invoices"].index_information()) == 1

    await load_bulk(mongo, collection_specs(), mongo_uri(mongo), ORDER)

    assert await is_set_up(mongo, collection_specs())
    assert content_of(books) == content_of(years[1])


async def test_the_command_as_an_operator_types_it(empty: Store) -> None:
    mongo, books = empty
    environment = clean_environment(MONGODB_URI=mongo_uri(mongo), MONGODB_DATABASE=DATABASE)
    arguments = ("demo", "--invoices", "120", "--customers", "4")

    loaded = await asyncio.to_thread(run_command, arguments, environment)
    again = await asyncio.to_thread(run_command, arguments, environment)
    alone = await asyncio.to_thread(run_command, ("demo", "--customers", "4"), environment)

    assert loaded.returncode == 0, loaded.stderr
    assert loaded.stdout.startswith("demo: 120 invoices of 4 customers, with ")
    assert books["invoices"].count_documents({}) == 120
    assert again.returncode == 1
    assert "has data already" in again.stderr
    assert alone.returncode == 2
    assert "belong to --invoices" in alone.stderr


def mongo_uri(mongo: MongoDatabase) -> str:
    host, port = mongo.client.address
    return f"mongodb://{host}:{port}/?replicaSet=rs0"
