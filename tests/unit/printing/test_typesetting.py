"""What all documents share: fonts of our own, the same bytes anywhere, no hanging after a fork."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from datetime import date
from importlib.resources import files
from pathlib import Path

from accounting.printing.typesetting import fonts, typeset

WORDS = {
    "number": "1",
    "status": "ISSUED",
    "tone": "open",
    "note": "Due",
    "company": {"name": "A", "logo": "", "lines": []},
    "customer": ["Zoë 山田 שלום"],
    "dates": [],
    "description": "",
    "period": "",
    "quantity": "",
    "unit_price": "",
    "total": "",
    "paid": "",
    "balance_due": "",
    "payment": [],
    "cjk_font": "Noto Sans CJK JP",
}
CREATED_ON = date(2026, 2, 11)
PRINT_HASH = f"""
import datetime, hashlib
from accounting.printing.typesetting import typeset
pdf = typeset("invoice", {WORDS!r}, created_on={CREATED_ON!r})
print(hashlib.sha256(pdf).hexdigest())
"""
FORK = f"""
import datetime, os, signal
from accounting.printing.typesetting import typeset
def make():
    return typeset("invoice", {WORDS!r}, created_on={CREATED_ON!r})
make()
child = os.fork()
if child == 0:
    signal.alarm(20)
    try:
        make()
    except RuntimeError as error:
        os.write(1, str(error).encode())
    os._exit(0)
print(os.waitpid(child, 0)[1])
make()
"""


def run_python(script: str, folder: Path, **environment: str) -> str:
    run = subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return run.stdout


def test_bytes_are_the_same_in_any_process_zone_and_folder(tmp_path: Path) -> None:
    here = hashlib.sha256(typeset("invoice", WORDS, created_on=CREATED_ON)).hexdigest()
    again = hashlib.sha256(typeset("invoice", WORDS, created_on=CREATED_ON)).hexdigest()
    there = run_python(PRINT_HASH, tmp_path, TZ="Pacific/Auckland", PYTHONHASHSEED="7", LANG="C")

    assert here == again == there.strip()


def test_other_words_or_another_day_are_other_bytes() -> None:
    made = {
        typeset("invoice", WORDS, created_on=CREATED_ON),
        typeset("invoice", WORDS | {"number": "2"}, created_on=CREATED_ON),
        typeset("invoice", WORDS, created_on=date(2026, 2, 12)),
    }

    assert len(made) == 3


def test_a_forked_process_is_told_instead_of_waiting_forever(tmp_path: Path) -> None:
    told = run_python(FORK, tmp_path)

    assert told == "This process was forked from one that had set a document before.0\n"


def test_fonts_are_those_of_our_packages_only() -> None:
    folders = {Path(str(font.path)).parent.name for font in fonts().fonts()}

    assert folders == {"manimgx_fonts", "manimgx_fonts_cjk"}


def test_every_font_that_a_template_names_is_there() -> None:
    templates = files("accounting.printing") / "templates"
    named = {
        name
        for template in templates.iterdir()
        for name in re.findall(r'"(Noto [A-Za-z ]+)"', template.read_text(encoding="utf-8"))
    }

    assert {"Noto Sans", "Noto Sans Arabic", "Noto Emoji"} <= named
    assert named | {"Noto Sans CJK JP", "Noto Sans CJK SC"} <= set(fonts().families())
