"""Reading a PDF as people and programs do: its text, where each letter stands, its glyphs."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import pypdfium2
from pypdf import PdfReader
from pypdf.generic import ByteStringObject, ContentStream, TextStringObject

# The glyph that every font shows for what it does not have.
NOTDEF = 0


@dataclass(frozen=True)
class Letter:
    """One letter and its box, in points from the lower left corner of its page."""

    text: str
    page: int
    left: float
    bottom: float
    right: float
    top: float


def text_of(pdf: bytes) -> str:
    """What selecting and copying everything gives; runs of white space are single spaces."""
    return " ".join(" ".join(_page_texts(pdf)).split())


def lines_of(pdf: bytes) -> list[str]:
    return [line.strip() for page in _page_texts(pdf) for line in page.splitlines()]


def letters_of(pdf: bytes) -> list[Letter]:
    """Every visible letter with its place."""
    found = []
    with pypdfium2.PdfDocument(pdf) as document:
        for number, page in enumerate(document):
            text_page = page.get_textpage()
            for at in range(text_page.count_chars()):
                text = text_page.get_text_range(at, 1)
                if text.strip():
                    found.append(Letter(text, number, *text_page.get_charbox(at)))
    return found


def same_line(lines: list[str], *words: str) -> bool:
    """Whether a line says just these words."""
    return any(line.split() == " ".join(words).split() for line in lines)


def overlapping(letters: list[Letter]) -> list[tuple[str, str]]:
    """Letters whose middle lies inside another letter."""
    found = []
    for one in letters:
        x, y = (one.left + one.right) / 2, (one.bottom + one.top) / 2
        found += [
            (one.text, other.text)
            for other in letters
            if other is not one
            and other.page == one.page
            and other.left < x < other.right
            and other.bottom < y < other.top
        ]
    return found


def glyphs_of(pdf: bytes) -> dict[str, set[int]]:
    """The numbers of the glyphs that are drawn, by the name of their embedded font."""
    glyphs: dict[str, set[int]] = defaultdict(set)
    reader = PdfReader(BytesIO(pdf))
    for page in reader.pages:
        fonts: Any = page["/Resources"]["/Font"]  # type: ignore[index]
        name = ""
        for operands, operator in ContentStream(page.get_contents(), reader).operations:
            if operator == b"Tf":
                name = _embedded_name(fonts[operands[0]])
            elif operator in (b"Tj", b"TJ"):
                shown = operands[0] if operator == b"TJ" else operands
                for text in shown:
                    if isinstance(text, TextStringObject | ByteStringObject):
                        codes = text.original_bytes
                        glyphs[name] |= {
                            int.from_bytes(codes[i : i + 2]) for i in range(0, len(codes), 2)
                        }
    return glyphs


def images_of(pdf: bytes) -> list[str]:
    """The descriptions of the pictures, which a screen reader speaks."""
    found = []
    todo = [reader_of(pdf).root_object["/StructTreeRoot"]]
    while todo:
        element = todo.pop().get_object()
        if isinstance(element, list):
            todo += element
        elif isinstance(element, dict):
            if element.get("/S") == "/Figure":
                found.append(str(element["/Alt"]))
            todo += [element["/K"]] if "/K" in element else []
    return found


def standards_of(pdf: bytes) -> set[str]:
    """The standards that the PDF says it keeps."""
    metadata: Any = reader_of(pdf).root_object["/Metadata"]
    xmp = metadata.get_object().get_data().decode()
    archive = re.search(r"<pdfaid:part>(.+?)<.*<pdfaid:conformance>(.+?)<", xmp)
    accessible = re.search(r"<pdfuaid:part>(.+?)<", xmp)
    found = {f"PDF/A-{archive[1]}{archive[2]}"} if archive else set()
    return found | ({f"PDF/UA-{accessible[1]}"} if accessible else set())


def reader_of(pdf: bytes) -> PdfReader:
    return PdfReader(BytesIO(pdf))


def _page_texts(pdf: bytes) -> list[str]:
    with pypdfium2.PdfDocument(pdf) as document:
        return [page.get_textpage().get_text_range() for page in document]


def _embedded_name(font: Any) -> str:
    descendant = font["/DescendantFonts"][0].get_object()
    descriptor = descendant["/FontDescriptor"].get_object()
    assert font["/Encoding"] == "/Identity-H"
    assert "/FontFile2" in descriptor or "/FontFile3" in descriptor, "the font is not embedded"
    return str(descriptor["/FontName"]).partition("+")[2]
