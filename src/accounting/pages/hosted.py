"""What the link in an e-mail leads to, and the note that it was opened (spec sections 5 and 6)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from accounting.audit.rules import AuditAction, EntityType
from accounting.audit.service import record
from accounting.db.database import Transaction
from accounting.invoices.documents import Invoice
from accounting.invoices.rules import InvoiceId, InvoiceStatus
from accounting.notifications.documents import InvoiceNotification
from accounting.notifications.notes import note_view
from accounting.notifications.rules import NotificationId, NotificationType, dedupe_key
from accounting.notifications.service import NewNotification
from accounting.optouts.service import UsedLink
from accounting.payments.documents import InvoicePayment
from accounting.payments.service import list_payments

_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{32,100}")


@dataclass(frozen=True, slots=True)
class HostedInvoice:
    """An issued invoice, and the e-mail whose link led to it."""

    notification: InvoiceNotification
    invoice: Invoice

    @property
    def link(self) -> UsedLink:
        return UsedLink(
            notification_id=NotificationId(self.notification.id),
            sent_to=self.notification.sent_to,
            customer_id=self.invoice.user_id,
            invoice_id=InvoiceId(self.invoice.id),
            invoice_number=self.invoice.invoice_number,
        )


async def find_hosted_invoice(view_token: str) -> HostedInvoice | None:
    """What this token leads to; None for one that no e-mail carries, and when the invoice is gone.

    A draft is not shown to anybody outside.
    """
    if not _TOKEN.fullmatch(view_token):
        return None
    notification = await InvoiceNotification.find_one({"viewToken": view_token})
    if notification is None:
        return None
    invoice = await Invoice.find_one({"_id": notification.invoice_id})
    if invoice is None or invoice.status is InvoiceStatus.DRAFT:
        return None
    return HostedInvoice(notification, invoice)


async def list_payments_shown(invoice: Invoice) -> Sequence[InvoicePayment]:
    """The payments of an invoice in the order of their dates, refunded ones as well."""
    payments = await list_payments([InvoiceId(invoice.id)])
    return sorted(payments, key=lambda payment: payment.paid_date)


async def record_first_view(tx: Transaction, hosted: HostedInvoice) -> bool:
    """Note that the page was opened with the link of this e-mail; False when it was before.

    The e-mail is marked, an INVOICE_VIEWED row beside it shows it in lists, and an entry of the
    invoice's trail tells who it was. Of two at once one runs again and sees the other.
    """
    link = hosted.link
    unread = await InvoiceNotification.find_one(
        {"_id": link.notification_id, "openedAt": None}, session=tx.session
    )
    if unread is None:
        return False
    opened = await unread.change(tx, expect={"openedAt": None}, is_read=True, opened_at=tx.now)
    await note_view(
        tx,
        NewNotification(
            NotificationType.INVOICE_VIEWED,
            link.invoice_id,
            to=link.sent_to,
            cc=(),
            dedupe_key=dedupe_key(NotificationType.INVOICE_VIEWED, link.notification_id),
        ),
    )
    # The seed has no action for it. This is the one of its dealings with a customer.
    await record(
        tx,
        AuditAction.INVOICE_SENT_TO_CUSTOMER,
        (EntityType.INVOICE, link.invoice_id),
        f"Invoice {link.invoice_number}: first opened with the link in {opened.title} "
        f"sent to {link.sent_to}",
        before={"isRead": False, "openedAt": None},
        after={"isRead": True, "openedAt": tx.now, "notificationId": link.notification_id},
    )
    return True
