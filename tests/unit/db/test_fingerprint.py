"""Telling new documents from changed ones, without a database."""

from __future__ import annotations

import itertools

import bson
import pytest

from accounting.db.fingerprint import (
    BUCKETS_MAX,
    BUCKETS_MIN,
    COMBINATIONS_PER_BUCKET_MAX,
    Definition,
    bucket_count_for,
    definition_changes,
    has_subset,
    id_of,
    split_documents,
)


@pytest.mark.parametrize(
    ("documents", "buckets"),
    [(0, 64), (256, 64), (260, 128), (50_000, 16_384), (10**9, 16_384)],
)
def test_a_collection_of_any_size_has_a_bounded_number_of_buckets(
    documents: int, buckets: int
) -> None:
    assert bucket_count_for(documents) == buckets
    assert BUCKETS_MIN <= buckets <= BUCKETS_MAX


def test_a_batch_is_split_into_its_documents() -> None:
    rows = [bson.encode({"_id": at, "text": "x" * at}) for at in range(5)]

    assert list(split_documents(b"".join(rows))) == rows
    assert list(split_documents(b"")) == []


@pytest.mark.parametrize(
    "value",
    [
        *(bson.ObjectId(), 1, bson.Int64(2**40), 1.5, "text", "", None, True, {"a": 1}, {}),
        *(bson.Decimal128("1.0"), b"binary", bson.Binary(b"u" * 16, 4), bson.DatetimeMS(5)),
        *(bson.MinKey(), bson.MaxKey(), bson.Timestamp(1, 2), bson.Code("x"), bson.DBRef("c", 1)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_id_is_the_same_whatever_else_is_in_the_document(value: object) -> None:
    one = id_of(bson.encode({"_id": value}))

    assert one == id_of(bson.encode({"_id": value, "a": 1, "b": "x"}))
    # All of it, and nothing else: a document is its length, its id and a zero byte.
    assert one == bson.encode({"_id": value})[4:-1]


def test_what_has_no_id_in_front_is_taken_as_well() -> None:
    assert id_of(bson.encode({"a": 1})) == b""
    assert id_of(bson.encode({"a": {"_id": 2}})) == b""
    assert id_of(bson.encode({})) == b""


OLD, NEW = [2**255 + 7, 5, 2**256 - 3], [11, 2**254]
SUM = sum(OLD) % 2**256


@pytest.mark.parametrize("order", list(itertools.permutations([*OLD, *NEW]))[::10])
def test_old_documents_are_found_among_new_ones_in_any_order(order: tuple[int, ...]) -> None:
    assert has_subset(order, len(OLD), SUM) is True
    assert has_subset([order[0] + 1, *order[1:]], len(OLD), SUM) is (order[0] in NEW)


def test_fewer_documents_than_before_cannot_hold_the_old_ones() -> None:
    assert has_subset(OLD[:2], 3, SUM) is False


def test_nobody_waits_for_too_many_combinations() -> None:
    many = list(range(1, 40))

    assert has_subset(many, 20, 0) is None
    assert COMBINATIONS_PER_BUCKET_MAX < 10**5


def test_definitions_are_compared_by_what_they_say() -> None:
    before = Definition("collection", "{}", {"a": "1", "b": "2"})
    now = Definition("view", "{...}", {"b": "3", "c": "4"})

    assert definition_changes(before, before) == []
    assert definition_changes(Definition(), now) == []
    assert definition_changes(before, Definition()) == ["it was dropped"]
    assert definition_changes(before, now) == [
        "it was a collection and is a view",
        "options were {} and are {...}",
        "index a is gone: 1",
        "index b was 2 and is 3",
        "index c is new: 4",
    ]
