"""What each kind of e-mail about an invoice says: its subject and the words of its templates."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import StrEnum
from typing import TypeAlias

from accounting.money import ZERO
from accounting.notifications.message import Content
from accounting.wording import long_day, long_month, one_line, usd

Words: TypeAlias = dict[str, str | bool]


class Tone(StrEnum):
    """How an overdue invoice is brought to mind: each time more plainly."""

    FRIENDLY = "friendly"
    FIRM = "firm"
    LAST = "last"


@dataclass(frozen=True)
class InvoiceFacts:
    """What an e-mail tells about one invoice, as it stands when the e-mail is written."""

    invoice_number: str
    customer_name: str
    company_name: str | None
    total_miners: int
    unit_price: Decimal
    total_amount: Decimal
    amount_paid: Decimal
    issued_on: date
    due_on: date
    billing_period: str | None
    """The month that is billed, `2026-11`."""

    @property
    def balance_due(self) -> Decimal:
        """Total minus payments."""
        return self.total_amount - self.amount_paid


def invoice_issued(facts: InvoiceFacts) -> Content:
    """Tells a customer that an invoice was issued, and what is to be paid by when."""
    what = "nothing left to pay" if _is_settled(facts) else _due_by(facts)
    return Content(f"Invoice {_number(facts)}: {what}", "invoice_issued", _words(facts))


def payment_reminder(facts: InvoiceFacts) -> Content:
    """Brings an invoice to mind that is due soon.

    It names the day and no number of days, so that it is still true when it is read later.
    """
    subject = f"Reminder: invoice {_number(facts)}, {_due_by(facts)}"
    return Content(subject, "payment_reminder", _words(facts))


def overdue_reminder(facts: InvoiceFacts, *, days_overdue: int, tone: Tone) -> Content:
    """Asks for the balance of an invoice whose due date has passed."""
    days = "1 day" if days_overdue == 1 else f"{days_overdue:,} days"
    is_overdue = f"{_number(facts)} is {days} overdue"
    subject = {
        Tone.FRIENDLY: f"Invoice {is_overdue}: {usd(facts.balance_due)}",
        Tone.FIRM: f"Payment needed: invoice {is_overdue}",
        Tone.LAST: f"Last reminder: invoice {is_overdue}",
    }[tone]
    words: Words = {"days_overdue": days, "tone": tone.value}
    return Content(subject, "overdue_reminder", _words(facts) | words)


def payment_received(facts: InvoiceFacts, received: Decimal) -> Content:
    """Confirms one payment, and says what is left to pay after all of them."""
    subject = f"Payment of {usd(received)} received for invoice {_number(facts)}"
    return Content(subject, "payment_received", _words(facts) | {"received": usd(received)})


def invoice_cancelled(facts: InvoiceFacts, reason: str) -> Content:
    """Takes an invoice back; nothing of it is to be paid."""
    subject = f"Invoice {_number(facts)} is cancelled: nothing to pay"
    return Content(subject, "invoice_cancelled", _words(facts) | {"reason": one_line(reason)})


def _words(facts: InvoiceFacts) -> Words:
    """The facts as a customer reads them; templates only place them."""
    miners = "1 miner" if facts.total_miners == 1 else f"{facts.total_miners:,} miners"
    return {
        "number": _number(facts),
        "customer_name": one_line(facts.customer_name),
        "company_name": one_line(facts.company_name or ""),
        "description": f"Hosting of {miners}",
        "period": long_month(facts.billing_period) if facts.billing_period else "",
        "unit_price": usd(facts.unit_price),
        "total": usd(facts.total_amount),
        "paid": usd(facts.amount_paid),
        "has_payments": facts.amount_paid > ZERO,
        "balance_due": usd(facts.balance_due),
        "is_settled": _is_settled(facts),
        "issued_on": long_day(facts.issued_on),
        "due_on": long_day(facts.due_on),
    }


def _number(facts: InvoiceFacts) -> str:
    return one_line(facts.invoice_number)


def _due_by(facts: InvoiceFacts) -> str:
    return f"{usd(facts.balance_due)} due by {long_day(facts.due_on)}"


def _is_settled(facts: InvoiceFacts) -> bool:
    return facts.balance_due <= ZERO
