"""What a month came to, read off the books that the jobs have written."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from pydantic.alias_generators import to_camel

from accounting.clock import as_stored_day, start_of_day
from accounting.invoices.documents import Invoice
from accounting.invoices.rules import InvoiceStatus
from accounting.money import ZERO
from accounting.notifications.documents import InvoiceNotification
from accounting.notifications.rules import NotificationStatus, NotificationType
from accounting.recurring.rules import period_of


@dataclass(frozen=True, slots=True)
class MonthFigures:
    """What the jobs of a month did; amounts in USD, `month` is "YYYY-MM" in the business zone.

    An invoice, draft or issued, counts in the month in which it was made, an overdue one in the
    month of its first overdue day, an e-mail in the month in which it was queued.
    """

    month: str
    drafts: int = 0
    issued: int = 0
    amount: Decimal = ZERO
    invoice_mails: int = 0
    payment_reminders: int = 0
    overdue_reminders: int = 0
    overdue: int = 0
    overdue_amount: Decimal = ZERO
    not_billed: int = 0

    @property
    def invoices(self) -> int:
        return self.drafts + self.issued

    @property
    def reminders(self) -> int:
        return self.payment_reminders + self.overdue_reminders

    def to_json(self) -> dict[str, Any]:
        return {to_camel(name): _plain(value) for name, value in asdict(self).items()}


def _plain(value: object) -> object:
    return str(value) if isinstance(value, Decimal) else value


def total_of(months: Iterable[MonthFigures]) -> MonthFigures:
    """The sums of these months."""
    sums = asdict(MonthFigures("total"))
    for figures in months:
        for name, value in asdict(figures).items():
            if name != "month":
                sums[name] += value
    return MonthFigures(**sums)


async def read_month(
    first: date, last: date, zone: ZoneInfo, *, not_billed: int = 0
) -> MonthFigures:
    """The figures of the business days from `first` to `last`, both included, of one month."""
    after_last = last + timedelta(days=1)
    created = {
        "createdAt": {"$gte": start_of_day(first, zone), "$lt": start_of_day(after_last, zone)}
    }
    made = await _sum_by(Invoice, "status", created)
    to_be_sent = {**created, "status": NotificationStatus.PENDING}
    mails = await _sum_by(InvoiceNotification, "notificationType", to_be_sent)
    # The first overdue day is the one after the due date.
    one_day = timedelta(days=1)
    due = {"$gte": as_stored_day(first - one_day), "$lt": as_stored_day(after_last - one_day)}
    overdue = await _sum_by(Invoice, "status", {"status": InvoiceStatus.OVERDUE, "dueDate": due})
    overdue_count, overdue_amount = overdue.get(InvoiceStatus.OVERDUE, (0, ZERO))
    drafts, _ = made.get(InvoiceStatus.DRAFT, (0, ZERO))
    return MonthFigures(
        month=period_of(first),
        drafts=drafts,
        issued=sum(count for count, _ in made.values()) - drafts,
        amount=sum((amount for _, amount in made.values()), ZERO),
        invoice_mails=mails.get(NotificationType.INVOICE_ISSUED, (0, ZERO))[0],
        payment_reminders=mails.get(NotificationType.PAYMENT_REMINDER, (0, ZERO))[0],
        overdue_reminders=mails.get(NotificationType.OVERDUE_REMINDER, (0, ZERO))[0],
        overdue=overdue_count,
        overdue_amount=overdue_amount,
        not_billed=not_billed,
    )


async def _sum_by(
    document: type[Invoice | InvoiceNotification], name: str, query: dict[str, Any]
) -> dict[str, tuple[int, Decimal]]:
    """How many there are for each value of a stored field, and the sum of their total amounts."""
    found = document.get_motor_collection().aggregate(
        [
            {"$match": query},
            {
                "$group": {
                    "_id": f"${name}",
                    "count": {"$sum": 1},
                    "amount": {"$sum": "$totalAmount"},
                }
            },
        ]
    )
    return {raw["_id"]: (raw["count"], Decimal(raw["amount"])) async for raw in found}
