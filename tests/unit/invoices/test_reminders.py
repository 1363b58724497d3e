"""Queuing reminders: to whom, for which invoices, and once."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from accounting.actor import SYSTEM_USER_ID
from accounting.audit.rules import AuditAction, EntityType
from accounting.audit.service import history
from accounting.ids import ObjectId
from accounting.invoices.documents import Invoice
from accounting.invoices.reminders import queue_reminders
from accounting.invoices.service import cancel_invoice, issue_invoice, mark_overdue
from accounting.invoices.settlement import (
    record_payment,
    refund_invoice,
    remove_invoice_payment,
)
from accounting.notifications.documents import InvoiceNotification
from accounting.notifications.rules import NotificationStatus, NotificationType
from accounting.notifications.service import DELIVER_JOB
from builders import (
    ADMIN,
    NOW,
    TERMS,
    TODAY,
    a_cost_payment,
    a_customer,
    a_draft,
    an_issued_invoice,
)
from fakes import FakePlatform, JobList, SettableClock, TestDatabase

DUE = date(2026, 2, 11)  # 30 days after the day of the tests
REMINDER, OVERDUE = NotificationType.PAYMENT_REMINDER, NotificationType.OVERDUE_REMINDER


async def remind(
    db: TestDatabase, platform: FakePlatform, days_after_due: int
) -> Counter[NotificationType]:
    """The job of that day."""
    return await queue_reminders(db, platform, TERMS, DUE + timedelta(days=days_after_due))


async def reminders() -> list[InvoiceNotification]:
    kinds = {"notificationType": {"$in": [REMINDER, OVERDUE]}}
    return await InvoiceNotification.find(kinds).sort("_id").to_list()


@pytest.mark.parametrize(
    ("day", "kind", "step"), [(-3, REMINDER, "-3"), (1, OVERDUE, "+1"), (14, OVERDUE, "+14")]
)
async def test_a_reminder_is_queued_on_its_day_and_not_again(
    db: TestDatabase,
    platform: FakePlatform,
    jobs: JobList,
    day: int,
    kind: NotificationType,
    step: str,
) -> None:
    invoice = await an_issued_invoice(db, platform, a_customer())
    jobs.sent.clear()

    queued = await remind(db, platform, day)
    again = await remind(db, platform, day)

    assert (queued, again) == ({kind: 1}, {})
    [row] = await reminders()
    assert (row.invoice_id, row.notification_type, row.sent_to) == (
        invoice.id,
        kind,
        "ada@example.com",
    )
    assert row.status is NotificationStatus.PENDING
    assert row.dedupe_key == f"{kind}:{invoice.id}:{step}"
    assert [(job.name, job.args) for job in jobs.sent] == [(DELIVER_JOB, (str(row.id),))]


async def test_a_queued_reminder_leaves_an_entry_that_names_its_step(
    db: TestDatabase, platform: FakePlatform
) -> None:
    invoice = await an_issued_invoice(db, platform, a_customer())

    await remind(db, platform, 7)

    [row] = await reminders()
    entry = (await history(EntityType.INVOICE, ObjectId(invoice.id)))[-1]
    assert (entry.action, entry.user_id) == (AuditAction.INVOICE_SENT_TO_CUSTOMER, SYSTEM_USER_ID)
    assert entry.description == (
        f"Invoice {invoice.invoice_number}: OVERDUE_REMINDER +7 queued to ada@example.com"
    )
    assert entry.changes is not None
    assert entry.changes["after"] == {
        "notificationId": str(row.id),
        "notificationType": "OVERDUE_REMINDER",
        "step": "+7",
        "sentTo": "ada@example.com",
    }


async def test_a_reminder_changes_no_version_of_its_invoice(
    db: TestDatabase, platform: FakePlatform
) -> None:
    invoice = await an_issued_invoice(db, platform, a_customer())

    await remind(db, platform, 1)

    stored = await Invoice.get(invoice.id)
    assert stored is not None
    assert stored.version == invoice.version


async def test_an_invoice_that_the_overdue_job_has_marked_is_reminded_too(
    db: TestDatabase, platform: FakePlatform
) -> None:
    await an_issued_invoice(db, platform, a_customer())
    await mark_overdue(db, DUE + timedelta(days=1))

    assert await remind(db, platform, 1) == {OVERDUE: 1}


@pytest.mark.parametrize("day", [-4, 44])
async def test_before_and_after_the_sequence_nobody_is_reminded(
    db: TestDatabase, platform: FakePlatform, day: int
) -> None:
    await an_issued_invoice(db, platform, a_customer())

    assert await remind(db, platform, day) == {}


async def test_a_missed_week_is_made_up_for_with_the_latest_step_alone(
    db: TestDatabase, platform: FakePlatform
) -> None:
    await an_issued_invoice(db, platform, a_customer())

    # Neither the day before it is due nor the first after it had a run.
    late = await remind(db, platform, 9)
    next_day = await remind(db, platform, 10)

    assert (late, next_day) == ({OVERDUE: 1}, {})
    assert [row.dedupe_key.split(":")[2] for row in await reminders()] == ["+7"]


async def test_a_part_payment_does_not_end_the_sequence(
    db: TestDatabase, platform: FakePlatform
) -> None:
    customer = a_customer()
    invoice = await an_issued_invoice(db, platform, customer)
    row = platform.add_cost_payment(a_cost_payment(customer, "499.99"))
    await db.run(ADMIN, record_payment, platform, ObjectId(invoice.id), row.id)

    assert await remind(db, platform, 1) == {OVERDUE: 1}


async def test_drafts_and_ended_invoices_are_not_reminded(
    db: TestDatabase, platform: FakePlatform
) -> None:
    customer = a_customer()
    await a_draft(db, platform, customer)
    cancelled = await an_issued_invoice(db, platform, customer)
    await db.run(ADMIN, cancel_invoice, ObjectId(cancelled.id), "why")
    paid, refunded = [await a_paid_invoice(db, platform) for _ in range(2)]
    await db.run(ADMIN, refund_invoice, ObjectId(refunded.id), "why")

    assert paid.due_date == DUE
    for day in (-3, 1, 7, 14):
        assert await remind(db, platform, day) == {}
    assert await reminders() == []


async def test_an_invoice_that_is_open_again_goes_on_with_the_next_step(
    db: TestDatabase, platform: FakePlatform
) -> None:
    customer = a_customer()
    invoice = await an_issued_invoice(db, platform, customer)
    await remind(db, platform, 1)
    row = platform.add_cost_payment(a_cost_payment(customer, "500.00"))
    _, payment = await db.run(ADMIN, record_payment, platform, ObjectId(invoice.id), row.id)
    assert await remind(db, platform, 7) == {}
    await db.run(ADMIN, remove_invoice_payment, ObjectId(payment.id), TERMS.zone)

    assert await remind(db, platform, 8) == {OVERDUE: 1}
    assert [row.dedupe_key.split(":")[2] for row in await reminders()] == ["+1", "+7"]


async def test_it_goes_to_the_address_that_the_customer_has_now(
    db: TestDatabase, platform: FakePlatform
) -> None:
    customer = a_customer(email="old@example.com")
    await an_issued_invoice(db, platform, customer)
    platform.add_user(replace(customer, email="new@example.com"))

    await remind(db, platform, 1)

    assert [row.sent_to for row in await reminders()] == ["new@example.com"]


@pytest.mark.parametrize("is_gone", [True, False])
async def test_of_a_deleted_customer_it_goes_to_the_address_of_the_invoice(
    db: TestDatabase, platform: FakePlatform, is_gone: bool
) -> None:
    customer = a_customer(email="frozen@example.com")
    await an_issued_invoice(db, platform, customer)
    if is_gone:
        del platform.users[customer.id]
    else:
        platform.add_user(replace(customer, email="later@example.com", is_deleted=True))

    await remind(db, platform, 1)

    assert [row.sent_to for row in await reminders()] == ["frozen@example.com"]


async def test_without_an_address_nobody_is_reminded_and_the_others_are(
    db: TestDatabase, platform: FakePlatform
) -> None:
    silent = a_customer(email="")
    await an_issued_invoice(db, platform, silent)
    await an_issued_invoice(db, platform, a_customer(email="bo@example.com"))

    assert await remind(db, platform, 1) == {OVERDUE: 1}
    assert [row.sent_to for row in await reminders()] == ["bo@example.com"]


async def test_copies_go_where_the_operator_wants_them(
    db: TestDatabase, platform: FakePlatform
) -> None:
    await an_issued_invoice(db, platform, a_customer())
    terms = replace(TERMS, mail_cc=("books@example.com",))

    await queue_reminders(db, platform, terms, DUE + timedelta(days=1))

    assert [row.cc_emails for row in await reminders()] == [["books@example.com"]]


async def test_an_invoice_issued_after_a_step_is_not_reminded_of_that_step(
    db: TestDatabase, platform: FakePlatform
) -> None:
    await an_issued_invoice(db, platform, a_customer(), due_date=TODAY - timedelta(days=3))

    assert await queue_reminders(db, platform, TERMS, TODAY) == {}
    assert await queue_reminders(db, platform, TERMS, TODAY + timedelta(days=4)) == {OVERDUE: 1}


async def test_the_day_of_issue_is_one_of_the_business_zone(
    db: TestDatabase, platform: FakePlatform
) -> None:
    # 23:30 in New York, where it is still the 12th, the day of the step before the due date.
    draft = await a_draft(db, platform, a_customer(), due_date=date(2026, 1, 15))
    issued_at = datetime(2026, 1, 13, 4, 30, tzinfo=UTC)
    await db.run(ADMIN, issue_invoice, platform, TERMS, ObjectId(draft.id), issued_date=issued_at)
    terms = replace(TERMS, zone=ZoneInfo("America/New_York"))

    in_utc = await queue_reminders(db, platform, TERMS, date(2026, 1, 13))
    in_new_york = await queue_reminders(db, platform, terms, date(2026, 1, 13))

    assert (in_utc, in_new_york) == ({}, {REMINDER: 1})


async def test_stamps_are_those_of_the_clock_and_not_of_the_day_looked_at(
    db: TestDatabase, platform: FakePlatform, clock: SettableClock
) -> None:
    await an_issued_invoice(db, platform, a_customer())
    clock.move(days=1)

    await remind(db, platform, 1)

    assert [row.created_at for row in await reminders()] == [NOW + timedelta(days=1)]


async def a_paid_invoice(db: TestDatabase, platform: FakePlatform) -> Invoice:
    customer = a_customer()
    invoice = await an_issued_invoice(db, platform, customer)
    row = platform.add_cost_payment(a_cost_payment(customer, "500.00"))
    paid, _ = await db.run(ADMIN, record_payment, platform, ObjectId(invoice.id), row.id)
    return paid
