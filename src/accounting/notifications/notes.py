"""Rows beside the e-mails that are never sent, so that lists tell the whole story."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from accounting.db.database import Transaction
from accounting.ids import new_id
from accounting.notifications.documents import InvoiceNotification
from accounting.notifications.rules import NotificationStatus
from accounting.notifications.service import VIEW_TOKEN_BYTES, NewNotification

UNSUBSCRIBED_REASON = "the customer wants no reminders"


async def note_unsubscribed(
    tx: Transaction, mails: Sequence[NewNotification]
) -> list[InvoiceNotification]:
    """Write down e-mails that are not sent, since their reader has unsubscribed.

    Raises a duplicate key when one of them was queued or noted before.
    """
    rows = [_row(tx, mail, NotificationStatus.UNSUBSCRIBED) for mail in mails]
    noted = [row.model_copy(update={"failure_reason": UNSUBSCRIBED_REASON}) for row in rows]
    await InvoiceNotification.add_many(tx, noted)
    return noted


async def note_view(tx: Transaction, view: NewNotification) -> InvoiceNotification:
    """Write down that a page was opened; SENT stands for nothing more to be done.

    Raises a duplicate key when it was noted before.
    """
    seen = {"is_read": True, "opened_at": tx.now, "sent_at": tx.now}
    note: InvoiceNotification = _row(tx, view, NotificationStatus.SENT).model_copy(update=seen)
    await note.add(tx)
    return note


def _row(tx: Transaction, new: NewNotification, status: NotificationStatus) -> InvoiceNotification:
    return InvoiceNotification(
        id=new_id(),
        invoice_id=new.invoice_id,
        notification_type=new.notification_type,
        sent_to=new.to,
        cc_emails=list(new.cc),
        dedupe_key=new.dedupe_key,
        status=status,
        view_token=secrets.token_urlsafe(VIEW_TOKEN_BYTES),  # unique, and known to nobody
        created_at=tx.now,
    )
