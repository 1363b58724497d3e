"""One e-mail to be sent, and what became of it (spec: Model 6)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, ClassVar, Final

from pydantic import Field

from accounting.db.database import Session
from accounting.db.document import BaseDocument, index
from accounting.db.fields import Count, Email, Instant, Text
from accounting.db.paging import count
from accounting.ids import ANY_ID, ObjectId
from accounting.notifications.rules import (
    NotificationId,
    NotificationNotFound,
    NotificationStatus,
    NotificationType,
    StatementTone,
    statement_tone_of,
)

CC_ADDRESSES_MAX: Final = 20
SENT_TO_BY_TIME: Final = "sentTo_1_handedOverAt_1"
OF_RUN: Final = "runId_1_status_1"


class InvoiceNotification(BaseDocument):
    """A row of the outbox; `leaseUntil` is set while a worker holds it.

    `handedOverAt` is set just before the content goes to the mail server, and taken away when the
    server refuses it: where it stands, the e-mail has arrived or may have.
    """

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
    handed_over_at: Instant | None = None
    # The batch run that is told how this e-mail ended.
    run_id: ObjectId | None = None
    dedupe_key: Annotated[str, Field(min_length=1, max_length=200)]
    message_id: Annotated[str, Field(max_length=250)] | None = None
    # Whoever holds this token may see the invoice: it never enters the audit trail.
    view_token: Annotated[str, Field(min_length=32, max_length=100)]
    created_at: Instant

    not_audited: ClassVar[frozenset[str]] = BaseDocument.not_audited | {
        "view_token",
        "lease_until",
        "handed_over_at",
        "run_id",
    }

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
            # The daily cap of an address.
            index("sentTo", "handedOverAt"),
            # Is anything of a run still to be sent? `$type` as the condition would not do: to the
            # server, a query for one id does not follow from it.
            index("runId", "status", only_if={"runId": ANY_ID}),
            # The list, newest first, for each filter without a sort in memory.
            index("createdAt", "_id"),
            index("status", "createdAt", "_id"),
            index("notificationType", "createdAt", "_id"),
            index("invoiceId", "createdAt", "_id"),
        ]

    @property
    def may_have_arrived(self) -> bool:
        """Whether its reader has it, or nobody can say that he has not."""
        return self.state.may_have_arrived

    @property
    def state(self) -> MailState:
        return _state(self.status, self.failure_reason, self.handed_over_at)

    @property
    def statement_tone(self) -> StatementTone | None:
        """The tone of a statement of the customer's account; None for an e-mail about the invoice.

        A statement hangs on an invoice since every e-mail does, and is not about that one alone.
        """
        return statement_tone_of(self.dedupe_key)

    @property
    def title(self) -> str:
        """What it is, in the words of the trail: `OVERDUE_REMINDER (FIRM statement)`."""
        tone = self.statement_tone
        return f"{self.notification_type} ({tone} statement)" if tone else self.notification_type


@dataclass(frozen=True, slots=True)
class MailState:
    """How far an e-mail has come, and why no farther."""

    status: NotificationStatus
    reason: str
    may_have_arrived: bool

    @property
    def is_outcome_unknown(self) -> bool:
        """Whether nobody can say if it has arrived."""
        return self.status is NotificationStatus.FAILED and self.may_have_arrived


async def get_notification(
    notification_id: NotificationId, *, session: Session | None = None
) -> InvoiceNotification:
    """Raises NotificationNotFound."""
    row = await InvoiceNotification.find_one({"_id": notification_id}, session=session)
    if row is None:
        raise NotificationNotFound(notification_id)
    return row


async def list_notifications(
    invoice_ids: Iterable[ObjectId], *, session: Session | None = None
) -> list[InvoiceNotification]:
    """The e-mails about these invoices, queued or sent, oldest first."""
    return (
        await InvoiceNotification.find({"invoiceId": {"$in": list(invoice_ids)}}, session=session)
        .sort("_id")
        .to_list()
    )


async def find_by_keys(
    keys: Iterable[str], *, session: Session | None = None
) -> dict[str, InvoiceNotification]:
    """Those e-mails that were queued before under one of these keys, by key."""
    found = InvoiceNotification.find({"dedupeKey": {"$in": list(keys)}}, session=session)
    return {row.dedupe_key: row async for row in found}


async def find_view_tokens(invoice_ids: Iterable[ObjectId], sent_to: str) -> dict[ObjectId, str]:
    """The token of the last e-mail about each of these invoices that went to this address.

    It leads to the invoice's page, and the reader has it already.
    """
    rows = InvoiceNotification.get_motor_collection().find(
        {
            "invoiceId": {"$in": list(invoice_ids)},
            "sentTo": sent_to,
            "status": NotificationStatus.SENT,
            "notificationType": {"$ne": NotificationType.INVOICE_VIEWED},  # its token is unknown
        },
        {"invoiceId": 1, "viewToken": 1},
    )
    return {raw["invoiceId"]: raw["viewToken"] async for raw in rows.sort("_id", 1)}


async def find_states(
    ids: Iterable[NotificationId], *, session: Session | None = None
) -> dict[NotificationId, MailState]:
    """How far each of these e-mails has come, of those that still exist."""
    fields = dict.fromkeys(("status", "failureReason", "handedOverAt"), 1)
    rows = InvoiceNotification.get_motor_collection()
    found = rows.find({"_id": {"$in": list(ids)}}, fields, session=session)
    return {
        raw["_id"]: _state(
            NotificationStatus(raw["status"]), raw.get("failureReason"), raw.get("handedOverAt")
        )
        async for raw in found
    }


async def is_any_pending(run_id: ObjectId) -> bool:
    """Whether an e-mail of this run is still to be sent."""
    pending = {"runId": run_id, "status": NotificationStatus.PENDING}
    # Left alone, the server may look through everything that is pending.
    found = InvoiceNotification.get_motor_collection().find(pending, {"_id": 1}).hint(OF_RUN)
    return bool(await found.limit(1).to_list(1))


async def count_handed_over(address: str, *, since: datetime, most: int) -> int:
    """How many e-mails to this address went out since then, refused ones left out; `most` at most.

    By the address as it is written, as To: copies do not count.
    """
    wanted = {"sentTo": address, "handedOverAt": {"$gte": since}}
    return await count(InvoiceNotification, wanted, hint=SENT_TO_BY_TIME, limit=most)


async def find_dedupe_keys(keys: Iterable[str], *, session: Session | None = None) -> set[str]:
    """Those of these keys under which an e-mail was queued before."""
    found = InvoiceNotification.get_motor_collection().find(
        {"dedupeKey": {"$in": list(keys)}}, {"dedupeKey": 1, "_id": 0}, session=session
    )
    return {raw["dedupeKey"] async for raw in found}


def _state(
    status: NotificationStatus, reason: str | None, handed_over_at: datetime | None
) -> MailState:
    may_have_arrived = status is NotificationStatus.SENT or handed_over_at is not None
    return MailState(status, reason or "", may_have_arrived)
