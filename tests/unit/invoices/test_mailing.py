"""Which e-mails follow a payment and a cancellation, and which are taken back."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from accounting.audit.rules import AuditAction, EntityType
from accounting.audit.service import history
from accounting.bootstrap import Services
from accounting.ids import ObjectId, new_id
from accounting.invoices.documents import Invoice
from accounting.invoices.service import cancel_invoice, issue_invoice
from accounting.invoices.settlement import (
    allocate_payments,
    record_payment,
    remove_invoice_payment,
)
from accounting.notifications.mailer import OutcomeUnknown, TemporaryFailure
from accounting.notifications.notes import note_unsubscribed
from accounting.notifications.rules import (
    NotificationStatus,
    NotificationType,
    StatementTone,
    dedupe_key,
    statement_step,
)
from accounting.notifications.service import DELIVER_JOB, NewNotification, queue_notifications
from accounting.platform.rules import CostPayment
from accounting.worker.delivery import deliver_due, deliver_one
from api_app import settings
from builders import ADMIN, TERMS, a_cost_payment, a_customer, a_draft, an_issued_invoice
from fakes import FakeMailer, FakePlatform, JobList, TestDatabase
from outbox import an_announced_invoice, last_row, mails_about, pay

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


async def an_unannounced_invoice(services: Services, platform: FakePlatform) -> Invoice:
    draft = await a_draft(services.db, platform, a_customer())
    use_case = (issue_invoice, platform, TERMS, ObjectId(draft.id))
    return await services.db.run(ADMIN, *use_case, skip_email=True)


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


def money(platform: FakePlatform, invoice: Invoice, amount: str = "500.00") -> CostPayment:
    return platform.add_cost_payment(a_cost_payment(platform.users[invoice.user_id], amount))


# --- payments ---------------------------------------------------------------------------------


async def test_a_payment_is_confirmed_once_to_the_present_address_with_the_same_copies(
    services: Services, platform: FakePlatform, jobs: JobList
) -> None:
    services = replace(services, terms=replace(TERMS, mail_cc=("books@example.com",)))
    draft = await a_draft(services.db, platform, a_customer())
    use_case = (issue_invoice, platform, services.terms, ObjectId(draft.id))
    invoice = await services.db.run(ADMIN, *use_case)
    customer = platform.users[invoice.user_id]
    platform.add_user(replace(customer, email="new@example.com"))
    jobs.sent.clear()

    await pay(services, platform, invoice)

    row = await last_row(invoice)
    assert (row.notification_type, row.status) == (RECEIVED, PENDING)
    assert (row.sent_to, row.cc_emails) == ("new@example.com", ["books@example.com"])
    assert [(job.name, job.args) for job in jobs.sent] == [(DELIVER_JOB, (str(row.id),))]


async def test_a_payment_that_is_removed_and_applied_again_is_told_once(
    services: Services, platform: FakePlatform
) -> None:
    invoice = await an_announced_invoice(services, platform)
    row = money(platform, invoice)
    payment_id = await apply(services, platform, invoice, row)
    await deliver_due(services, FakeMailer())

    await remove(services, payment_id)
    await apply(services, platform, invoice, row, amount=Decimal("300.00"))

    assert await mails_about(invoice) == [(ISSUED, SENT), (RECEIVED, SENT)]


async def test_a_payment_whose_mail_still_waits_is_told_once_as_it_is_then(
    services: Services, platform: FakePlatform
) -> None:
    invoice = await an_announced_invoice(services, platform)
    row = money(platform, invoice)
    await remove(services, await apply(services, platform, invoice, row))
    await apply(services, platform, invoice, row, amount=Decimal("300.00"))
    mailer = FakeMailer()

    await deliver_due(services, mailer)

    [mail] = mailer.sent
    assert mail["Subject"].startswith("Payment of USD 300.00 received")


async def test_a_payment_whose_mail_was_withheld_is_told_once_it_is_applied_again(
    services: Services, platform: FakePlatform
) -> None:
    invoice = await an_announced_invoice(services, platform)
    row = money(platform, invoice)
    await remove(services, await apply(services, platform, invoice, row))
    await deliver_due(services, FakeMailer())
    assert await mails_about(invoice) == [(ISSUED, SENT), (RECEIVED, FAILED)]

    await apply(services, platform, invoice, row)
    await deliver_due(services, FakeMailer())

    assert await mails_about(invoice) == [(ISSUED, SENT), (RECEIVED, SENT)]


async def test_a_payment_whose_mail_may_have_arrived_is_not_told_again(
    services: Services, platform: FakePlatform
) -> None:
    invoice = await an_announced_invoice(services, platform)
    row = money(platform, invoice)
    payment_id = await apply(services, platform, invoice, row)
    silent = FakeMailer()
    silent.failure_after = OutcomeUnknown("Connection lost.")
    await deliver_due(services, silent)

    await remove(services, payment_id)
    await apply(services, platform, invoice, row)

    assert await mails_about(invoice) == [(ISSUED, SENT), (RECEIVED, FAILED)]


async def test_settling_many_confirms_each_payment_of_each_invoice(
    services: Services, platform: FakePlatform
) -> None:
    customer = a_customer()
    invoices = [await an_issued_invoice(services.db, platform, customer) for _ in range(2)]
    for amount in ("300.00", "400.00"):
        platform.add_cost_payment(a_cost_payment(customer, amount))

    await services.db.run(ADMIN, allocate_payments, platform, customer.id)

    first, second = invoices
    assert await mails_about(first) == [(ISSUED, PENDING), (RECEIVED, PENDING), (RECEIVED, PENDING)]
    assert await mails_about(second) == [(ISSUED, PENDING), (RECEIVED, PENDING)]


async def test_an_invoice_that_was_issued_without_an_e_mail_stays_without(
    services: Services, platform: FakePlatform
) -> None:
    paid, cancelled = [await an_unannounced_invoice(services, platform) for _ in range(2)]

    await pay(services, platform, paid)
    await cancel(services, cancelled)

    assert await mails_about(paid) == []
    assert await mails_about(cancelled) == []


# --- cancellations ----------------------------------------------------------------------------


async def test_a_cancellation_is_told_to_the_reader_of_the_invoice(
    services: Services, platform: FakePlatform
) -> None:
    invoice = await an_announced_invoice(services, platform)
    platform.add_user(replace(platform.users[invoice.user_id], email="new@example.com"))

    await cancel(services, invoice)

    assert await mails_about(invoice) == [(ISSUED, SENT), (CANCELLED, PENDING)]
    assert (await last_row(invoice)).sent_to == "ada@example.com"


async def test_a_cancelled_invoice_that_nobody_has_got_is_taken_back_in_silence(
    services: Services, platform: FakePlatform
) -> None:
    invoice = await an_issued_invoice(services.db, platform, a_customer())
    mailer = FakeMailer()

    await cancel(services, invoice)
    await deliver_due(services, mailer)

    assert await mails_about(invoice) == [(ISSUED, FAILED)]
    assert mailer.sent == []
    row = await last_row(invoice)
    assert row.failure_reason == "the invoice was cancelled before"
    entry = (await history(EntityType.INVOICE, ObjectId(invoice.id)))[-1]
    assert (entry.action, entry.user_id) == (AuditAction.EMAIL_FAILED, ADMIN.user_id)
    assert entry.description == "E-mail INVOICE_ISSUED not sent: the invoice was cancelled before"


async def test_a_retry_of_a_cancelled_invoices_mail_is_taken_back(
    services: Services, platform: FakePlatform
) -> None:
    invoice = await an_issued_invoice(services.db, platform, a_customer())
    refusing = FakeMailer()
    refusing.failure = TemporaryFailure("451 later")
    await deliver_due(services, refusing)

    await cancel(services, invoice)

    assert await mails_about(invoice) == [(ISSUED, FAILED)]


async def test_an_invoice_that_may_have_arrived_is_taken_back_in_words(
    services: Services, platform: FakePlatform
) -> None:
    invoice = await an_issued_invoice(services.db, platform, a_customer())
    silent = FakeMailer()
    silent.failure_after = OutcomeUnknown("Connection lost.")
    await deliver_due(services, silent)

    await cancel(services, invoice)

    assert await mails_about(invoice) == [(ISSUED, FAILED), (CANCELLED, PENDING)]


async def test_a_mail_that_is_on_its_way_at_the_cancellation_goes_on_and_is_taken_back_in_words(
    services: Services, platform: FakePlatform
) -> None:
    invoice = await an_issued_invoice(services.db, platform, a_customer())
    mailer = FakeMailer()

    class SlowMailer(FakeMailer):
        async def send(self, message: Any, *, on_handover: Any) -> None:
            await on_handover()
            await cancel(services, invoice)
            await mailer.send(message)

    await deliver_one(services, SlowMailer(), ObjectId((await last_row(invoice)).id))

    assert await mails_about(invoice) == [(ISSUED, SENT), (CANCELLED, PENDING)]


async def test_a_mail_that_is_offered_at_the_cancellation_does_not_go_out(
    services: Services, platform: FakePlatform
) -> None:
    invoice = await an_issued_invoice(services.db, platform, a_customer())
    mailer = FakeMailer()

    class SlowMailer(FakeMailer):
        async def send(self, message: Any, *, on_handover: Any) -> None:
            await cancel(services, invoice)
            await mailer.send(message, on_handover=on_handover)

    await deliver_due(services, SlowMailer())

    assert mailer.sent == []
    assert await mails_about(invoice) == [(ISSUED, FAILED)]


# --- what is no e-mail about the invoice --------------------------------------------------------


async def test_who_was_only_noted_as_unsubscribed_got_no_mail_and_gets_none_then(
    services: Services, platform: FakePlatform
) -> None:
    invoice = await an_unannounced_invoice(services, platform)
    kind, invoice_id = NotificationType.PAYMENT_REMINDER, ObjectId(invoice.id)
    key = dedupe_key(kind, invoice_id, "-3")
    mail = NewNotification(kind, invoice_id, "ada@example.com", (), key)
    await services.db.run(ADMIN, note_unsubscribed, [mail])

    await pay(services, platform, invoice)

    assert await mails_about(invoice) == [(kind, NotificationStatus.UNSUBSCRIBED)]


async def test_a_statement_is_neither_taken_back_with_its_invoice_nor_tells_of_it(
    services: Services, platform: FakePlatform
) -> None:
    invoice = await an_unannounced_invoice(services, platform)
    kind, invoice_id = NotificationType.PAYMENT_REMINDER, ObjectId(invoice.id)
    key = dedupe_key(kind, invoice_id, statement_step(StatementTone.FRIENDLY, new_id()))
    mail = NewNotification(kind, invoice_id, "ada@example.com", (), key)
    await services.db.run(ADMIN, queue_notifications, [mail])

    payment_id = await apply(services, platform, invoice, money(platform, invoice))
    await remove(services, payment_id)
    await cancel(services, invoice)

    assert await mails_about(invoice) == [(kind, PENDING)]
