"""The outbox: a row written with the change it tells of, delivered later by a worker.

The stored row is the truth and the queue a hint: a lost message costs a minute, not an e-mail.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Sequence
from email.message import EmailMessage
from typing import Final

from accounting.actor import SYSTEM
from accounting.audit.rules import AuditAction, EntityType
from accounting.audit.service import record
from accounting.clock import after
from accounting.db.database import Database, Transaction
from accounting.errors import Invalid
from accounting.ids import ObjectId, new_id
from accounting.notifications.documents import InvoiceNotification
from accounting.notifications.mailer import (
    Mailer,
    MailNotAccepted,
    RecipientRefused,
    TemporaryFailure,
)
from accounting.notifications.rules import (
    FAILURE_REASON_LENGTH_MAX,
    LEASE_SECONDS,
    NotificationId,
    NotificationStatus,
    NotificationType,
    next_retry_at,
)

DELIVER_JOB: Final = "notifications.deliver"
VIEW_TOKEN_BYTES: Final = 32

Compose = Callable[[InvoiceNotification], Awaitable[EmailMessage]]


async def queue_notification(
    tx: Transaction,
    notification_type: NotificationType,
    invoice_id: ObjectId,
    *,
    to: str,
    cc: Sequence[str],
    dedupe_key: str,
) -> InvoiceNotification:
    """Write a PENDING e-mail in the transaction of the change; a worker sends it after the commit.

    Raises a duplicate key when this e-mail was queued before.
    """
    notification_id = new_id()
    notification = InvoiceNotification(
        id=notification_id,
        invoice_id=invoice_id,
        notification_type=notification_type,
        sent_to=to,
        cc_emails=list(cc),
        dedupe_key=dedupe_key,
        message_id=f"<{notification_id}@accounting>",
        view_token=secrets.token_urlsafe(VIEW_TOKEN_BYTES),
        created_at=tx.now,
    )
    await notification.add(tx)
    tx.enqueue(DELIVER_JOB, str(notification_id))
    return notification


async def list_notifications(invoice_id: ObjectId) -> list[InvoiceNotification]:
    """The e-mails about an invoice, oldest first."""
    return await InvoiceNotification.find({"invoiceId": invoice_id}).sort("_id").to_list()


async def delete_notifications(tx: Transaction, invoice_id: ObjectId) -> None:
    """Delete the e-mails of an invoice that is deleted itself; the audit trail remembers them."""
    await InvoiceNotification.find({"invoiceId": invoice_id}, session=tx.session).delete(
        session=tx.session
    )


async def list_due(db: Database, *, limit: int) -> list[NotificationId]:
    """The e-mails that wait to be sent now and that nobody holds, oldest first."""
    now = db.clock()
    due = InvoiceNotification.get_motor_collection().find(
        {
            "status": NotificationStatus.PENDING,
            "nextRetryAt": {"$not": {"$gt": now}},
            "leaseUntil": {"$not": {"$gt": now}},
        },
        {"_id": 1},
    )
    return [raw["_id"] async for raw in due.sort("_id", 1).limit(limit)]


async def deliver_notification(
    db: Database, notification_id: NotificationId, *, mailer: Mailer, compose: Compose
) -> InvoiceNotification | None:
    """Send one e-mail if it is due and nobody else holds it; returns the row, or None.

    Safe to call twice and at the same time: the claim is one atomic write. The outcome is stored
    with its audit entry. Spec: section 6.
    """
    claimed = await _claim(db, notification_id)
    if claimed is None:
        return None
    try:
        await mailer.send(await compose(claimed))
    except TemporaryFailure as failure:
        return await db.run(SYSTEM, _put_off, claimed, failure.reason)
    except RecipientRefused as failure:
        status = NotificationStatus.BOUNCED
        return await db.run(SYSTEM, _give_up, claimed, status, failure.reason)
    except MailNotAccepted as failure:
        status = NotificationStatus.FAILED
        return await db.run(SYSTEM, _give_up, claimed, status, failure.reason)
    except Invalid as error:  # the address itself cannot be written to
        status = NotificationStatus.FAILED
        return await db.run(SYSTEM, _give_up, claimed, status, error.sentence)
    return await db.run(SYSTEM, _mark_sent, claimed)


async def _claim(db: Database, notification_id: NotificationId) -> InvoiceNotification | None:
    now = db.clock()
    raw = await InvoiceNotification.get_motor_collection().find_one_and_update(
        {
            "_id": notification_id,
            "status": NotificationStatus.PENDING,
            "nextRetryAt": {"$not": {"$gt": now}},
            "leaseUntil": {"$not": {"$gt": now}},
        },
        {"$set": {"leaseUntil": after(now, seconds=LEASE_SECONDS)}},
        return_document=True,
    )
    return InvoiceNotification.model_validate(raw) if raw else None


async def _mark_sent(tx: Transaction, claimed: InvoiceNotification) -> InvoiceNotification:
    sent = await _end_attempt(tx, claimed, status=NotificationStatus.SENT, sent_at=tx.now)
    await _record(tx, AuditAction.EMAIL_SENT, claimed, sent, f"sent to {sent.sent_to}")
    return sent


async def _put_off(
    tx: Transaction, claimed: InvoiceNotification, reason: str
) -> InvoiceNotification:
    retry_at = next_retry_at(claimed.retry_count, tx.now)
    if retry_at is None:
        return await _give_up(tx, claimed, NotificationStatus.FAILED, reason)
    waiting = await _end_attempt(
        tx,
        claimed,
        retry_count=claimed.retry_count + 1,
        next_retry_at=retry_at,
        failure_reason=reason[:FAILURE_REASON_LENGTH_MAX],
    )
    await _record(tx, AuditAction.EMAIL_RETRY, claimed, waiting, f"not sent yet: {reason}")
    return waiting


async def _give_up(
    tx: Transaction, claimed: InvoiceNotification, status: NotificationStatus, reason: str
) -> InvoiceNotification:
    failed = await _end_attempt(
        tx, claimed, status=status, failure_reason=reason[:FAILURE_REASON_LENGTH_MAX]
    )
    await _record(tx, AuditAction.EMAIL_FAILED, claimed, failed, f"not sent: {reason}")
    return failed


async def _end_attempt(
    tx: Transaction, claimed: InvoiceNotification, **outcome: object
) -> InvoiceNotification:
    # Only the holder of this very lease may write the outcome.
    changes = {"next_retry_at": None, "failure_reason": None, **outcome, "lease_until": None}
    return await claimed.change(tx, expect={"leaseUntil": claimed.lease_until}, **changes)


async def _record(
    tx: Transaction,
    action: AuditAction,
    before: InvoiceNotification,
    after_: InvoiceNotification,
    outcome: str,
) -> None:
    await record(
        tx,
        action,
        (EntityType.INVOICE, after_.invoice_id),
        f"E-mail {after_.notification_type} {outcome}",
        before=before.snapshot(),
        after={**after_.snapshot(), "notificationId": after_.id},
    )
