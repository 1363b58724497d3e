"""Runs that are followed: their items are begun by a worker and end elsewhere, each in its time.

Such an item stays PENDING with the id of the document that tells how it ends. The run is told in
groups and not by each of those documents itself: else whoever ends one of them would write to this
one document, a thousand times, and wait for all others who do.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from accounting.db.database import Transaction
from accounting.ids import ObjectId
from accounting.runs.documents import AccountingRun, get_run
from accounting.runs.rules import Outcome, RunId, RunStatus


async def tell_results(
    tx: Transaction, run: AccountingRun, outcomes: Mapping[ObjectId, Outcome]
) -> AccountingRun:
    """Store how these begun items have ended, by the documents that tell it; the last ends the run.

    `run` was read in this transaction, so that two who tell the same meet, and the second one finds
    it told.
    """
    positions = run.positions_begun()
    ended = {positions[told]: outcome for told, outcome in outcomes.items()}
    if not ended:
        return run
    await run.record_outcomes(tx, ended, lease_id=None)
    if len(ended) == run.counts.pending:
        finished = {"status": RunStatus.DONE, "is_followed": False, "finished_at": tx.now}
        await run.change(tx, expect={"leaseId": None}, **finished)
    return await get_run(run.run_id, session=tx.session)


async def is_followed(run_id: RunId, *, unmoved_since: datetime | None = None) -> bool:
    """Whether this run waits for its items; `unmoved_since`: and has been told nothing since."""
    query: dict[str, object] = {"_id": run_id, "isFollowed": True}
    if unmoved_since is not None:
        query["progressAt"] = {"$lte": unmoved_since}
    return await AccountingRun.get_motor_collection().find_one(query, {"_id": 1}) is not None


async def list_followed(*, limit: int) -> list[RunId]:
    """Runs that wait for their items, oldest first."""
    waiting = {"status": RunStatus.RUNNING, "isFollowed": True}
    found = AccountingRun.get_motor_collection().find(waiting, {"_id": 1})
    return [raw["_id"] async for raw in found.sort([("createdAt", 1), ("_id", 1)]).limit(limit)]
