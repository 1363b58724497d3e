"""The export as an Excel workbook, written to disk by XlsxWriter before its first byte is sent.

On the way it takes some 1.7 KB of disk for each row, where the system keeps temporary files.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import suppress
from datetime import date
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import IO, Any, Final, TypeVar

from xlsxwriter import Workbook

from accounting.reports.export import COLUMNS, Kind, Row

T = TypeVar("T")

# What Excel can show; more rows go on in another sheet.
SHEET_ROWS_MAX: Final = 1_048_576
# So few are written in one go, some 40 ms: then others have their turn, or nobody waits any more.
ROWS_AT_ONCE: Final = 200
_OPTIONS: Final = {
    # One row in memory at a time, all others in files.
    "constant_memory": True,
    # Used only where a sheet has more than 2 GiB, which is an error otherwise.
    "use_zip64": True,
}


async def write_xlsx(parts: AsyncIterator[list[Row]]) -> IO[bytes]:
    """The rows as a finished workbook, to be read from its beginning; closed, it is gone from disk.

    When it fails or is cancelled, nothing is left of it. Writing is work for a thread.
    """
    file = XlsxFile()
    try:
        async for rows in parts:
            for start in range(0, len(rows), ROWS_AT_ONCE):
                await _in_thread(file.add, rows[start : start + ROWS_AT_ONCE])
        return await _in_thread(file.finish, cut_short=file.cut_short)
    except BaseException:
        await _in_thread(file.discard)
        raise


class XlsxFile:
    """A workbook in the making: `add` for rows, then `finish`, or `discard` at any time."""

    def __init__(self, *, rows_max: int = SHEET_ROWS_MAX) -> None:
        self._rows_max = rows_max
        self._folder = TemporaryDirectory(prefix="accounting-export-")
        # Without a name, so that it goes with its last reader, even with one who is killed.
        self._result: IO[bytes] = TemporaryFile()  # noqa: SIM115
        self._workbook = Workbook(self._result, _OPTIONS | {"tmpdir": self._folder.name})
        self._money = self._workbook.add_format({"num_format": "#,##0.00"})
        self._day = self._workbook.add_format({"num_format": "yyyy-mm-dd"})
        self._bold = self._workbook.add_format({"bold": True})
        writer_of: Mapping[Kind, Callable[[int, int, Any], None]] = {
            Kind.TEXT: self._write_text,
            Kind.COUNT: self._write_number,
            Kind.MONEY: self._write_money,
            Kind.DAY: self._write_day,
            Kind.FLAG: self._write_flag,
        }
        self._writers = [writer_of[column.kind] for column in COLUMNS]
        self._begin_sheet()

    def add(self, rows: Iterable[Row]) -> None:
        for row in rows:
            if self._rows == self._rows_max:
                self._begin_sheet()
            for column, (write, cell) in enumerate(zip(self._writers, row, strict=True)):
                if cell is not None:
                    write(self._rows, column, cell)
            self._rows += 1

    def finish(self) -> IO[bytes]:
        """Put the workbook together, which takes some 10 seconds for a million rows."""
        self._workbook.close()
        self._folder.cleanup()
        self._result.seek(0)
        return self._result

    def cut_short(self) -> None:
        """Let a `finish` that runs in another thread end soon; what it makes is no workbook."""
        # Nothing can interrupt it, but it has little to do with files that are empty.
        with suppress(FileNotFoundError):
            for path in Path(self._folder.name).iterdir():
                with suppress(FileNotFoundError):
                    os.truncate(path, 0)

    def discard(self) -> None:
        """Leave nothing on disk, and no file open."""
        for sheet in self._workbook.worksheets():
            sheet.row_data_fh.close()
        self._result.close()
        self._folder.cleanup()

    def _begin_sheet(self) -> None:
        number = len(self._workbook.worksheets()) + 1
        name = "Invoices" if number == 1 else f"Invoices {number}"
        self._sheet = self._workbook.add_worksheet(name)
        self._sheet.freeze_panes(1, 0)
        for position, column in enumerate(COLUMNS):
            self._sheet.set_column(position, position, column.width)
            self._sheet.write_string(0, position, column.name, self._bold)
        self._rows = 1

    def _write_text(self, row: int, column: int, text: str) -> None:
        if text.startswith("<r>") and text.endswith("</r>"):
            # A text in parts is written as such: XlsxWriter would copy this one into the sheet as
            # its own XML, and whoever is called so could write cells of his own, formulas too.
            self._sheet.write_rich_string(row, column, text[0], text[1], text[2:])
        else:
            # Not `write`, which guesses: this is a text, whatever it looks like.
            self._sheet.write_string(row, column, text)

    def _write_number(self, row: int, column: int, number: int) -> None:
        self._sheet.write_number(row, column, number)

    def _write_money(self, row: int, column: int, amount: Decimal) -> None:
        # Written with up to 16 digits and never a float; an amount has at most 12.
        self._sheet.write_number(row, column, amount, self._money)

    def _write_day(self, row: int, column: int, day: date) -> None:
        self._sheet.write_datetime(row, column, day, self._day)

    def _write_flag(self, row: int, column: int, value: bool) -> None:
        self._sheet.write_boolean(row, column, value)


async def _in_thread(
    work: Callable[..., T], *arguments: Any, cut_short: Callable[[], None] | None = None
) -> T:
    """Cancelled, it still waits for the end of the work, whose files are about to be removed."""
    working = asyncio.create_task(asyncio.to_thread(work, *arguments))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        if cut_short:
            cut_short()
        await asyncio.gather(working, return_exceptions=True)
        raise
