"""Reminders on the real server: a month of days, many runs at once, and what is in their way."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import date, timedelta
from typing import Any

import pytest

from accounting.audit.documents import AuditHead, AuditLog
from accounting.audit.rules import AuditAction, EntityType
from accounting.audit.service import history
from accounting.audit.verification import verify_trail
from accounting.ids import ObjectId, new_id
from accounting.invoices.documents import Invoice
from accounting.invoices.reminders import queue_reminders
from accounting.invoices.rules import InvoiceStatus
from accounting.invoices.service import mark_overdue
from accounting.invoices.settlement import record_payment
from accounting.notifications.documents import InvoiceNotification
from accounting.notifications.rules import NotificationType
from builders import ADMIN, NOW, TERMS, a_cost_payment, a_customer, an_issued_invoice
from fakes import FakePlatform, SettableClock, TestDatabase
from many_invoices import many_invoices

DUE = date(2026, 2, 11)
REMINDER, OVERDUE = NotificationType.PAYMENT_REMINDER, NotificationType.OVERDUE_REMINDER
RUNS_A_DAY = 5


async def run_job(db: TestDatabase, platform: FakePlatform, today: date) -> int:
    return (await queue_reminders(db, platform, TERMS, today)).total()


async def steps_of(invoice: Invoice) -> list[tuple[str, int]]:
    """The reminders of an invoice: their step, and the day after the due date they were made on."""
    kinds = {"$in": [REMINDER, OVERDUE]}
    rows = InvoiceNotification.find({"invoiceId": invoice.id, "notificationType": kinds})
    return [
        (row.dedupe_key.split(":")[2], (row.created_at.date() - invoice.due_date).days)
        for row in await rows.sort("_id").to_list()
    ]


async def copies_of(invoice: Invoice, number: int) -> list[ObjectId]:
    """So many more invoices like this one, as raw documents."""
    invoices = Invoice.get_motor_collection()
    raw = await invoices.find_one({"_id": invoice.id})
    assert raw is not None
    copies: list[dict[str, Any]] = [
        {**raw, "_id": new_id(), "invoiceNumber": f"20260113{serial:03d}"}
        for serial in range(number)
    ]
    await invoices.insert_many(copies)
    return [copy["_id"] for copy in copies]


async def get_due(row: InvoiceNotification) -> date:
    invoice = await Invoice.get(row.invoice_id)
    assert invoice is not None
    return invoice.due_date


async def test_each_step_goes_out_once_in_a_month_of_days_with_five_runs_each(
    real_db: TestDatabase, platform: FakePlatform, clock: SettableClock
) -> None:
    customer = a_customer()
    unpaid, paid_early, paid_late = [
        await an_issued_invoice(real_db, platform, customer) for _ in range(3)
    ]
    pay_on = {-1: paid_early, 8: paid_late}
    clock.now = NOW + timedelta(days=30 - 5)  # five days before the due date

    for day in range(-5, 26):
        today = DUE + timedelta(days=day)
        await mark_overdue(real_db, today)
        if invoice := pay_on.get(day):
            row = platform.add_cost_payment(a_cost_payment(customer, "500.00"))
            await real_db.run(ADMIN, record_payment, platform, ObjectId(invoice.id), row.id)
        for _ in range(RUNS_A_DAY):
            await run_job(real_db, platform, today)
        clock.move(days=1)

    assert await steps_of(unpaid) == [("-3", -3), ("+1", 1), ("+7", 7), ("+14", 14)]
    assert await steps_of(paid_early) == [("-3", -3)]
    assert await steps_of(paid_late) == [("-3", -3), ("+1", 1), ("+7", 7)]
    sent = AuditLog.find({"action": AuditAction.INVOICE_SENT_TO_CUSTOMER})
    assert await sent.count() == 4 + 1 + 3
    assert (await verify_trail(real_db.mongo)).findings == []


async def test_ten_runs_at_once_queue_each_reminder_once(
    real_db: TestDatabase, platform: FakePlatform
) -> None:
    invoice = await an_issued_invoice(real_db, platform, a_customer())
    ids = {invoice.id, *await copies_of(invoice, 249)}
    tomorrow = DUE + timedelta(days=1)

    counts = await asyncio.gather(*(run_job(real_db, platform, tomorrow) for _ in range(10)))

    assert sum(counts) == 250
    rows = await InvoiceNotification.find({"notificationType": OVERDUE}).to_list()
    assert Counter(row.invoice_id for row in rows) == dict.fromkeys(ids, 1)
    sent = await AuditLog.find({"action": AuditAction.INVOICE_SENT_TO_CUSTOMER}).to_list()
    assert Counter(entry.entity_id for entry in sent) == dict.fromkeys(ids, 1)
    assert (await verify_trail(real_db.mongo)).findings == []


async def test_many_are_queued_in_batches_and_all_of_them(
    real_db: TestDatabase, platform: FakePlatform
) -> None:
    invoice = await an_issued_invoice(real_db, platform, a_customer())
    await copies_of(invoice, 249)
    # Every third is marked overdue, so that both statuses are walked through.
    thirds = [raw["_id"] async for raw in Invoice.get_motor_collection().find({}, {"_id": 1})][::3]
    await Invoice.find({"_id": {"$in": thirds}}).set({"status": InvoiceStatus.OVERDUE})
    progress: list[int] = []

    queued = await queue_reminders(
        real_db, platform, TERMS, DUE + timedelta(days=1), on_progress=progress.append
    )

    assert (queued, progress) == ({OVERDUE: 250}, [100, 200, 250])
    assert await run_job(real_db, platform, DUE + timedelta(days=1)) == 0


async def test_no_reminder_is_queued_after_a_payment_that_comes_at_the_same_time(
    real_db: TestDatabase, platform: FakePlatform
) -> None:
    customer = a_customer()
    invoices = [await an_issued_invoice(real_db, platform, customer) for _ in range(20)]
    rows = [platform.add_cost_payment(a_cost_payment(customer, "500.00")) for _ in invoices]
    tomorrow = DUE + timedelta(days=1)

    await asyncio.gather(
        *(
            real_db.run(ADMIN, record_payment, platform, ObjectId(invoice.id), row.id)
            for invoice, row in zip(invoices, rows, strict=True)
        ),
        *(run_job(real_db, platform, tomorrow) for _ in range(3)),
    )

    for invoice in invoices:
        trail = await history(EntityType.INVOICE, ObjectId(invoice.id))
        actions = [entry.action for entry in trail]
        assert actions[-1] is AuditAction.INVOICE_PAID
        assert actions.count(AuditAction.INVOICE_SENT_TO_CUSTOMER) == len(await steps_of(invoice))


async def test_a_missed_week_brings_one_reminder_each(
    real_db: TestDatabase, platform: FakePlatform
) -> None:
    customer = a_customer()
    due_dates = [DUE + timedelta(days=day) for day in range(-12, 13)]
    for due in due_dates:
        await an_issued_invoice(real_db, platform, customer, due_date=due)

    before = await run_job(real_db, platform, DUE - timedelta(days=4))
    after_a_week = await run_job(real_db, platform, DUE + timedelta(days=4))

    rows = (
        await InvoiceNotification.find({"notificationType": {"$in": [REMINDER, OVERDUE]}})
        .sort("_id")
        .to_list()
    )
    first, late = rows[:before], rows[before:]
    assert len(late) == after_a_week
    assert len({row.invoice_id for row in first}) == before
    assert len({row.invoice_id for row in late}) == after_a_week
    steps = {(await get_due(row) - DUE).days: row.dedupe_key.split(":")[2] for row in late}
    # Days overdue on the day of the late run: 16 to -8; what was sent a week ago is left out.
    assert steps == {
        **dict.fromkeys(range(-12, -9), "+14"),
        **dict.fromkeys(range(-9, -2), "+7"),
        **dict.fromkeys(range(-2, 4), "+1"),
        **dict.fromkeys(range(4, 8), "-3"),
    }


async def test_an_invoice_that_someone_holds_keeps_no_other_waiting(
    real_db: TestDatabase, platform: FakePlatform, caplog: pytest.LogCaptureFixture
) -> None:
    real_db.patience_seconds = 0.1
    invoices = [await an_issued_invoice(real_db, platform, a_customer()) for _ in range(4)]
    held = invoices[1]
    tomorrow = DUE + timedelta(days=1)

    async with await real_db.mongo.client.start_session() as session:
        session.start_transaction()
        await AuditHead.get_motor_collection().update_one(
            {"entityId": held.id}, {"$set": {"hash": "f" * 64}}, session=session
        )
        meanwhile = await run_job(real_db, platform, tomorrow)
        await session.abort_transaction()
    afterwards = await run_job(real_db, platform, tomorrow)

    assert (meanwhile, afterwards) == (3, 1)
    assert f"invoice {held.id} is not reminded now" in caplog.text
    assert [len(await steps_of(invoice)) for invoice in invoices] == [1] * 4


async def test_the_job_reads_by_index_and_only_what_can_be_due(
    real_db: TestDatabase, platform: FakePlatform
) -> None:
    customers = [platform.add_user(a_customer()).id for _ in range(20)]
    await Invoice.get_motor_collection().insert_many(many_invoices(5_000, customers))
    await real_db.mongo.command("profile", 2)
    try:
        queued = await run_job(real_db, platform, date(2025, 12, 20))
    finally:
        await real_db.mongo.command("profile", 0)
        profile = real_db.mongo["system.profile"]
        reads = await profile.find({"op": {"$in": ["query", "getmore"]}}).to_list(None)
        await profile.drop()

    plans = {(read["ns"].split(".")[1], read["planSummary"]) for read in reads}
    assert queued == 11
    assert ("invoices", "IXSCAN { status: 1, dueDate: 1, _id: 1 }") in plans
    assert ("invoice_notifications", "IXSCAN { dedupeKey: 1 }") in plans
    assert not [plan for _, plan in plans if "COLLSCAN" in plan]
    looked_at = sum(read["docsExamined"] for read in reads if read["ns"].endswith(".invoices"))
    assert looked_at < 100
