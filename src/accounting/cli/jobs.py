"""`accounting jobs run NAME`: the workers' jobs without Celery, for cron and for tests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import date, datetime, timedelta
from typing import Final

import click

from accounting.audit.sealing import seal_days
from accounting.bootstrap import Services, open_services
from accounting.cli.generation import generate, generate_plan, show_plan
from accounting.cli.progress import progress_bars
from accounting.clock import business_day, start_of_day
from accounting.invoices.papers import tidy_papers
from accounting.invoices.reminders import queue_reminders
from accounting.invoices.service import mark_overdue
from accounting.notifications.mailer import SmtpMailer
from accounting.settings import load_settings
from accounting.worker.delivery import deliver_due
from accounting.worker.integrity import examine_now
from accounting.worker.runs import execute_free_runs

# A count of many millions goes on where it stopped when it is run again.
FIGURES_SECONDS_MAX: Final = 3_600.0

# What a job gets: the services, and the day that `--as-of` puts in the place of today. Stamps and
# leases are always those of the real clock.
Job = Callable[[Services, date | None], Awaitable[str]]


async def _deliver(services: Services, as_of: date | None) -> str:
    mailer = SmtpMailer(services.settings.smtp_url.get_secret_value())
    end_of_day = start_of_day(as_of + timedelta(days=1), services.terms.zone) if as_of else None
    with progress_bars() as show:
        outcomes = await deliver_due(
            services,
            mailer,
            due_by=end_of_day,
            on_progress=lambda tried: show("e-mails", tried, tried),
        )
    counts = ", ".join(f"{count} {status}" for status, count in sorted(outcomes.items()))
    return f"deliver: {counts or 'nothing was due'}"


async def _overdue(services: Services, as_of: date | None) -> str:
    today = as_of or business_day(services.db.clock(), services.terms.zone)
    with progress_bars() as show:
        marked = await mark_overdue(
            services.db, today, on_progress=lambda marked: show("invoices", marked, marked)
        )
    return f"overdue: {marked} invoices marked, due before {today}"


async def _papers(services: Services, _: date | None) -> str:
    return f"papers: {await tidy_papers(services.db)} PDFs of no invoice deleted"


async def _reminders(services: Services, as_of: date | None) -> str:
    today = as_of or business_day(services.db.clock(), services.terms.zone)
    with progress_bars() as show:
        queued = await queue_reminders(
            services.db,
            services.platform,
            services.terms,
            today,
            on_progress=lambda queued: show("reminders", queued, queued),
        )
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(queued.items()))
    return f"reminders: {counts or 'none'} queued for {today}"


async def _runs(services: Services, _: date | None) -> str:
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


async def _seal(services: Services, as_of: date | None) -> str:
    # A seal cannot be taken back, so that no `--as-of` seals a day which is not over.
    now = services.db.clock()
    until = min(now, start_of_day(as_of + timedelta(days=1), services.terms.zone)) if as_of else now
    seals = await seal_days(services.db, services.terms.zone, until)
    if not seals:
        return "seal: every day that is over was sealed"
    return f"seal: {len(seals)} days sealed, the last {seals[-1].day} with {seals[-1].hash}"


async def _integrity(services: Services, _: date | None) -> str:
    with progress_bars() as show:
        report = await examine_now(services, on_progress=lambda name, done: show(name, done, done))
    if not report.is_sound:
        kinds = ", ".join(f"{count} {kind.value}" for kind, count in sorted(report.counts.items()))
        raise click.ClickException(f"integrity: {kinds}; `accounting doctor` names each of them.")
    return f"integrity: the store is sound, {report.looked_at.total()} documents were looked at"


async def _figures(services: Services, _: date | None) -> str:
    with progress_bars() as show:
        await services.dashboard.refresh(
            services.db,
            services.terms.zone,
            seconds=FIGURES_SECONDS_MAX,
            on_progress=lambda counted, total: show("figures", counted, total),
        )
    reading = await services.dashboard.read(services.db, services.terms.zone)
    return f"figures: up to date, outstanding is {reading.dashboard.outstanding}"


JOBS: Final[Mapping[str, Job]] = {
    "deliver": _deliver,
    "figures": _figures,
    "generate": generate,
    "integrity": _integrity,
    "overdue": _overdue,
    "papers": _papers,
    "reminders": _reminders,
    "runs": _runs,
    "seal": _seal,
}


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
@click.option("--dry-run", is_flag=True, help="generate: show what it would do, and keep the plan.")
@click.option("--plan-hash", help="generate: do what this plan says, or nothing.")
def run(name: str, as_of: datetime | None, dry_run: bool, plan_hash: str | None) -> None:
    """Run the job NAME once and say what it did."""
    if (dry_run or plan_hash) and name != "generate":
        raise click.UsageError("--dry-run and --plan-hash are for generate only.")
    if dry_run and plan_hash:
        raise click.UsageError("--dry-run makes a plan and --plan-hash carries one out.")
    job = JOBS[name]
    if dry_run:
        job = show_plan
    elif plan_hash:
        job = generate_plan(plan_hash)
    click.echo(asyncio.run(_run(job, as_of.date() if as_of else None)))


async def _run(job: Job, as_of: date | None) -> str:
    async with open_services(load_settings()) as services:
        return await job(services, as_of)
