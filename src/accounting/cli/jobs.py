"""`accounting jobs run NAME`: the workers' jobs without Celery, for cron and for tests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import date, datetime
from typing import Final

import click

from accounting.audit.sealing import seal_days
from accounting.bootstrap import Services, open_services
from accounting.cli.progress import progress_bars
from accounting.clock import clock_at, utc_now
from accounting.notifications.mailer import SmtpMailer
from accounting.settings import load_settings
from accounting.worker.delivery import deliver_due
from accounting.worker.runs import execute_free_runs

Job = Callable[[Services], Awaitable[str]]


async def _deliver(services: Services) -> str:
    mailer = SmtpMailer(services.settings.smtp_url.get_secret_value())
    outcomes = await deliver_due(services, mailer)
    counts = ", ".join(f"{count} {status}" for status, count in sorted(outcomes.items()))
    return f"deliver: {counts or 'nothing was due'}"


async def _runs(services: Services) -> str:
    with progress_bars() as show:
        ended = await execute_free_runs(
            services,
            on_progress=lambda run, finished: show(f"run {run.id}", finished, run.counts.total),
        )
    counts = [run.counts for run in ended]
    return (
        f"runs: {len(ended)} worked on, {sum(count.done for count in counts)} done, "
        f"{sum(count.skipped for count in counts)} skipped, "
        f"{sum(count.failed for count in counts)} failed"
        if ended
        else "runs: nothing was to be done"
    )


async def _seal(services: Services) -> str:
    # A seal cannot be taken back, so that no `--as-of` seals a day which is not over.
    until = min(services.db.clock(), utc_now())
    seals = await seal_days(services.db, services.terms.zone, until)
    if not seals:
        return "seal: every day that is over was sealed"
    return f"seal: {len(seals)} days sealed, the last {seals[-1].day} with {seals[-1].hash}"


JOBS: Final[Mapping[str, Job]] = {"deliver": _deliver, "runs": _runs, "seal": _seal}


@click.group()
def jobs() -> None:
    """Run the scheduled jobs by hand or from cron."""


@jobs.command()
@click.argument("name", type=click.Choice(sorted(JOBS)))
@click.option(
    "--as-of",
    type=click.DateTime(["%Y-%m-%d"]),
    help="Run as if today were this day of the business time zone.",
)
def run(name: str, as_of: datetime | None) -> None:
    """Run the job NAME once and say what it did."""
    click.echo(asyncio.run(_run(JOBS[name], as_of.date() if as_of else None)))


async def _run(job: Job, as_of: date | None) -> str:
    settings = load_settings()
    clock = clock_at(as_of, settings.zone) if as_of else utc_now
    async with open_services(settings, clock=clock) as services:
        return await job(services)
