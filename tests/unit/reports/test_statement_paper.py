"""A statement in the words of its paper, and how much of it a PDF takes."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from accounting.ids import ObjectId
from accounting.printing.company import Company
from accounting.reports.paper import (
    PRINTED_ENTRIES_MAX,
    StatementTooLong,
    name_of_file,
    print_statement,
)
from accounting.reports.rules import (
    BUCKETS,
    EntryKind,
    Movement,
    Statement,
    aging_in_words,
    draw_up,
    range_of_statement,
)
from builders import a_customer
from pdf_reading import text_of

FIRST, LAST, DUE = date(2026, 1, 1), date(2026, 3, 31), date(2026, 2, 11)
COMPANY = Company(name="Northern Hosting Ltd")
MINUS = "\N{MINUS SIGN}"
INVOICE_ID = ObjectId("bbbbbbbbbbbbbbbbbbbbbbbb")


def moved(kind: EntryKind, amount: str, day: int, reference: str | None = None) -> Movement:
    on = date(2026, 1, day)
    return Movement(on, kind, Decimal(amount), INVOICE_ID, "2026010201", DUE, reference)


async def printed(statement: Statement) -> str:
    pdf = await print_statement(a_customer(), statement, COMPANY, made_on=date(2026, 4, 2))
    return text_of(pdf)


async def test_each_kind_of_entry_has_its_words() -> None:
    movements = [
        moved(EntryKind.INVOICE, "500.00", 2),
        moved(EntryKind.PAYMENT, "-200.00", 3, "c0"),
        moved(EntryKind.CANCELLATION, "-500.00", 4),
        moved(EntryKind.REFUND, "200.00", 5, "c0"),
        moved(EntryKind.REFUND, "-500.00", 6),
    ]

    text = await printed(draw_up(movements, FIRST, LAST))

    for words in (
        "2 January 2026 Invoice 2026010201 due 11 February 2026 USD 500.00 USD 500.00",
        f"3 January 2026 Payment for invoice 2026010201 {MINUS} USD 200.00 USD 300.00",
        f"4 January 2026 Invoice 2026010201 cancelled {MINUS} USD 500.00 {MINUS} USD 200.00",
        "5 January 2026 Payment for invoice 2026010201 refunded USD 200.00 USD 0.00",
        f"6 January 2026 Invoice 2026010201 taken back {MINUS} USD 500.00 {MINUS} USD 500.00",
    ):
        assert words in text, words


async def test_the_customer_is_called_as_the_platform_knows_him() -> None:
    text = await printed(draw_up([], FIRST, LAST))

    assert "Customer Northern Hash Ltd Ada Holm ada@example.com" in text
    assert "Statement date 2 April 2026 From 1 January 2026 To 31 March 2026" in text


@pytest.mark.parametrize(
    ("last", "overdue"), [(DUE, "Nothing overdue"), (LAST, "USD 500.00 overdue")]
)
async def test_what_is_overdue_is_so_on_its_last_day(last: date, overdue: str) -> None:
    text = await printed(draw_up([moved(EntryKind.INVOICE, "500.00", 2)], FIRST, last))

    assert f"USD 500.00 {overdue}" in text


async def test_a_pdf_takes_so_many_entries_and_not_one_more() -> None:
    movements = [moved(EntryKind.INVOICE, "1.00", 2)] * PRINTED_ENTRIES_MAX

    most = await printed(draw_up(movements, FIRST, LAST))
    with pytest.raises(StatementTooLong):
        await printed(draw_up([*movements, movements[0]], FIRST, LAST))

    assert "Closing balance USD 1,000.00" in most


def test_its_file_is_named_after_its_days() -> None:
    assert name_of_file(draw_up([], FIRST, LAST)) == "statement-2026-01-01-2026-03-31.pdf"


def test_every_step_of_the_aging_has_its_words() -> None:
    amounts = [Decimal(at) for at in range(len(BUCKETS))]

    words = aging_in_words(dict(zip(BUCKETS, amounts, strict=True)))

    assert [name for name, _ in words] == [
        "Not yet due",
        "1 to 30 days",
        "31 to 60 days",
        "61 to 90 days",
        "Over 90 days",
    ]
    assert [amount for _, amount in words] == amounts


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        (None, None, (date(2026, 1, 1), date(2026, 5, 4))),
        (None, date(2025, 6, 30), (date(2025, 1, 1), date(2025, 6, 30))),
        (date(2024, 2, 29), None, (date(2024, 2, 29), date(2026, 5, 4))),
        (FIRST, LAST, (FIRST, LAST)),
    ],
)
def test_unless_given_it_is_the_year_up_to_today(
    first: date | None, last: date | None, expected: tuple[date, date]
) -> None:
    assert range_of_statement(first, last, date(2026, 5, 4)) == expected
