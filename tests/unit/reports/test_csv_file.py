"""The export as CSV: what a spreadsheet and a program read out of it."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounting.reports.csv_file import CsvFile, as_safe_text
from export_rows import a_row, read_csv

STARTS_A_FORMULA = "=+-@\t\r\n\uff1d\uff0b\uff0d\uff20"


def csv_of(*rows: tuple[object, ...]) -> bytes:
    file = CsvFile()
    return file.begin() + file.add(rows)  # type: ignore[arg-type]


def test_cells_are_written_as_programs_read_them() -> None:
    content = csv_of(a_row())

    [row] = read_csv(content)
    assert row["isOverdue"] == "true"
    assert row["customerCompany"] == row["paidDate"] == ""
    assert (row["totalMiners"], row["totalAmount"], row["balanceDue"]) == ("5", "500.00", "499.90")
    assert (row["issuedDate"], row["dueDate"]) == ("2026-01-12", "2026-02-11")
    assert content.count(b"\r\n") == 2
    assert content.replace(b"\r\n", b"").count(b"\n") == 0


def test_numbers_stay_numbers() -> None:
    [row] = read_csv(csv_of(a_row(balanceDue=Decimal("-5.00"), totalAmount=Decimal("1E+3"))))

    assert (row["balanceDue"], row["totalAmount"]) == ("-5.00", "1000.00")


@pytest.mark.parametrize(
    "name", ['Holm, "Ada"', "two\nlines", "田中マイニング株式会社", "Demir A.Ş. 🪙"]
)
def test_any_text_reads_back(name: str) -> None:
    [row] = read_csv(csv_of(a_row(customerName=name)))

    assert row["customerName"] == name


@pytest.mark.parametrize("start", STARTS_A_FORMULA)
def test_no_text_begins_a_formula(start: str) -> None:
    [row] = read_csv(csv_of(a_row(customerName=f"{start}1+1")))

    assert row["customerName"] == f"'{start}1+1"


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        (" =1", "' =1"),
        ('"=1', "'\"=1"),
        # A spreadsheet that expects semicolons or tabs sees another cell begin here.
        ("x;=1", "x;'=1"),
        ('x; "=1', "x;' \"=1"),
        ("x\t@y;+z", "x\t'@y;'+z"),
        # Nothing to fear.
        ("a-b=c@d+e", "a-b=c@d+e"),
        ("'=1", "'=1"),
        ("a;b", "a;b"),
        ("5", "5"),
        ("", ""),
    ],
)
def test_an_apostrophe_stands_where_a_formula_would_begin(text: str, safe: str) -> None:
    assert as_safe_text(text) == safe


@given(st.text(alphabet=st.sampled_from("=+-@;,\t\r\n\"' aé\uff1d")))
def test_no_cell_of_any_text_begins_with_a_formula(text: str) -> None:
    for separator in (";", "\t", "\r", "\n"):
        for cell in as_safe_text(text).split(separator):
            assert not cell.lstrip(' "').startswith(tuple("=+-@\uff1d"))


def test_an_export_of_nothing_is_a_line_of_names() -> None:
    assert read_csv(csv_of()) == []
