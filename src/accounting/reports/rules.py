"""A customer's account on paper: entries, running balance, aging (spec section 5, "statement").

Amounts in USD; what the customer owes is positive. Days are in the business zone, and both ends of
a range are included. The closing balance of today is the outstanding of section 4: over the open
invoices, the sum of total minus paid.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import StrEnum
from typing import Final

from accounting.errors import Invalid
from accounting.ids import ObjectId
from accounting.money import ZERO

STATEMENT_DAYS_MAX: Final = 3_660

_BUCKET_ENDS: Final = ((0, "current"), (30, "1-30"), (60, "31-60"), (90, "61-90"))
OLDEST_BUCKET: Final = "90+"
BUCKETS: Final = (*(name for _, name in _BUCKET_ENDS), OLDEST_BUCKET)
# As customers read them, in e-mails and on paper.
_WORDS_OF_BUCKET: Final = {
    "current": "Not yet due",
    "1-30": "1 to 30 days",
    "31-60": "31 to 60 days",
    "61-90": "61 to 90 days",
    OLDEST_BUCKET: "Over 90 days",
}


class EntryKind(StrEnum):
    """What moved the account; the order is that of entries of one day."""

    INVOICE = "INVOICE"
    PAYMENT = "PAYMENT"
    CANCELLATION = "CANCELLATION"
    REFUND = "REFUND"


class RangeNotValid(Invalid):
    """A statement covers at least a day and at most STATEMENT_DAYS_MAX."""

    def __init__(self, first: date, last: date) -> None:
        rule = f"must be from {first} on and within {STATEMENT_DAYS_MAX} days"
        super().__init__(
            f"A statement from {first} to {last} cannot be made: to {rule}.",
            errors=[("to", rule)],
        )


@dataclass(frozen=True, slots=True)
class Movement:
    """One entry of the account; `amount` is what it adds to what the customer owes."""

    day: date
    kind: EntryKind
    amount: Decimal
    invoice_id: ObjectId
    invoice_number: str
    due_date: date
    reference: str | None = None


@dataclass(frozen=True, slots=True)
class StatementEntry:
    """A movement with the balance after it."""

    movement: Movement
    balance: Decimal


@dataclass(frozen=True, slots=True)
class Statement:
    """An account over a range of days; aging is that of the closing balance on the last day."""

    first_day: date
    last_day: date
    opening_balance: Decimal
    entries: Sequence[StatementEntry]
    closing_balance: Decimal
    aging: dict[str, Decimal]


def range_of_statement(first: date | None, last: date | None, today: date) -> tuple[date, date]:
    """The days of a statement, both included: the current year up to today unless given."""
    last = last or today
    return first or date(last.year, 1, 1), last


def check_range(first: date, last: date) -> None:
    """Raises RangeNotValid."""
    if not 0 <= (last - first).days < STATEMENT_DAYS_MAX:
        raise RangeNotValid(first, last)


def draw_up(movements: Iterable[Movement], first: date, last: date) -> Statement:
    """The statement of a range out of every movement up to its last day; later ones are left out.

    Those before the first day are the opening balance. Raises RangeNotValid.
    """
    check_range(first, last)
    known = sorted(
        (movement for movement in movements if movement.day <= last),
        key=lambda movement: (movement.day, _ORDER[movement.kind], movement.invoice_number),
    )
    opening = sum((movement.amount for movement in known if movement.day < first), ZERO)
    entries: list[StatementEntry] = []
    balance = opening
    for movement in known:
        if movement.day >= first:
            balance += movement.amount
            entries.append(StatementEntry(movement, balance))
    return Statement(first, last, opening, entries, balance, _aging_of(known, last))


_ORDER: Final = {kind: position for position, kind in enumerate(EntryKind)}


def _aging_of(movements: Iterable[Movement], on: date) -> dict[str, Decimal]:
    owed: dict[ObjectId, tuple[Decimal, date]] = {}
    for movement in movements:
        amount, _ = owed.get(movement.invoice_id, (ZERO, on))
        owed[movement.invoice_id] = (amount + movement.amount, movement.due_date)
    return age(owed.values(), on)


def age(open_amounts: Iterable[tuple[Decimal, date]], on: date) -> dict[str, Decimal]:
    """Open amounts by how many days their due date is past on a day; every bucket is there.

    An invoice is current on its due date, and one day late on the day after.
    """
    sums = dict.fromkeys(BUCKETS, ZERO)
    for amount, due in open_amounts:
        sums[bucket_of(due, on)] += amount
    return sums


def aging_in_words(aging: Mapping[str, Decimal]) -> list[tuple[str, Decimal]]:
    """Each bucket as customers read it, and its sum."""
    return [(_WORDS_OF_BUCKET[bucket], amount) for bucket, amount in aging.items()]


def bucket_of(due: date, on: date) -> str:
    """The bucket of aging that a due date falls into on a day."""
    days_late = (on - due).days
    return next((name for end, name in _BUCKET_ENDS if days_late <= end), OLDEST_BUCKET)
