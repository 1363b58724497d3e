"""The export as CSV (RFC 4180), made for spreadsheets: UTF-8 with its mark, no formulas.

A spreadsheet takes a text that begins with one of a few characters for a formula, which can call
programs and send away what stands in other cells (CWE-1236). An apostrophe before it makes it text
again. Numbers and days are ours and stay as they are.
"""

from __future__ import annotations

import csv
import re
from codecs import BOM_UTF8
from collections.abc import Callable, Iterable, Mapping
from datetime import date
from decimal import Decimal
from io import StringIO
from typing import Any, Final

from accounting.reports.export import COLUMNS, Cell, Kind, Row

_LINE_END: Final = "\r\n"
# Wide forms count too: spreadsheets set to Japanese or Chinese read them like the others. Blanks
# before are passed over by some, and a spreadsheet that expects semicolons or tabs begins a new
# cell behind one in the middle of ours.
_FORMULA_START = re.compile(
    r"(?:^|(?<=[;\t\r\n]))(?=[\s\"]*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n])"
)


def as_safe_text(text: str) -> str:
    """The text with an apostrophe wherever a spreadsheet would begin a formula."""
    if text[:1].isalnum() and ";" not in text and text.isprintable():
        return text  # nearly every one, and the pattern takes ten times as long
    return _FORMULA_START.sub("'", text)


class CsvFile:
    """The parts of one file: `begin`, then `add` for rows; put together they are the file."""

    def begin(self) -> bytes:
        return BOM_UTF8 + _lines([[column.name for column in COLUMNS]])

    def add(self, rows: Iterable[Row]) -> bytes:
        return _lines(
            [
                write(cell) if cell is not None else ""
                for write, cell in zip(_WRITERS, row, strict=True)
            ]
            for row in rows
        )


def _lines(rows: Iterable[list[str]]) -> bytes:
    text = StringIO()
    csv.writer(text, lineterminator=_LINE_END).writerows(rows)
    return text.getvalue().encode()


def _money(amount: Decimal) -> str:
    return f"{amount:.2f}"


def _flag(value: bool) -> str:
    return "true" if value else "false"


_WRITER_OF: Final[Mapping[Kind, Callable[[Any], str]]] = {
    Kind.TEXT: as_safe_text,
    Kind.COUNT: str,
    Kind.MONEY: _money,
    Kind.DAY: date.isoformat,
    Kind.FLAG: _flag,
}
_WRITERS: Final[tuple[Callable[[Cell], str], ...]] = tuple(
    _WRITER_OF[column.kind] for column in COLUMNS
)
