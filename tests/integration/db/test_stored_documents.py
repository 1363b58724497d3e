"""What really lies in MongoDB, and what the database itself refuses."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from bson import Decimal128, ObjectId
from pymongo.errors import DuplicateKeyError, WriteError

from accounting.db.client import MongoDatabase
from accounting.ids import ObjectId as Id
from accounting.invoices.settlement import record_payment
from accounting.reports.dashboard import DashboardReader
from builders import ADMIN, TERMS, a_cost_payment, a_customer, an_issued_invoice
from fakes import FakePlatform, TestDatabase

MIDNIGHT = datetime(2026, 2, 11, tzinfo=UTC)

INVOICE_FIELDS: dict[str, tuple[type, ...]] = {
    "_id": (ObjectId,),
    "invoiceNumber": (str,),
    "userId": (ObjectId,),
    "totalMiners": (int,),
    "unitPrice": (Decimal128,),
    "totalAmount": (Decimal128,),
    "amountPaid": (Decimal128,),
    "status": (str,),
    "invoiceGeneratedDate": (datetime,),
    "issuedDate": (datetime, type(None)),
    "issuedDay": (datetime, type(None)),
    "dueDate": (datetime,),
    "paidDate": (datetime, type(None)),
    "billingPeriod": (str, type(None)),
    "recurringInvoiceId": (ObjectId, type(None)),
    "customer": (dict, type(None)),
    "pricing": (dict, type(None)),
    "cancelledDate": (datetime, type(None)),
    "cancelReason": (str, type(None)),
    "refundedDate": (datetime, type(None)),
    "refundReason": (str, type(None)),
    "createdBy": (ObjectId,),
    "updatedBy": (ObjectId, type(None)),
    "createdAt": (datetime,),
    "updatedAt": (datetime,),
    "version": (int,),
}


@pytest.fixture
async def paid(
    real_db: TestDatabase, platform: FakePlatform, real_mongo: MongoDatabase
) -> MongoDatabase:
    """A database in which an invoice was created, issued and paid; read without our codec."""
    customer = a_customer()
    invoice = await an_issued_invoice(real_db, platform, customer)
    row = platform.add_cost_payment(a_cost_payment(customer, "500.00"))
    await real_db.run(ADMIN, record_payment, platform, Id(invoice.id), row.id)
    await DashboardReader().read(real_db, TERMS.zone)
    return real_mongo.client[real_mongo.name]


async def test_an_invoice_is_stored_with_exactly_the_specified_fields(paid: MongoDatabase) -> None:
    [raw] = await paid["invoices"].find().to_list(None)

    assert raw.keys() == INVOICE_FIELDS.keys()
    for name, types in INVOICE_FIELDS.items():
        assert isinstance(raw[name], types), f"{name} is {raw[name]!r}"
    assert str(raw["totalAmount"]) == "500.00"
    assert raw["dueDate"] == MIDNIGHT
    assert raw["customer"].keys() == {"name", "email", "companyName"}
    assert raw["pricing"].keys() == {"source", "pricingConfigId", "minerIdsCount"}


@pytest.mark.parametrize(
    ("collection", "fields"),
    [
        (
            "invoice_payments",
            {
                "_id",
                "invoiceId",
                "costPaymentId",
                "amountPaid",
                "paidDate",
                "createdAt",
                "createdBy",
                "refundedDate",
            },
        ),
        (
            "audit_logs",
            {
                "_id",
                "action",
                "entityType",
                "entityId",
                "userId",
                "changes",
                "description",
                "ipAddress",
                "userAgent",
                "createdAt",
                "requestId",
                "seq",
                "prevHash",
                "hash",
            },
        ),
        (
            "invoice_notifications",
            {
                "_id",
                "invoiceId",
                "notificationType",
                "sentTo",
                "sentAt",
                "isRead",
                "openedAt",
                "status",
                "failureReason",
                "retryCount",
                "nextRetryAt",
                "createdAt",
                "ccEmails",
                "dedupeKey",
                "leaseUntil",
                "handedOverAt",
                "runId",
                "messageId",
                "viewToken",
            },
        ),
        ("payment_allocations", {"_id", "allocated", "archived", "updatedAt", "version"}),
        (
            "accounting_figures",
            {
                "_id",
                "revision",
                "zone",
                "since",
                "entries",
                "invoicesEnd",
                "templatesEnd",
                "invoices",
                "collected",
                "templates",
            },
        ),
        (
            "accounting_figures_parts",
            {"_id", "kind", "firstId", "invoices", "collected", "templates"},
        ),
    ],
)
async def test_the_other_documents_hold_exactly_their_fields(
    paid: MongoDatabase, collection: str, fields: set[str]
) -> None:
    documents = await paid[collection].find().to_list(None)

    assert documents
    assert all(document.keys() == fields for document in documents)


async def a_raw_invoice(mongo: MongoDatabase) -> dict[str, Any]:
    raw = await mongo["invoices"].find_one()
    assert raw is not None
    return raw | {"_id": ObjectId(), "invoiceNumber": "2026011277"}


@pytest.mark.parametrize(
    "change",
    [
        {"status": "VOID"},
        {"totalAmount": "500.00"},
        {"totalAmount": 500.0},
        {"totalAmount": Decimal128("-0.01")},
        {"totalAmount": Decimal128("10000000000.00")},
        {"totalAmount": Decimal128("1.005")},
        {"totalMiners": 0},
        {"totalMiners": 1.5},
        {"dueDate": "2026-02-11"},
        {"invoiceNumber": "A-1"},
        {"billingPeriod": "2026-13"},
        {"userId": "66f0c0ffee00000000000101"},
        {"unknownField": 1},
        {"version": 0},
        {"pricing": {"source": "GUESS"}},
    ],
)
async def test_the_database_refuses_a_wrong_value(
    paid: MongoDatabase, change: dict[str, object]
) -> None:
    with pytest.raises(WriteError, match="failed validation"):
        await paid["invoices"].insert_one(await a_raw_invoice(paid) | change)


@pytest.mark.parametrize(
    "name",
    [name for name, types in INVOICE_FIELDS.items() if type(None) not in types and name != "_id"],
)
async def test_the_database_refuses_a_missing_field(paid: MongoDatabase, name: str) -> None:
    raw = await a_raw_invoice(paid)
    del raw[name]

    with pytest.raises(WriteError, match="failed validation"):
        await paid["invoices"].insert_one(raw)


async def test_the_database_refuses_a_duplicate_number(paid: MongoDatabase) -> None:
    raw = await a_raw_invoice(paid) | {"invoiceNumber": "2026011201"}

    with pytest.raises(DuplicateKeyError):
        await paid["invoices"].insert_one(raw)


async def test_the_database_takes_the_same_document_with_a_fresh_number(
    paid: MongoDatabase,
) -> None:
    await paid["invoices"].insert_one(await a_raw_invoice(paid))


async def test_one_open_price_window_per_customer(paid: MongoDatabase) -> None:
    price = {
        "userId": ObjectId(),
        "defaultUnitPrice": Decimal128("50.00"),
        "effectiveFrom": MIDNIGHT,
        "effectiveTo": None,
        "createdBy": ObjectId(),
        "updatedBy": None,
        "createdAt": MIDNIGHT,
        "updatedAt": MIDNIGHT,
    }
    await paid["customer_pricing_config"].insert_one(dict(price))
    later = price | {"effectiveFrom": datetime(2026, 3, 1, tzinfo=UTC)}

    with pytest.raises(DuplicateKeyError):
        await paid["customer_pricing_config"].insert_one(dict(later))
    ended = price | {"effectiveFrom": datetime(2026, 3, 1, tzinfo=UTC), "effectiveTo": MIDNIGHT}
    await paid["customer_pricing_config"].insert_one(ended)
