"""The outbox: rows written with the change that they tell of; `sending` delivers them later.

The stored row is the truth and the queue a hint: a lost message costs a minute, not an e-mail.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from accounting.audit.rules import AuditAction, EntityType
from accounting.audit.service import NewEntry, record, record_all
from accounting.db.database import Transaction
from accounting.ids import ObjectId, new_id
from accounting.notifications.documents import InvoiceNotification
from accounting.notifications.rules import (
    EmailNotFailed,
    NotificationId,
    NotificationStatus,
    NotificationType,
)

DELIVER_JOB: Final = "notifications.deliver"
VIEW_TOKEN_BYTES: Final = 32
# What can be sent again as the same e-mail.
_NOT_SENT: Final = frozenset({NotificationStatus.FAILED, NotificationStatus.BOUNCED})


@dataclass(frozen=True, slots=True)
class NewNotification:
    """What an e-mail to be queued is made from; `run_id` is the batch run that wants to know."""

    notification_type: NotificationType
    invoice_id: ObjectId
    to: str
    cc: Sequence[str]
    dedupe_key: str
    run_id: ObjectId | None = None


async def queue_notifications(
    tx: Transaction, mails: Sequence[NewNotification]
) -> list[InvoiceNotification]:
    """Write PENDING e-mails in the transaction of the change; workers send them after the commit.

    Raises a duplicate key when one of them was queued before.
    """
    notifications = [
        InvoiceNotification(
            id=new_id(),
            invoice_id=mail.invoice_id,
            notification_type=mail.notification_type,
            sent_to=mail.to,
            cc_emails=list(mail.cc),
            dedupe_key=mail.dedupe_key,
            run_id=mail.run_id,
            view_token=secrets.token_urlsafe(VIEW_TOKEN_BYTES),
            created_at=tx.now,
        )
        for mail in mails
    ]
    await InvoiceNotification.add_many(tx, notifications)
    for notification in notifications:
        tx.enqueue(DELIVER_JOB, str(notification.id))
    return notifications


def check_not_sent(row: InvoiceNotification) -> None:
    """Raises EmailNotFailed unless this e-mail was not sent, and so can be sent again."""
    if row.status not in _NOT_SENT:
        raise EmailNotFailed(NotificationId(row.id), row.status)


async def requeue_notification(
    tx: Transaction, failed: InvoiceNotification, *, to: str
) -> InvoiceNotification:
    """Make an e-mail that was not sent PENDING anew, with all its retries, to this address.

    It keeps its Message-ID: should the first copy have arrived after all, the second is known as
    one. Raises EmailNotFailed; DocumentChanged when two ask at once.
    """
    check_not_sent(failed)
    queued = await failed.change(
        tx,
        expect={"status": failed.status},
        status=NotificationStatus.PENDING,
        sent_to=to,
        failure_reason=None,
        retry_count=0,
        next_retry_at=None,
        lease_until=None,
        handed_over_at=None,
    )
    await record(
        tx,
        AuditAction.EMAIL_RETRY,
        (EntityType.INVOICE, queued.invoice_id),
        f"E-mail {queued.title} queued again to {to}",
        before=failed.snapshot(),
        after={**queued.snapshot(), "notificationId": queued.id},
    )
    tx.enqueue(DELIVER_JOB, str(queued.id))
    return queued


async def withdraw_notifications(
    tx: Transaction, rows: Sequence[InvoiceNotification], reason: str
) -> None:
    """End those of these e-mails that wait, so that they do not go out any more.

    Not one whose content is on its way. A worker that is about to send one finds that it lost it.
    """
    entries: list[NewEntry] = []
    for row in rows:
        if row.status is not NotificationStatus.PENDING or row.handed_over_at is not None:
            continue
        ended = await row.change(
            tx,
            expect={"status": row.status, "handedOverAt": None},
            status=NotificationStatus.FAILED,
            failure_reason=reason,
            next_retry_at=None,
            lease_until=None,
        )
        entries.append(
            NewEntry(
                AuditAction.EMAIL_FAILED,
                (EntityType.INVOICE, ended.invoice_id),
                f"E-mail {ended.title} not sent: {reason}",
                before=row.snapshot(),
                after={**ended.snapshot(), "notificationId": ended.id},
            )
        )
    await record_all(tx, entries)


async def delete_notifications(tx: Transaction, *invoice_ids: ObjectId) -> None:
    """Delete the e-mails of invoices that go themselves; the audit trail remembers them."""
    of_these = {"invoiceId": {"$in": list(invoice_ids)}}
    await InvoiceNotification.find(of_these, session=tx.session).delete(session=tx.session)
