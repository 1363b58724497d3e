"""Runs in parts: work that the run finds itself, cut into runs that several workers share.

The whole has no items. It is planned first, part by part, each queued as soon as it is stored; a
planner that dies is followed by one that goes on where it stopped. The last part to end ends it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from accounting.clock import after
from accounting.db.database import Session, Transaction
from accounting.db.document import DocumentChanged
from accounting.ids import ObjectId
from accounting.runs.documents import (
    AccountingRun,
    RunActor,
    RunCounts,
    RunItem,
    find_unfinished,
    get_run,
)
from accounting.runs.rules import (
    EXECUTE_JOB,
    LEASE_SECONDS,
    PLAN_KEPT_SECONDS,
    ItemStatus,
    NewPart,
    RunId,
    RunKind,
    RunStatus,
)

# Which of several plans with one hash is meant; those that are being carried out come before.
_PLANS_ORDER: Final = {RunStatus.PLANNED: 1, RunStatus.DONE: 2}


async def start_in_parts(
    tx: Transaction, kind: RunKind, *, parameters: Mapping[str, Any]
) -> AccountingRun:
    """Queue a run that finds its work itself, to be done in the name of the actor."""
    run = AccountingRun.new(tx, kind, parameters=parameters, is_planning=True)
    await run.add(tx)
    tx.enqueue(EXECUTE_JOB, str(run.id))
    return run


async def add_part(tx: Transaction, claimed: AccountingRun, part: NewPart) -> None:
    """Store the next part of a run and queue it, and renew the lease on the whole.

    A part without items only says how far was looked. Raises DocumentChanged when the lease is no
    longer this one.
    """
    run = await get_run(claimed.run_id, session=tx.session)
    await run.change(
        tx,
        expect={"leaseId": claimed.lease_id},
        parts=run.parts + bool(part.items),
        looked_through=part.looked_through,
        progress_at=tx.now,
        lease_until=after(tx.now, seconds=LEASE_SECONDS),
        fruitless_slices=0,
    )
    if part.items:
        stored = _part_of(tx, run, run.parts, part)
        await stored.add(tx)
        tx.enqueue(EXECUTE_JOB, str(stored.id))


async def end_planning(tx: Transaction, claimed: AccountingRun) -> AccountingRun:
    """Every part is made: what is left are their ends. Raises DocumentChanged, see `add_part`."""
    run = await get_run(claimed.run_id, session=tx.session)
    changes: dict[str, object] = {"is_planning": False, "lease_id": None, "lease_until": None}
    if run.parts == run.parts_over:
        changes |= await _end(tx, run)
    return await run.change(tx, expect={"leaseId": claimed.lease_id}, **changes)


async def end_part(tx: Transaction, part: AccountingRun) -> None:
    """Count a part that is over; the last one ends the whole.

    Two that end at once meet at the whole, and the second sees the first.
    """
    assert part.part_of is not None
    run = await get_run(RunId(part.part_of), session=tx.session)
    over = run.parts_over + 1
    is_last = not run.is_planning and over == run.parts
    ended = await _end(tx, run) if is_last else {}
    await run.change(tx, expect=None, parts_over=over, progress_at=tx.now, **ended)


async def queue_failed(tx: Transaction, run: AccountingRun) -> AccountingRun:
    """Make the failed items of an ended run, or of a part, pending again and queue it.

    Raises DocumentChanged when it was queued meanwhile.
    """
    queued = await run.change(
        tx,
        expect={"status": run.status, "finishedAt": run.finished_at},
        status=RunStatus.QUEUED,
        is_followed=False,
        finished_at=None,
        progress_at=tx.now,
        fruitless_slices=0,
        actor=RunActor.of(tx.actor),
        counts=run.counts.model_copy(update={"failed": 0}),
        items=[item.again if item.status is ItemStatus.FAILED else item for item in run.items],
    )
    tx.enqueue(EXECUTE_JOB, str(run.id))
    return queued


async def retry_parts(tx: Transaction, run: AccountingRun) -> AccountingRun:
    """Queue those parts of an ended run in which something failed.

    Raises DocumentChanged when they were queued meanwhile.
    """
    failed = AccountingRun.find({"partOf": run.id, "counts.failed": {"$gt": 0}}, session=tx.session)
    queued = [await queue_failed(tx, part) async for part in failed]
    return await run.change(
        tx,
        expect={"status": run.status, "finishedAt": run.finished_at},
        status=RunStatus.RUNNING,
        finished_at=None,
        progress_at=tx.now,
        actor=RunActor.of(tx.actor),
        parts_over=run.parts_over - len(queued),
    )


async def store_plan(
    tx: Transaction,
    kind: RunKind,
    parts: Iterable[NewPart],
    *,
    plan_hash: str,
    parameters: Mapping[str, Any],
) -> AccountingRun:
    """Keep a plan for a day: a run that is not queued until `start_plan` is called."""
    expires_at = after(tx.now, seconds=PLAN_KEPT_SECONDS)
    plan = AccountingRun.new(
        tx,
        kind,
        parameters=parameters,
        status=RunStatus.PLANNED,
        plan_hash=plan_hash,
        expires_at=expires_at,
    )
    for part in parts:
        stored = _part_of(tx, plan, plan.parts, part, RunStatus.PLANNED, expires_at)
        await stored.add(tx)
        plan.parts += 1
        plan.counts = RunCounts(total=plan.counts.total + stored.counts.total)
    await plan.add(tx)
    return plan


async def find_plan(
    kind: RunKind, plan_hash: str, now: datetime, *, session: Session | None = None
) -> AccountingRun | None:
    """The plan of this hash that is being carried out, else one that waits, else one that is over.

    The newest of them. One that has expired is none, also before the server has deleted it.
    """
    found = AccountingRun.find({"planHash": plan_hash, "kind": kind}, session=session)
    plans = [
        plan
        async for plan in found.sort("-createdAt")
        if plan.expires_at is None or plan.expires_at > now
    ]
    return min(plans, key=lambda plan: _PLANS_ORDER.get(plan.status, 0), default=None)


async def start_plan(tx: Transaction, plan: AccountingRun) -> AccountingRun:
    """Queue a plan as it is, to be done in the name of the actor.

    Raises DocumentChanged when it was started meanwhile, or is no longer there as a whole.
    """
    actor = RunActor.of(tx.actor)
    parts = AccountingRun.get_motor_collection()
    async for part in parts.find({"partOf": plan.id}, {"_id": 1}, session=tx.session):
        tx.enqueue(EXECUTE_JOB, str(part["_id"]))
    queued = await parts.update_many(
        {"partOf": plan.id},
        {
            "$set": {
                "status": RunStatus.QUEUED,
                "expiresAt": None,
                "progressAt": tx.now,
                "actor": actor.model_dump(by_alias=True),
            }
        },
        session=tx.session,
    )
    if queued.matched_count < plan.parts:
        # It expires now by the clock of the server, which deletes one document after another.
        raise DocumentChanged(type(plan).__name__, plan.id)
    ended = {} if plan.parts else await _end(tx, plan)
    return await plan.change(
        tx,
        expect={"status": RunStatus.PLANNED},
        **{
            "status": RunStatus.RUNNING,
            "expires_at": None,
            "progress_at": tx.now,
            "started_at": tx.now,
            "actor": actor,
            "requested_by": tx.actor.user_id,
            **ended,
        },
    )


async def with_progress(runs: Sequence[AccountingRun]) -> list[AccountingRun]:
    """These runs, with the sums of their parts as counts where they are not over yet."""
    going = [run.id for run in runs if run.is_in_parts and run.status is not RunStatus.DONE]
    counts = await _sum_parts(going) if going else {}
    return [
        run.model_copy(update={"counts": counts[run.id]}) if run.id in counts else run
        for run in runs
    ]


async def list_to_do(run: AccountingRun, free_at: datetime, *, limit: int) -> list[RunId]:
    """What is to be done of a run and nobody holds: itself, or the first of its parts."""
    if run.is_planning or not run.parts:
        return [run.run_id]
    return await find_unfinished(before=None, free_at=free_at, limit=limit, part_of=run.run_id)


async def list_items(
    run: AccountingRun, statuses: Sequence[ItemStatus], *, page: int, limit: int
) -> tuple[list[RunItem], int]:
    """A page of the items of a run or of its parts, in order, and how many there are in all.

    `run` has the counts of the present, see `with_progress`.
    """
    skip = (page - 1) * limit
    wanted = [status for status in ItemStatus if not statuses or status in statuses]
    if not run.is_in_parts:
        items = [item for item in run.items if item.status in wanted]
        return items[skip : skip + limit], len(items)
    found = AccountingRun.get_motor_collection().aggregate(
        [
            {"$match": {"partOf": run.id}},
            {"$sort": {"partNumber": 1}},
            {"$project": {"_id": 0, "items": 1}},
            {"$unwind": "$items"},
            {"$match": {"items.status": {"$in": wanted}}},
            {"$skip": skip},
            {"$limit": limit},
        ]
    )
    items = [RunItem.model_validate(raw["items"]) async for raw in found]
    return items, sum(getattr(run.counts, status.lower()) for status in wanted)


def _part_of(
    tx: Transaction,
    run: AccountingRun,
    number: int,
    part: NewPart,
    status: RunStatus = RunStatus.QUEUED,
    expires_at: datetime | None = None,
) -> AccountingRun:
    return AccountingRun.new(
        tx,
        run.kind,
        part.items,
        parameters=run.parameters,
        status=status,
        expires_at=expires_at,
        part_of=run.id,
        part_number=number,
    )


async def _end(tx: Transaction, run: AccountingRun) -> dict[str, object]:
    sums = await _sum_parts([run.id], session=tx.session)
    counts = sums.get(run.id, RunCounts(total=0))
    return {"status": RunStatus.DONE, "finished_at": tx.now, "counts": counts}


async def _sum_parts(
    run_ids: Sequence[ObjectId | None], *, session: Session | None = None
) -> dict[ObjectId | None, RunCounts]:
    names = list(RunCounts.model_fields)
    found = AccountingRun.get_motor_collection().aggregate(
        [
            {"$match": {"partOf": {"$in": list(run_ids)}}},
            {"$group": {"_id": "$partOf", **{name: {"$sum": f"$counts.{name}"} for name in names}}},
        ],
        session=session,
    )
    return {raw["_id"]: RunCounts(**{name: raw[name] for name in names}) async for raw in found}
