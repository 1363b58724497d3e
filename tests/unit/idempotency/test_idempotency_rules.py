"""What is a key, and what makes two requests the same one."""

from __future__ import annotations

from itertools import combinations

import pytest

from accounting.db.database import PATIENCE_SECONDS
from accounting.idempotency.rules import (
    LEASE_SECONDS,
    IdempotencyKeyReused,
    InvalidIdempotencyKey,
    RequestStillRunning,
    check_key,
    request_hash,
)


@pytest.mark.parametrize("key", ["1", "!~", "8e03978e-40d5-43dd-bc93-6894a57f9324", "k" * 200])
def test_visible_ascii_is_a_key(key: str) -> None:
    assert check_key(key) == key


@pytest.mark.parametrize(
    "key", ["", " ", "a b", "a\tb", "k\n", "schl\u00fcssel", "\x7f", "k" * 201]
)
def test_anything_else_is_refused_by_name(key: str) -> None:
    with pytest.raises(InvalidIdempotencyKey) as refused:
        check_key(key)

    [(field, _)] = refused.value.errors
    assert field == "Idempotency-Key"


def test_every_part_of_a_request_makes_another_request() -> None:
    requests = [
        ("POST", "/a", b"", b""),
        ("PUT", "/a", b"", b""),
        ("POST", "/b", b"", b""),
        ("POST", "/a", b"x", b""),
        ("POST", "/a", b"", b"x"),
        ("POST", "/ax", b"", b""),
    ]

    assert all(request_hash(*one) != request_hash(*two) for one, two in combinations(requests, 2))
    assert request_hash(*requests[0]) == request_hash(*requests[0])


def test_the_errors_have_the_codes_of_the_specification() -> None:
    assert IdempotencyKeyReused("k").code == "idempotency_key_reused"
    assert RequestStillRunning().code == "request_still_running"
    assert RequestStillRunning().retry_after_seconds == 1


def test_the_lease_outlives_a_request_that_waits_for_others() -> None:
    assert LEASE_SECONDS > PATIENCE_SECONDS
