"""The tasks: each takes ids and calls one use case, and may run twice or at the same time."""

from __future__ import annotations

import logging
from typing import Final

from celery import shared_task

from accounting.audit.sealing import SEAL_JOB, seal_days
from accounting.clock import business_day
from accounting.ids import ObjectId
from accounting.invoices.papers import FREEZE_JOB, tidy_papers
from accounting.invoices.reminders import queue_reminders
from accounting.invoices.service import mark_overdue
from accounting.notifications.service import DELIVER_JOB
from accounting.runs.rules import EXECUTE_JOB
from accounting.worker.app import worker_process
from accounting.worker.delivery import deliver_one, due_notifications
from accounting.worker.generation import start_todays_generation
from accounting.worker.integrity import examine_now
from accounting.worker.papers import freeze_one
from accounting.worker.runs import execute_run_slice, stalled_runs, tell_waiting_runs

logger = logging.getLogger(__name__)

SWEEP_JOB: Final = "notifications.sweep"
OVERDUE_JOB: Final = "invoices.overdue"
REMINDERS_JOB: Final = "invoices.reminders"
GENERATE_JOB: Final = "recurring.generate"
SWEEP_RUNS_JOB: Final = "runs.sweep"
INTEGRITY_JOB: Final = "store.integrity"
INTEGRITY_SECONDS_MAX: Final = 3_000
TIDY_PAPERS_JOB: Final = "papers.tidy"
FIGURES_JOB: Final = "figures.refresh"
# Less than the time limit of a task; the next sweep goes on.
FIGURES_SECONDS_MAX: Final = 200.0


@shared_task(name=DELIVER_JOB)  # type: ignore[untyped-decorator]
def deliver(notification_id: str) -> None:
    """Send one e-mail, if it is still to be sent."""
    process = worker_process()
    process.run(deliver_one(process.services, process.mailer, ObjectId(notification_id)))


@shared_task(name=SWEEP_JOB)  # type: ignore[untyped-decorator]
def sweep() -> None:
    """Queue every e-mail that is due: retries, and those whose first message was lost."""
    process = worker_process()
    for notification_id in process.run(due_notifications(process.services)):
        deliver.delay(str(notification_id))


@shared_task(name=OVERDUE_JOB)  # type: ignore[untyped-decorator]
def overdue() -> None:
    """Mark the invoices whose due date has passed."""
    process = worker_process()
    db, terms = process.services.db, process.services.terms
    marked = process.run(mark_overdue(db, business_day(db.clock(), terms.zone)))
    logger.info("%d invoices are overdue since today", marked)


@shared_task(name=REMINDERS_JOB)  # type: ignore[untyped-decorator]
def reminders() -> None:
    """Queue the reminders that are due today."""
    process = worker_process()
    db, platform, terms = process.services.db, process.services.platform, process.services.terms
    today = business_day(db.clock(), terms.zone)
    queued = process.run(queue_reminders(db, platform, terms, today))
    logger.info("%d reminders queued", queued.total())


@shared_task(name=GENERATE_JOB)  # type: ignore[untyped-decorator]
def generate() -> None:
    """Start the run that generates what is due today; the workers share it."""
    process = worker_process()
    process.run(start_todays_generation(process.services))


@shared_task(name=EXECUTE_JOB)  # type: ignore[untyped-decorator]
def execute_run(run_id: str) -> None:
    """Do the next slice of a batch run, if no other worker does."""
    process = worker_process()
    process.run(execute_run_slice(process.services, ObjectId(run_id)))


@shared_task(name=SWEEP_RUNS_JOB)  # type: ignore[untyped-decorator]
def sweep_runs() -> None:
    """Queue every run whose message was lost or whose worker died; tell those that wait."""
    process = worker_process()
    process.run(tell_waiting_runs(process.services))
    for run_id in process.run(stalled_runs(process.services)):
        execute_run.delay(str(run_id))


# It reads everything: some minutes at millions of documents.
@shared_task(name=INTEGRITY_JOB, time_limit=INTEGRITY_SECONDS_MAX)  # type: ignore[untyped-decorator]
def integrity() -> None:
    """Examine the whole store; the log names what is wrong, and nothing is repaired."""
    process = worker_process()
    process.run(examine_now(process.services))


@shared_task(name=SEAL_JOB)  # type: ignore[untyped-decorator]
def seal() -> None:
    """Seal the days of the audit trail that are over; the log is a witness outside the database."""
    process = worker_process()
    db, terms = process.services.db, process.services.terms
    for made in process.run(seal_days(db, terms.zone, db.clock())):
        logger.info("sealed %s: %d entries, %s", made.day, made.entry_count, made.hash)


@shared_task(name=FREEZE_JOB)  # type: ignore[untyped-decorator]
def freeze(invoice_id: str) -> None:
    """Make the PDF of an invoice that was just issued, if nobody has."""
    process = worker_process()
    process.run(freeze_one(process.services, ObjectId(invoice_id)))


@shared_task(name=TIDY_PAPERS_JOB)  # type: ignore[untyped-decorator]
def tidy() -> None:
    """Delete PDFs, and parts of some, that no invoice needs."""
    process = worker_process()
    tidied = process.run(tidy_papers(process.services.db))
    logger.info("%d PDFs of no invoice deleted", tidied)


@shared_task(name=FIGURES_JOB)  # type: ignore[untyped-decorator]
def refresh_figures() -> None:
    """Bring the figures of the dashboard up to date, so that a request finds little to count."""
    process = worker_process()
    services = process.services
    process.run(
        services.dashboard.refresh(services.db, services.terms.zone, seconds=FIGURES_SECONDS_MAX)
    )
