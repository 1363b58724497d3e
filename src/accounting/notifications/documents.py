"""One e-mail to be sent, and what became of it (spec: Model 6)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, ClassVar, Final

from pydantic import Field

from accounting.db.database import Session
from accounting.db.document import BaseDocument, index
from accounting.db.fields import Count, Email, Instant, Text
from accounting.ids import ObjectId
from accounting.notifications.rules import NotificationStatus, NotificationType

CC_ADDRESSES_MAX: Final = 20


class InvoiceNotification(BaseDocument):
    """A row of the outbox; `leaseUntil` is set while a worker holds it."""

    invoice_id: ObjectId
    notification_type: NotificationType
    sent_to: Email
    cc_emails: Annotated[list[Email], Field(max_length=CC_ADDRESSES_MAX)] = []
    sent_at: Instant | None = None
    is_read: bool = False
    opened_at: Instant | None = None
    status: NotificationStatus = NotificationStatus.PENDING
    failure_reason: Text | None = None
    retry_count: Count = 0
    next_retry_at: Instant | None = None
    lease_until: Instant | None = None
    dedupe_key: Annotated[str, Field(min_length=1, max_length=200)]
    message_id: Annotated[str, Field(max_length=250)] | None = None
    # Whoever holds this token may see the invoice: it never enters the audit trail.
    view_token: Annotated[str, Field(min_length=32, max_length=100)]
    created_at: Instant

    not_audited: ClassVar[frozenset[str]] = BaseDocument.not_audited | {"view_token", "lease_until"}

    class Settings:
        name = "invoice_notifications"
        indexes = [
            index("invoiceId"),
            index("status"),
            index("sentTo"),
            index("createdAt"),
            index("sentAt"),
            index("dedupeKey", unique=True),
            index("viewToken", unique=True),
            index("status", "nextRetryAt"),
        ]


async def find_dedupe_keys(keys: Iterable[str], *, session: Session | None = None) -> set[str]:
    """Those of these keys under which an e-mail was queued before."""
    found = InvoiceNotification.get_motor_collection().find(
        {"dedupeKey": {"$in": list(keys)}}, {"dedupeKey": 1, "_id": 0}, session=session
    )
    return {raw["dedupeKey"] async for raw in found}
