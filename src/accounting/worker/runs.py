"""Working on batch runs: joins the runs with what each kind does, for Celery and for cron."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

from accounting.bootstrap import Services
from accounting.db.database import Transaction
from accounting.ids import ObjectId
from accounting.invoices.bulk import issue_item
from accounting.runs.documents import AccountingRun, RunItem, get_run
from accounting.runs.rules import Outcome, RunKind, RunStatus
from accounting.runs.service import Act, execute_slice, list_free, list_stalled

logger = logging.getLogger(__name__)

SWEEP_RUNS_MAX: Final = 100

OnProgress: TypeAlias = Callable[[AccountingRun, int], None]


def _bulk_issue(services: Services) -> Act:
    async def act(tx: Transaction, run: AccountingRun, items: Sequence[RunItem]) -> list[Outcome]:
        skip_email = bool(run.parameters.get("skipEmail"))
        return [
            await issue_item(tx, services.platform, services.terms, item.id, skip_email=skip_email)
            for item in items
        ]

    return act


def acts(services: Services) -> Mapping[RunKind, Act]:
    """What each kind of run does with an item; a new kind is a new line here."""
    return {RunKind.BULK_ISSUE: _bulk_issue(services)}


async def execute_run_slice(
    services: Services, run_id: ObjectId, *, on_item: Callable[[Outcome], None] = lambda _: None
) -> AccountingRun | None:
    """Work on a run for a while; None when it is finished or another worker holds it.

    The next slice is queued after the commit of this one. Raises RunNotFound.
    """
    run = await execute_slice(services.db, run_id, acts(services), on_item=on_item)
    if run is not None:
        counts = run.counts
        logger.info(
            "run %s is %s: %s done, %s skipped, %s failed of %s",
            *(run.id, run.status.value),
            *(counts.done, counts.skipped, counts.failed, counts.total),
        )
    return run


async def stalled_runs(services: Services) -> list[ObjectId]:
    """The runs to queue again, at most SWEEP_RUNS_MAX of them."""
    return await list_stalled(services.db, limit=SWEEP_RUNS_MAX)


async def execute_free_runs(
    services: Services, *, on_progress: OnProgress = lambda run, finished: None
) -> list[AccountingRun]:
    """Work on every unfinished run that nobody holds, to its end; returns them as they then stand.

    A run at which nothing moves any more, or that a worker takes over, is left as it is.
    """
    worked_on = []
    for run_id in await list_free(services.db, limit=SWEEP_RUNS_MAX):
        if run := await _execute_to_the_end(services, run_id, on_progress):
            worked_on.append(run)
    return worked_on


async def _execute_to_the_end(
    services: Services, run_id: ObjectId, on_progress: OnProgress
) -> AccountingRun | None:
    run: AccountingRun | None = await get_run(run_id)
    while run is not None and run.status is not RunStatus.DONE:
        before, finished = run, run.counts.total - run.counts.pending

        def on_item(_: Outcome, before: AccountingRun = before) -> None:
            nonlocal finished
            finished += 1
            on_progress(before, finished)

        on_progress(before, finished)
        run = await execute_run_slice(services, run_id, on_item=on_item)
        if run is not None and run.counts.pending == before.counts.pending:
            break
    return run
