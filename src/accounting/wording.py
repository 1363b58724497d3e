"""How money, days and names are written for people: the same in e-mails and on paper."""

from __future__ import annotations

import unicodedata
from datetime import date
from decimal import Decimal
from typing import Final

from accounting.money import cents

# Control characters, lone surrogates and the Unicode line breaks: seen by nobody, or a second line.
_UNPRINTABLE: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})


def one_line(text: str) -> str:
    """Collapse line breaks, control characters and runs of spaces into single spaces."""
    printable = (
        " " if unicodedata.category(character) in _UNPRINTABLE else character for character in text
    )
    return " ".join("".join(printable).split())


def usd(amount: Decimal) -> str:
    """`USD 1,250.00`"""
    return f"USD {cents(amount):,.2f}"


def signed_usd(amount: Decimal) -> str:
    """`USD 1,250.00`; what takes away has a minus sign before that."""
    return f"\N{MINUS SIGN} {usd(-amount)}" if amount < 0 else usd(abs(amount))


def long_day(day: date) -> str:
    """`5 February 2026`"""
    return f"{day.day} {day:%B %Y}"


def long_month(billing_period: str) -> str:
    """`February 2026`, from `2026-02`."""
    return f"{date.fromisoformat(f'{billing_period}-01'):%B %Y}"
