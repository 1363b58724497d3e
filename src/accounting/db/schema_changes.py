"""What is different between two validators, in lines that a person can read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

VALUE_LENGTH_MAX: Final = 70
# They stand between every field and its rules, and say nothing.
_LEFT_OUT: Final = ("$jsonSchema", "properties")


def schema_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """One line for each rule that is new (`+`), gone (`-`) or another one (`~`)."""
    if not before:
        return ["+ all rules; there are none now"]
    return list(_changes("", before, after))


def _changes(path: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    for key in sorted(before.keys() | after.keys()):
        inner = path if key in _LEFT_OUT else f"{path}.{key}" if path else key
        if key not in before:
            yield f"+ {inner or key}: {_shown(after[key])}"
        elif key not in after:
            yield f"- {inner or key}: {_shown(before[key])}"
        elif isinstance(before[key], Mapping) and isinstance(after[key], Mapping):
            yield from _changes(inner, before[key], after[key])
        elif before[key] != after[key]:
            yield f"~ {inner}: {_difference(before[key], after[key])}"


def _difference(before: Any, after: Any) -> str:
    if isinstance(before, list) and isinstance(after, list):
        gone = [f"-{value}" for value in before if value not in after]
        new = [f"+{value}" for value in after if value not in before]
        if gone or new:
            return _shortened(" ".join((*new, *gone)))
    return f"{_shown(before)} -> {_shown(after)}"


def _shown(value: Any) -> str:
    if isinstance(value, Mapping) and (types := value.get("bsonType") or value.get("enum")):
        return _shortened(", ".join(map(str, [types] if isinstance(types, str) else types)))
    return _shortened(str(value))


def _shortened(text: str) -> str:
    return text if len(text) <= VALUE_LENGTH_MAX else f"{text[: VALUE_LENGTH_MAX - 1]}…"
