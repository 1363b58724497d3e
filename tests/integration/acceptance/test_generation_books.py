"""The check of what was generated finds what is wrong with it, or the other tests say nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

import pymongo
import pytest
from bson import Decimal128, ObjectId
from pymongo.database import Database

from accounting.bootstrap import Services
from accounting.dev.processes import Server
from accounting.platform.reader import MongoPlatform
from accounting.worker.generation import generate_now
from api_app import settings
from builders import TERMS, TODAY
from fakes import TestDatabase
from integration.acceptance.billing_world import World, a_world
from integration.acceptance.generation_books import check_generation

Books: TypeAlias = Database[dict[str, Any]]

SEED: Final = 1
# One template of each kind, and some more.
TEMPLATES: Final = 16
A_PART: Final = {"partOf": {"$ne": None}}
A_RUN: Final = {"partOf": None}
MIDNIGHT: Final = datetime(2026, 1, 1, tzinfo=UTC)
BILLED: Final = {"lastGeneratedDate": {"$gte": datetime(2025, 12, 1, tzinfo=UTC)}}

DAMAGES: dict[str, tuple[str, dict[str, Any], dict[str, Any] | None, str]] = {
    # name: collection, which row, how it is changed (None: deleted), what has to be said
    "gone": ("invoices", {"status": "DRAFT"}, None, "0 invoices for"),
    "twice": ("invoices", {}, {"billingPeriod": "2025-01"}, "1 invoices for 2025-01 instead of 0"),
    "price": ("invoices", {}, {"unitPrice": Decimal128("1.00")}, "unitPrice is 1.00, and should"),
    "miners": ("invoices", {}, {"totalMiners": 9}, "totalMiners is 9, and should"),
    "issued": ("invoices", {"status": "DRAFT"}, {"status": "ISSUED"}, "should be DRAFT"),
    "source": ("invoices", {}, {"pricing.pricingConfigId": ObjectId()}, "pricing is"),
    "due": ("invoices", {}, {"dueDate": MIDNIGHT}, "dueDate is"),
    "schedule": ("recurring_invoices", BILLED, {"lastGeneratedDate": None}, "should be 20"),
    "skipped": ("recurring_invoices", BILLED, {"lastSkippedDate": MIDNIGHT}, "lastSkippedDate is"),
    "version": ("recurring_invoices", BILLED, {"version": 7}, "do not tell its whole story"),
    "held": ("accounting_runs", A_PART, {"leaseId": ObjectId()}, "leaseId is"),
    "running": ("accounting_runs", A_RUN, {"status": "RUNNING"}, "status is RUNNING"),
    "counts": ("accounting_runs", A_RUN, {"counts.done": 1}, "counts is"),
    "part": ("accounting_runs", A_PART, None, "partsOver is 1, and should be 0"),
    "result": ("accounting_runs", A_PART, {"items.$[done].resultId": ObjectId()}, "no invoice of"),
    "pending": ("accounting_runs", A_PART, {"items.$[done].status": "PENDING"}, "0 times"),
    "actor": ("accounting_runs", A_RUN, {"actor.userId": ObjectId()}, "in the name of"),
    "entry": ("audit_logs", {"action": "INVOICE_CREATED"}, None, "its one creation"),
    "trail": ("audit_logs", {"entityType": "RecurringInvoice"}, None, "its trail names"),
    "mail": ("invoice_notifications", {}, None, "0 INVOICE_ISSUED notifications instead of 1"),
}


@pytest.fixture
async def books(real_db: TestDatabase, mongod: Server) -> AsyncIterator[tuple[Books, World]]:
    """Templates of every kind, and what one run made of them."""
    world = a_world(TEMPLATES, TODAY, SEED)
    services = Services(real_db, MongoPlatform(real_db.mongo), TERMS, settings())
    with pymongo.MongoClient[dict[str, Any]](mongod.uri, tz_aware=True) as client:
        mongo = client[real_db.mongo.name]
        world.store(mongo)
        await generate_now(services, TODAY)
        yield mongo, world


def test_sound_books_pass(books: tuple[Books, World]) -> None:
    mongo, world = books
    assert len(world.bills) > TEMPLATES
    assert {code for code in world.expected.values() if isinstance(code, str)} == {
        *("customer_deleted", "no_miners", "no_price"),
        *("amount_too_large", "earlier_period_open"),
    }
    assert check_generation(mongo, world) == []


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_found(books: tuple[Books, World], damage: str) -> None:
    mongo, world = books
    collection, which, changes, sentence = DAMAGES[damage]
    if changes is None:
        assert mongo[collection].delete_one(which).deleted_count
    else:
        update = {"q": which, "u": {"$set": changes}}
        if "$[done]" in str(changes):
            update["arrayFilters"] = [{"done.status": "DONE"}]
        changed = mongo.command(
            "update", collection, updates=[update], bypassDocumentValidation=True
        )
        assert changed["nModified"]

    assert any(sentence in said for said in check_generation(mongo, world))
