"""The check of the stored books finds what is wrong with them, or the other tests say nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any, TypeAlias

import pymongo
import pytest
from bson import Decimal128
from pymongo.database import Database

from accounting.dev.processes import Server
from accounting.invoices.settlement import record_payment
from builders import ADMIN, a_cost_payment, a_customer, a_draft, an_issued_invoice
from fakes import FakePlatform, TestDatabase
from integration.acceptance.invariants import check_invariants

Books: TypeAlias = Database[dict[str, Any]]

DAMAGES: dict[str, tuple[str, dict[str, Any], dict[str, Any] | None, str]] = {
    # name: collection, which row, how it is changed (None: deleted), what has to be said
    "paid": ("invoices", {"status": "PAID"}, {"amountPaid": Decimal128("1.00")}, "add up to"),
    "status": ("invoices", {"status": "PAID"}, {"status": "ISSUED"}, "ISSUED with 300.00 of 300"),
    "draft": ("invoices", {"status": "DRAFT"}, {"amountPaid": Decimal128("1.00")}, "is paid"),
    "total": ("invoices", {"status": "DRAFT"}, {"totalMiners": 9}, "is not 9 x"),
    "version": ("invoices", {"status": "PAID"}, {"version": 9}, "version 9 after 2 changes"),
    "number": ("invoices", {"status": "DRAFT"}, {"invoiceNumber": "200001011"}, "is no number"),
    "due": ("invoices", {"status": "DRAFT"}, {"billingPeriod": "1999-01"}, "its trail says None"),
    "gone": ("invoices", {"status": "PAID"}, None, "gone, but its trail ends with"),
    "link": ("invoice_payments", {}, {"amountPaid": Decimal128("299.99")}, "add up to 299.99"),
    "guard": ("payment_allocations", {}, {"allocated": Decimal128("0.00")}, "0.00 allocated"),
    "ledger": ("cost_payments", {}, {"amount": 299.994}, "300.00 of 299.99 is given away"),
    "mail": ("invoice_notifications", {}, None, "0 INVOICE_ISSUED notifications instead of 1"),
    "told": (
        "invoice_notifications",
        {"notificationType": "PAYMENT_RECEIVED"},
        None,
        "its customer was not told of a payment",
    ),
    "taken back": (
        "invoice_notifications",
        {"notificationType": "PAYMENT_RECEIVED"},
        {"notificationType": "INVOICE_CANCELLED"},
        "PAID, 1 cancellations told",
    ),
    "entry": ("audit_logs", {"action": "INVOICE_ISSUED"}, None, "not numbered"),
    "edited": ("audit_logs", {"action": "INVOICE_ISSUED"}, {"description": "x"}, "edited"),
}


@pytest.fixture
async def books(
    real_db: TestDatabase, platform: FakePlatform, mongod: Server
) -> AsyncIterator[Books]:
    """A draft, and an invoice that is paid."""
    customer = platform.add_user(a_customer())
    row = platform.add_cost_payment(a_cost_payment(customer, "300.00"))
    await real_db.mongo["cost_payments"].insert_one({"_id": row.id, "amount": 300.0})
    price = Decimal("100.00")
    await a_draft(real_db, platform, customer, total_miners=3, unit_price=price)
    issued = await an_issued_invoice(real_db, platform, customer, total_miners=3, unit_price=price)
    await real_db.run(ADMIN, record_payment, platform, issued.id, row.id)
    with pymongo.MongoClient[dict[str, Any]](mongod.uri) as client:
        yield client[real_db.mongo.name]


def test_sound_books_pass(books: Books) -> None:
    assert check_invariants(books) == []


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_found(books: Books, damage: str) -> None:
    collection, which, changes, sentence = DAMAGES[damage]
    rows = books.get_collection(collection)
    if changes is None:
        assert rows.delete_one(which).deleted_count
    else:
        damaged = {"$set": changes}
        assert books.command(
            "update",
            collection,
            updates=[{"q": which, "u": damaged}],
            bypassDocumentValidation=True,
        )["nModified"]

    assert any(sentence in said for said in check_invariants(books))
