"""Statements on paper: made anew each time, since an account goes on."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Final

from accounting.errors import Conflict
from accounting.money import ZERO
from accounting.platform.rules import PlatformUser
from accounting.printing.company import Company
from accounting.printing.statement import (
    PrintedEntry,
    PrintedStatement,
    render_statement_in_thread,
)
from accounting.reports.rules import BUCKETS, EntryKind, Movement, Statement, aging_in_words
from accounting.wording import long_day

# Some 35 pages: 0.4 s, and 60 MB of memory, which the typesetter keeps for about ten documents.
PRINTED_ENTRIES_MAX: Final = 1_000

_WORDS: Final[Mapping[EntryKind, str]] = {
    EntryKind.INVOICE: "Invoice {}",
    EntryKind.PAYMENT: "Payment for invoice {}",
    EntryKind.CANCELLATION: "Invoice {} cancelled",
    EntryKind.REFUND: "Invoice {} taken back",
}
_PAYMENT_REFUNDED: Final = "Payment for invoice {} refunded"


class StatementTooLong(Conflict):
    """So many entries are not set on paper at once; as JSON they are answered."""

    def __init__(self, first: date, last: date, entries: int) -> None:
        super().__init__(
            f"The statement from {first} to {last} has {entries:,} entries; a PDF takes "
            f"{PRINTED_ENTRIES_MAX:,}. Ask for fewer days.",
            entries=entries,
            entriesMax=PRINTED_ENTRIES_MAX,
        )


async def print_statement(
    customer: PlatformUser, statement: Statement, company: Company, *, made_on: date
) -> bytes:
    """A statement as PDF, with the customer as the platform knows him now.

    Renders in this process, which must not fork after that (see `printing.typesetting`).
    Raises StatementTooLong.
    """
    if len(statement.entries) > PRINTED_ENTRIES_MAX:
        raise StatementTooLong(statement.first_day, statement.last_day, len(statement.entries))
    return await render_statement_in_thread(_facts(customer, statement, made_on), company)


def name_of_file(statement: Statement) -> str:
    """`statement-2026-01-01-2026-11-24.pdf`"""
    return f"statement-{statement.first_day}-{statement.last_day}.pdf"


def _facts(customer: PlatformUser, statement: Statement, made_on: date) -> PrintedStatement:
    return PrintedStatement(
        customer_name=customer.name,
        customer_email=customer.email,
        company_name=customer.company_name,
        made_on=made_on,
        first_day=statement.first_day,
        last_day=statement.last_day,
        opening_balance=statement.opening_balance,
        entries=[
            PrintedEntry(
                day=entry.movement.day,
                what=_what(entry.movement),
                note=_note(entry.movement),
                amount=entry.movement.amount,
                balance=entry.balance,
            )
            for entry in statement.entries
        ],
        closing_balance=statement.closing_balance,
        overdue=_overdue(statement),
        aging=aging_in_words(statement.aging),
    )


def _what(movement: Movement) -> str:
    is_given_back = movement.kind is EntryKind.REFUND and movement.reference is not None
    words = _PAYMENT_REFUNDED if is_given_back else _WORDS[movement.kind]
    return words.format(movement.invoice_number)


def _note(movement: Movement) -> str:
    return f"due {long_day(movement.due_date)}" if movement.kind is EntryKind.INVOICE else ""


def _overdue(statement: Statement) -> Decimal:
    _, *late = BUCKETS
    return sum((statement.aging[bucket] for bucket in late), ZERO)
