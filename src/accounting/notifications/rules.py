"""When an e-mail is sent, tried again, and given up (spec section 6, "deliver notifications")."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Final, TypeAlias

from accounting.clock import after
from accounting.ids import ObjectId

NotificationId: TypeAlias = ObjectId

# Retries after 5, 10 and 20 minutes; then the notification has failed.
RETRY_DELAYS_SECONDS: Final = (300, 600, 1_200)
# Longer than the longest SMTP conversation, so that a claim outlives its own attempt.
LEASE_SECONDS: Final = 120
FAILURE_REASON_LENGTH_MAX: Final = 500


class NotificationType(StrEnum):
    """What an e-mail is about: the seed's kinds, and INVOICE_CANCELLED of spec section 3."""

    INVOICE_ISSUED = "INVOICE_ISSUED"
    PAYMENT_REMINDER = "PAYMENT_REMINDER"
    OVERDUE_REMINDER = "OVERDUE_REMINDER"
    PAYMENT_RECEIVED = "PAYMENT_RECEIVED"
    INVOICE_VIEWED = "INVOICE_VIEWED"
    INVOICE_CANCELLED = "INVOICE_CANCELLED"


class NotificationStatus(StrEnum):
    """How far an e-mail has come."""

    PENDING = "PENDING"
    SENT = "SENT"
    FAILED = "FAILED"
    BOUNCED = "BOUNCED"
    UNSUBSCRIBED = "UNSUBSCRIBED"


def next_retry_at(retry_count: int, now: datetime) -> datetime | None:
    """When to try again after so many retries; None when the last one has been used."""
    if retry_count >= len(RETRY_DELAYS_SECONDS):
        return None
    return after(now, seconds=RETRY_DELAYS_SECONDS[retry_count])


def dedupe_key(notification_type: NotificationType, invoice_id: ObjectId, step: str = "") -> str:
    """The key that lets one e-mail of a kind, and of a step of it, exist per invoice."""
    return ":".join(part for part in (notification_type, str(invoice_id), step) if part)


def step_of(dedupe_key: str) -> str:
    """The step that a key of `dedupe_key` was made with; empty when there was none."""
    _, _, after_type = dedupe_key.partition(":")
    return after_type.partition(":")[2]
