"""Starting batch runs, working on them slice by slice, and trying their failures again.

The stored run is the truth and the queue a hint: a lost message costs a minute, not a run.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from accounting.actor import SYSTEM
from accounting.clock import after
from accounting.db.client import ConnectionLost
from accounting.db.database import Database, Transaction
from accounting.db.document import DocumentChanged
from accounting.errors import AccountingError, Unavailable
from accounting.ids import ObjectId, new_id
from accounting.runs.documents import AccountingRun, RunItem, find_unfinished, get_run
from accounting.runs.parts import add_part, end_part, end_planning, queue_failed, retry_parts
from accounting.runs.rules import (
    BATCH_ITEMS_MAX,
    EXECUTE_JOB,
    FRUITLESS_SLICES_MAX,
    LEASE_SECONDS,
    NO_RESULT_CODE,
    PUT_OFF_ITEMS_MAX,
    SLICE_ITEMS_MAX,
    SLICE_SECONDS_MAX,
    STALLED_AFTER_SECONDS,
    UNEXPECTED_CODE,
    ItemStatus,
    NewItem,
    NewPart,
    NothingFailed,
    Outcome,
    RunId,
    RunKind,
    RunNotFound,
    RunStatus,
    RunStillRunning,
    RunTakenOver,
    check_item_count,
    failed,
)

logger = logging.getLogger(__name__)

# What a kind of run does with a few items, in the transaction that also stores their results. What
# it raises undoes them all; then each is tried alone, so that only the bad one fails.
Act: TypeAlias = Callable[
    [Transaction, AccountingRun, Sequence[RunItem]], Awaitable[Sequence[Outcome]]
]
# What it does when an item has failed, in the transaction that stores the failure.
OnFailed: TypeAlias = Callable[[Transaction, AccountingRun, RunItem, Outcome], Awaitable[None]]
# Finds the work of a run in parts, from where it stopped looking the last time.
FindParts: TypeAlias = Callable[[AccountingRun], AsyncIterator[NewPart]]


async def _do_nothing(tx: Transaction, run: AccountingRun, item: RunItem, outcome: Outcome) -> None:
    """Most failures change nothing but their item."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a kind of run does, and how much of it at once."""

    act: Act
    batch_items: int = BATCH_ITEMS_MAX
    slice_items: int = SLICE_ITEMS_MAX
    on_failed: OnFailed = _do_nothing
    find_parts: FindParts | None = None


async def start_run(
    tx: Transaction,
    kind: RunKind,
    items: Sequence[NewItem],
    *,
    parameters: Mapping[str, Any] | None = None,
) -> AccountingRun:
    """Store a run for the workers, to be done in the name of the actor; queued after the commit.

    It writes no audit entry: a run changes nothing by itself, each of its items writes its own
    under the actor's name. Raises Invalid for no items, or more than RUN_ITEMS_MAX.
    """
    check_item_count(items)
    run = AccountingRun.new(tx, kind, items, parameters=parameters)
    await run.add(tx)
    tx.enqueue(EXECUTE_JOB, str(run.id))
    return run


async def retry_failed(tx: Transaction, run_id: RunId) -> AccountingRun:
    """Make the failed items of an ended run pending again, now in the name of this actor.

    Raises RunNotFound, also for a part; RunStillRunning, NothingFailed; DocumentChanged when two
    ask at once.
    """
    run = await get_run(run_id, session=tx.session)
    if run.part_of is not None:
        raise RunNotFound(run_id)
    if run.status is not RunStatus.DONE:
        raise RunStillRunning(run_id, run.status)
    if not run.counts.failed:
        raise NothingFailed(run_id)
    return await (retry_parts if run.is_in_parts else queue_failed)(tx, run)


async def list_stalled(db: Database, *, limit: int) -> list[RunId]:
    """Runs whose message was lost or whose worker died, oldest first."""
    now = db.clock()
    stalled_since = after(now, seconds=-STALLED_AFTER_SECONDS)
    return await find_unfinished(before=stalled_since, free_at=now, limit=limit)


async def list_free(db: Database, *, limit: int) -> list[RunId]:
    """Every run that is not finished and that no worker holds, oldest first."""
    return await find_unfinished(before=None, free_at=db.clock(), limit=limit)


async def execute_slice(
    db: Database,
    run_id: RunId,
    works: Mapping[RunKind, Work],
    *,
    on_item: Callable[[Outcome], None] = lambda outcome: None,
) -> AccountingRun | None:
    """Work on a run for a while and queue the rest of it; returns the run as it then stands.

    None when it is finished or another worker holds it. Safe to call twice and at the same time:
    the lease lets one in, and each result is stored in one transaction with the item's effect.
    A lost database ends the slice; the sweep queues the run again once its lease is over.
    """
    try:
        run = await db.run(SYSTEM, claim_run, run_id)
        if run is None:
            return None
        work = works[run.kind]
        if run.is_planning:
            return await _find_parts(db, run, work)
        finished = 0
        put_off: set[ObjectId] = set()
        deadline = after(db.clock(), seconds=SLICE_SECONDS_MAX)
        for positions in await _batches(db, run, work):
            for outcome in await _execute_batch(db, run, positions, work, put_off):
                finished += 1
                on_item(outcome)
            if db.clock() >= deadline:
                break
        return await db.run(SYSTEM, _end_slice, run, is_fruitful=finished > 0)
    except (RunTakenOver, DocumentChanged, Unavailable) as error:
        logger.info("run %s is left to others: %s", run_id, error)
        return None


async def claim_run(tx: Transaction, run_id: RunId) -> AccountingRun | None:
    """Take a run for this worker alone; None when it is finished, or held by another.

    None too for a run whose parts are all made, or whose items end elsewhere. Every claim counts as
    fruitless until an item has its result. Raises RunNotFound.
    """
    run = await get_run(run_id, session=tx.session)
    is_held = run.lease_until is not None and run.lease_until > tx.now
    is_to_be_done = run.status in (RunStatus.QUEUED, RunStatus.RUNNING)
    is_waiting = run.is_followed or (run.parts and not run.is_planning)
    if is_held or is_waiting or not is_to_be_done:
        return None
    return await run.change(
        tx,
        expect={"status": run.status, "leaseId": run.lease_id, "leaseUntil": run.lease_until},
        status=RunStatus.RUNNING,
        started_at=run.started_at or tx.now,
        progress_at=tx.now,
        lease_id=new_id(),
        lease_until=after(tx.now, seconds=LEASE_SECONDS),
        fruitless_slices=run.fruitless_slices + 1,
    )


async def _find_parts(db: Database, run: AccountingRun, work: Work) -> AccountingRun:
    """Cut the run's work into parts, each queued as soon as it is stored."""
    assert work.find_parts is not None, f"{run.kind} is no run in parts"
    deadline = after(db.clock(), seconds=SLICE_SECONDS_MAX)
    async for part in work.find_parts(run):
        await db.run(run.actor.as_actor(), add_part, run, part)
        if db.clock() >= deadline:
            return await db.run(SYSTEM, _end_slice, run, is_fruitful=True)
    return await db.run(SYSTEM, end_planning, run)


async def _batches(db: Database, run: AccountingRun, work: Work) -> list[list[int]]:
    """The positions of this slice, without the item at which every slice ends.

    After a slice without a result the first ones come one by one, so that the items before the bad
    one get theirs.
    """
    pending = run.positions_to_do()
    if pending and run.fruitless_slices > FRUITLESS_SLICES_MAX:
        reason = f"{FRUITLESS_SLICES_MAX} attempts in a row ended without a result for this item."
        position = pending.pop(0)
        await _record_failure(db, run, position, failed(NO_RESULT_CODE, reason), work)
    wanted = pending[: work.slice_items]
    singly = work.batch_items if run.fruitless_slices > 1 else 0
    rest = range(singly, len(wanted), work.batch_items)
    return [
        *([position] for position in wanted[:singly]),
        *(wanted[first : first + work.batch_items] for first in rest),
    ]


async def _execute_batch(
    db: Database,
    run: AccountingRun,
    positions: Sequence[int],
    work: Work,
    put_off: set[ObjectId],
) -> list[Outcome]:
    """Do a few items in one transaction; where that cannot be, each in its own.

    `put_off` are the ids of items that wait for a later slice, and with them the items after them
    that are about the same: a later month of a template builds on the earlier one.
    """
    positions = [position for position in positions if run.items[position].id not in put_off]
    if len(positions) > 1:
        try:
            return await db.run(run.actor.as_actor(), _act_and_record, run, positions, work)
        except (RunTakenOver, ConnectionLost):
            raise
        except Exception as error:  # whatever it is, trying each alone shows which item it is about
            logger.info("run %s: items %s one by one: %r", run.id, positions, error)
    outcomes: list[Outcome] = []
    refused = 0
    for position in positions:
        item_id = run.items[position].id
        if refused == PUT_OFF_ITEMS_MAX:
            put_off.add(item_id)
        if item_id in put_off:
            continue
        outcome = await _execute_item(db, run, position, work)
        if outcome is not None:
            outcomes.append(outcome)
        else:
            put_off.add(item_id)
            refused += 1
    return outcomes


async def _execute_item(
    db: Database, run: AccountingRun, position: int, work: Work
) -> Outcome | None:
    """Do one item; whatever it breaks, the run goes on, unless the database itself is away.

    None when other writers were in the way for too long: the item stays pending for a later slice.
    """
    try:
        [outcome] = await db.run(run.actor.as_actor(), _act_and_record, run, [position], work)
        return outcome
    except (RunTakenOver, ConnectionLost):
        raise
    except Unavailable as error:
        logger.warning("run %s, item %s is put off: %s", run.id, position, error)
        return None
    except AccountingError as error:
        outcome = failed(error.code, error.sentence)
    except Exception:  # the edge of an item: a bug in one must not keep the others from being done
        logger.exception("run %s, item %s: unexpected error", run.id, position)
        reason = f"Something went wrong on our side; quote run {run.id}, item {position}."
        outcome = failed(UNEXPECTED_CODE, reason)
    await _record_failure(db, run, position, outcome, work)
    return outcome


async def _record_failure(
    db: Database, run: AccountingRun, position: int, outcome: Outcome, work: Work
) -> None:
    """Store the failure with what follows from it; if that fails too, the failure alone."""
    actor = run.actor.as_actor()
    try:
        await db.run(actor, _record, run, {position: outcome}, work)
    except (RunTakenOver, Unavailable):
        raise
    except Exception:  # what is wrong with the item may be wrong with what it is about
        logger.exception("run %s, item %s: nothing follows from its failure", run.id, position)
        await db.run(actor, run.record_outcomes, {position: outcome}, lease_id=run.lease_id)


async def _act_and_record(
    tx: Transaction, run: AccountingRun, positions: Sequence[int], work: Work
) -> list[Outcome]:
    outcomes = list(await work.act(tx, run, [run.items[position] for position in positions]))
    await _record(tx, run, dict(zip(positions, outcomes, strict=True)), work)
    return outcomes


async def _record(
    tx: Transaction, run: AccountingRun, outcomes: Mapping[int, Outcome], work: Work
) -> None:
    for position, outcome in outcomes.items():
        if outcome.status is ItemStatus.FAILED:
            await work.on_failed(tx, run, run.items[position], outcome)
    await run.record_outcomes(tx, outcomes, lease_id=run.lease_id)


async def _end_slice(
    tx: Transaction, claimed: AccountingRun, *, is_fruitful: bool
) -> AccountingRun:
    run = await get_run(claimed.run_id, session=tx.session)
    changes: dict[str, object] = {"lease_id": None, "lease_until": None}
    is_over = not run.counts.pending and not run.is_planning
    if is_over:
        changes |= {"status": RunStatus.DONE, "finished_at": tx.now}
    elif not run.is_planning and not run.positions_to_do():
        changes["is_followed"] = True
    elif is_fruitful:
        tx.enqueue(EXECUTE_JOB, str(run.id))
    # Otherwise what is in the way may need a while; the sweep tries again.
    ended = await run.change(tx, expect={"leaseId": claimed.lease_id}, **changes)
    if is_over and ended.part_of is not None:
        await end_part(tx, ended)
    return ended
