"""The export as a workbook, as a spreadsheet reads it; and one that is given up."""

from __future__ import annotations

import asyncio
import io
import os
import tempfile
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Iterator
from datetime import date
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from zipfile import ZipFile

import pytest

from accounting.reports.export import Row
from accounting.reports.xlsx_file import XlsxFile, write_xlsx
from export_rows import a_row, read_xlsx

MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where temporary files lie; no test may leave one, nor one that is open."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert (list(folder.iterdir()), open_files(folder)) == ([], [])


def open_files(folder: Path) -> list[str]:
    paths = []
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            paths.append(os.readlink(descriptor))
        except FileNotFoundError:
            continue
    return [path for path in paths if path.startswith(str(folder))]


def xlsx_of(*rows: Row, **limits: int) -> bytes:
    file = XlsxFile(**limits)
    file.add(rows)
    with file.finish() as result:
        return result.read()


def read_rows(*rows: Row) -> list[dict[str, Any]]:
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
    content = xlsx_of(a_row(totalAmount=Decimal(amount)))
    assert f"<v>{amount}</v>".encode() in part_of(content, "xl/worksheets/sheet1.xml")


@pytest.mark.parametrize("day", [date(2000, 1, 1), date(2024, 2, 29), date(2999, 12, 31)])
def test_days_are_the_same_days(day: date) -> None:
    [row] = read_rows(a_row(dueDate=day))

    assert row["dueDate"] == day


def test_amounts_show_two_decimals_and_days_their_year_first() -> None:
    sheet, styles = sheet_and_styles(xlsx_of(a_row()))

    code_of = {
        number.attrib["numFmtId"]: number.attrib["formatCode"]
        for number in styles.iter(f"{MAIN}numFmt")
    }
    [_, row] = sheet.iter(f"{MAIN}row")
    codes = [code_of.get(look_of(cell, styles).attrib["numFmtId"]) for cell in row]
    assert codes.count("#,##0.00") == 4
    assert codes.count("yyyy-mm-dd") == 3


@pytest.mark.parametrize(
    "text",
    [
        *("=1+1", "{=1+1}", "+1", "1e5", "007", "https://example.com", "mailto:a@example.com"),
        *("<b>&amp;\"'</b>", "_x0041_", " two  blanks ", "田中", "🪙", "]]>", "a\x0bb"),
        *("<r>", "<r></r>", "<r><t>Ada</t></r>", "<r></is></c><c><f>1+1</f></c><c><is></r>"),
    ],
)
def test_any_text_is_a_text(text: str) -> None:
    content = xlsx_of(a_row(customerName=text))

    [row] = read_xlsx(content)["Invoices"]
    assert row == read_rows(a_row())[0] | {"customerName": text}
    assert b"<f>" not in part_of(content, "xl/worksheets/sheet1.xml")


def test_the_header_is_bold_and_stays_in_sight_and_columns_have_widths() -> None:
    sheet, styles = sheet_and_styles(xlsx_of(a_row()))

    pane = sheet.find(f".//{MAIN}pane")
    assert pane is not None
    assert (pane.attrib["state"], pane.attrib["ySplit"]) == ("frozen", "1")
    fonts = list(styles.iterfind(f"{MAIN}fonts/{MAIN}font"))
    header, _ = sheet.iter(f"{MAIN}row")
    for cell in header:
        assert fonts[int(look_of(cell, styles).attrib["fontId"])].find(f"{MAIN}b") is not None
    # XlsxWriter describes neighbours of the same width together.
    columns = [column.attrib for column in sheet.iter(f"{MAIN}col")]
    assert (columns[0]["min"], columns[-1]["max"]) == ("1", str(len(a_row())))
    assert min(float(column["width"]) for column in columns) >= 9


def test_an_export_of_nothing_is_a_line_of_names() -> None:
    assert read_xlsx(xlsx_of()) == {"Invoices": []}


def test_what_does_not_fit_goes_on_in_another_sheet() -> None:
    numbers = [f"20260112{serial:02}" for serial in range(1, 8)]

    sheets = read_xlsx(xlsx_of(*(a_row(invoiceNumber=number) for number in numbers), rows_max=3))

    assert list(sheets) == ["Invoices", "Invoices 2", "Invoices 3", "Invoices 4"]
    assert [row["invoiceNumber"] for rows in sheets.values() for row in rows] == numbers
    assert [len(rows) for rows in sheets.values()] == [2, 2, 2, 1]


def test_rows_are_not_kept_in_memory() -> None:
    file = XlsxFile()
    file.add(different_rows(100))
    tracemalloc.start()
    try:
        file.add(different_rows(2_000))
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        file.discard()

    assert kept < 500_000


def test_one_that_is_cut_short_has_little_left_to_do() -> None:
    rows = list(different_rows(2_000))
    whole = len(xlsx_of(*rows))
    file = XlsxFile()
    file.add(rows)

    file.cut_short()
    with file.finish() as result:
        size = result.seek(0, os.SEEK_END)

    assert size < whole / 3


def different_rows(number: int) -> Iterator[Row]:
    return (a_row(customerName=f"{serial * 7_919**3:x}") for serial in range(number))


async def in_parts(*parts: list[Row]) -> AsyncIterator[list[Row]]:
    for rows in parts:
        yield rows


async def test_all_parts_are_in_the_file_in_their_order() -> None:
    numbers = [str(serial) for serial in range(450)]
    rows = [a_row(invoiceNumber=number) for number in numbers]

    with await write_xlsx(in_parts(rows[:401], rows[401:])) as file:
        read = read_xlsx(file.read())["Invoices"]

    assert [row["invoiceNumber"] for row in read] == numbers


async def test_others_have_their_turn_while_it_is_written() -> None:
    turns = [time.monotonic()]

    async def others() -> None:
        while True:
            await asyncio.sleep(0.001)
            turns.append(time.monotonic())

    other = asyncio.create_task(others())
    (await write_xlsx(in_parts(list(different_rows(3_000))))).close()
    other.cancel()

    longest = max(later - earlier for earlier, later in pairwise(turns))
    assert longest < (turns[-1] - turns[0]) / 3


async def test_nothing_is_left_when_a_part_cannot_be_read() -> None:
    async def parts() -> AsyncIterator[list[Row]]:
        yield [a_row()] * 500
        raise ValueError("broken row")

    with pytest.raises(ValueError, match="broken row"):
        await write_xlsx(parts())


async def test_nothing_is_left_when_a_row_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="zip"):
        await write_xlsx(in_parts([a_row()], [("too short",)]))


async def test_nothing_is_left_when_it_is_given_up_while_rows_are_written() -> None:
    has_begun = asyncio.Event()

    async def parts() -> AsyncIterator[list[Row]]:
        while True:
            yield [a_row()] * 1_000
            has_begun.set()

    await give_up(write_xlsx(parts()), has_begun)


async def test_nothing_is_left_when_it_is_given_up_while_it_is_put_together() -> None:
    is_read = asyncio.Event()

    async def parts() -> AsyncIterator[list[Row]]:
        yield list(different_rows(5_000))
        is_read.set()

    await give_up(write_xlsx(parts()), is_read)


async def give_up(writing: Awaitable[Any], when: asyncio.Event) -> None:
    work = asyncio.ensure_future(writing)
    await when.wait()
    await asyncio.sleep(0.01)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work


def sheet_and_styles(content: bytes) -> tuple[ElementTree.Element, ElementTree.Element]:
    sheet, styles = (
        ElementTree.fromstring(part_of(content, name))
        for name in ("xl/worksheets/sheet1.xml", "xl/styles.xml")
    )
    return sheet, styles


def look_of(cell: ElementTree.Element, styles: ElementTree.Element) -> ElementTree.Element:
    looks = list(styles.iterfind(f"{MAIN}cellXfs/{MAIN}xf"))
    return looks[int(cell.attrib.get("s", 0))]


def part_of(content: bytes, name: str) -> bytes:
    with ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        return archive.read(name)
