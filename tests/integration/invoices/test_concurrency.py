"""What memory cannot show: races, rollback and the last word of unique indexes."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest

from accounting.audit.documents import AuditLog
from accounting.audit.rules import EntityType
from accounting.audit.service import history
from accounting.db.database import Database, Transaction
from accounting.db.schema import collection_spec
from accounting.errors import Conflict
from accounting.ids import ObjectId
from accounting.invoices.documents import AccountingCounter, Invoice, get_invoice
from accounting.invoices.papers import FREEZE_JOB
from accounting.invoices.rules import InvalidTransition, InvoiceStatus
from accounting.invoices.service import issue_invoice
from accounting.invoices.settlement import record_payment
from accounting.notifications.documents import InvoiceNotification
from accounting.notifications.service import DELIVER_JOB
from accounting.payments.documents import InvoicePayment, PaymentAllocation
from accounting.payments.rules import CostPaymentSpent
from builders import ADMIN, TERMS, a_cost_payment, a_customer, a_draft, an_issued_invoice
from fakes import FakePlatform, JobList, TestDatabase


class ForcedFailure(Exception):
    """Thrown by a test at the last step of a transaction."""


async def test_fifty_creations_at_once_get_fifty_consecutive_numbers(
    real_db: TestDatabase, platform: FakePlatform
) -> None:
    customer = a_customer()

    drafts = await asyncio.gather(*(a_draft(real_db, platform, customer) for _ in range(50)))

    numbers = sorted(draft.invoice_number for draft in drafts)
    assert numbers == [f"20260112{serial:02d}" for serial in range(1, 51)]
    assert await Invoice.find_all().count() == 50
    assert await AuditLog.find_all().count() == 50


async def test_the_hundredth_number_of_a_day_has_a_third_digit(
    real_db: TestDatabase, platform: FakePlatform
) -> None:
    customer = a_customer()
    await AccountingCounter.get_motor_collection().insert_one(
        {"_id": "invoiceNumber:20260112", "value": 98}
    )

    numbers = [(await a_draft(real_db, platform, customer)).invoice_number for _ in range(2)]

    assert numbers == ["2026011299", "20260112100"]


async def test_a_counter_behind_the_invoices_catches_up(
    real_db: TestDatabase, platform: FakePlatform
) -> None:
    customer = a_customer()
    for _ in range(3):
        await a_draft(real_db, platform, customer)
    await AccountingCounter.find_all().delete()

    draft = await a_draft(real_db, platform, customer)

    assert draft.invoice_number == "2026011204"


async def test_ten_payments_at_once_pay_an_invoice_once(
    real_db: TestDatabase, platform: FakePlatform
) -> None:
    customer = a_customer()
    invoice = await an_issued_invoice(real_db, platform, customer)
    rows = [platform.add_cost_payment(a_cost_payment(customer, "500.00")) for _ in range(10)]

    outcomes = await asyncio.gather(
        *(
            real_db.run(ADMIN, record_payment, platform, ObjectId(invoice.id), row.id)
            for row in rows
        ),
        return_exceptions=True,
    )

    refused = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert len(refused) == 9
    assert all(isinstance(outcome, InvalidTransition) for outcome in refused)
    stored = await get_invoice(ObjectId(invoice.id))
    assert (stored.status, stored.amount_paid) == (InvoiceStatus.PAID, Decimal("500.00"))
    assert await InvoicePayment.find_all().count() == 1
    assert await PaymentAllocation.find_all().count() == 1


async def test_one_cost_payment_offered_to_ten_invoices_pays_exactly_one(
    real_db: TestDatabase, platform: FakePlatform
) -> None:
    customer = a_customer()
    row = platform.add_cost_payment(a_cost_payment(customer, "500.00"))
    invoices = [await an_issued_invoice(real_db, platform, customer) for _ in range(10)]

    outcomes = await asyncio.gather(
        *(
            real_db.run(ADMIN, record_payment, platform, ObjectId(invoice.id), row.id)
            for invoice in invoices
        ),
        return_exceptions=True,
    )

    refused = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert len(refused) == 9
    assert all(isinstance(outcome, CostPaymentSpent) for outcome in refused)
    paid = await Invoice.find({"status": InvoiceStatus.PAID}).to_list()
    assert len(paid) == 1
    guard = await PaymentAllocation.get(row.id)
    assert guard is not None
    assert guard.allocated == Decimal("500.00")


async def test_small_payments_at_once_never_exceed_the_total(
    real_db: TestDatabase, platform: FakePlatform
) -> None:
    customer = a_customer()
    invoice = await an_issued_invoice(real_db, platform, customer)
    rows = [platform.add_cost_payment(a_cost_payment(customer, "60.00")) for _ in range(12)]

    await asyncio.gather(
        *(
            real_db.run(ADMIN, record_payment, platform, ObjectId(invoice.id), row.id)
            for row in rows
        ),
        return_exceptions=True,
    )

    stored = await get_invoice(ObjectId(invoice.id))
    links = await InvoicePayment.find_all().to_list()
    assert stored.status is InvoiceStatus.PAID
    assert stored.amount_paid == Decimal("500.00") == sum(link.amount_paid for link in links)
    assert sorted(link.amount_paid for link in links)[0] == Decimal("20.00")
    trail = await history(EntityType.INVOICE, ObjectId(invoice.id))
    assert [entry.seq for entry in trail] == list(range(1, len(trail) + 1))
    assert all(entry.hash == entry.computed_hash() for entry in trail)


async def test_ten_issues_at_once_issue_once_and_queue_one_mail(
    real_db: TestDatabase, platform: FakePlatform, jobs: JobList
) -> None:
    draft = await a_draft(real_db, platform, a_customer())

    outcomes = await asyncio.gather(
        *(
            real_db.run(ADMIN, issue_invoice, platform, TERMS, ObjectId(draft.id))
            for _ in range(10)
        ),
        return_exceptions=True,
    )

    assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 9
    assert await InvoiceNotification.find_all().count() == 1
    assert [job.name for job in jobs.sent] == [FREEZE_JOB, DELIVER_JOB]


async def test_a_failure_at_the_last_step_leaves_nothing(
    real_db: TestDatabase, platform: FakePlatform, jobs: JobList
) -> None:
    customer = a_customer()
    draft = await a_draft(real_db, platform, customer)
    before = await everything(real_db)

    async def issue_and_fail(tx: Transaction) -> None:
        await issue_invoice(tx, platform, TERMS, ObjectId(draft.id))
        assert await InvoiceNotification.find_all(session=tx.session).count() == 1
        raise ForcedFailure

    with pytest.raises(ForcedFailure):
        await real_db.run(ADMIN, issue_and_fail)

    assert await everything(real_db) == before
    assert jobs.sent == []


async def test_a_refused_creation_leaves_no_invoice_and_no_audit_entry(
    real_db: TestDatabase, platform: FakePlatform
) -> None:
    # The database's own validator fails the audit entry, which is written last.
    await real_db.mongo.command("collMod", "audit_logs", validator={"never": {"$exists": True}})
    try:
        with pytest.raises(Exception, match="failed validation"):
            await a_draft(real_db, platform, a_customer())
    finally:
        await restore_validator(real_db, AuditLog)

    assert await Invoice.find_all().count() == 0
    assert await AuditLog.find_all().count() == 0


async def everything(db: Database) -> dict[str, list[dict[str, object]]]:
    names = ("invoices", "audit_logs", "invoice_notifications", "invoice_payments")
    return {name: await db.mongo[name].find().to_list(None) for name in names}


async def restore_validator(db: Database, document: type[AuditLog]) -> None:
    spec = collection_spec(document)
    await db.mongo.command("collMod", spec.name, validator=spec.validator)
