from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

from accounting.audit.rules import FIRST_PREV_HASH, changed_fields, entry_hash, to_json
from accounting.ids import ObjectId


def test_only_changed_fields_are_kept() -> None:
    before = {"status": "DRAFT", "amountPaid": Decimal("0.00"), "dueDate": date(2026, 2, 11)}
    after = {"status": "ISSUED", "amountPaid": Decimal("0.00"), "dueDate": date(2026, 2, 11)}

    assert changed_fields(before, after) == {
        "before": {"status": "DRAFT"},
        "after": {"status": "ISSUED"},
    }


def test_a_creation_has_no_before() -> None:
    assert changed_fields(None, {"totalMiners": 5}) == {"before": {}, "after": {"totalMiners": 5}}


def test_a_deletion_has_no_after() -> None:
    assert changed_fields({"totalMiners": 5}, None) == {"before": {"totalMiners": 5}, "after": {}}


def test_values_are_kept_in_their_json_form() -> None:
    value = {
        "amount": Decimal("1250.00"),
        "day": date(2026, 1, 12),
        "instant": datetime(2026, 1, 12, 9, 30, 0, 5000, UTC),
        "id": ObjectId("aaaaaaaaaaaaaaaaaaaaaaaa"),
        "list": [Decimal("0.10")],
        "nothing": None,
    }

    assert to_json(value) == {
        "amount": "1250.00",
        "day": "2026-01-12",
        "instant": "2026-01-12T09:30:00.005Z",
        "id": "aaaaaaaaaaaaaaaaaaaaaaaa",
        "list": ["0.10"],
        "nothing": None,
    }


def test_the_hash_does_not_depend_on_the_order_of_fields() -> None:
    one = entry_hash({"a": 1, "b": "ü"}, FIRST_PREV_HASH)
    other = entry_hash({"b": "ü", "a": 1}, FIRST_PREV_HASH)

    assert one == other


def test_the_hash_depends_on_every_field_and_on_the_entry_before() -> None:
    original = entry_hash({"a": 1, "b": 2}, FIRST_PREV_HASH)

    assert entry_hash({"a": 1, "b": 3}, FIRST_PREV_HASH) != original
    assert entry_hash({"a": 1, "b": 2, "c": None}, FIRST_PREV_HASH) != original
    assert entry_hash({"a": 1, "b": 2}, "1" * 64) != original
