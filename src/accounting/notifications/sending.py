"""Sending what is queued: claimed by one worker, marked before it goes out, ended with its outcome.

A worker may be killed at any moment. Before the mark nothing has gone out, and the e-mail is
claimed again when the lease is over; after it nobody knows, and it is never sent a second time.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.message import EmailMessage
from typing import Final
from zoneinfo import ZoneInfo

from accounting.actor import SYSTEM
from accounting.audit.rules import AuditAction, EntityType
from accounting.audit.service import record
from accounting.clock import after, business_day, start_of_day
from accounting.db.client import ConnectionLost, DriverError
from accounting.db.database import Database, Transaction
from accounting.db.document import DocumentChanged
from accounting.errors import AccountingError, Unavailable
from accounting.notifications.documents import InvoiceNotification, count_handed_over
from accounting.notifications.mailer import (
    Mailer,
    MailNotAccepted,
    OutcomeUnknown,
    RecipientRefused,
    TemporaryFailure,
)
from accounting.notifications.rules import (
    DAILY_MAILS_MAX,
    DIED_AFTER_HANDOVER,
    FAILURE_REASON_LENGTH_MAX,
    LEASE_SECONDS,
    PUT_OFF_REASON,
    RETRY_DELAYS_SECONDS,
    NotificationId,
    NotificationStatus,
    next_day_starts_at,
    next_retry_at,
    outcome_unknown,
)

logger = logging.getLogger(__name__)

STORE_AGAIN_SECONDS: Final = 1.0

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
class _Outcome:
    """How an attempt to send ended; `put_off_until` is for one that was none."""

    status: NotificationStatus
    reason: str | None = None
    message_id: str | None = None
    is_unknown: bool = False
    put_off_until: datetime | None = None

    @property
    def may_have_arrived(self) -> bool:
        return self.is_unknown or self.status is NotificationStatus.SENT


@dataclass(slots=True)
class _Hold:
    """A worker's hold on a row: `row` is what the worker last knew of it, its lease included."""

    db: Database
    row: InvoiceNotification

    async def mark_handed_over(self) -> None:
        """Note that the content goes out now, and renew the lease. Raises DocumentChanged.

        One small write outside of transactions, which a majority of the servers has when it
        returns. Where another has taken the row meanwhile, or ended it, nothing must go out.
        """
        now = self.db.clock()
        lease_until = after(now, seconds=LEASE_SECONDS)
        held = {
            "_id": self.row.id,
            "status": NotificationStatus.PENDING,
            "leaseUntil": self.row.lease_until,
        }
        # Known before it is written: where the server does not confirm it, it may be there.
        marks = {"handed_over_at": now, "lease_until": lease_until}
        self.row = self.row.model_copy(update=marks)
        written = await InvoiceNotification.get_motor_collection().update_one(
            held, {"$set": {"handedOverAt": now, "leaseUntil": lease_until}}
        )
        if not written.matched_count:
            raise DocumentChanged(InvoiceNotification.__name__, self.row.id)


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
    zone: ZoneInfo,
    due_by: datetime | None = None,
) -> InvoiceNotification | None:
    """Send one e-mail if it is due and nobody else holds it; returns the row, or None.

    Safe to call twice and at the same time: the claim is one atomic write. The outcome is stored
    with its audit entry, also when it is a bug: no row is tried without end. `due_by` stands in
    for the present when retries that are due later are wanted now. Spec: section 6.
    Raises DocumentChanged when the hold was lost, and nothing was sent then or another has noted
    that the outcome is unknown.
    """
    claimed = await _claim(db, notification_id, due_by or db.clock())
    if claimed is None:
        return None
    hold = _Hold(db, claimed)
    outcome = await _why_not_now(hold, zone) or await _attempt(hold, mailer, compose)
    return await _store(hold, claimed, outcome)


async def _why_not_now(hold: _Hold, zone: ZoneInfo) -> _Outcome | None:
    """What ends an attempt before it begins; None when there is nothing."""
    row, now = hold.row, hold.db.clock()
    if row.handed_over_at is not None:
        reason = outcome_unknown(DIED_AFTER_HANDOVER)
        return _Outcome(NotificationStatus.FAILED, reason, is_unknown=True)
    if row.retry_count > len(RETRY_DELAYS_SECONDS):
        return _Outcome(NotificationStatus.FAILED, "its worker died again and again")
    today = start_of_day(business_day(now, zone), zone)
    sent = await count_handed_over(row.sent_to, since=today, most=DAILY_MAILS_MAX)
    if sent >= DAILY_MAILS_MAX:
        until = next_day_starts_at(now, zone)
        return _Outcome(NotificationStatus.PENDING, PUT_OFF_REASON, put_off_until=until)
    return None


async def _attempt(hold: _Hold, mailer: Mailer, compose: Compose) -> _Outcome:
    try:
        message = await compose(hold.row)
        await mailer.send(message, on_handover=hold.mark_handed_over)
    except DocumentChanged:  # the hold is lost, and with it the right to store an outcome
        raise
    except Exception as error:  # a bug too: its row must not come back for ever, nor stop others
        return _outcome_of(error, hold.row)
    return _Outcome(NotificationStatus.SENT, message_id=message["Message-ID"])


def _outcome_of(error: Exception, row: InvoiceNotification) -> _Outcome:
    match error:
        case MailWithheld():
            return _Outcome(error.status, error.reason)
        case OutcomeUnknown():
            reason = outcome_unknown(error.reason)
            return _Outcome(NotificationStatus.FAILED, reason, is_unknown=True)
        case MailNotAccepted():
            status = _STATUS_AFTER.get(type(error), NotificationStatus.FAILED)
            return _Outcome(status, error.reason)
        case AccountingError():  # no such invoice, or an address that cannot be written to
            return _Outcome(NotificationStatus.FAILED, error.sentence)
        case DriverError():  # before the content: of what comes after it, `send` knows nothing
            logger.warning("notification %s is put off: %s", row.id, error)
            return _Outcome(NotificationStatus.PENDING, "the database did not answer")
    # A bug: it must neither stop the others nor come back for ever.
    logger.error("notification %s could not be sent", row.id, exc_info=error)
    return _Outcome(NotificationStatus.PENDING, f"internal error: {type(error).__name__}")


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
    if before["leaseUntil"] is not None and before.get("handedOverAt") is None:
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


async def _store(
    hold: _Hold, claimed: InvoiceNotification, outcome: _Outcome
) -> InvoiceNotification:
    """Store the outcome, and try for as long as the lease lasts: what was sent is to be known.

    Others may be in the way for a minute and more: the server keeps the transaction of a client
    that was killed.
    """
    row = hold.row
    assert row.lease_until is not None
    left = (row.lease_until - hold.db.clock()).total_seconds()
    give_up_at = time.monotonic() + left
    while True:
        try:
            return await hold.db.run(SYSTEM, _end_attempt, claimed, row, outcome)
        except (Unavailable, ConnectionLost) as error:
            if time.monotonic() >= give_up_at:
                raise
            logger.warning("outcome of notification %s is stored later: %s", row.id, error)
        await asyncio.sleep(STORE_AGAIN_SECONDS)


async def _end_attempt(
    tx: Transaction, claimed: InvoiceNotification, row: InvoiceNotification, outcome: _Outcome
) -> InvoiceNotification:
    changes, action, words = _what_follows(claimed, outcome, tx.now)
    # Only the holder of this very lease may write the outcome: the claim's, or the mark's after it.
    leases = [claimed.lease_until, row.lease_until]
    ended = await row.change(
        tx,
        expect={"leaseUntil": {"$in": leases}},
        lease_until=None,
        handed_over_at=row.handed_over_at if outcome.may_have_arrived else None,
        failure_reason=(outcome.reason or "")[:FAILURE_REASON_LENGTH_MAX] or None,
        **changes,
    )
    if ended.snapshot() == claimed.snapshot():  # put off once more; this day's entry is there
        return ended
    await record(
        tx,
        action,
        (EntityType.INVOICE, ended.invoice_id),
        f"E-mail {ended.title} {words}",
        before=claimed.snapshot(),
        after={**ended.snapshot(), "notificationId": ended.id},
    )
    return ended


def _what_follows(
    claimed: InvoiceNotification, outcome: _Outcome, now: datetime
) -> tuple[dict[str, object], AuditAction, str]:
    """What an outcome changes in its row, and the action and the words of its entry."""
    changes: dict[str, object] = {"status": outcome.status, "next_retry_at": None}
    if outcome.status is NotificationStatus.SENT:
        changes |= {"sent_at": now, "message_id": outcome.message_id}
        return changes, AuditAction.EMAIL_SENT, f"sent to {claimed.sent_to}"
    if outcome.status is NotificationStatus.PENDING:
        retry_at, retry_count = outcome.put_off_until, claimed.retry_count
        if retry_at is None:
            retry_at, retry_count = next_retry_at(retry_count, now), retry_count + 1
        if retry_at is not None:
            changes |= {"next_retry_at": retry_at, "retry_count": retry_count}
            return changes, AuditAction.EMAIL_RETRY, f"not sent yet: {outcome.reason}"
        changes["status"] = NotificationStatus.FAILED  # the last retry has been used
    words = str(outcome.reason) if outcome.is_unknown else f"not sent: {outcome.reason}"
    return changes, AuditAction.EMAIL_FAILED, words
