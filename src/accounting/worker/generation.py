"""Generating invoices: joins the run with its workers, for Celery and for cron."""

from __future__ import annotations

from datetime import date
from typing import Final

from accounting.actor import SYSTEM
from accounting.bootstrap import Services
from accounting.clock import business_day
from accounting.recurring.generation import start_generation
from accounting.recurring.plan import Plan, make_plan, run_plan, save_plan
from accounting.runs.documents import AccountingRun
from accounting.worker.runs import OnProgress, execute_to_the_end

# Twice the lease of a worker that may have died with a part in its hands.
PATIENCE_SECONDS: Final = 60.0


async def start_todays_generation(services: Services) -> AccountingRun:
    """Queue the daily run; one that is still going is enough."""
    today = business_day(services.db.clock(), services.terms.zone)
    return await services.db.run(SYSTEM, start_generation, today)


async def generate_now(
    services: Services, as_of: date, *, on_progress: OnProgress = lambda run, finished: None
) -> AccountingRun:
    """Generate every invoice that is due on a business day, here and now; returns the run.

    Where a run for that day is going already, this helps its workers and waits for them.
    """
    run = await services.db.run(SYSTEM, start_generation, as_of)
    return await execute_to_the_end(
        services, run.run_id, on_progress=on_progress, patience_seconds=PATIENCE_SECONDS
    )


async def generate_plan_now(
    services: Services,
    plan_hash: str,
    as_of: date | None = None,
    *,
    on_progress: OnProgress = lambda run, finished: None,
) -> AccountingRun:
    """Carry out a kept plan, here and now; returns its run. Raises what `run_plan` raises."""
    run = await run_plan(services.db, SYSTEM, services.platform, services.terms, plan_hash, as_of)
    return await execute_to_the_end(
        services, run.run_id, on_progress=on_progress, patience_seconds=PATIENCE_SECONDS
    )


async def plan_now(services: Services, as_of: date) -> tuple[Plan, AccountingRun]:
    """What a generation on a business day would do, and the run as which it is kept for a day."""
    plan = await make_plan(services.platform, services.terms, as_of)
    return plan, await services.db.run(SYSTEM, save_plan, plan)
