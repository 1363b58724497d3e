"""The tree behind a seal, and which time a seal covers."""

from __future__ import annotations

import hashlib
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest

from accounting.audit.rules import MerkleTree, SealPeriod, first_period, next_period

A, B, C = "a" * 64, "b" * 64, "c" * 64
OSLO = ZoneInfo("Europe/Oslo")


def root(*leaves: object) -> str:
    tree = MerkleTree()
    for leaf in leaves:
        tree.add(leaf)
    assert tree.leaf_count == len(leaves)
    return tree.root()


def leaf_hash(entry_hash: str) -> bytes:
    return hashlib.sha256(b"\x00" + entry_hash.encode()).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def rfc_6962_root(leaves: list[bytes]) -> bytes:
    """As the RFC defines it: split at the largest power of two below the length."""
    if len(leaves) == 1:
        return leaves[0]
    half = 1
    while half * 2 < len(leaves):
        half *= 2
    return node_hash(rfc_6962_root(leaves[:half]), rfc_6962_root(leaves[half:]))


def test_no_entries_have_the_hash_of_nothing() -> None:
    assert root() == hashlib.sha256(b"").hexdigest()


def test_a_single_entry_is_hashed_as_a_leaf() -> None:
    assert root(A) == leaf_hash(A).hex() != A


def test_two_and_three_entries() -> None:
    pair = node_hash(leaf_hash(A), leaf_hash(B))

    assert root(A, B) == pair.hex()
    assert root(A, B, C) == node_hash(pair, leaf_hash(C)).hex()


@pytest.mark.parametrize("count", range(1, 40))
def test_every_length_gives_the_tree_of_the_rfc(count: int) -> None:
    hashes = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(count)]

    assert root(*hashes) == rfc_6962_root([leaf_hash(item) for item in hashes]).hex()


def test_order_and_repetition_matter() -> None:
    assert len({root(A, B), root(B, A), root(A, B, B), root(A, B, A), root(A)}) == 5


def test_a_node_cannot_be_shown_as_a_leaf() -> None:
    below = leaf_hash(A) + leaf_hash(B)

    # Without the prefixes these would be the same: a list of one "entry" for a list of two.
    assert root(below.decode("latin-1")) != root(A, B)
    assert hashlib.sha256(below).hexdigest() != root(A, B)


@pytest.mark.parametrize("leaf", [None, 5, "", "\ufffd", {"hash": A}])
def test_a_leaf_may_be_anything_a_forger_left(leaf: object) -> None:
    assert root(leaf) != root(A)


def test_the_first_period_is_the_business_day_of_the_first_entry() -> None:
    just_before_midnight_in_utc = datetime(2026, 1, 11, 23, 30, tzinfo=UTC)

    assert first_period(just_before_midnight_in_utc, OSLO) == SealPeriod(
        date(2026, 1, 12),
        datetime(2026, 1, 11, 23, tzinfo=UTC),
        datetime(2026, 1, 12, 23, tzinfo=UTC),
    )


def test_a_day_with_a_clock_change_has_its_own_length() -> None:
    saturday = first_period(datetime(2026, 3, 28, 12, tzinfo=UTC), OSLO)
    sunday = next_period(saturday, OSLO)

    assert sunday.day == date(2026, 3, 29)
    assert (sunday.ends_at - sunday.starts_at).total_seconds() == 23 * 3600


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/New_York", "Pacific/Kiritimati"])
def test_no_instant_is_lost_or_sealed_twice_when_the_zone_changes(zone: str) -> None:
    last = first_period(datetime(2026, 1, 12, 12, tzinfo=UTC), ZoneInfo("Pacific/Pago_Pago"))

    following = next_period(last, ZoneInfo(zone))

    assert following.day == date(2026, 1, 13)
    assert last.ends_at == following.starts_at <= following.ends_at
