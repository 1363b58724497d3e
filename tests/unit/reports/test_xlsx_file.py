"""The export as a workbook, as a spreadsheet reads it."""

from __future__ import annotations

import io
from datetime import date
from decimal import Decimal
from typing import Any
from xml.etree import ElementTree
from zipfile import ZipFile

import pytest

from accounting.reports.xlsx_file import XlsxFile
from export_rows import a_row, read_xlsx

MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"


def xlsx_of(*rows: tuple[object, ...], **limits: int) -> bytes:
    file = XlsxFile(**limits)
    return file.begin() + file.add(rows) + file.end()  # type: ignore[arg-type]


def read_rows(*rows: tuple[object, ...]) -> list[dict[str, Any]]:
    return read_xlsx(xlsx_of(*rows))["Invoices"]


def test_cells_are_numbers_days_and_texts() -> None:
    [row] = read_rows(a_row())

    assert row["isOverdue"] is True
    assert (row["totalMiners"], row["totalAmount"], row["balanceDue"]) == (5, 500.0, 499.9)
    assert (row["issuedDate"], row["dueDate"]) == (date(2026, 1, 12), date(2026, 2, 11))
    assert row["customerCompany"] == row["paidDate"] == ""
    # Digits that are no number: nobody sums them up, and none gets lost.
    assert row["invoiceNumber"] == "2026011201"


@pytest.mark.parametrize("amount", ["0.01", "0.10", "9999999999.99", "1234567890.12", "-5.05"])
def test_amounts_are_exact_to_the_cent(amount: str) -> None:
    [row] = read_rows(a_row(totalAmount=Decimal(amount)))

    assert f"{row['totalAmount']:.2f}" == amount
    assert f"<v>{amount}</v>".encode() in sheet_xml(xlsx_of(a_row(totalAmount=Decimal(amount))))


@pytest.mark.parametrize("day", [date(2000, 1, 1), date(2024, 2, 29), date(2999, 12, 31)])
def test_days_are_the_same_days(day: date) -> None:
    [row] = read_rows(a_row(dueDate=day))

    assert row["dueDate"] == day


@pytest.mark.parametrize(
    "text",
    ["=1+1", "+1", "<b>&amp;\"'</b>", "_x0041_", " two  blanks ", "田中", "🪙", "]]>", "1e5"],
)
def test_any_text_is_a_text(text: str) -> None:
    content = xlsx_of(a_row(customerName=text))

    assert read_xlsx(content)["Invoices"][0]["customerName"] == text
    assert b"<f" not in sheet_xml(content)


def test_what_xml_cannot_hold_becomes_a_blank() -> None:
    [row] = read_rows(a_row(customerName="a\x0bb\x00c\uffffd"))

    assert row["customerName"] == "a b c d"


def test_the_header_stays_in_sight_and_columns_have_widths() -> None:
    sheet = ElementTree.fromstring(sheet_xml(xlsx_of(a_row())))

    pane = sheet.find(f".//{MAIN}pane")
    widths = [float(column.attrib["width"]) for column in sheet.iter(f"{MAIN}col")]
    assert pane is not None
    assert (pane.attrib["state"], pane.attrib["ySplit"]) == ("frozen", "1")
    assert len(widths) == len(a_row())
    assert min(widths) >= 9


def test_an_export_of_nothing_is_a_line_of_names() -> None:
    assert read_xlsx(xlsx_of()) == {"Invoices": []}


@pytest.mark.parametrize("limits", [{"rows_max": 3}, {"bytes_max": 4_000}])
def test_what_does_not_fit_goes_on_in_another_sheet(limits: dict[str, int]) -> None:
    numbers = [f"20260112{serial:02}" for serial in range(1, 8)]

    sheets = read_xlsx(xlsx_of(*(a_row(invoiceNumber=number) for number in numbers), **limits))

    assert list(sheets)[:2] == ["Invoices", "Invoices 2"]
    assert [row["invoiceNumber"] for rows in sheets.values() for row in rows] == numbers
    if "rows_max" in limits:
        assert [len(rows) for rows in sheets.values()] == [2, 2, 2, 1]


def test_parts_are_handed_out_as_they_are_made_and_kept_nowhere() -> None:
    file = XlsxFile()
    file.begin()
    sizes = [len(file.add([a_row()] * 500)) for _ in range(40)]

    assert sum(size > 0 for size in sizes) > 5
    assert len(file.end()) < sum(sizes)


def test_the_same_rows_give_the_same_file() -> None:
    assert xlsx_of(a_row()) == xlsx_of(a_row())


def sheet_xml(content: bytes) -> bytes:
    with ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        return archive.read("xl/worksheets/sheet1.xml")
