"""An invoice on paper (spec section 6): its facts, and the words that the template places."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final

from accounting.money import ZERO
from accounting.printing.company import Company
from accounting.printing.letterhead import words_of_letterhead
from accounting.printing.typesetting import typeset
from accounting.wording import long_day, long_month, one_line, usd


class Stamp(StrEnum):
    """Where an invoice stood when it was printed. A draft is not printed."""

    ISSUED = "ISSUED"
    OVERDUE = "OVERDUE"
    PAID = "PAID"
    CANCELLED = "CANCELLED"
    REFUNDED = "REFUNDED"


# The colours of the template.
_TONES: Final = {
    Stamp.ISSUED: "open",
    Stamp.OVERDUE: "late",
    Stamp.PAID: "done",
    Stamp.CANCELLED: "void",
    Stamp.REFUNDED: "void",
}
_CLOSED: Final = {
    Stamp.PAID: "Paid in full",
    Stamp.CANCELLED: "Cancelled: nothing to pay",
    Stamp.REFUNDED: "Refunded: nothing to pay",
}


@dataclass(frozen=True)
class PrintedInvoice:
    """What the paper tells about one invoice, as it stands when it is printed."""

    invoice_number: str
    status: Stamp
    customer_name: str
    customer_email: str
    company_name: str | None
    """The customer's company; ours is `Company`."""
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
        """Total minus payments; zero when the invoice was cancelled or refunded."""
        return ZERO if self.status in _CLOSED else self.total_amount - self.amount_paid


def render_invoice(facts: PrintedInvoice, company: Company) -> bytes:
    """The invoice as PDF, A4; the same facts give the same bytes. Takes some 8 ms of one core."""
    return typeset("invoice", words_of(facts, company), created_on=facts.issued_on)


async def render_invoice_in_thread(facts: PrintedInvoice, company: Company) -> bytes:
    """`render_invoice`, while the event loop goes on."""
    return await asyncio.to_thread(render_invoice, facts, company)


def words_of(facts: PrintedInvoice, company: Company) -> dict[str, Any]:
    """Everything as a customer reads it, on paper and on the page; templates only place it."""
    billed_to = [facts.company_name, facts.customer_name, facts.customer_email]
    period = long_month(facts.billing_period) if facts.billing_period else ""
    dates = [("Invoice date", long_day(facts.issued_on)), ("Due date", long_day(facts.due_on))]
    return {
        **words_of_letterhead(company, billed_to),
        "number": one_line(facts.invoice_number),
        "status": facts.status.value,
        "tone": _TONES[facts.status],
        "note": _note(facts),
        "dates": [*dates, ("Billing period", period)] if period else dates,
        "description": "Miner hosting",
        "period": period,
        "quantity": f"{facts.total_miners:,}",
        "unit_price": usd(facts.unit_price),
        "total": usd(facts.total_amount),
        "paid": f"\N{MINUS SIGN} {usd(facts.amount_paid)}" if facts.amount_paid else usd(ZERO),
        "balance_due": usd(facts.balance_due),
        "payment": company.payment_instructions if facts.balance_due > ZERO else [],
    }


def _note(facts: PrintedInvoice) -> str:
    """The words beside the balance due."""
    if facts.status in _CLOSED:
        return _CLOSED[facts.status]
    if facts.balance_due <= ZERO:
        return "Nothing left to pay"
    due_on = long_day(facts.due_on)
    return f"Was due by {due_on}" if facts.status is Stamp.OVERDUE else f"Due by {due_on}"
