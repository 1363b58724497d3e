"""The outbox: a row written with the change it tells of, delivered later by a worker.

The stored row is the truth and the queue a hint: a lost message costs a minute, not an e-mail.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.message import EmailMessage
from typing import Final

from accounting.actor import SYSTEM
from accounting.audit.rules import AuditAction, EntityType
from accounting.audit.service import record
from accounting.clock import after
from accounting.db.database import Database, Session, Transaction
from accounting.errors import AccountingError
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
    RETRY_DELAYS_SECONDS,
    NotificationId,
    NotificationStatus,
    NotificationType,
    next_retry_at,
)

logger = logging.getLogger(__name__)

DELIVER_JOB: Final = "notifications.deliver"
VIEW_TOKEN_BYTES: Final = 32

# What a failure means for the row; PENDING is tried again. The rest has failed for good.
_STATUS_AFTER: Final[Mapping[type[MailNotAccepted], NotificationStatus]] = {
    TemporaryFailure: NotificationStatus.PENDING,
    RecipientRefused: NotificationStatus.BOUNCED,
}

Compose = Callable[[InvoiceNotification], Awaitable[EmailMessage]]


class MailWithheld(Exception):
    """Raised by `Compose` when the e-mail must not go out any more; its row ends with `status`."""

    def __init__(self, reason: str, status: NotificationStatus = NotificationStatus.FAILED) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status


@dataclass(frozen=True, slots=True)
class NewNotification:
    """What an e-mail to be queued is made from."""

    notification_type: NotificationType
    invoice_id: ObjectId
    to: str
    cc: Sequence[str]
    dedupe_key: str


@dataclass(frozen=True, slots=True)
class _Outcome:
    """How an attempt to send ended."""

    status: NotificationStatus
    reason: str | None = None
    message_id: str | None = None


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
    new = NewNotification(notification_type, invoice_id, to, cc, dedupe_key)
    [notification] = await queue_notifications(tx, [new])
    return notification


async def queue_notifications(
    tx: Transaction, mails: Sequence[NewNotification]
) -> list[InvoiceNotification]:
    """Write many PENDING e-mails at once; what `queue_notification` does for each, in their order.

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
            view_token=secrets.token_urlsafe(VIEW_TOKEN_BYTES),
            created_at=tx.now,
        )
        for mail in mails
    ]
    await InvoiceNotification.add_many(tx, notifications)
    for notification in notifications:
        tx.enqueue(DELIVER_JOB, str(notification.id))
    return notifications


async def list_notifications(
    invoice_id: ObjectId, *, session: Session | None = None
) -> list[InvoiceNotification]:
    """The e-mails about an invoice, oldest first."""
    return (
        await InvoiceNotification.find({"invoiceId": invoice_id}, session=session)
        .sort("_id")
        .to_list()
    )


async def delete_notifications(tx: Transaction, invoice_id: ObjectId) -> None:
    """Delete the e-mails of an invoice that is deleted itself; the audit trail remembers them."""
    await InvoiceNotification.find({"invoiceId": invoice_id}, session=tx.session).delete(
        session=tx.session
    )


async def list_due(
    db: Database, *, limit: int, due_by: datetime | None = None
) -> list[NotificationId]:
    """The e-mails that wait to be sent now, or by then, and that nobody holds, oldest first."""
    now = db.clock()
    due = InvoiceNotification.get_motor_collection().find(_due(due_by or now, now), {"_id": 1})
    return [raw["_id"] async for raw in due.sort("_id", 1).limit(limit)]


async def deliver_notification(
    db: Database,
    notification_id: NotificationId,
    *,
    mailer: Mailer,
    compose: Compose,
    due_by: datetime | None = None,
) -> InvoiceNotification | None:
    """Send one e-mail if it is due and nobody else holds it; returns the row, or None.

    Safe to call twice and at the same time: the claim is one atomic write. The outcome is stored
    with its audit entry, also when it is a bug: no row is tried without end. `due_by` stands in
    for the present when retries that are due later are wanted now. Spec: section 6.
    """
    claimed = await _claim(db, notification_id, due_by or db.clock())
    if claimed is None:
        return None
    outcome = await _attempt(claimed, mailer, compose)
    ended: InvoiceNotification = await db.run(SYSTEM, _end_attempt, claimed, outcome)
    return ended


async def _attempt(claimed: InvoiceNotification, mailer: Mailer, compose: Compose) -> _Outcome:
    if claimed.retry_count > len(RETRY_DELAYS_SECONDS):
        return _Outcome(NotificationStatus.FAILED, "its worker died again and again")
    try:
        message = await compose(claimed)
        await mailer.send(message)
    except MailWithheld as withheld:
        return _Outcome(withheld.status, withheld.reason)
    except MailNotAccepted as failure:
        status = _STATUS_AFTER.get(type(failure), NotificationStatus.FAILED)
        return _Outcome(status, failure.reason)
    except AccountingError as error:  # no such invoice, or an address that cannot be written to
        return _Outcome(NotificationStatus.FAILED, error.sentence)
    except Exception as error:  # a bug: it must neither stop the others nor come back for ever
        logger.exception("notification %s could not be sent", claimed.id)
        return _Outcome(NotificationStatus.PENDING, f"internal error: {type(error).__name__}")
    return _Outcome(NotificationStatus.SENT, message_id=message["Message-ID"])


async def _claim(
    db: Database, notification_id: NotificationId, due_by: datetime
) -> InvoiceNotification | None:
    now = db.clock()
    lease_until = after(now, seconds=LEASE_SECONDS)
    rows = InvoiceNotification.get_motor_collection()
    before = await rows.find_one_and_update(
        {"_id": notification_id, **_due(due_by, now)}, {"$set": {"leaseUntil": lease_until}}
    )
    if before is None:
        return None
    claimed = {**before, "leaseUntil": lease_until}
    if before["leaseUntil"] is not None:
        # Its last holder died without a word: that was a try as well, or a row that kills its
        # worker would be tried for ever.
        claimed["retryCount"] += 1
        await rows.update_one({"_id": notification_id}, {"$inc": {"retryCount": 1}})
    row: InvoiceNotification = InvoiceNotification.model_validate(claimed)
    return row


def _due(due_by: datetime, now: datetime) -> dict[str, object]:
    """PENDING, its retry due, and held by nobody: a lease is always one of the real clock."""
    return {
        "status": NotificationStatus.PENDING,
        "nextRetryAt": {"$not": {"$gt": due_by}},
        "leaseUntil": {"$not": {"$gt": now}},
    }


async def _end_attempt(
    tx: Transaction, claimed: InvoiceNotification, outcome: _Outcome
) -> InvoiceNotification:
    changes: dict[str, object] = {
        "status": outcome.status,
        "next_retry_at": None,
        "failure_reason": (outcome.reason or "")[:FAILURE_REASON_LENGTH_MAX] or None,
        "lease_until": None,
    }
    action, words = AuditAction.EMAIL_FAILED, f"not sent: {outcome.reason}"
    if outcome.status is NotificationStatus.SENT:
        changes |= {"sent_at": tx.now, "message_id": outcome.message_id}
        action, words = AuditAction.EMAIL_SENT, f"sent to {claimed.sent_to}"
    elif outcome.status is NotificationStatus.PENDING:
        retry_at = next_retry_at(claimed.retry_count, tx.now)
        if retry_at is None:
            changes["status"] = NotificationStatus.FAILED
        else:
            changes |= {"next_retry_at": retry_at, "retry_count": claimed.retry_count + 1}
            action, words = AuditAction.EMAIL_RETRY, f"not sent yet: {outcome.reason}"
    # Only the holder of this very lease may write the outcome.
    ended = await claimed.change(tx, expect={"leaseUntil": claimed.lease_until}, **changes)
    await record(
        tx,
        action,
        (EntityType.INVOICE, ended.invoice_id),
        f"E-mail {ended.notification_type} {words}",
        before=claimed.snapshot(),
        after={**ended.snapshot(), "notificationId": ended.id},
    )
    return ended
