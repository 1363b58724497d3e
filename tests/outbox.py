"""E-mails of the outbox for tests: queued with an invoice, delivered with few words."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from email.message import EmailMessage
from typing import Any

from accounting.bootstrap import Services
from accounting.ids import ObjectId
from accounting.invoices.documents import Invoice
from accounting.invoices.reminders import queue_reminders
from accounting.invoices.settlement import record_payment
from accounting.notifications.documents import InvoiceNotification
from accounting.notifications.rules import NotificationStatus, NotificationType
from accounting.notifications.sending import Compose, deliver_notification
from accounting.payments.documents import InvoicePayment
from accounting.worker.delivery import deliver_due
from builders import ADMIN, TERMS, a_cost_payment, a_customer, an_issued_invoice
from fakes import FakeMailer, FakePlatform, TestDatabase


async def compose(notification: InvoiceNotification) -> EmailMessage:
    message = EmailMessage()
    message["To"] = notification.sent_to
    message["Message-ID"] = f"<{notification.id}@example.com>"
    return message


async def a_queued_mail(db: TestDatabase, platform: FakePlatform) -> InvoiceNotification:
    """The e-mail that carries a new invoice."""
    invoice = await an_issued_invoice(db, platform, a_customer())
    [mail] = await InvoiceNotification.find({"invoiceId": invoice.id}).to_list()
    return mail


async def deliver(
    db: TestDatabase,
    mail: InvoiceNotification,
    mailer: FakeMailer,
    *,
    compose: Compose = compose,
    **more: Any,
) -> InvoiceNotification | None:
    facts = {"zone": TERMS.zone} | more
    return await deliver_notification(
        db, ObjectId(mail.id), mailer=mailer, compose=compose, **facts
    )


async def an_announced_invoice(services: Services, platform: FakePlatform) -> Invoice:
    """An issued invoice whose own mail is out of the way."""
    invoice = await an_issued_invoice(services.db, platform, a_customer())
    await deliver_due(services, FakeMailer())
    return invoice


async def remind(services: Services, invoice: Invoice, days_after_due: int) -> None:
    day = invoice.due_date + timedelta(days=days_after_due)
    queued = await queue_reminders(services.db, services.platform, services.terms, day)
    assert queued.total() == 1


async def pay(services: Services, platform: FakePlatform, invoice: Invoice) -> InvoicePayment:
    row = platform.add_cost_payment(a_cost_payment(platform.users[invoice.user_id], "500.00"))
    use_case = (record_payment, platform, ObjectId(invoice.id), row.id)
    _, payment = await services.db.run(ADMIN, *use_case)
    return payment


async def last_row(
    invoice: Invoice, kinds: Collection[NotificationType] = tuple(NotificationType)
) -> InvoiceNotification:
    """The last e-mail about it, of these kinds."""
    wanted = {"invoiceId": invoice.id, "notificationType": {"$in": list(kinds)}}
    rows = await InvoiceNotification.find(wanted).sort("-_id").to_list()
    return rows[0]


async def mails_about(invoice: Invoice) -> list[tuple[NotificationType, NotificationStatus]]:
    rows = await InvoiceNotification.find({"invoiceId": invoice.id}).sort("_id").to_list()
    return [(row.notification_type, row.status) for row in rows]
