"""Starting batch runs, working on them slice by slice, and trying their failures again.

The stored run is the truth and the queue a hint: a lost message costs a minute, not a run.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from accounting.actor import SYSTEM
from accounting.clock import after
from accounting.db.client import ConnectionLost
from accounting.db.database import Database, Transaction
from accounting.db.document import DocumentChanged
from accounting.errors import AccountingError, Unavailable
from accounting.ids import new_id
from accounting.runs.documents import (
    AccountingRun,
    RunActor,
    RunCounts,
    RunItem,
    find_unfinished,
    get_run,
)
from accounting.runs.rules import (
    BATCH_ITEMS_MAX,
    FRUITLESS_SLICES_MAX,
    LEASE_SECONDS,
    NO_RESULT_CODE,
    SLICE_ITEMS_MAX,
    SLICE_SECONDS_MAX,
    STALLED_AFTER_SECONDS,
    UNEXPECTED_CODE,
    ItemStatus,
    NewItem,
    NothingFailed,
    Outcome,
    RunId,
    RunKind,
    RunStatus,
    RunStillRunning,
    RunTakenOver,
    check_item_count,
    failed,
)

logger = logging.getLogger(__name__)

EXECUTE_JOB: Final = "runs.execute"

# What a kind of run does with a few items, in the transaction that also stores their results. What
# it raises undoes them all; then each is tried alone, so that only the bad one fails.
Act: TypeAlias = Callable[
    [Transaction, AccountingRun, Sequence[RunItem]], Awaitable[Sequence[Outcome]]
]


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
    run = AccountingRun(
        id=new_id(),
        kind=kind,
        requested_by=tx.actor.user_id,
        actor=RunActor.of(tx.actor),
        created_at=tx.now,
        progress_at=tx.now,
        counts=RunCounts(total=len(items)),
        parameters=dict(parameters or {}),
        items=[RunItem(id=item.id, label=item.label) for item in items],
    )
    await run.add(tx)
    tx.enqueue(EXECUTE_JOB, str(run.id))
    return run


async def retry_failed(tx: Transaction, run_id: RunId) -> AccountingRun:
    """Make the failed items of an ended run pending again, now in the name of this actor.

    Raises RunNotFound, RunStillRunning, NothingFailed; DocumentChanged when two ask at once.
    """
    run = await get_run(run_id, session=tx.session)
    if run.status is not RunStatus.DONE:
        raise RunStillRunning(run_id, run.status)
    if not run.counts.failed:
        raise NothingFailed(run_id)
    queued = await run.change(
        tx,
        expect={"status": run.status, "finishedAt": run.finished_at},
        status=RunStatus.QUEUED,
        finished_at=None,
        progress_at=tx.now,
        fruitless_slices=0,
        actor=RunActor.of(tx.actor),
        counts=run.counts.model_copy(update={"failed": 0}),
        items=[
            RunItem(id=item.id, label=item.label) if item.status is ItemStatus.FAILED else item
            for item in run.items
        ],
    )
    tx.enqueue(EXECUTE_JOB, str(run_id))
    return queued


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
    acts: Mapping[RunKind, Act],
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
        finished = 0
        deadline = after(db.clock(), seconds=SLICE_SECONDS_MAX)
        for positions in await _batches(db, run):
            for outcome in await _execute_batch(db, run, positions, acts[run.kind]):
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

    Every claim counts as fruitless until an item has its result. Raises RunNotFound.
    """
    run = await get_run(run_id, session=tx.session)
    is_held = run.lease_until is not None and run.lease_until > tx.now
    if run.status is RunStatus.DONE or is_held:
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


async def _batches(db: Database, run: AccountingRun) -> list[list[int]]:
    """The positions of this slice, without the item at which every slice ends.

    One by one after a slice without a result, so that the items before the bad one get theirs.
    """
    pending = run.positions(ItemStatus.PENDING)
    if pending and run.fruitless_slices > FRUITLESS_SLICES_MAX:
        reason = f"{FRUITLESS_SLICES_MAX} attempts in a row ended without a result for this item."
        await db.run(SYSTEM, _record, run, {pending.pop(0): failed(NO_RESULT_CODE, reason)})
    size = BATCH_ITEMS_MAX if run.fruitless_slices == 1 else 1
    wanted = pending[:SLICE_ITEMS_MAX]
    return [wanted[first : first + size] for first in range(0, len(wanted), size)]


async def _execute_batch(
    db: Database, run: AccountingRun, positions: Sequence[int], act: Act
) -> list[Outcome]:
    """Do a few items in one transaction; where that cannot be, each in its own."""
    if len(positions) > 1:
        try:
            return await db.run(run.actor.as_actor(), _act_and_record, run, positions, act)
        except (RunTakenOver, ConnectionLost):
            raise
        except Exception as error:  # whatever it is, trying each alone shows which item it is about
            logger.info("run %s: items %s one by one: %r", run.id, positions, error)
    outcomes = [await _execute_item(db, run, position, act) for position in positions]
    return [outcome for outcome in outcomes if outcome is not None]


async def _execute_item(
    db: Database, run: AccountingRun, position: int, act: Act
) -> Outcome | None:
    """Do one item; whatever it breaks, the run goes on, unless the database itself is away.

    None when other writers were in the way for too long: the item stays pending for a later slice.
    """
    actor = run.actor.as_actor()
    try:
        [outcome] = await db.run(actor, _act_and_record, run, [position], act)
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
    await db.run(actor, _record, run, {position: outcome})
    return outcome


async def _act_and_record(
    tx: Transaction, run: AccountingRun, positions: Sequence[int], act: Act
) -> list[Outcome]:
    outcomes = list(await act(tx, run, [run.items[position] for position in positions]))
    await _record(tx, run, dict(zip(positions, outcomes, strict=True)))
    return outcomes


async def _record(tx: Transaction, run: AccountingRun, outcomes: Mapping[int, Outcome]) -> None:
    await run.record_outcomes(tx, outcomes, lease_id=run.lease_id)


async def _end_slice(
    tx: Transaction, claimed: AccountingRun, *, is_fruitful: bool
) -> AccountingRun:
    run = await get_run(claimed.run_id, session=tx.session)
    changes: dict[str, object] = {"lease_id": None, "lease_until": None}
    if not run.counts.pending:
        changes |= {"status": RunStatus.DONE, "finished_at": tx.now}
    elif is_fruitful:
        tx.enqueue(EXECUTE_JOB, str(run.id))
    # Otherwise what is in the way may need a while; the sweep tries again.
    return await run.change(tx, expect={"leaseId": claimed.lease_id}, **changes)
