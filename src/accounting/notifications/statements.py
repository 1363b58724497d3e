"""What an e-mail with a statement says: the account in one look, in one of three tones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Final

from accounting.money import ZERO
from accounting.notifications.message import Content
from accounting.notifications.rules import StatementTone
from accounting.wording import long_day, one_line, usd

# More than that nobody reads in an e-mail; those due first are the ones to be paid first.
LISTED_INVOICES_MAX: Final = 20


@dataclass(frozen=True, slots=True)
class ListedInvoice:
    """An open invoice; `url` is its page, where the reader has been sent its link."""

    invoice_number: str
    due_on: date
    balance_due: Decimal
    days_overdue: int
    url: str | None = None


@dataclass(frozen=True, slots=True)
class StatementFacts:
    """What an e-mail tells of an account, as it stands when the e-mail is written."""

    customer_name: str
    company_name: str | None
    as_of: date
    first_day: date
    """Where the attached statement begins; it ends `as_of`."""
    outstanding: Decimal
    overdue: Decimal
    aging: Sequence[tuple[str, Decimal]]
    """What is outstanding by how late it is: the words of each step and its sum."""
    invoices: Sequence[ListedInvoice]
    """Every open one, due first before the others."""


def account_statement(facts: StatementFacts, tone: StatementTone) -> Content:
    """Sends a customer his statement, and asks for what is overdue.

    The firm and the final one are about what is overdue: there has to be something.
    """
    overdue = f"{usd(facts.overdue)} overdue"
    is_settled = facts.outstanding <= ZERO
    subject = {
        StatementTone.FRIENDLY: "Your statement of account: "
        + ("nothing to pay" if is_settled else f"{usd(facts.outstanding)} outstanding"),
        StatementTone.FIRM: f"Payment needed: {overdue} on your account",
        StatementTone.FINAL: f"Final notice: {overdue} on your account",
    }[tone]
    words = {"tone": tone.value.lower(), "is_settled": is_settled}
    return Content(subject, "statement", _words(facts) | words)


def _words(facts: StatementFacts) -> dict[str, object]:
    """The facts as a customer reads them; templates only place them."""
    more = facts.invoices[LISTED_INVOICES_MAX:]
    left = sum((invoice.balance_due for invoice in more), ZERO)
    return {
        "customer_name": one_line(facts.customer_name),
        "company_name": one_line(facts.company_name or ""),
        "as_of": long_day(facts.as_of),
        "first_day": long_day(facts.first_day),
        "outstanding": usd(facts.outstanding),
        "overdue": usd(facts.overdue),
        "is_overdue": facts.overdue > ZERO,
        "aging": [(words, usd(amount)) for words, amount in facts.aging],
        "invoices": [_listed(invoice) for invoice in facts.invoices[:LISTED_INVOICES_MAX]],
        "more": f"{_count(len(more), 'more open invoice')}: {usd(left)}" if more else "",
    }


def _listed(invoice: ListedInvoice) -> dict[str, object]:
    late = invoice.days_overdue
    return {
        "number": one_line(invoice.invoice_number),
        "due_on": long_day(invoice.due_on),
        "days_overdue": f"{_count(late, 'day')} overdue" if late > 0 else "",
        "balance_due": usd(invoice.balance_due),
        "url": invoice.url or "",
    }


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
