"""The export as an Excel workbook (ECMA-376, "SpreadsheetML"), written while it is being sent.

Written here and not by a library: those that were tried (XlsxWriter, openpyxl) need a file on disk
that is complete before its first byte can be sent, and make 3,000 to 5,000 of our rows a second
where this makes ten times as many. A workbook is a ZIP archive of XML; of all that it can hold,
this needs rows of texts, numbers and days. Texts are cells of type text, so that none is a formula.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import date
from decimal import Decimal
from typing import IO, Any, Final
from xml.sax.saxutils import escape
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from accounting.reports.export import COLUMNS, Kind, Row

# What Excel can show; more rows go on in another sheet.
SHEET_ROWS_MAX: Final = 1_048_576
# A part of an archive without 64-bit sizes, which not every reader knows, has up to 2 GiB.
SHEET_BYTES_MAX: Final = 1_900_000_000
# Quick, and still a fifteenth of the size.
_COMPRESSION_LEVEL: Final = 1
# Excel counts the days from this one on.
_DAY_ZERO: Final = date(1899, 12, 30).toordinal()

_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# What Excel would take for one of its own escapes of a character.
_EXCEL_ESCAPE = re.compile("_(?=x[0-9A-Fa-f]{4}_)")

_HEAD: Final = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
_MAIN: Final = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
_OFFICE: Final = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE: Final = "http://schemas.openxmlformats.org/package/2006"
_TYPES: Final = "application/vnd.openxmlformats-officedocument.spreadsheetml"

# The numbers of the formats in _STYLES below.
_STYLE_MONEY, _STYLE_DAY, _STYLE_HEADER = 1, 2, 3
_STYLES: Final = (
    f"{_HEAD}<styleSheet {_MAIN}>"
    '<numFmts count="1"><numFmt numFmtId="164" formatCode="yyyy\\-mm\\-dd"/></numFmts>'
    '<fonts count="2"><font><sz val="11"/><name val="Calibri"/></font>'
    '<font><b/><sz val="11"/><name val="Calibri"/></font></fonts>'
    '<fills count="2"><fill><patternFill patternType="none"/></fill>'
    '<fill><patternFill patternType="gray125"/></fill></fills>'
    "<borders><border><left/><right/><top/><bottom/><diagonal/></border></borders>"
    '<cellStyleXfs count="1"><xf numFmtId="0" fontId="0" fillId="0" borderId="0"/></cellStyleXfs>'
    '<cellXfs count="4"><xf numFmtId="0" fontId="0" fillId="0" borderId="0" xfId="0"/>'
    '<xf numFmtId="4" fontId="0" fillId="0" borderId="0" xfId="0" applyNumberFormat="1"/>'
    '<xf numFmtId="164" fontId="0" fillId="0" borderId="0" xfId="0" applyNumberFormat="1"/>'
    '<xf numFmtId="0" fontId="1" fillId="0" borderId="0" xfId="0" applyFont="1"/></cellXfs>'
    '<cellStyles count="1"><cellStyle name="Normal" xfId="0" builtinId="0"/></cellStyles>'
    "</styleSheet>"
)
_PACKAGE_LINKS: Final = (
    f'{_HEAD}<Relationships xmlns="{_PACKAGE}/relationships"><Relationship Id="rId1" '
    f'Type="{_OFFICE}/officeDocument" Target="xl/workbook.xml"/></Relationships>'
)
_LETTERS: Final = [chr(ord("A") + position) for position in range(len(COLUMNS))]
_SHEET_START: Final = (
    f'{_HEAD}<worksheet {_MAIN}><sheetViews><sheetView workbookViewId="0">'
    '<pane ySplit="1" topLeftCell="A2" activePane="bottomLeft" state="frozen"/>'
    "</sheetView></sheetViews><cols>"
    + "".join(
        f'<col min="{number}" max="{number}" width="{column.width}" customWidth="1"/>'
        for number, column in enumerate(COLUMNS, start=1)
    )
    + "</cols><sheetData>"
)
_SHEET_END: Final = "</sheetData></worksheet>"


class XlsxFile:
    """The parts of one file: `begin`, `add` for rows, `end`; put together they are the file."""

    def __init__(self, *, rows_max: int = SHEET_ROWS_MAX, bytes_max: int = SHEET_BYTES_MAX) -> None:
        self._rows_max = rows_max
        self._bytes_max = bytes_max
        self._written = _Written()
        self._archive = ZipFile(self._written, "w", ZIP_DEFLATED, compresslevel=_COMPRESSION_LEVEL)
        self._sheet: IO[bytes] | None = None
        self._sheets = self._rows = self._bytes = 0

    def begin(self) -> bytes:
        self._begin_sheet()
        return self._written.take()

    def add(self, rows: Iterable[Row]) -> bytes:
        for row in rows:
            if self._rows >= self._rows_max or self._bytes >= self._bytes_max:
                self._begin_sheet()
            self._rows += 1
            self._write(_row_xml(self._rows, row))
        return self._written.take()

    def end(self) -> bytes:
        self._end_sheet()
        for name, content in _frame(self._sheets).items():
            with self._open(name) as part:
                part.write(content.encode())
        self._archive.close()
        return self._written.take()

    def _begin_sheet(self) -> None:
        self._end_sheet()
        self._sheets += 1
        self._rows = 1
        self._bytes = 0
        self._sheet = self._open(f"xl/worksheets/sheet{self._sheets}.xml")
        header = "".join(
            _text_xml(f"{letter}1", column.name, style=f' s="{_STYLE_HEADER}"')
            for letter, column in zip(_LETTERS, COLUMNS, strict=True)
        )
        self._write(f'{_SHEET_START}<row r="1">{header}</row>')

    def _end_sheet(self) -> None:
        if self._sheet is not None:
            self._write(_SHEET_END)
            self._sheet.close()
            self._sheet = None

    def _write(self, xml: str) -> None:
        assert self._sheet is not None, "begin comes first"
        encoded = xml.encode()
        self._bytes += len(encoded)
        self._sheet.write(encoded)

    def _open(self, name: str) -> IO[bytes]:
        # Without a moment of its own: the same rows give the same file.
        part = ZipInfo(name)
        part.compress_type = ZIP_DEFLATED
        opened: IO[bytes] = self._archive.open(part, "w")
        return opened


class _Written:
    """Where the archive is written to: nothing but the bytes that nobody has taken yet.

    It cannot go back, so the archive puts sizes and checksums behind each part instead of before.
    """

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, content: bytes, /) -> int:
        self._parts.append(bytes(content))
        return len(content)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass

    def take(self) -> bytes:
        taken, self._parts = b"".join(self._parts), []
        return taken


def _row_xml(number: int, row: Row) -> str:
    cells = "".join(
        write(f"{letter}{number}", cell)
        for letter, write, cell in zip(_LETTERS, _WRITERS, row, strict=True)
        if cell is not None
    )
    return f'<row r="{number}">{cells}</row>'


def _text_xml(at: str, text: str, *, style: str = "") -> str:
    return f'<c r="{at}"{style} t="inlineStr"><is><t xml:space="preserve">{_xml(text)}</t></is></c>'


def _xml(text: str) -> str:
    if text.isalnum():
        return text
    return escape(_EXCEL_ESCAPE.sub("_x005F_", _NO_XML.sub(" ", text)))


def _count_xml(at: str, count: int) -> str:
    return f'<c r="{at}"><v>{count}</v></c>'


def _money_xml(at: str, amount: Decimal) -> str:
    # Excel keeps 15 digits, an amount has at most 12.
    return f'<c r="{at}" s="{_STYLE_MONEY}"><v>{amount:.2f}</v></c>'


def _day_xml(at: str, day: date) -> str:
    return f'<c r="{at}" s="{_STYLE_DAY}"><v>{day.toordinal() - _DAY_ZERO}</v></c>'


def _flag_xml(at: str, value: bool) -> str:
    return f'<c r="{at}" t="b"><v>{value:d}</v></c>'


_WRITER_OF: Final[Mapping[Kind, Callable[[str, Any], str]]] = {
    Kind.TEXT: _text_xml,
    Kind.COUNT: _count_xml,
    Kind.MONEY: _money_xml,
    Kind.DAY: _day_xml,
    Kind.FLAG: _flag_xml,
}
_WRITERS: Final = [_WRITER_OF[column.kind] for column in COLUMNS]


def _frame(sheets: int) -> Mapping[str, str]:
    """What makes a workbook of the sheets; last, since only then it is known how many there are."""
    numbers = range(1, sheets + 1)
    names = ["Invoices", *(f"Invoices {number}" for number in numbers[1:])]
    listed = "".join(
        f'<sheet name="{name}" sheetId="{number}" r:id="rId{number}"/>'
        for number, name in zip(numbers, names, strict=True)
    )
    links = "".join(
        f'<Relationship Id="rId{number}" Type="{_OFFICE}/worksheet" '
        f'Target="worksheets/sheet{number}.xml"/>'
        for number in numbers
    )
    types = "".join(
        f'<Override PartName="/xl/worksheets/sheet{number}.xml" '
        f'ContentType="{_TYPES}.worksheet+xml"/>'
        for number in numbers
    )
    return {
        "xl/styles.xml": _STYLES,
        "xl/workbook.xml": (
            f'{_HEAD}<workbook {_MAIN} xmlns:r="{_OFFICE}"><sheets>{listed}</sheets></workbook>'
        ),
        "xl/_rels/workbook.xml.rels": (
            f'{_HEAD}<Relationships xmlns="{_PACKAGE}/relationships">{links}'
            f'<Relationship Id="rId{sheets + 1}" Type="{_OFFICE}/styles" Target="styles.xml"/>'
            "</Relationships>"
        ),
        "_rels/.rels": _PACKAGE_LINKS,
        "[Content_Types].xml": (
            f'{_HEAD}<Types xmlns="{_PACKAGE}/content-types">'
            '<Default Extension="rels" '
            'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
            '<Default Extension="xml" ContentType="application/xml"/>'
            f'<Override PartName="/xl/workbook.xml" ContentType="{_TYPES}.sheet.main+xml"/>'
            f'<Override PartName="/xl/styles.xml" ContentType="{_TYPES}.styles+xml"/>'
            f"{types}</Types>"
        ),
    }
