"""What the worker writes for a row of the outbox, and when it withholds it."""

from __future__ import annotations

import pytest

from accounting.audit.rules import AuditAction, EntityType
from accounting.audit.service import history
from accounting.bootstrap import Services
from accounting.ids import ObjectId, new_id
from accounting.invoices.documents import Invoice
from accounting.invoices.mail import PAYMENT_GONE
from accounting.invoices.service import cancel_invoice
from accounting.invoices.settlement import (
    record_payment,
    refund_invoice,
    remove_invoice_payment,
)
from accounting.notifications.rules import (
    REMINDERS,
    NotificationStatus,
    NotificationType,
    dedupe_key,
)
from accounting.notifications.service import NewNotification, queue_notifications
from accounting.worker.delivery import deliver_due
from accounting.worker.mails import CONTENTS
from api_app import settings
from builders import ADMIN, TERMS, a_cost_payment
from fakes import FakeMailer, FakePlatform, SettableClock, TestDatabase
from mails import words_of
from outbox import an_announced_invoice, last_row, pay, remind


@pytest.fixture
def mailer() -> FakeMailer:
    return FakeMailer()


@pytest.fixture
def services(db: TestDatabase, platform: FakePlatform) -> Services:
    return Services(db, platform, TERMS, settings())


async def queue(
    services: Services, kind: NotificationType, invoice: Invoice, step: str = ""
) -> None:
    key = dedupe_key(kind, ObjectId(invoice.id), step)
    mail = NewNotification(kind, ObjectId(invoice.id), "ada@example.com", [], key)
    await services.db.run(ADMIN, queue_notifications, [mail])


def test_every_kind_but_a_view_is_written() -> None:
    assert set(NotificationType) - CONTENTS.keys() == {NotificationType.INVOICE_VIEWED}


@pytest.mark.parametrize(
    ("day", "subject", "says"),
    [
        (-3, "Reminder: invoice {}, USD 500.00 due by 11 February 2026", "friendly reminder"),
        (1, "Invoice {} is 1 day overdue: USD 500.00", "overlooked"),
        (7, "Payment needed: invoice {} is 7 days overdue", "without further delay"),
        (14, "Last reminder: invoice {} is 14 days overdue", "our last reminder"),
    ],
)
async def test_each_step_is_delivered_in_its_own_words(
    services: Services,
    platform: FakePlatform,
    mailer: FakeMailer,
    clock: SettableClock,
    day: int,
    subject: str,
    says: str,
) -> None:
    invoice = await an_announced_invoice(services, platform)
    clock.move(days=30 + day)
    await remind(services, invoice, day)

    await deliver_due(services, mailer)

    [mail] = mailer.sent
    assert mail["Subject"] == subject.format(invoice.invoice_number)
    assert all(says in words for words in words_of(mail))
    assert (await last_row(invoice)).status is NotificationStatus.SENT


async def test_a_reminder_that_goes_out_later_counts_the_days_anew(
    services: Services, platform: FakePlatform, mailer: FakeMailer, clock: SettableClock
) -> None:
    invoice = await an_announced_invoice(services, platform)
    clock.move(days=31)
    await remind(services, invoice, 1)
    clock.move(days=2)

    await deliver_due(services, mailer)

    [mail] = mailer.sent
    assert "is 3 days overdue" in mail["Subject"]


async def test_a_reminder_queued_for_a_day_to_come_speaks_as_of_that_day(
    services: Services, platform: FakePlatform, mailer: FakeMailer
) -> None:
    invoice = await an_announced_invoice(services, platform)
    await remind(services, invoice, 7)  # the clock still shows the day of issue

    await deliver_due(services, mailer)

    [mail] = mailer.sent
    assert "is 7 days overdue" in mail["Subject"]


async def test_a_reminder_about_a_part_paid_invoice_asks_for_the_rest(
    services: Services, platform: FakePlatform, mailer: FakeMailer, clock: SettableClock
) -> None:
    invoice = await an_announced_invoice(services, platform)
    clock.move(days=31)
    await remind(services, invoice, 1)
    row = platform.add_cost_payment(a_cost_payment(platform.users[invoice.user_id], "400.10"))
    await services.db.run(ADMIN, record_payment, platform, ObjectId(invoice.id), row.id)

    await deliver_due(services, mailer)

    reminder, _ = mailer.sent
    assert reminder["Subject"].endswith("USD 99.90")


@pytest.mark.parametrize(
    ("ending", "reason"),
    [
        ("pay", "the invoice was paid before"),
        ("cancel", "the invoice was cancelled before"),
        ("refund", "the invoice was refunded before"),
    ],
)
@pytest.mark.parametrize("day", [-3, 7])
async def test_a_reminder_of_an_invoice_that_has_ended_is_withheld(
    services: Services,
    platform: FakePlatform,
    mailer: FakeMailer,
    clock: SettableClock,
    day: int,
    ending: str,
    reason: str,
) -> None:
    invoice = await an_announced_invoice(services, platform)
    clock.move(days=30 + day)
    await remind(services, invoice, day)
    if ending == "cancel":
        await services.db.run(ADMIN, cancel_invoice, ObjectId(invoice.id), "why")
    else:
        await pay(services, platform, invoice)
    if ending == "refund":
        await services.db.run(ADMIN, refund_invoice, ObjectId(invoice.id), "why")

    await deliver_due(services, mailer)
    clock.move(days=1)
    again = await deliver_due(services, mailer)

    assert again == {}
    assert not [mail for mail in mailer.sent if "eminder" in mail["Subject"]]
    row = await last_row(invoice, REMINDERS)
    assert (row.status, row.failure_reason) == (NotificationStatus.FAILED, reason)
    assert (row.sent_at, row.next_retry_at, row.lease_until) == (None, None, None)
    entries = await history(EntityType.INVOICE, ObjectId(invoice.id))
    told = next(entry for entry in entries if entry.action is AuditAction.EMAIL_FAILED)
    assert told.description == f"E-mail {row.notification_type} not sent: {reason}"


async def test_a_payment_is_confirmed_with_its_own_amount(
    services: Services, platform: FakePlatform, mailer: FakeMailer
) -> None:
    invoice = await an_announced_invoice(services, platform)
    customer = platform.users[invoice.user_id]
    for amount in ("100.00", "150.00"):
        row = platform.add_cost_payment(a_cost_payment(customer, amount))
        await services.db.run(ADMIN, record_payment, platform, ObjectId(invoice.id), row.id)

    await deliver_due(services, mailer)

    first, second = mailer.sent
    assert "USD 100.00" in first["Subject"]
    assert "USD 150.00" in second["Subject"]
    for mail in (first, second):
        assert all("USD 250.00" in words for words in words_of(mail))  # paid, and left to pay


async def test_a_payment_that_was_removed_is_not_confirmed(
    services: Services, platform: FakePlatform, mailer: FakeMailer
) -> None:
    invoice = await an_announced_invoice(services, platform)
    payment = await pay(services, platform, invoice)
    await services.db.run(ADMIN, remove_invoice_payment, ObjectId(payment.id), TERMS.zone)

    await deliver_due(services, mailer)

    assert mailer.sent == []
    assert (await last_row(invoice)).failure_reason == "the payment was removed or refunded before"


async def test_a_refunded_payment_is_not_confirmed(
    services: Services, platform: FakePlatform, mailer: FakeMailer
) -> None:
    invoice = await an_announced_invoice(services, platform)
    await pay(services, platform, invoice)
    await services.db.run(ADMIN, refund_invoice, ObjectId(invoice.id), "why")

    assert await deliver_due(services, mailer) == {NotificationStatus.FAILED: 1}


async def test_a_cancellation_is_told_with_its_reason(
    services: Services, platform: FakePlatform, mailer: FakeMailer
) -> None:
    invoice = await an_announced_invoice(services, platform)
    await services.db.run(ADMIN, cancel_invoice, ObjectId(invoice.id), "billed twice")

    await deliver_due(services, mailer)

    [mail] = mailer.sent
    assert mail["Subject"] == f"Invoice {invoice.invoice_number} is cancelled: nothing to pay"
    assert all("Reason: billed twice" in words for words in words_of(mail))


@pytest.mark.parametrize(
    ("kind", "step", "reason"),
    [
        (NotificationType.INVOICE_CANCELLED, "", "the invoice is not cancelled"),
        (NotificationType.OVERDUE_REMINDER, str(new_id()), "the invoice is not overdue"),
        (NotificationType.PAYMENT_RECEIVED, str(new_id()), PAYMENT_GONE),
        (NotificationType.INVOICE_VIEWED, "", "no e-mail tells of INVOICE_VIEWED"),
    ],
    ids=["not cancelled", "not overdue", "payment gone", "no e-mail"],
)
async def test_a_mail_that_would_not_be_true_is_withheld(
    services: Services,
    platform: FakePlatform,
    mailer: FakeMailer,
    kind: NotificationType,
    step: str,
    reason: str,
) -> None:
    invoice = await an_announced_invoice(services, platform)
    await queue(services, kind, invoice, step)

    assert await deliver_due(services, mailer) == {NotificationStatus.FAILED: 1}
    assert (await last_row(invoice)).failure_reason == reason
    assert mailer.sent == []


async def test_a_reminder_that_an_admin_asks_for_speaks_as_its_days_call_for(
    services: Services, platform: FakePlatform, mailer: FakeMailer, clock: SettableClock
) -> None:
    invoice = await an_announced_invoice(services, platform)
    clock.move(days=30 + 8)
    await queue(services, NotificationType.OVERDUE_REMINDER, invoice, str(new_id()))

    await deliver_due(services, mailer)

    [mail] = mailer.sent
    assert mail["Subject"].endswith("is 8 days overdue")
    assert all("without further delay" in words for words in words_of(mail))


async def test_a_second_copy_of_a_mail_is_known_by_its_message_id(
    services: Services, platform: FakePlatform, mailer: FakeMailer
) -> None:
    invoice = await an_announced_invoice(services, platform)
    await remind(services, invoice, 1)

    await deliver_due(services, mailer)

    row = await last_row(invoice)
    assert mailer.sent[0]["Message-ID"] == f"<{row.id}@localhost>" == row.message_id


async def test_a_reminder_to_come_that_is_late_itself_is_withheld(
    services: Services, platform: FakePlatform, mailer: FakeMailer, clock: SettableClock
) -> None:
    invoice = await an_announced_invoice(services, platform)
    clock.move(days=27)
    await remind(services, invoice, -3)
    clock.move(days=4)  # the mail server was away meanwhile

    await deliver_due(services, mailer)

    assert mailer.sent == []
    assert (await last_row(invoice)).failure_reason == "its due date has passed"
