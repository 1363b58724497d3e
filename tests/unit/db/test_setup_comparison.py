"""Indexes and rules compared, and said in words."""

from __future__ import annotations

from typing import Any

import pytest

from accounting.db.comparison import in_words, is_as_wanted, is_changed_in_place, is_same_index
from accounting.db.document import index
from accounting.db.schema_changes import schema_changes


def an_index(*keys: str, **options: Any) -> dict[str, Any]:
    """As the server lists it."""
    return {"v": 2, **index(*keys).document, **options}


SOME = {"partialFilterExpression": {"kind": "late"}}


@pytest.mark.parametrize(
    ("found", "is_wanted"),
    [
        (an_index("a"), True),
        (an_index("a", unique=False), True),
        (an_index("-a"), False),
        (an_index("a", "b"), False),
        (an_index("a", unique=True), False),
        (an_index("a", hidden=True), False),
        (an_index("a", prepareUnique=True), False),
        (an_index("a", expireAfterSeconds=0), False),
        (an_index("a", **SOME), False),
        (an_index("a", collation={"locale": "en"}), False),
    ],
)
def test_an_index_is_as_wanted_or_not(found: dict[str, Any], is_wanted: bool) -> None:
    assert is_as_wanted(found, index("a").document) is is_wanted


@pytest.mark.parametrize(
    ("before", "after", "in_place"),
    [
        (an_index("a"), an_index("a", unique=True), True),
        (an_index("a", unique=True), an_index("a"), False),
        (an_index("a", expireAfterSeconds=5), an_index("a", expireAfterSeconds=6), True),
        (an_index("a", expireAfterSeconds=5), an_index("a"), False),
        (an_index("a"), an_index("a", expireAfterSeconds=5), True),
        (an_index("a", hidden=True), an_index("a"), True),
        (an_index("a", prepareUnique=True), an_index("a"), True),
        (an_index("a"), an_index("a", **SOME), False),
        (an_index("a"), an_index("b"), False),
    ],
)
def test_what_is_changed_in_place(
    before: dict[str, Any], after: dict[str, Any], in_place: bool
) -> None:
    assert is_changed_in_place(before, after) is in_place


def test_a_time_to_live_makes_no_other_index_of_it() -> None:
    assert is_same_index(an_index("a", expireAfterSeconds=5), an_index("a", name="b"))
    assert not is_same_index(an_index("a"), an_index("a", unique=True))


def test_an_index_in_words() -> None:
    assert in_words(an_index("a", "-b")) == "a, -b"
    assert in_words(an_index("a", unique=True, expireAfterSeconds=86_400, **SOME)) == (
        'a; unique; only where {"kind": "late"}; documents expire after 86,400 s'
    )
    assert in_words({"key": {"name": "text"}}) == "name (text)"


def test_rules_are_compared_line_by_line() -> None:
    before = {
        "$jsonSchema": {
            "required": ["_id"],
            "properties": {"status": {"enum": ["A", "B"]}, "gone": {"bsonType": ["int"]}},
        }
    }
    after = {
        "$jsonSchema": {
            "required": ["_id", "new"],
            "properties": {
                "status": {"enum": ["B", "C"]},
                "new": {"bsonType": ["string", "null"], "maxLength": 5},
            },
        },
        "$expr": {"$gt": ["$a", "$b"]},
    }

    assert schema_changes(before, after) == [
        "+ $expr: {'$gt': ['$a', '$b']}",
        "- gone: int",
        "+ new: string, null",
        "~ status.enum: +C -A",
        "~ required: +new",
    ]
    assert schema_changes(before, before) == []
    assert schema_changes({}, after) == ["+ all rules; there are none now"]
