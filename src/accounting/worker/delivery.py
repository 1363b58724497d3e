"""Delivering e-mail: joins the outbox, the invoices and the mailer, for Celery and for cron."""

from __future__ import annotations

import logging
from email.message import EmailMessage
from functools import partial
from typing import Final

from accounting.bootstrap import Services
from accounting.ids import ObjectId
from accounting.invoices.documents import get_invoice
from accounting.invoices.mail import invoice_facts
from accounting.notifications.documents import InvoiceNotification
from accounting.notifications.mailer import Mailer
from accounting.notifications.message import compose_invoice_issued
from accounting.notifications.rules import NotificationStatus
from accounting.notifications.service import deliver_notification, list_due

logger = logging.getLogger(__name__)

SWEEP_NOTIFICATIONS_MAX: Final = 1_000


async def due_notifications(services: Services) -> list[ObjectId]:
    """The e-mails to send now, at most SWEEP_NOTIFICATIONS_MAX of them."""
    return await list_due(services.db, limit=SWEEP_NOTIFICATIONS_MAX)


async def deliver_one(
    services: Services, mailer: Mailer, notification_id: ObjectId
) -> InvoiceNotification | None:
    """Send one e-mail if it is due and free; None when it is neither."""
    row = await deliver_notification(
        services.db, notification_id, mailer=mailer, compose=partial(_compose, services)
    )
    if row is not None:
        logger.info("notification %s to invoice %s: %s", row.id, row.invoice_id, row.status.value)
    return row


async def deliver_due(services: Services, mailer: Mailer) -> dict[NotificationStatus, int]:
    """Send everything that is due, one after the other; counts by outcome."""
    outcomes: dict[NotificationStatus, int] = {}
    for notification_id in await due_notifications(services):
        row = await deliver_one(services, mailer, notification_id)
        if row is not None:
            outcomes[row.status] = outcomes.get(row.status, 0) + 1
    return outcomes


async def _compose(services: Services, notification: InvoiceNotification) -> EmailMessage:
    invoice = await get_invoice(notification.invoice_id)
    return compose_invoice_issued(
        invoice_facts(invoice, services.terms.zone),
        sender=services.settings.mail_from,
        to=notification.sent_to,
        cc=notification.cc_emails,
        message_id=notification.message_id or f"<{notification.id}@accounting>",
        date=services.db.clock(),
    )
