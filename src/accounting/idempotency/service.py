"""Claim a key, finish with the answer, or give it back: the effect and its answer exist together.

A claim is a row of its own, outside any transaction, so that others see it at once. The answer is
stored in the transaction of the effect, so that a process that dies between commit and answer has
left the answer behind; one that dies before leaves a RUNNING row, whose lease soon ends.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import Final

from accounting.clock import after
from accounting.db.client import TimeLimitReached
from accounting.db.database import Database, DuplicateKey, Transaction
from accounting.idempotency.documents import IdempotencyKey
from accounting.idempotency.rules import (
    LEASE_SECONDS,
    Claim,
    IdempotencyKeyReused,
    KeyState,
    RequestStillRunning,
    StoredAnswer,
    check_key,
)
from accounting.ids import ObjectId

CLAIM_ATTEMPTS_MAX: Final = 5
CLAIM_PAUSE_SECONDS: Final = 0.01
# A transaction that nobody ended holds its row until the server ends it, 60 s or more later; a
# write from outside would wait for that.
WAIT_MILLISECONDS_MAX: Final = 1_000
LOCK_TOKEN_BYTES: Final = 16


async def claim(
    db: Database, user_id: ObjectId, key: str, request_hash: str
) -> Claim | StoredAnswer:
    """Take the key for this request, or the answer if it has one already.

    Exactly one of many at once gets the claim. Raises InvalidIdempotencyKey, IdempotencyKeyReused,
    RequestStillRunning.
    """
    key_id = f"{user_id}:{check_key(key)}"
    for _ in range(CLAIM_ATTEMPTS_MAX):
        mine = Claim(key_id, request_hash, secrets.token_urlsafe(LOCK_TOKEN_BYTES))
        if await _insert(db, mine):
            return mine
        found = await IdempotencyKey.find_one({"_id": key_id})
        if found is not None:
            if found.request_hash != request_hash:
                raise IdempotencyKeyReused(key)
            if found.answer is not None:
                return found.answer
            if found.locked_until > db.clock():
                raise RequestStillRunning
            if await _take_over(db, found, mine):
                return mine
        # Given back or taken over this very moment, or not yet seen by a majority: look again.
        await asyncio.sleep(CLAIM_PAUSE_SECONDS)
    raise RequestStillRunning


async def finish(tx: Transaction, claimed: Claim, answer: StoredAnswer) -> None:
    """Store the answer in the transaction of its effect, so that neither exists alone.

    Raises RequestStillRunning when somebody has taken the claim over: the whole transaction is
    undone, and the effect is the other's.
    """
    finished = await IdempotencyKey.get_motor_collection().update_one(
        _held(claimed),
        {
            "$set": {
                "state": KeyState.DONE,
                "responseStatus": answer.status,
                "responseBody": answer.body,
                "responseHeaders": dict(answer.headers),
            }
        },
        session=tx.session,
    )
    if not finished.matched_count:
        raise RequestStillRunning


async def release(claimed: Claim) -> bool:
    """Give the key back after a request that had no effect; whether it was still ours to give.

    It is not when the answer was stored after all, when somebody took over, or while a transaction
    that nobody ended holds the row: then the lease ends it.
    """
    try:
        deleted = await IdempotencyKey.get_motor_collection().find_one_and_delete(
            _held(claimed), maxTimeMS=WAIT_MILLISECONDS_MAX
        )
    except TimeLimitReached:
        return False
    return deleted is not None


async def find_answer(claimed: Claim) -> StoredAnswer | None:
    """The answer of a claim that was lost or whose commit was not confirmed, if there is one."""
    # By the hash as well: the key may have been given back, and taken for another request.
    found = await IdempotencyKey.find_one({"_id": claimed.id, "requestHash": claimed.request_hash})
    return found.answer if found else None


async def _insert(db: Database, mine: Claim) -> bool:
    now = db.clock()
    row = IdempotencyKey(
        id=mine.id,
        request_hash=mine.request_hash,
        state=KeyState.RUNNING,
        lock_token=mine.lock_token,
        locked_until=after(now, seconds=LEASE_SECONDS),
        created_at=now,
    )
    try:
        await row.insert()
    except DuplicateKey:
        return False
    return True


async def _take_over(db: Database, found: IdempotencyKey, mine: Claim) -> bool:
    """Whether the expired claim is ours now; of many who see it expired, one gets it."""
    lease = {"lockToken": mine.lock_token, "lockedUntil": after(db.clock(), seconds=LEASE_SECONDS)}
    try:
        taken = await IdempotencyKey.get_motor_collection().find_one_and_update(
            _held(Claim(found.id, found.request_hash, found.lock_token)),
            {"$set": lease},
            maxTimeMS=WAIT_MILLISECONDS_MAX,
        )
    except TimeLimitReached:
        # The dead holder's open transaction had come as far as its answer.
        raise RequestStillRunning from None
    return taken is not None


def _held(claimed: Claim) -> dict[str, object]:
    return {"_id": claimed.id, "lockToken": claimed.lock_token, "state": KeyState.RUNNING}
