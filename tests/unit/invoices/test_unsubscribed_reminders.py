"""Reminders to customers who want none."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from accounting.audit.rules import EntityType
from accounting.audit.service import history
from accounting.db.database import Transaction
from accounting.ids import ObjectId
from accounting.invoices.documents import Invoice
from accounting.invoices.reminders import queue_reminders
from accounting.notifications.documents import InvoiceNotification
from accounting.notifications.rules import NotificationStatus, NotificationType
from accounting.notifications.service import DELIVER_JOB
from accounting.optouts.service import UsedLink, opt_in, opt_out
from builders import ADMIN, TERMS, a_customer, an_issued_invoice
from fakes import FakePlatform, JobList, TestDatabase

DUE = date(2026, 2, 11)
OVERDUE = NotificationType.OVERDUE_REMINDER


def link_of(invoice: Invoice) -> UsedLink:
    return UsedLink(
        notification_id=ObjectId(),
        sent_to="ada@example.com",
        customer_id=invoice.user_id,
        invoice_id=ObjectId(invoice.id),
        invoice_number=invoice.invoice_number,
    )


async def remind(db: TestDatabase, platform: FakePlatform, days_after_due: int) -> int:
    queued = await queue_reminders(db, platform, TERMS, DUE + timedelta(days=days_after_due))
    return queued.total()


async def reminders_of(invoice: Invoice) -> list[InvoiceNotification]:
    wanted = {"invoiceId": invoice.id, "notificationType": OVERDUE}
    return await InvoiceNotification.find(wanted).sort("_id").to_list()


async def test_a_reminder_to_who_wants_none_is_noted_and_not_sent(
    db: TestDatabase, platform: FakePlatform, jobs: JobList
) -> None:
    unwanted = await an_issued_invoice(db, platform, a_customer())
    wanted = await an_issued_invoice(db, platform, a_customer())
    await db.run(ADMIN, opt_out, link_of(unwanted))
    jobs.sent.clear()

    queued = await remind(db, platform, 1)
    again = await remind(db, platform, 1)

    assert (queued, again) == (1, 0)
    [noted], [sent] = await reminders_of(unwanted), await reminders_of(wanted)
    assert (noted.status, sent.status) == (
        NotificationStatus.UNSUBSCRIBED,
        NotificationStatus.PENDING,
    )
    assert noted.failure_reason == "the customer wants no reminders"
    assert noted.dedupe_key == f"OVERDUE_REMINDER:{unwanted.id}:+1"
    assert [(job.name, job.args) for job in jobs.sent] == [(DELIVER_JOB, (str(sent.id),))]


async def test_the_trail_says_that_it_was_not_sent(
    db: TestDatabase, platform: FakePlatform
) -> None:
    invoice = await an_issued_invoice(db, platform, a_customer())
    await db.run(ADMIN, opt_out, link_of(invoice))

    await remind(db, platform, 7)

    entry = (await history(EntityType.INVOICE, ObjectId(invoice.id)))[-1]
    assert entry.description == ("Invoice 2026011201: OVERDUE_REMINDER +7 not sent, unsubscribed")


async def test_the_steps_after_a_change_of_mind_are_sent(
    db: TestDatabase, platform: FakePlatform
) -> None:
    invoice = await an_issued_invoice(db, platform, a_customer())
    await db.run(ADMIN, opt_out, link_of(invoice))
    await remind(db, platform, 1)

    await db.run(ADMIN, opt_in, link_of(invoice))
    await remind(db, platform, 7)

    statuses = [row.status for row in await reminders_of(invoice)]
    assert statuses == [NotificationStatus.UNSUBSCRIBED, NotificationStatus.PENDING]


async def test_the_invoice_itself_still_goes_out(db: TestDatabase, platform: FakePlatform) -> None:
    first = await an_issued_invoice(db, platform, a_customer())
    await db.run(ADMIN, opt_out, link_of(first))

    second = await an_issued_invoice(db, platform, platform.users[first.user_id])

    [mail] = await InvoiceNotification.find({"invoiceId": second.id}).to_list()
    assert (mail.notification_type, mail.status) == (
        NotificationType.INVOICE_ISSUED,
        NotificationStatus.PENDING,
    )


async def test_an_optout_that_is_rolled_back_stops_nothing(
    real_db: TestDatabase, platform: FakePlatform
) -> None:
    invoice = await an_issued_invoice(real_db, platform, a_customer())

    async def opt_out_and_fail(tx: Transaction) -> None:
        await opt_out(tx, link_of(invoice))
        raise RuntimeError

    with pytest.raises(RuntimeError):
        await real_db.run(ADMIN, opt_out_and_fail)

    assert await remind(real_db, platform, 1) == 1
