"""When an e-mail is sent, tried again, and given up (spec section 6, "deliver notifications")."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, TypeAlias
from zoneinfo import ZoneInfo

from accounting.clock import after, business_day, start_of_day
from accounting.errors import Conflict, NotFound
from accounting.ids import ObjectId

NotificationId: TypeAlias = ObjectId

# Retries after 5, 10 and 20 minutes; then the notification has failed.
RETRY_DELAYS_SECONDS: Final = (300, 600, 1_200)
# Longer than the longest SMTP conversation, so that a claim outlives its own attempt.
LEASE_SECONDS: Final = 120
FAILURE_REASON_LENGTH_MAX: Final = 500
# The storm breaker: so many e-mails to one address in a business day. A customer gets a handful a
# month, and an accountant who reads for twenty of them some twenty on their common billing day;
# what goes beyond is a loop, or a script gone wild, and is stopped before the address is lost.
DAILY_MAILS_MAX: Final = 50

_STATEMENT: Final = "statement"

PUT_OFF_REASON: Final = (
    f"{DAILY_MAILS_MAX} e-mails went to this address today, which is the most; it goes on tomorrow"
)
DIED_AFTER_HANDOVER: Final = "its worker died after the content was handed over"


class NotificationType(StrEnum):
    """What an e-mail is about: the seed's kinds, and INVOICE_CANCELLED of spec section 3."""

    INVOICE_ISSUED = "INVOICE_ISSUED"
    PAYMENT_REMINDER = "PAYMENT_REMINDER"
    OVERDUE_REMINDER = "OVERDUE_REMINDER"
    PAYMENT_RECEIVED = "PAYMENT_RECEIVED"
    INVOICE_VIEWED = "INVOICE_VIEWED"
    INVOICE_CANCELLED = "INVOICE_CANCELLED"


class StatementTone(StrEnum):
    """How a statement brings an account to mind: each time more plainly."""

    FRIENDLY = "FRIENDLY"
    FIRM = "FIRM"
    FINAL = "FINAL"

    @property
    def notification_type(self) -> NotificationType:
        """As what it is stored: the seed has no kind for statements, and these are reminders."""
        is_friendly = self is StatementTone.FRIENDLY
        return (
            NotificationType.PAYMENT_REMINDER if is_friendly else NotificationType.OVERDUE_REMINDER
        )


# What a customer can do without; everything else tells him what he has to know.
REMINDERS: Final = frozenset({NotificationType.PAYMENT_REMINDER, NotificationType.OVERDUE_REMINDER})


class NotificationStatus(StrEnum):
    """How far an e-mail has come."""

    PENDING = "PENDING"
    SENT = "SENT"
    FAILED = "FAILED"
    BOUNCED = "BOUNCED"
    UNSUBSCRIBED = "UNSUBSCRIBED"


class NotificationNotFound(NotFound):
    """No e-mail with this id."""

    def __init__(self, notification_id: NotificationId) -> None:
        super().__init__(
            f"There is no e-mail {notification_id}.", notificationId=str(notification_id)
        )


class EmailNotFailed(Conflict):
    """Only what was not sent can be sent again as the same e-mail."""

    def __init__(self, notification_id: NotificationId, status: NotificationStatus) -> None:
        super().__init__(
            f"E-mail {notification_id} is {status}; only FAILED and BOUNCED ones can be retried.",
            notificationId=str(notification_id),
            notificationStatus=status.value,
        )


def next_retry_at(retry_count: int, now: datetime) -> datetime | None:
    """When to try again after so many retries; None when the last one has been used."""
    if retry_count >= len(RETRY_DELAYS_SECONDS):
        return None
    return after(now, seconds=RETRY_DELAYS_SECONDS[retry_count])


def next_day_starts_at(now: datetime, zone: ZoneInfo) -> datetime:
    """When what is too much for today may go out: at the start of the next business day."""
    return start_of_day(business_day(now, zone) + timedelta(days=1), zone)


def outcome_unknown(why: str) -> str:
    """The reason of an e-mail of which nobody can say whether it has arrived."""
    return f"outcome unknown, it may have arrived and is not sent again by itself: {why}"


def dedupe_key(notification_type: NotificationType, invoice_id: ObjectId, step: str = "") -> str:
    """The key that lets one e-mail of a kind, and of a step of it, exist per invoice."""
    return ":".join(part for part in (notification_type, str(invoice_id), step) if part)


def statement_step(tone: StatementTone, asked: ObjectId) -> str:
    """The step that makes an e-mail a statement of the whole account and not about its invoice.

    `asked` tells one wish for it from another.
    """
    return f"{_STATEMENT}:{tone}:{asked}"


def statement_tone_of(dedupe_key: str) -> StatementTone | None:
    """The tone of the statement that this key was made for; None for any other e-mail."""
    what, _, rest = step_of(dedupe_key).partition(":")
    return StatementTone(rest.partition(":")[0]) if what == _STATEMENT else None


def step_of(dedupe_key: str) -> str:
    """The step that a key of `dedupe_key` was made with; empty when there was none."""
    _, _, after_type = dedupe_key.partition(":")
    return after_type.partition(":")[2]
