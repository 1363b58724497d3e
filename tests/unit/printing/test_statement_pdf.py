"""The statement as PDF, read back: what it says, on one page and on many."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest

from accounting.money import ZERO
from accounting.printing.company import Company
from accounting.printing.statement import (
    PrintedEntry,
    PrintedStatement,
    render_statement,
    render_statement_in_thread,
)
from pdf_reading import (
    NOTDEF,
    glyphs_of,
    letters_of,
    lines_of,
    overlapping,
    reader_of,
    same_line,
    standards_of,
    text_of,
)

MINUS = "\N{MINUS SIGN}"
COMPANY = Company(
    name="Northern Hosting Ltd",
    address=("14 Harbour Street", "Belfast BT1 4NX"),
    tax_id="GB 123 4567 89",
    email="billing@example.com",
    payment_instructions=("IBAN: GB33 BUKB 2020 1555 5555 55",),
)
ENTRIES = (
    PrintedEntry(
        date(2026, 2, 11),
        "Invoice 2026021101",
        "due 13 March 2026",
        Decimal("1250.00"),
        Decimal("1350.00"),
    ),
    PrintedEntry(
        date(2026, 2, 20),
        "Payment for invoice 2026011201",
        "",
        Decimal("-100.00"),
        Decimal("1250.00"),
    ),
)
STATEMENT = PrintedStatement(
    customer_name="Nia Okafor",
    customer_email="nia@example.org",
    company_name="Okafor Digital",
    made_on=date(2026, 4, 2),
    first_day=date(2026, 2, 1),
    last_day=date(2026, 3, 31),
    opening_balance=Decimal("100.00"),
    entries=ENTRIES,
    closing_balance=Decimal("1250.00"),
    overdue=Decimal("850.10"),
    aging=[
        ("Not yet due", Decimal("399.90")),
        ("1 to 30 days", Decimal("850.10")),
        ("31 to 60 days", ZERO),
        ("61 to 90 days", ZERO),
        ("Over 90 days", ZERO),
    ],
)


def with_entries(count: int, **changes: Any) -> PrintedStatement:
    """Entry by entry one dollar more."""
    entries = [
        PrintedEntry(
            date(2026, 2, 1) + timedelta(days=at % 28),
            f"Invoice {2026020100 + at}",
            "due 13 March 2026" if at % 2 else "",
            Decimal("1.00"),
            Decimal(100 + at + 1),
        )
        for at in range(count)
    ]
    return replace(STATEMENT, entries=entries, **changes)


def test_every_fact_is_on_the_paper() -> None:
    pdf = render_statement(STATEMENT, COMPANY)

    lines = lines_of(pdf)
    assert lines[:5] == [
        "Northern Hosting Ltd",
        "14 Harbour Street",
        "Belfast BT1 4NX",
        "Tax ID GB 123 4567 89",
        "billing@example.com",
    ]
    customer = lines.index("Customer")
    assert lines[customer + 1 : customer + 4] == ["Okafor Digital", "Nia Okafor", "nia@example.org"]
    for words in [
        ("Statement date", "2 April 2026"),
        ("From", "1 February 2026"),
        ("To", "31 March 2026"),
        ("Balance on 31 March 2026",),
        ("USD 1,250.00", "USD 850.10 overdue"),
        ("1 February 2026", "Opening balance", "USD 100.00"),
        (
            "20 February 2026",
            "Payment for invoice 2026011201",
            f"{MINUS} USD 100.00",
            "USD 1,250.00",
        ),
        ("31 March 2026", "Closing balance", "USD 1,250.00"),
        ("Not yet due", "1 to 30 days", "31 to 60 days", "61 to 90 days", "Over 90 days"),
        ("USD 399.90", "USD 850.10", "USD 0.00", "USD 0.00", "USD 0.00"),
        ("IBAN: GB33 BUKB 2020 1555 5555 55",),
        ("Please quote the numbers of the invoices with your payment.",),
        ("Statement, 1 February 2026 to 31 March 2026", "Page 1 of 1"),
    ]:
        assert same_line(lines, *words), words
    invoice = "11 February 2026 Invoice 2026021101 due 13 March 2026 USD 1,250.00 USD 1,350.00"
    assert invoice in text_of(pdf)


@pytest.mark.parametrize(
    ("closing", "overdue", "note", "asks"),
    [
        ("1250.00", "0.01", "USD 0.01 overdue", True),
        ("0.01", "0.00", "Nothing overdue", True),
        ("0.00", "0.00", "Nothing to pay", False),
        ("-0.01", "0.00", "Nothing to pay", False),
    ],
)
def test_it_asks_for_money_only_where_something_is_owed(
    closing: str, overdue: str, note: str, asks: bool
) -> None:
    facts = replace(STATEMENT, closing_balance=Decimal(closing), overdue=Decimal(overdue))

    lines = lines_of(render_statement(facts, COMPANY))

    assert any(line.endswith(note) for line in lines)
    assert ("How to pay" in lines) == asks
    assert any("IBAN" in line for line in lines) == asks


def test_a_balance_in_the_customers_favour_has_a_minus_sign() -> None:
    facts = replace(STATEMENT, closing_balance=Decimal("-5.00"), overdue=ZERO)

    lines = lines_of(render_statement(facts, COMPANY))

    assert same_line(lines, "31 March 2026", "Closing balance", f"{MINUS} USD 5.00")


def test_an_account_that_nothing_moved_is_stated_too() -> None:
    facts = replace(STATEMENT, entries=(), opening_balance=ZERO, closing_balance=ZERO, overdue=ZERO)

    text = text_of(render_statement(facts, COMPANY))

    assert "Opening balance USD 0.00 31 March 2026 Closing balance USD 0.00" in text


def test_many_pages_say_the_heads_again_and_lose_no_entry() -> None:
    pdf = render_statement(with_entries(90), COMPANY)

    pages = [" ".join(page.extract_text().split()) for page in reader_of(pdf).pages]
    assert len(pages) == 4
    for number, page in enumerate(pages, 1):
        assert page.count("Date Entry Amount Balance") == 1
        assert page.endswith(f"Page {number} of 4")
        assert page.count("Opening balance") == (number == 1)
    text = text_of(pdf)
    assert all(text.count(f"Invoice {2026020100 + at}") == 1 for at in range(90))
    assert "Closing balance" in pages[-1]
    assert overlapping(letters_of(pdf)) == []
    assert standards_of(pdf) == {"PDF/A-2A", "PDF/UA-1"}


@pytest.mark.parametrize("count", range(15, 40))
def test_wherever_the_page_ends_the_aging_stays_in_one_piece(count: int) -> None:
    pages = [
        " ".join(page.extract_text().split())
        for page in reader_of(render_statement(with_entries(count), COMPANY)).pages
    ]

    [page] = [page for page in pages if "by days past due" in page]
    assert "Over 90 days" in page
    assert "USD 399.90 USD 850.10" in page


def test_largest_amounts_stay_inside_their_columns() -> None:
    much = Decimal("9999999999.99")
    entry = replace(ENTRIES[1], day=date(2026, 9, 30), amount=-much, balance=-much)
    facts = replace(
        STATEMENT,
        entries=[entry],
        opening_balance=-much,
        closing_balance=much,
        overdue=much,
        aging=[(words, much) for words, _ in STATEMENT.aging],
    )

    pdf = render_statement(facts, COMPANY)

    letters = letters_of(pdf)
    amount = f"{MINUS} USD 9,999,999,999.99"
    assert f"30 September 2026 {entry.what} {amount} {amount}" in text_of(pdf)
    assert overlapping(letters) == []
    assert max(letter.right for letter in letters) <= (210 - 20) / 25.4 * 72 + 1


@pytest.mark.parametrize("name", ['#panic("x")', "*bold* _it_ $x^2$ @ref", '"}, {"entries": 1'])
def test_markup_in_a_name_stays_text(name: str) -> None:
    entry = replace(ENTRIES[0], what=name, note=name)
    facts = replace(STATEMENT, customer_name=name, company_name=name, entries=[entry])

    assert text_of(render_statement(facts, COMPANY)).count(name) == 4


@pytest.mark.parametrize(
    ("name", "font"),
    [("北京矿业有限公司", "NotoSansCJKsc"), ("株式会社ミナト", "NotoSansCJKjp")],
)
def test_names_show_their_own_letters(name: str, font: str) -> None:
    pdf = render_statement(replace(STATEMENT, customer_name=name), COMPANY)

    glyphs = glyphs_of(pdf)
    assert name in text_of(pdf)
    assert any(used.startswith(font) for used in glyphs)
    assert all(NOTDEF not in numbers for numbers in glyphs.values())


def test_arabic_shows_its_own_letters() -> None:
    pdf = render_statement(replace(STATEMENT, customer_name="شركة التعدين العربية"), COMPANY)

    assert len(glyphs_of(pdf)["NotoSansArabic-Regular"]) > 10


def test_its_metadata_say_what_it_is_and_of_when() -> None:
    metadata = reader_of(render_statement(STATEMENT, COMPANY)).metadata

    assert metadata is not None
    assert metadata.title == "Statement, 1 February 2026 to 31 March 2026"
    assert metadata.author == "Northern Hosting Ltd"
    assert f"{metadata.creation_date:%Y-%m-%d %H:%M %Z}" == "2026-04-02 00:00 UTC"


async def test_in_a_thread_it_is_the_same_document() -> None:
    assert await render_statement_in_thread(STATEMENT, COMPANY) == render_statement(
        STATEMENT, COMPANY
    )
