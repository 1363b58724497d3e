"""Claims of a key: one holder, an answer that stays, a lease that ends."""

from __future__ import annotations

import pytest

from accounting.db.database import Transaction
from accounting.idempotency.documents import IdempotencyKey
from accounting.idempotency.rules import (
    LEASE_SECONDS,
    Claim,
    IdempotencyKeyReused,
    InvalidIdempotencyKey,
    KeyState,
    RequestStillRunning,
    StoredAnswer,
)
from accounting.idempotency.service import claim, find_answer, finish, release
from accounting.ids import new_id
from builders import ADMIN, NOW
from fakes import SettableClock, TestDatabase

HASH = "a" * 64
OTHER_HASH = "b" * 64
ANSWER = StoredAnswer(201, '{"name":"\u00c5da"}', {"ETag": '"1"'})


async def claimed(db: TestDatabase, key: str = "k", request_hash: str = HASH) -> Claim:
    got = await claim(db, ADMIN.user_id, key, request_hash)
    assert isinstance(got, Claim)
    return got


async def finished(db: TestDatabase, held: Claim, answer: StoredAnswer = ANSWER) -> None:
    async def use_case(tx: Transaction) -> None:
        await finish(tx, held, answer)

    await db.run(ADMIN, use_case)


async def test_a_claim_is_a_running_row(db: TestDatabase) -> None:
    held = await claimed(db)

    row = await IdempotencyKey.get(held.id)
    assert row is not None
    assert held.id == f"{ADMIN.user_id}:k"
    assert (row.state, row.request_hash, row.answer) == (KeyState.RUNNING, HASH, None)
    assert row.created_at == NOW
    assert (row.locked_until - NOW).total_seconds() == LEASE_SECONDS


async def test_a_wrong_key_leaves_no_row(db: TestDatabase) -> None:
    with pytest.raises(InvalidIdempotencyKey):
        await claimed(db, "two words")

    assert await IdempotencyKey.find_all().count() == 0


async def test_a_running_request_is_not_run_again(db: TestDatabase, clock: SettableClock) -> None:
    await claimed(db)
    clock.move(seconds=LEASE_SECONDS - 0.001)

    with pytest.raises(RequestStillRunning):
        await claimed(db)


async def test_a_finished_request_has_its_answer(db: TestDatabase, clock: SettableClock) -> None:
    await finished(db, await claimed(db))
    clock.move(hours=23)

    assert await claim(db, ADMIN.user_id, "k", HASH) == ANSWER


@pytest.mark.parametrize("is_finished", [True, False])
async def test_another_request_with_the_key_is_refused(db: TestDatabase, is_finished: bool) -> None:
    held = await claimed(db)
    if is_finished:
        await finished(db, held)

    with pytest.raises(IdempotencyKeyReused):
        await claimed(db, request_hash=OTHER_HASH)


async def test_keys_of_two_users_are_two_keys(db: TestDatabase) -> None:
    await finished(db, await claimed(db))

    assert isinstance(await claim(db, new_id(), "k", OTHER_HASH), Claim)


async def test_a_released_key_is_free(db: TestDatabase) -> None:
    assert await release(await claimed(db))

    assert await claimed(db, request_hash=OTHER_HASH)


async def test_a_finished_key_is_not_released(db: TestDatabase) -> None:
    held = await claimed(db)
    await finished(db, held)

    assert not await release(held)
    assert await find_answer(held) == ANSWER


async def test_an_expired_claim_is_taken_over_once(db: TestDatabase, clock: SettableClock) -> None:
    first = await claimed(db)
    clock.move(seconds=LEASE_SECONDS)

    second = await claimed(db)

    assert second.lock_token != first.lock_token
    with pytest.raises(RequestStillRunning):
        await claimed(db)
    assert not await release(first)
    with pytest.raises(RequestStillRunning):
        await finished(db, first, StoredAnswer(200, "late", {}))
    await finished(db, second)
    assert await find_answer(first) == ANSWER


async def test_a_claim_is_finished_once(db: TestDatabase) -> None:
    held = await claimed(db)
    await finished(db, held)

    with pytest.raises(RequestStillRunning):
        await finished(db, held, StoredAnswer(200, "again", {}))
    assert await find_answer(held) == ANSWER


async def test_a_lost_key_that_serves_another_request_has_no_answer_for_the_first(
    db: TestDatabase, clock: SettableClock
) -> None:
    slow = await claimed(db)
    clock.move(seconds=LEASE_SECONDS)
    assert await release(await claimed(db))
    await finished(db, await claimed(db, request_hash=OTHER_HASH))

    assert not await release(slow)
    assert await find_answer(slow) is None
