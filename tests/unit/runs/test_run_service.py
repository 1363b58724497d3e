"""Runs on an in-memory MongoDB, and again on the real one: slices, failures, sweep, retry."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence

import pytest

from accounting.actor import Actor, Role
from accounting.db.database import Job, TooBusy, Transaction
from accounting.errors import Conflict, Invalid
from accounting.ids import ObjectId, new_id
from accounting.runs.documents import AccountingRun, RunItem, get_run
from accounting.runs.rules import (
    BATCH_ITEMS_MAX,
    DONE,
    EXECUTE_JOB,
    FRUITLESS_SLICES_MAX,
    LEASE_SECONDS,
    SLICE_ITEMS_MAX,
    SLICE_SECONDS_MAX,
    STALLED_AFTER_SECONDS,
    ItemStatus,
    NewItem,
    NothingFailed,
    Outcome,
    RunKind,
    RunNotFound,
    RunStatus,
    RunStillRunning,
    skipped,
)
from accounting.runs.service import (
    Work,
    claim_run,
    execute_slice,
    list_free,
    list_stalled,
    retry_failed,
    start_run,
)
from builders import ADMIN, NOW
from fakes import JobList, SettableClock, TestDatabase


class LabelTaken(Conflict):
    """A rule that an item breaks."""


class WorkerKilled(BaseException):
    """What no `except Exception` catches."""


async def a_run(db: TestDatabase, *labels: str, actor: Actor = ADMIN) -> AccountingRun:
    items = [NewItem(new_id(), label) for label in labels]
    return await db.run(actor, start_run, RunKind.BULK_ISSUE, items, parameters={"skipEmail": True})


ActOnOne = Callable[[Transaction, AccountingRun, RunItem], Awaitable[Outcome]]


async def do(db: TestDatabase, run: AccountingRun, act_on_one: ActOnOne) -> AccountingRun | None:
    async def act(tx: Transaction, run: AccountingRun, items: Sequence[RunItem]) -> list[Outcome]:
        return [await act_on_one(tx, run, item) for item in items]

    return await execute_slice(db, ObjectId(run.id), {RunKind.BULK_ISSUE: Work(act)})


async def stored(run: AccountingRun) -> AccountingRun:
    return await get_run(ObjectId(run.id))


async def record(db: TestDatabase, claimed: AccountingRun, position: int) -> None:
    async def use_case(tx: Transaction) -> None:
        await claimed.record_outcomes(tx, {position: DONE}, lease_id=claimed.lease_id)

    await db.run(ADMIN, use_case)


def statuses(run: AccountingRun) -> list[ItemStatus]:
    return [item.status for item in run.items]


async def succeed(tx: Transaction, run: AccountingRun, item: RunItem) -> Outcome:
    return DONE


async def obey_label(tx: Transaction, run: AccountingRun, item: RunItem) -> Outcome:
    """Does what the label says."""
    match item.label:
        case "taken":
            raise LabelTaken("This label is taken.")
        case "poison":
            raise RuntimeError("a bug")
        case "busy":
            raise TooBusy
        case "skip":
            return skipped("nothing_to_do", "There was nothing to do.")
    return DONE


async def test_a_run_is_stored_and_queued_with_who_asked_for_it(
    db: TestDatabase, jobs: JobList
) -> None:
    run = await a_run(db, "a", "b")

    kept = await stored(run)
    assert jobs.sent == [Job(EXECUTE_JOB, (str(run.id),))]
    assert (kept.status, kept.counts.total, kept.counts.pending) == (RunStatus.QUEUED, 2, 2)
    assert [item.label for item in kept.items] == ["a", "b"]
    assert kept.requested_by == ADMIN.user_id
    assert kept.actor.as_actor() == ADMIN
    assert kept.parameters == {"skipEmail": True}
    assert (kept.created_at, kept.started_at, kept.finished_at) == (NOW, None, None)


async def test_a_run_of_nothing_is_refused(db: TestDatabase, jobs: JobList) -> None:
    with pytest.raises(Invalid):
        await a_run(db)

    assert jobs.sent == []


async def test_each_item_is_done_once_in_the_name_of_who_asked(
    db: TestDatabase, clock: SettableClock
) -> None:
    run = await a_run(db, "a", "b", "c")
    seen: list[tuple[str | None, Actor]] = []

    async def act(tx: Transaction, run: AccountingRun, item: RunItem) -> Outcome:
        seen.append((item.label, tx.actor))
        clock.move(seconds=1)
        return DONE

    ended = await do(db, run, act)
    again = await do(db, run, act)

    assert seen == [("a", ADMIN), ("b", ADMIN), ("c", ADMIN)]
    assert again is None
    assert ended is not None
    assert ended == await stored(run)
    assert (ended.status, ended.counts.done, ended.counts.pending) == (RunStatus.DONE, 3, 0)
    assert (ended.started_at, ended.lease_id, ended.lease_until) == (NOW, None, None)
    assert ended.finished_at == clock.now


async def test_a_bad_item_has_its_reason_and_the_others_are_done(
    db: TestDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    run = await a_run(db, "a", "taken", "poison", "skip", "b")

    with caplog.at_level(logging.ERROR):
        await do(db, run, obey_label)

    ended = await stored(run)
    assert ended.status is RunStatus.DONE
    counts = ended.counts
    assert (counts.done, counts.failed, counts.skipped, counts.pending) == (2, 2, 1, 0)
    first, taken, poison, skip, last = ended.items
    assert (first.status, last.status, first.code) == (ItemStatus.DONE, ItemStatus.DONE, None)
    assert (taken.status, taken.code) == (ItemStatus.FAILED, "label_taken")
    assert taken.reason == "This label is taken."
    assert (poison.status, poison.code) == (ItemStatus.FAILED, "internal_error")
    assert poison.reason == f"Something went wrong on our side; quote run {run.id}, item 2."
    assert (skip.status, skip.code) == (ItemStatus.SKIPPED, "nothing_to_do")
    assert all(item.at == NOW for item in ended.items)
    assert "RuntimeError: a bug" in caplog.text


async def test_a_long_run_is_done_in_slices_by_number(db: TestDatabase, jobs: JobList) -> None:
    run = await a_run(db, *(["a"] * (SLICE_ITEMS_MAX + 1)))

    first = await do(db, run, succeed)
    assert first is not None
    assert (first.status, first.counts.pending) == (RunStatus.RUNNING, 1)
    assert jobs.sent == [Job(EXECUTE_JOB, (str(run.id),))] * 2

    second = await do(db, run, succeed)
    assert second is not None
    assert second.status is RunStatus.DONE
    assert len(jobs.sent) == 2


async def test_a_slow_run_is_done_in_slices_by_time(
    db: TestDatabase, clock: SettableClock, jobs: JobList
) -> None:
    run = await a_run(db, *(["a"] * (3 * BATCH_ITEMS_MAX)))

    async def act(tx: Transaction, run: AccountingRun, items: Sequence[RunItem]) -> list[Outcome]:
        clock.move(seconds=SLICE_SECONDS_MAX / 2)
        return [DONE] * len(items)

    first = await execute_slice(db, ObjectId(run.id), {RunKind.BULK_ISSUE: Work(act)})

    assert first is not None
    assert (first.status, first.counts.done) == (RunStatus.RUNNING, 2 * BATCH_ITEMS_MAX)
    assert len(jobs.sent) == 2


async def test_progress_is_visible_while_it_runs(db: TestDatabase) -> None:
    run = await a_run(db, *(["a"] * (2 * BATCH_ITEMS_MAX + 1)))
    seen: list[int] = []

    async def act(tx: Transaction, run: AccountingRun, item: RunItem) -> Outcome:
        now = await stored(run)
        assert now.status is RunStatus.RUNNING
        seen.append(now.counts.done)
        return DONE

    await do(db, run, act)

    assert sorted(set(seen)) == [0, BATCH_ITEMS_MAX, 2 * BATCH_ITEMS_MAX]


async def test_the_items_of_a_batch_are_tried_alone_when_one_is_bad(db: TestDatabase) -> None:
    run = await a_run(db, "a", "taken", "b")
    sizes: list[int] = []

    async def act(tx: Transaction, run: AccountingRun, items: Sequence[RunItem]) -> list[Outcome]:
        sizes.append(len(items))
        return [await obey_label(tx, run, item) for item in items]

    await execute_slice(db, ObjectId(run.id), {RunKind.BULK_ISSUE: Work(act)})

    assert sizes == [3, 1, 1, 1]
    assert statuses(await stored(run)) == [ItemStatus.DONE, ItemStatus.FAILED, ItemStatus.DONE]


async def test_a_run_that_is_held_is_left_alone_until_its_lease_is_over(
    db: TestDatabase, clock: SettableClock
) -> None:
    run = await a_run(db, "a")
    await db.run(ADMIN, claim_run, ObjectId(run.id))

    assert await do(db, run, succeed) is None
    clock.move(seconds=LEASE_SECONDS - 0.001)
    assert await do(db, run, succeed) is None
    clock.move(seconds=0.001)
    ended = await do(db, run, succeed)
    assert ended is not None
    assert ended.status is RunStatus.DONE


async def test_a_worker_that_lost_its_lease_stops_without_a_result(
    db: TestDatabase, clock: SettableClock
) -> None:
    run = await a_run(db, "a", "b")

    async def act(tx: Transaction, run: AccountingRun, item: RunItem) -> Outcome:
        clock.move(seconds=LEASE_SECONDS)
        await do(db, run, succeed)
        return DONE

    slow = await do(db, run, act)

    assert slow is None
    ended = await stored(run)
    assert (ended.status, statuses(ended)) == (RunStatus.DONE, [ItemStatus.DONE] * 2)
    assert ended.counts.done == 2


async def test_an_item_in_whose_way_others_were_waits_for_the_sweep(
    db: TestDatabase, clock: SettableClock, jobs: JobList
) -> None:
    run = await a_run(db, "busy", "a")

    first = await do(db, run, obey_label)
    assert first is not None
    assert statuses(first) == [ItemStatus.PENDING, ItemStatus.DONE]
    assert len(jobs.sent) == 2

    second = await do(db, run, obey_label)
    assert second is not None
    assert (second.status, second.lease_id) == (RunStatus.RUNNING, None)
    assert len(jobs.sent) == 2, "at once it would be in the way again"
    clock.move(seconds=STALLED_AFTER_SECONDS)
    assert await list_stalled(db, limit=10) == [run.id]

    ended = await do(db, run, succeed)
    assert ended is not None
    assert ended.status is RunStatus.DONE


async def test_an_item_that_kills_its_workers_fails_in_the_end(
    db: TestDatabase, clock: SettableClock
) -> None:
    run = await a_run(db, "a", "killer", "b")

    async def act(tx: Transaction, run: AccountingRun, item: RunItem) -> Outcome:
        if item.label == "killer":
            raise WorkerKilled
        return DONE

    for _ in range(2 * FRUITLESS_SLICES_MAX):
        with contextlib.suppress(WorkerKilled):
            await do(db, run, act)
        clock.move(seconds=LEASE_SECONDS)

    ended = await stored(run)
    assert ended.status is RunStatus.DONE
    assert statuses(ended) == [ItemStatus.DONE, ItemStatus.FAILED, ItemStatus.DONE]
    assert ended.items[1].code == "no_result"


async def test_workers_that_die_after_some_progress_blame_no_item(
    db: TestDatabase, clock: SettableClock
) -> None:
    run = await a_run(db, *"abcdef")
    for position in range(FRUITLESS_SLICES_MAX + 1):
        claimed = await db.run(ADMIN, claim_run, ObjectId(run.id))
        assert claimed is not None
        await record(db, claimed, position)
        clock.move(seconds=LEASE_SECONDS)

    await do(db, run, succeed)

    assert statuses(await stored(run)) == [ItemStatus.DONE] * 6


async def test_the_sweep_finds_what_does_not_move(db: TestDatabase, clock: SettableClock) -> None:
    lost = await a_run(db, "a")
    dead = await a_run(db, "a")
    ended = await a_run(db, "a")
    await db.run(ADMIN, claim_run, ObjectId(dead.id))
    await do(db, ended, succeed)

    assert await list_stalled(db, limit=10) == []
    assert await list_free(db, limit=10) == [lost.id]
    clock.move(seconds=STALLED_AFTER_SECONDS)
    fresh = await a_run(db, "a")
    assert await list_stalled(db, limit=10) == [lost.id, dead.id]
    assert await list_stalled(db, limit=1) == [lost.id]
    assert await list_free(db, limit=10) == [lost.id, dead.id, fresh.id]


async def test_failed_items_are_tried_again_in_the_name_of_who_asks(
    db: TestDatabase, jobs: JobList
) -> None:
    run = await a_run(db, "a", "taken", "skip")
    await do(db, run, obey_label)
    other = Actor(user_id=new_id(), role=Role.SUPER_ADMIN)
    actors: list[Actor] = []

    async def act(tx: Transaction, run: AccountingRun, item: RunItem) -> Outcome:
        actors.append(tx.actor)
        return DONE

    queued = await db.run(other, retry_failed, ObjectId(run.id))
    assert (queued.status, queued.counts.pending, queued.finished_at) == (RunStatus.QUEUED, 1, None)
    assert (queued.items[1].code, queued.items[1].reason, queued.items[1].at) == (None, None, None)
    assert jobs.sent[-1] == Job(EXECUTE_JOB, (str(run.id),))
    await do(db, run, act)

    ended = await stored(run)
    assert statuses(ended) == [ItemStatus.DONE, ItemStatus.DONE, ItemStatus.SKIPPED]
    assert (ended.counts.done, ended.counts.failed, ended.counts.skipped) == (2, 0, 1)
    assert actors == [other]
    assert ended.requested_by == ADMIN.user_id


async def test_only_an_ended_run_with_failures_can_be_tried_again(db: TestDatabase) -> None:
    run = await a_run(db, "a")

    with pytest.raises(RunStillRunning):
        await db.run(ADMIN, retry_failed, ObjectId(run.id))
    await do(db, run, succeed)
    with pytest.raises(NothingFailed):
        await db.run(ADMIN, retry_failed, ObjectId(run.id))
    with pytest.raises(RunNotFound):
        await db.run(ADMIN, retry_failed, new_id())


async def test_an_unknown_run_is_not_executed(db: TestDatabase) -> None:
    with pytest.raises(RunNotFound):
        await execute_slice(db, new_id(), {})
