"""The README's table of error codes: every code that the API can answer with, and no other."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import pytest

import accounting
from accounting.api import errors as edge
from accounting.errors import AccountingError

ROOT = Path(__file__).parents[3]
SOURCES = ROOT / "src" / "accounting"
# Edges of their own: what is raised there ends on a terminal.
NO_HTTP = ("accounting.cli", "accounting.dev", "accounting.__main__")
# They have a kind that the API knows, and are raised where no request waits for an answer.
NEVER_ANSWERED = {
    "undeliverable_address": "deliveries and the start of a process",
    "unavailable": "the start of a process",
    "run_taken_over": "workers",
}


def classes_below(base: type[AccountingError]) -> Iterator[type[AccountingError]]:
    for found in base.__subclasses__():
        yield found
        yield from classes_below(found)


def codes_of_classes() -> dict[str, int]:
    for module in pkgutil.walk_packages(accounting.__path__, "accounting."):
        if not module.name.startswith(NO_HTTP):
            importlib.import_module(module.name)
    kinds, raised = set(edge.STATUS_OF), set(raised_names())
    codes = {}
    for found in classes_below(AccountingError):
        kind = next((kind for kind in edge.STATUS_OF if issubclass(found, kind)), None)
        is_ours = found.__module__.startswith("accounting.")
        if kind is None or not is_ours or found.__module__.startswith(NO_HTTP):
            continue
        if found not in kinds or found.__name__ in raised:  # a kind is seldom raised itself
            codes[code_of(found)] = edge.STATUS_OF[kind].value
    return codes


def code_of(found: type[AccountingError]) -> str:
    error = found.__new__(found)
    return error.code


def raised_names() -> Iterator[str]:
    for path in SOURCES.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                yield getattr(node.exc.func, "id", "")


def codes_of_the_edge() -> dict[str, int]:
    """The codes that `api/errors.py` makes itself: the third argument of `problem`."""
    codes = {code: status.value for status, code in edge.HTTP_CODE_OF.items()}
    for node in ast.walk(ast.parse(Path(edge.__file__).read_text())):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "problem":
            status, code = node.args[1:3]
            if isinstance(code, ast.Constant):
                name = getattr(status, "attr", None) or STATUS_IN_TEXT[code.value]
                codes[code.value] = HTTPStatus[name].value
    return codes


# Where the source says `status`, a variable.
STATUS_IN_TEXT = {
    "method_not_allowed": "METHOD_NOT_ALLOWED",
    "not_found": "NOT_FOUND",
    "invalid_request": "BAD_REQUEST",
}
ANSWERED = {
    code: status
    for code, status in {**codes_of_classes(), **codes_of_the_edge()}.items()
    if code not in NEVER_ANSWERED
}


def table_of_the_readme() -> dict[str, int]:
    lines = (ROOT / "README.md").read_text().splitlines()
    first = lines.index("| Status | `code` |") + 2
    codes = {}
    for line in lines[first:]:
        if not line.startswith("|"):
            break
        _, status, listed, *_ = line.split("|")
        codes |= dict.fromkeys(re.findall(r"`([a-z_]+)`", listed), int(status))
    return codes


def test_the_table_has_every_code_under_its_status() -> None:
    assert table_of_the_readme() == ANSWERED


def test_what_is_never_answered_still_exists() -> None:
    assert codes_of_classes().keys() >= NEVER_ANSWERED.keys()


@pytest.mark.parametrize("code", sorted(ANSWERED))
def test_every_code_is_tested(code: str) -> None:
    name = "".join(word.title() for word in code.split("_"))
    wanted = re.compile(rf"\b({code}|{name})\b")
    tests = [path for path in (ROOT / "tests").rglob("*.py") if path != Path(__file__)]

    assert any(wanted.search(path.read_text()) for path in tests)
