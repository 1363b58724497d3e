"""Books with a past: invoices closed years ago, and what may still need them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from accounting.archiving.documents import Archive
from accounting.archiving.planning import INVOICES_MAX, ArchivePlan, plan_archive
from accounting.archiving.rules import Age, Cutoff, cutoff_day, parse_age
from accounting.archiving.service import archive_invoices, resume_archive
from accounting.archiving.turns import Holder
from accounting.bootstrap import bind_documents
from accounting.clock import business_day
from accounting.db.client import MongoDatabase, open_client, open_database
from accounting.db.database import Database
from accounting.db.files import store_file
from accounting.ids import ObjectId
from accounting.invoices.documents import Invoice
from accounting.invoices.papers import InvoicePdf
from accounting.invoices.rules import InvoiceId
from accounting.invoices.service import cancel_invoice
from accounting.invoices.settlement import record_payment, refund_invoice
from accounting.platform.rules import CostPayment, PlatformUser
from builders import ADMIN, NOW, TERMS, a_cost_payment, a_customer, a_template, an_issued_invoice
from fakes import FakePlatform, SettableClock, TestDatabase
from generating import a_miner_owner, generate_on, generated_invoices, services_of

AGE = parse_age("3y")
CUTOFF = date(2023, 1, 12)
KILLED_LEASE_SECONDS = 1.0
WITH_INVOICES = (
    "invoices",
    "invoice_payments",
    "invoice_notifications",
    "invoice_pdfs.files",
    "invoice_pdfs.chunks",
)


@dataclass(frozen=True)
class OldBooks:
    """Who was billed, and which invoices an archive of three years takes and leaves, by name."""

    ada: PlatformUser
    wallet: CostPayment
    old: dict[str, Invoice]
    staying: dict[str, Invoice]


async def write_old_books(
    db: TestDatabase, platform: FakePlatform, clock: SettableClock
) -> OldBooks:
    """Ada's wallet payment of 1,000.00 pays old and new invoices; 150.00 of it are left."""
    ada = platform.add_user(a_customer())
    wallet = platform.add_cost_payment(a_cost_payment(ada, "1000.00"))
    other = platform.add_cost_payment(a_cost_payment(ada, "560.00"))
    clock.now = datetime(2021, 3, 1, 9, tzinfo=UTC)
    old = {
        "paid": await an_issued_invoice(db, platform, ada),
        "paid by two": await an_issued_invoice(db, platform, ada, total_miners=1),
        "cancelled": await an_issued_invoice(db, platform, ada),
        "refunded": await an_issued_invoice(db, platform, ada, total_miners=2),
    }
    staying = {
        "open": await an_issued_invoice(db, platform, ada),
        "paid late": await an_issued_invoice(db, platform, ada, total_miners=1),
    }
    await store_pdf(old["paid"])
    clock.move(days=10)
    await pay(db, platform, old["paid"], wallet)
    await pay(db, platform, old["paid by two"], wallet, "40.00")
    await pay(db, platform, old["paid by two"], other)
    await pay(db, platform, old["refunded"], other)
    await db.run(ADMIN, cancel_invoice, InvoiceId(old["cancelled"].id), "typed twice")
    await db.run(ADMIN, refund_invoice, InvoiceId(old["refunded"].id), "hall closed")
    generated = await _bill_three_months(db, platform, clock)
    old |= {"first month": generated[0], "second month": generated[1]}
    staying["last month"] = generated[2]
    clock.now = datetime(2025, 6, 1, 9, tzinfo=UTC)
    staying["new"] = await an_issued_invoice(db, platform, ada, total_miners=3)
    await pay(db, platform, staying["new"], wallet, "210.00")
    await pay(db, platform, staying["paid late"], wallet)
    clock.now = NOW
    await send_all_mails(db.mongo)
    return OldBooks(ada, wallet, old, staying)


async def _bill_three_months(
    db: TestDatabase, platform: FakePlatform, clock: SettableClock
) -> list[Invoice]:
    ben = a_miner_owner(platform, name="Ben Ortiz", email="ben@example.com")
    payment = platform.add_cost_payment(a_cost_payment(ben, "900.00"))
    start = {"start_date": date(2021, 4, 1), "end_date": date(2021, 6, 30)}
    await a_template(db, platform, ben, **start, unit_price=Decimal("100.00"), auto_issue=True)
    for month in (4, 5, 6):
        clock.now = datetime(2021, month, 5, 9, tzinfo=UTC)
        await generate_on(services_of(db, platform), clock.now.date())
    generated = await generated_invoices()
    for invoice in generated:
        await pay(db, platform, invoice, payment)
    return generated


async def pay(
    db: Database,
    platform: Any,
    invoice: Invoice,
    row: CostPayment,
    amount: str | None = None,
    **facts: Any,
) -> None:
    asked = Decimal(amount) if amount else None
    invoice_id = InvoiceId(invoice.id)
    await db.run(ADMIN, record_payment, platform, invoice_id, row.id, amount=asked, **facts)


async def store_pdf(invoice: Invoice) -> None:
    name = f"invoice-{invoice.invoice_number}.pdf"
    facts = {"invoiceId": ObjectId(invoice.id), "renderer": "a test"}
    assert await store_file(InvoicePdf, name, b"%PDF of " + name.encode() * 1_000, facts)


async def send_all_mails(mongo: MongoDatabase) -> None:
    """As the workers would have done."""
    await mongo["invoice_notifications"].update_many({}, {"$set": {"status": "SENT"}})


async def plan_of(db: Database, age: Age = AGE, *, most: int = INVOICES_MAX) -> ArchivePlan:
    today = business_day(db.clock(), TERMS.zone)
    cutoff = Cutoff.of(cutoff_day(age, today), today, TERMS.zone)
    return await plan_archive(cutoff, today, TERMS.zone, most=most)


async def write_many_old_invoices(
    db: TestDatabase, platform: FakePlatform, clock: SettableClock, count: int
) -> list[CostPayment]:
    """So many paid invoices of 2021, each wallet payment split over several; and new ones."""
    clock.now = datetime(2021, 3, 1, 9, tzinfo=UTC)
    customers = [platform.add_user(a_customer(name=f"Customer {at}")) for at in range(5)]
    rows = []
    for customer in customers:
        invoices = [
            await an_issued_invoice(db, platform, customer, total_miners=1)
            for _ in range(count // len(customers))
        ]
        for at, invoice in enumerate(invoices):
            if at % 5 == 0:
                row = platform.add_cost_payment(a_cost_payment(customer, "600.00"))
                rows.append(row)
            await pay(db, platform, invoice, row)
            if at % 7 == 0:
                await store_pdf(invoice)
    clock.now = datetime(2025, 6, 1, 9, tzinfo=UTC)
    for row in rows:
        new = await an_issued_invoice(db, platform, platform.users[row.user_id], total_miners=1)
        await pay(db, platform, new, row, "50.00")
    clock.now = NOW
    await send_all_mails(db.mongo)
    return rows


def archive_work(uri: str, database: str, folder: Path) -> None:
    """`accounting archive` in a process of its own, in small steps."""
    asyncio.run(_archive(uri, database, folder))


async def _archive(uri: str, database: str, folder: Path) -> None:
    client = open_client(uri)
    mongo = open_database(client, database)
    await bind_documents(mongo)
    db, zone, holder = Database(mongo), TERMS.zone, Holder(lease_seconds=KILLED_LEASE_SECONDS)
    await resume_archive(db, zone, holder=holder, batch_invoices=4)
    plan = await plan_of(db)
    if plan.invoice_ids:
        await archive_invoices(db, zone, plan, AGE, folder, holder=holder, batch_invoices=4)
    client.close()


async def documents_of(mongo: MongoDatabase) -> dict[str, dict[Any, Any]]:
    """Everything that can go with an invoice, by collection and id."""
    return {
        name: {row["_id"]: row for row in await mongo[name].find().to_list(None)}
        for name in WITH_INVOICES
    }


async def archive(db: TestDatabase, folder: Path, holder: Holder | None = None) -> Archive:
    plan = await plan_of(db)
    return await archive_invoices(db, TERMS.zone, plan, AGE, folder, holder=holder or Holder())


def ids_of(invoices: dict[str, Invoice]) -> set[ObjectId]:
    return {ObjectId(invoice.id) for invoice in invoices.values()}
