"""What an `Idempotency-Key` is, and when one is refused (spec section 5, "Writes")."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from accounting.errors import Conflict, Invalid, Mismatch

HEADER: Final = "Idempotency-Key"
KEY_LENGTH_MAX: Final = 200
KEPT_SECONDS: Final = 86_400
# Longer than `Database.run` has patience for, so that it ends under a living request as good as
# never; short, since the key of a process that was killed can be used again only after it.
LEASE_SECONDS: Final = 20
# Two requests with one key meet within milliseconds; only after a crash it takes the lease's time.
RETRY_AFTER_SECONDS: Final = 1

_KEY = re.compile(rf"[!-~]{{1,{KEY_LENGTH_MAX}}}")


class KeyState(StrEnum):
    """Whether the first request with a key is still at work or has its answer."""

    RUNNING = "RUNNING"
    DONE = "DONE"


class InvalidIdempotencyKey(Invalid):
    """The header is there, and it is no key."""

    def __init__(self) -> None:
        rule = f"must be 1 to {KEY_LENGTH_MAX} visible ASCII characters, sent once"
        super().__init__(f"{HEADER} {rule}.", errors=[(HEADER, rule)])


class IdempotencyKeyReused(Mismatch):
    """The key belongs to another request."""

    def __init__(self, key: str) -> None:
        super().__init__(
            f"{HEADER} {key} was used for another request; a new request needs a new key."
        )


class RequestStillRunning(Conflict):
    """The first request with this key has no answer yet."""

    retry_after_seconds = RETRY_AFTER_SECONDS

    def __init__(self) -> None:
        super().__init__(
            f"A request with this {HEADER} is still running; send it again in a moment."
        )


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to carry out the request of a key, until somebody else takes it over."""

    id: str
    request_hash: str
    lock_token: str


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """An answer as it was sent first: the body is the text itself, so that it stays the same."""

    status: int
    body: str
    headers: Mapping[str, str]


def check_key(key: str) -> str:
    """The key, if it is one. Raises InvalidIdempotencyKey."""
    if not _KEY.fullmatch(key):
        raise InvalidIdempotencyKey
    return key


def request_hash(method: str, path: str, query: bytes, body: bytes) -> str:
    """What makes a request the same one: every byte of it but the headers."""
    digest = hashlib.sha256()
    for part in (method.encode(), path.encode(), query, body):
        # With its length, so that no two requests run together into the same bytes.
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()
