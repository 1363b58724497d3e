"""Setting a template as PDF; the only module that names typst.

typst and threads, as found in its sources and by trial (typst 0.15): it releases Python's lock
while it works, and one `Compiler` cannot be used by two threads at once ("Already borrowed"), so
every document gets its own and only the fonts are shared, which never change. It keeps a pool of
threads for the whole process, which a fork does not copy: a child whose parent has set a document
before would wait for that pool forever.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Final

import manimgx_fonts
import manimgx_fonts_cjk
import typst

# What makes our PDFs; another version may set the same words in other bytes.
RENDERER: Final = f"typst {version('typst')}"
_TEMPLATES: Final = Path(__file__).parent / "templates"
# For archives (ISO 19005, "PDF/A") and for screen readers (ISO 14289, "PDF/UA").
_STANDARDS: Final[list[typst.PDFStandard]] = ["a-2a", "ua-1"]


def typeset(template: str, words: Mapping[str, object], *, created_on: date) -> bytes:
    """Set the words in a template of this package: the same input gives the same bytes.

    Words go in as JSON, never as markup. The PDF says that it was created on that day, at 00:00
    UTC. A letter that no font has becomes an empty box, and then the PDF no longer meets the
    archive's standard, which forbids such boxes.
    """
    _refuse_after_fork()
    try:
        return _compile(template, words, created_on, _STANDARDS)
    except typst.TypstError:
        return _compile(template, words, created_on, [])


@cache
def fonts() -> typst.Fonts:
    """The fonts that came with this program and no others, so that paper looks alike anywhere."""
    folders = [Path(str(package.__file__)).parent for package in (manimgx_fonts, manimgx_fonts_cjk)]
    return typst.Fonts(
        include_system_fonts=False, include_embedded_fonts=False, font_paths=list(folders)
    )


def _compile(
    template: str,
    words: Mapping[str, object],
    created_on: date,
    standards: list[typst.PDFStandard],
) -> bytes:
    return typst.compile(
        _TEMPLATES / f"{template}.typ",
        font_paths=fonts(),
        sys_inputs={"words": json.dumps(words, ensure_ascii=False)},
        pdf_standards=standards,
        timestamp=datetime.combine(created_on, time.min, tzinfo=UTC),
    )


@cache
def _process_of_first_use() -> int:
    return os.getpid()


def _refuse_after_fork() -> None:
    # A clear failure instead of a worker that hangs without a word.
    if _process_of_first_use() != os.getpid():
        raise RuntimeError("This process was forked from one that had set a document before.")
