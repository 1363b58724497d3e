"""E-mails that an admin asks for, and those that he sends again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from accounting.audit.rules import AuditAction, EntityType
from accounting.audit.service import history
from accounting.bootstrap import Services
from accounting.ids import ObjectId, new_id
from accounting.invoices.documents import Invoice
from accounting.invoices.mail import EmailNotApplicable, NoEmailAddress
from accounting.invoices.mailing import retry_email, send_email
from accounting.invoices.rules import InvoiceNotFound
from accounting.invoices.service import cancel_invoice
from accounting.invoices.settlement import (
    record_payment,
    refund_invoice,
    remove_invoice_payment,
)
from accounting.notifications.documents import InvoiceNotification
from accounting.notifications.mailer import OutcomeUnknown, RecipientRefused
from accounting.notifications.rules import (
    EmailNotFailed,
    NotificationNotFound,
    NotificationStatus,
    NotificationType,
)
from accounting.platform.rules import CostPayment
from accounting.worker.delivery import deliver_due
from api_app import settings
from builders import ADMIN, TERMS, a_cost_payment, a_customer, a_draft, an_issued_invoice
from fakes import FakeMailer, FakePlatform, SettableClock, TestDatabase
from outbox import an_announced_invoice, last_row, mails_about, pay, remind

ISSUED = NotificationType.INVOICE_ISSUED
RECEIVED = NotificationType.PAYMENT_RECEIVED
CANCELLED = NotificationType.INVOICE_CANCELLED
SENT, PENDING, FAILED = (
    NotificationStatus.SENT,
    NotificationStatus.PENDING,
    NotificationStatus.FAILED,
)


@pytest.fixture
def services(db: TestDatabase, platform: FakePlatform) -> Services:
    return Services(db, platform, TERMS, settings())


async def apply(
    services: Services, platform: FakePlatform, invoice: Invoice, row: CostPayment, **more: Any
) -> ObjectId:
    use_case = (record_payment, platform, ObjectId(invoice.id), row.id)
    _, payment = await services.db.run(ADMIN, *use_case, **more)
    return ObjectId(payment.id)


async def remove(services: Services, payment_id: ObjectId) -> None:
    await services.db.run(ADMIN, remove_invoice_payment, payment_id, TERMS.zone)


async def cancel(services: Services, invoice: Invoice) -> None:
    await services.db.run(ADMIN, cancel_invoice, ObjectId(invoice.id), "billed twice")


async def ask(
    services: Services, invoice: Invoice, kind: NotificationType | None = None
) -> InvoiceNotification:
    use_case = (send_email, services.platform, services.terms, ObjectId(invoice.id), kind)
    return await services.db.run(ADMIN, *use_case)


async def retry(services: Services, row: InvoiceNotification) -> InvoiceNotification:
    use_case = (retry_email, services.platform, services.terms, ObjectId(row.id))
    return await services.db.run(ADMIN, *use_case)


def money(platform: FakePlatform, invoice: Invoice, amount: str = "500.00") -> CostPayment:
    return platform.add_cost_payment(a_cost_payment(platform.users[invoice.user_id], amount))


# --- payments ---------------------------------------------------------------------------------


async def test_an_e_mail_asked_for_twice_is_two_and_each_leaves_an_entry(
    services: Services, platform: FakePlatform
) -> None:
    invoice = await an_announced_invoice(services, platform)
    mailer = FakeMailer()

    first, second = [await ask(services, invoice) for _ in range(2)]
    await deliver_due(services, mailer)

    assert first.dedupe_key != second.dedupe_key
    assert len(mailer.sent) == 2
    entries = await history(EntityType.INVOICE, ObjectId(invoice.id))
    asked = [e for e in entries if e.action is AuditAction.INVOICE_SENT_TO_CUSTOMER]
    assert [(e.user_id, e.description) for e in asked] == [
        (
            ADMIN.user_id,
            f"Invoice {invoice.invoice_number}: INVOICE_ISSUED queued to ada@example.com",
        )
    ] * 2


async def test_without_a_type_it_is_the_one_that_fits(
    services: Services, platform: FakePlatform, clock: SettableClock
) -> None:
    open_one, paid, cancelled = [await an_announced_invoice(services, platform) for _ in range(3)]
    await pay(services, platform, paid)
    await cancel(services, cancelled)
    clock.move(days=40)

    kinds = [(await ask(services, each)).notification_type for each in (open_one, paid, cancelled)]

    assert kinds == [ISSUED, RECEIVED, CANCELLED]


async def test_the_last_payment_is_confirmed_once_more(
    services: Services, platform: FakePlatform
) -> None:
    invoice = await an_announced_invoice(services, platform)
    for amount in ("100.00", "150.00"):
        await apply(services, platform, invoice, money(platform, invoice, amount))
    await deliver_due(services, FakeMailer())
    mailer = FakeMailer()

    await ask(services, invoice, RECEIVED)
    await deliver_due(services, mailer)

    [mail] = mailer.sent
    assert mail["Subject"].startswith("Payment of USD 150.00 received")


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (RECEIVED, "no payment was applied to it"),
        (CANCELLED, "the invoice is not cancelled"),
        (NotificationType.OVERDUE_REMINDER, "the invoice is not overdue"),
        (NotificationType.INVOICE_VIEWED, "no e-mail tells of INVOICE_VIEWED"),
    ],
)
async def test_what_is_not_true_of_an_open_invoice_is_refused(
    services: Services, platform: FakePlatform, kind: NotificationType, why: str
) -> None:
    invoice = await an_announced_invoice(services, platform)

    with pytest.raises(EmailNotApplicable, match=why) as refused:
        await ask(services, invoice, kind)

    assert refused.value.facts["invoiceStatus"] == "ISSUED"
    assert refused.value.facts["allowedTypes"] == [
        "INVOICE_ISSUED",
        "PAYMENT_REMINDER",
        "OVERDUE_REMINDER",
        "PAYMENT_RECEIVED",
    ]
    assert await mails_about(invoice) == [(ISSUED, SENT)]


async def test_a_reminder_of_a_day_to_come_is_refused_after_it(
    services: Services, platform: FakePlatform, clock: SettableClock
) -> None:
    invoice = await an_announced_invoice(services, platform)
    clock.move(days=30)
    await ask(services, invoice, NotificationType.PAYMENT_REMINDER)
    clock.move(days=1)

    with pytest.raises(EmailNotApplicable, match="its due date has passed"):
        await ask(services, invoice, NotificationType.PAYMENT_REMINDER)
    await ask(services, invoice, NotificationType.OVERDUE_REMINDER)


async def test_drafts_and_refunded_invoices_have_nothing_to_send(
    services: Services, platform: FakePlatform
) -> None:
    draft = await a_draft(services.db, platform, a_customer())
    refunded = await an_announced_invoice(services, platform)
    await pay(services, platform, refunded)
    await services.db.run(ADMIN, refund_invoice, ObjectId(refunded.id), "why")

    for kind in (None, ISSUED, CANCELLED):
        with pytest.raises(EmailNotApplicable):
            await ask(services, draft, kind)
        with pytest.raises(EmailNotApplicable):
            await ask(services, refunded, kind)
    with pytest.raises(InvoiceNotFound):
        await services.db.run(ADMIN, send_email, platform, TERMS, new_id())


@pytest.mark.parametrize("address", ["", "nobody", "a@example.com\r\nBcc: all@example.com"])
async def test_where_nobody_can_be_written_to_it_is_refused_at_once(
    services: Services, platform: FakePlatform, address: str
) -> None:
    invoice = await an_announced_invoice(services, platform)
    platform.add_user(replace(platform.users[invoice.user_id], email=address))

    with pytest.raises(NoEmailAddress):
        await ask(services, invoice)

    assert await mails_about(invoice) == [(ISSUED, SENT)]


# --- tried again ------------------------------------------------------------------------------


async def a_failed_mail(
    services: Services, platform: FakePlatform, failure: Exception
) -> tuple[Invoice, InvoiceNotification]:
    invoice = await an_issued_invoice(services.db, platform, a_customer())
    mailer = FakeMailer()
    mailer.failure_after = failure
    await deliver_due(services, mailer)
    return invoice, await last_row(invoice)


FAILURES: Mapping[str, Exception] = {
    "bounced": RecipientRefused("550 no such user"),
    "unknown": OutcomeUnknown("Connection lost."),
}


@pytest.mark.parametrize("failure", FAILURES)
async def test_a_failed_mail_is_sent_again_by_hand_to_the_corrected_address(
    services: Services, platform: FakePlatform, failure: str
) -> None:
    invoice, failed = await a_failed_mail(services, platform, FAILURES[failure])
    platform.add_user(replace(platform.users[invoice.user_id], email="right@example.com"))

    queued = await retry(services, failed)
    mailer = FakeMailer()
    await deliver_due(services, mailer)

    assert (queued.id, queued.status, queued.retry_count) == (failed.id, PENDING, 0)
    assert (queued.failure_reason, queued.handed_over_at) == (None, None)
    [mail] = mailer.sent
    assert mail["To"] == "right@example.com"
    assert mail["Message-ID"] == f"<{failed.id}@localhost>"
    entries = await history(EntityType.INVOICE, ObjectId(invoice.id))
    told = entries[-2]
    assert (told.action, told.user_id) == (AuditAction.EMAIL_RETRY, ADMIN.user_id)
    assert told.description == "E-mail INVOICE_ISSUED queued again to right@example.com"


async def test_only_what_was_not_sent_can_be_tried_again(
    services: Services, platform: FakePlatform
) -> None:
    invoice = await an_issued_invoice(services.db, platform, a_customer())
    waiting = await last_row(invoice)

    with pytest.raises(EmailNotFailed, match="is PENDING"):
        await retry(services, waiting)
    await deliver_due(services, FakeMailer())
    with pytest.raises(EmailNotFailed, match="is SENT"):
        await retry(services, waiting)
    with pytest.raises(NotificationNotFound):
        await services.db.run(ADMIN, retry_email, platform, TERMS, new_id())


async def test_what_is_no_longer_true_is_not_tried_again(
    services: Services, platform: FakePlatform, clock: SettableClock
) -> None:
    invoice, issued = await a_failed_mail(services, platform, RecipientRefused("550 no"))
    clock.move(days=31)
    await remind(services, invoice, 1)
    refusing = FakeMailer()
    refusing.failure = RecipientRefused("550 no")
    await deliver_due(services, refusing)
    reminder = await last_row(invoice)
    payment_id = await apply(services, platform, invoice, money(platform, invoice))
    await deliver_due(services, refusing)
    received = await last_row(invoice)

    with pytest.raises(EmailNotApplicable, match="was paid before"):
        await retry(services, reminder)
    await remove(services, payment_id)
    with pytest.raises(EmailNotApplicable, match="removed or refunded before"):
        await retry(services, received)
    await cancel(services, invoice)
    with pytest.raises(EmailNotApplicable, match="cancelled before"):
        await retry(services, issued)
