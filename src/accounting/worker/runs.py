"""Working on batch runs: joins the runs with what each kind does, for Celery and for cron."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

from accounting.bootstrap import Services
from accounting.db.database import Transaction
from accounting.ids import ObjectId
from accounting.invoices.bulk import issue_item
from accounting.invoices.bulk_mail import BATCH_MAILS, queue_items, tell_followed_runs, tell_run
from accounting.recurring.generation import generation_work
from accounting.runs.documents import AccountingRun, RunItem, get_run
from accounting.runs.parts import list_to_do, with_progress
from accounting.runs.rules import (
    BULK_ITEMS_MAX,
    ItemStatus,
    Outcome,
    RunId,
    RunKind,
    RunStatus,
)
from accounting.runs.service import Act, Work, execute_slice, list_free, list_stalled

logger = logging.getLogger(__name__)

SWEEP_RUNS_MAX: Final = 100
PARTS_AT_ONCE: Final = 2
WAIT_SECONDS: Final = 1.0

OnProgress: TypeAlias = Callable[[AccountingRun, int], None]


def _bulk_issue(services: Services) -> Act:
    async def act(tx: Transaction, run: AccountingRun, items: Sequence[RunItem]) -> list[Outcome]:
        skip_email = bool(run.parameters.get("skipEmail"))
        return [
            await issue_item(tx, services.platform, services.terms, item.id, skip_email=skip_email)
            for item in items
        ]

    return act


def _bulk_send_email(services: Services) -> Act:
    async def act(tx: Transaction, run: AccountingRun, items: Sequence[RunItem]) -> list[Outcome]:
        return await queue_items(tx, services.platform, services.terms, run, items)

    return act


def works(services: Services) -> Mapping[RunKind, Work]:
    """What each kind of run does; a new kind is a new line here."""
    return {
        RunKind.BULK_ISSUE: Work(_bulk_issue(services)),
        # All in one slice: the next one would wait in the queue behind the e-mails of this one.
        RunKind.BULK_SEND_EMAIL: Work(
            _bulk_send_email(services), batch_items=BATCH_MAILS, slice_items=BULK_ITEMS_MAX
        ),
        RunKind.GENERATE: generation_work(services.platform, services.terms),
    }


async def execute_run_slice(
    services: Services, run_id: ObjectId, *, on_item: Callable[[Outcome], None] = lambda _: None
) -> AccountingRun | None:
    """Work on a run for a while; None when it is finished or another worker holds it.

    The next slice is queued after the commit of this one. Raises RunNotFound.
    """
    run = await execute_slice(services.db, run_id, works(services), on_item=on_item)
    if run is not None and run.is_followed:
        # Its e-mails may all have ended before it was known that it waits for them.
        run = await tell_run(services.db, run.run_id, at_once=True) or run
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


async def tell_waiting_runs(services: Services) -> None:
    """Tell the runs that wait for e-mails how they have ended, where their workers have not."""
    for run in await tell_followed_runs(services.db):
        logger.info("run %s is %s: %s left", run.id, run.status.value, run.counts.pending)


async def execute_free_runs(
    services: Services, *, on_progress: OnProgress = lambda run, finished: None
) -> list[AccountingRun]:
    """Work on every unfinished run that nobody holds, to its end; returns them as they then stand.

    A run at which nothing moves any more, or that a worker takes over, is left as it is. Those that
    wait for their e-mails are told how these have ended.
    """
    runs = [await get_run(run_id) for run_id in await list_free(services.db, limit=SWEEP_RUNS_MAX)]
    wholes = dict.fromkeys(run.part_of or run.id for run in runs)
    await tell_waiting_runs(services)
    return [
        await execute_to_the_end(services, RunId(run_id), on_progress=on_progress)
        for run_id in wholes
    ]


async def execute_to_the_end(
    services: Services,
    run_id: RunId,
    *,
    on_progress: OnProgress = lambda run, finished: None,
    patience_seconds: float = 0,
) -> AccountingRun:
    """Work on a run and its parts until it is over, and for so long wait where nothing moves.

    That is what others hold. Several parts at once: while one waits for the database, another
    computes. `on_progress` gets the run and the number of its finished items. Raises RunNotFound.
    """
    [run] = await with_progress([await get_run(run_id)])
    shown: tuple[int, int] | None = None

    def show(run: AccountingRun, finished: int) -> None:
        nonlocal shown
        if shown != (run.counts.total, finished):
            shown = (run.counts.total, finished)
            on_progress(run, finished)

    waited = 0.0
    while run.status is not RunStatus.DONE and waited <= patience_seconds:
        before, finished = run, run.counts.total - run.counts.pending

        def on_item(outcome: Outcome, before: AccountingRun = before) -> None:
            nonlocal finished
            finished += outcome.status is not ItemStatus.PENDING
            show(before, finished)

        show(before, finished)
        to_do = await list_to_do(run, services.db.clock(), limit=PARTS_AT_ONCE)
        await asyncio.gather(
            *(execute_run_slice(services, part_id, on_item=on_item) for part_id in to_do)
        )
        [run] = await with_progress([await get_run(run_id)])
        if _state(run) != _state(before):
            waited = 0.0
            continue
        waited += WAIT_SECONDS
        if waited <= patience_seconds:
            await asyncio.sleep(WAIT_SECONDS)
    show(run, run.counts.total - run.counts.pending)
    return run


def _state(run: AccountingRun) -> tuple[object, ...]:
    return run.status, run.is_planning, run.counts
