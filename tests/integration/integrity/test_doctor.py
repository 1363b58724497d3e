"""Each kind of corruption is planted with raw writes, found by name, and repaired if it can be."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from bson import Decimal128, ObjectId

from accounting.actor import SYSTEM
from accounting.audit.documents import AuditLog
from accounting.clock import as_stored_day
from accounting.db.client import MongoDatabase
from accounting.ids import ANY_ID
from accounting.integrity.findings import FindingKind
from accounting.integrity.service import StoreReport, examine_store, repair_findings
from accounting.invoices.drafts import delete_invoice
from accounting.invoices.service import cancel_invoice
from accounting.invoices.settlement import record_payment
from accounting.platform.rules import CostPayment
from builders import ADMIN, TERMS, a_cost_payment, a_draft, a_price, a_template, an_issued_invoice
from fakes import FakePlatform, SettableClock, TestDatabase
from generating import a_miner_owner, generate_on, services_of


@dataclass(frozen=True)
class Store:
    """A sound store with one of everything, and raw access to it."""

    db: TestDatabase
    mongo: MongoDatabase
    platform: FakePlatform
    clock: SettableClock
    paid_id: ObjectId
    part_paid_id: ObjectId
    cost_payment: CostPayment
    generated: dict[str, Any]

    async def examine(self) -> StoreReport:
        return await examine_store(self.db, self.platform, TERMS)

    async def set(self, collection: str, key: object, **fields: object) -> None:
        """A write by hand, past every rule of the service and of the database."""
        await self.mongo[collection].update_one(
            {"_id": key}, {"$set": fields}, bypass_document_validation=True
        )

    async def copy(self, collection: str, key: object, **fields: object) -> None:
        row = await self.mongo[collection].find_one({"_id": key})
        assert row is not None
        await self.mongo[collection].insert_one(
            row | {"_id": ObjectId()} | fields, bypass_document_validation=True
        )


@pytest.fixture
async def store(
    real_db: TestDatabase,
    real_mongo: MongoDatabase,
    platform: FakePlatform,
    clock: SettableClock,
) -> Store:
    customer = a_miner_owner(platform)
    cost_payment = platform.add_cost_payment(a_cost_payment(customer, "900.00"))
    paid = await an_issued_invoice(real_db, platform, customer)
    part_paid = await an_issued_invoice(real_db, platform, customer)
    for invoice in (paid, part_paid):
        await real_db.run(ADMIN, record_payment, platform, invoice.id, cost_payment.id)
    await a_price(real_db, platform, customer)
    await a_template(real_db, platform, customer)
    await generate_on(services_of(real_db, platform), date(2026, 1, 12))
    generated = await real_mongo["invoices"].find_one({"recurringInvoiceId": {"$ne": None}})
    assert generated is not None
    return Store(
        db=real_db,
        mongo=real_mongo,
        platform=platform,
        clock=clock,
        paid_id=ObjectId(paid.id),
        part_paid_id=ObjectId(part_paid.id),
        cost_payment=cost_payment,
        generated=generated,
    )


async def test_a_sound_store_has_no_findings(store: Store) -> None:
    report = await store.examine()

    assert report.findings == []
    assert report.is_sound
    assert report.looked_at["invoices"] == 3
    assert report.looked_at["payments"] == 2


async def wrong_amount_paid(store: Store) -> None:
    await store.set("invoices", store.part_paid_id, amountPaid=Decimal128("7.00"))


async def paid_but_open(store: Store) -> None:
    await store.set("invoices", store.paid_id, status="ISSUED", paidDate=None)


async def open_but_paid(store: Store) -> None:
    await store.set("invoices", store.part_paid_id, status="PAID")


async def found_by_another_day(store: Store) -> None:
    await store.set("invoices", store.paid_id, issuedDay=datetime(2020, 1, 1, tzinfo=UTC))


async def found_by_no_day(store: Store) -> None:
    await store.mongo["invoices"].update_one({"_id": store.paid_id}, {"$unset": {"issuedDay": 1}})


async def wrong_guard(store: Store) -> None:
    guard = Decimal128("1.00")
    await store.set("payment_allocations", store.cost_payment.id, allocated=guard)


async def missing_guard(store: Store) -> None:
    await store.mongo["payment_allocations"].delete_one({"_id": store.cost_payment.id})


async def guard_of_nothing(store: Store) -> None:
    row = {"_id": ObjectId(), "allocated": Decimal128("5.00"), "version": 1}
    row["updatedAt"] = store.clock()
    await store.mongo["payment_allocations"].insert_one(row)


async def counter_moved_back(store: Store) -> None:
    await store.set("accounting_counters", "invoiceNumber:20260112", value=1)


async def forgotten_month(store: Store) -> None:
    template_id = store.generated["recurringInvoiceId"]
    await store.set("recurring_invoices", template_id, lastGeneratedDate=None)


Plant = Callable[[Store], Awaitable[None]]

REPAIRABLE: list[tuple[Plant, FindingKind]] = [
    (wrong_amount_paid, FindingKind.AMOUNT_PAID_WRONG),
    (paid_but_open, FindingKind.STATUS_WRONG),
    (open_but_paid, FindingKind.STATUS_WRONG),
    (found_by_another_day, FindingKind.ISSUED_DAY_WRONG),
    (found_by_no_day, FindingKind.ISSUED_DAY_WRONG),
    (wrong_guard, FindingKind.ALLOCATION_WRONG),
    (missing_guard, FindingKind.ALLOCATION_WRONG),
    (guard_of_nothing, FindingKind.ALLOCATION_WRONG),
    (counter_moved_back, FindingKind.COUNTER_BEHIND),
    (forgotten_month, FindingKind.SCHEDULE_BEHIND),
]


@pytest.mark.parametrize(
    ("plant", "kind"), REPAIRABLE, ids=[plant.__name__ for plant, _ in REPAIRABLE]
)
async def test_what_can_be_repaired_is_named_and_repaired(
    store: Store, plant: Plant, kind: FindingKind
) -> None:
    before = await AuditLog.find_all().count()
    await plant(store)

    found = await store.examine()
    repaired = await repair_findings(store.db, SYSTEM, found.findings)
    again = await store.examine()

    assert list(found.counts) == [kind]
    assert all(finding.repair is not None for finding in found.findings)
    assert repaired == found.finding_count
    assert again.findings == []
    if kind is not FindingKind.COUNTER_BEHIND:
        assert await AuditLog.find_all().count() > before


@pytest.mark.parametrize("plant", [paid_but_open, open_but_paid])
async def test_a_repaired_invoice_has_the_status_that_its_payments_say(
    store: Store, plant: Plant
) -> None:
    await plant(store)

    await repair_findings(store.db, SYSTEM, (await store.examine()).findings)

    paid = await store.mongo["invoices"].find_one({"_id": store.paid_id})
    part_paid = await store.mongo["invoices"].find_one({"_id": store.part_paid_id})
    assert paid is not None
    assert part_paid is not None
    assert (paid["status"], paid["amountPaid"]) == ("PAID", Decimal("500.00"))
    assert paid["paidDate"] is not None
    assert (part_paid["status"], part_paid["amountPaid"]) == ("ISSUED", Decimal("400.00"))
    assert part_paid["paidDate"] is None


async def wrong_total(store: Store) -> None:
    await store.set("invoices", store.part_paid_id, totalAmount=Decimal128("501.00"))


async def invoice_gone(store: Store) -> None:
    await store.mongo["invoices"].delete_one({"_id": store.part_paid_id})


async def ledger_row_gone(store: Store) -> None:
    del store.platform.cost_payments[store.cost_payment.id]


async def _change_row(store: Store, **changes: Any) -> None:
    facts = {name: getattr(store.cost_payment, name) for name in CostPayment.__slots__}
    store.platform.add_cost_payment(CostPayment(**facts | changes))


async def ledger_row_deleted(store: Store) -> None:
    await _change_row(store, is_deleted=True)


async def ledger_row_smaller(store: Store) -> None:
    await _change_row(store, amount=Decimal("899.99"))


async def ledger_row_of_another_type(store: Store) -> None:
    await _change_row(store, type="ADJUSTMENT")


async def ledger_row_of_another_customer(store: Store) -> None:
    await _change_row(store, user_id=ObjectId())


async def prices_overlap(store: Store) -> None:
    price = await store.mongo["customer_pricing_config"].find_one({})
    assert price is not None
    earlier = price["effectiveFrom"] - timedelta(days=30)
    until = price["effectiveFrom"] + timedelta(days=1)
    await store.copy(
        "customer_pricing_config", price["_id"], effectiveFrom=earlier, effectiveTo=until
    )


async def number_twice(store: Store) -> None:
    await store.mongo["invoices"].drop_index("invoiceNumber_1")
    await store.copy(
        "invoices", store.generated["_id"], recurringInvoiceId=None, billingPeriod=None
    )


async def month_twice(store: Store) -> None:
    await store.mongo["invoices"].drop_index("recurringInvoiceId_1_billingPeriod_1")
    await store.mongo["accounting_counters"].update_one(
        {"_id": "invoiceNumber:20260112"}, {"$inc": {"value": 1}}
    )
    number = str(int(store.generated["invoiceNumber"]) + 1)
    await store.copy("invoices", store.generated["_id"], invoiceNumber=number)


async def mail_nobody_sends(store: Store) -> None:
    store.clock.move(hours=2)


async def edited_entry(store: Store) -> None:
    entry = await store.mongo["audit_logs"].find_one({"entityId": store.paid_id})
    assert entry is not None
    await store.set("audit_logs", entry["_id"], description="nothing happened")


LEFT_TO_A_PERSON: list[tuple[Plant, FindingKind]] = [
    (wrong_total, FindingKind.TOTAL_WRONG),
    (invoice_gone, FindingKind.ORPHAN_PAYMENT),
    (ledger_row_gone, FindingKind.LEDGER_ROW_VANISHED),
    (ledger_row_deleted, FindingKind.LEDGER_ROW_VANISHED),
    (ledger_row_smaller, FindingKind.OVERSPENT),
    (ledger_row_of_another_type, FindingKind.LEDGER_ROW_CHANGED),
    (ledger_row_of_another_customer, FindingKind.LEDGER_ROW_CHANGED),
    (prices_overlap, FindingKind.PRICES_OVERLAP),
    (number_twice, FindingKind.NUMBER_DUPLICATE),
    (month_twice, FindingKind.PERIOD_DUPLICATE),
    (mail_nobody_sends, FindingKind.OUTBOX_STUCK),
    (edited_entry, FindingKind.AUDIT_TRAIL),
]


@pytest.fixture
async def unique_again(real_mongo: MongoDatabase) -> Any:
    """The unique indexes that a test dropped are there again for the next one."""
    yield
    await real_mongo["invoices"].delete_many({})
    await real_mongo["invoices"].create_index("invoiceNumber", unique=True)
    await real_mongo["invoices"].create_index(
        [("recurringInvoiceId", 1), ("billingPeriod", 1)],
        unique=True,
        partialFilterExpression={"recurringInvoiceId": ANY_ID},
    )


@pytest.mark.usefixtures("unique_again")
@pytest.mark.parametrize(
    ("plant", "kind"), LEFT_TO_A_PERSON, ids=[plant.__name__ for plant, _ in LEFT_TO_A_PERSON]
)
async def test_what_only_a_person_can_decide_is_named_and_left(
    store: Store, plant: Plant, kind: FindingKind
) -> None:
    await plant(store)

    found = await store.examine()

    assert set(found.counts) == {kind}
    assert all(finding.repair is None for finding in found.findings)
    assert await repair_findings(store.db, SYSTEM, found.findings) == 0


async def test_a_run_that_does_not_move_is_named(store: Store) -> None:
    await store.mongo["invoice_notifications"].delete_many({})
    await store.mongo["accounting_runs"].update_many(
        {}, {"$set": {"status": "RUNNING", "progressAt": as_stored_day(date(2026, 1, 1))}}
    )

    found = await store.examine()

    assert set(found.counts) == {FindingKind.RUN_STUCK}


async def test_a_repair_looks_again_before_it_writes(store: Store) -> None:
    await wrong_amount_paid(store)
    found = await store.examine()
    await store.set("invoices", store.part_paid_id, amountPaid=Decimal128("400.00"))

    await repair_findings(store.db, SYSTEM, found.findings)

    invoice = await store.mongo["invoices"].find_one({"_id": store.part_paid_id})
    assert invoice is not None
    assert (invoice["amountPaid"], invoice["version"]) == (Decimal("400.00"), 3)


async def test_deleted_and_cancelled_invoices_are_no_findings(store: Store) -> None:
    customer = next(iter(store.platform.users.values()))
    draft = await a_draft(store.db, store.platform, customer)
    issued = await an_issued_invoice(store.db, store.platform, customer)
    await store.db.run(ADMIN, delete_invoice, ObjectId(draft.id))
    await store.db.run(ADMIN, cancel_invoice, ObjectId(issued.id), "typed twice")

    assert (await store.examine()).findings == []
