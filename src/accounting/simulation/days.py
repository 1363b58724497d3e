"""The daily jobs of a business day on a clock that is set, in the order of the schedule."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta

from accounting.bootstrap import Services
from accounting.clock import instant_at
from accounting.invoices.reminders import queue_reminders
from accounting.invoices.service import mark_overdue
from accounting.runs.documents import AccountingRun
from accounting.worker.generation import generate_now
from accounting.worker.hours import GENERATE_AT, OVERDUE_AT, REMINDERS_AT


class SetClock:
    """A clock that stands still at the instant to which it was set."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


async def run_daily_jobs(services: Services, clock: SetClock, day: date) -> AccountingRun:
    """Generate, mark overdue and queue reminders as on that business day; returns the generation.

    `clock` is that of the services' database. Two jobs are left out: e-mails wait in the outbox,
    since nobody is to get them; and the audit trail is not sealed, since a seal is a witness for
    later and changes neither an invoice nor an e-mail.
    """
    zone = services.terms.zone
    clock.now = instant_at(day, GENERATE_AT, zone)
    run = await generate_now(services, day)
    clock.now = instant_at(day, OVERDUE_AT, zone)
    await mark_overdue(services.db, day)
    clock.now = instant_at(day, REMINDERS_AT, zone)
    await queue_reminders(services.db, services.platform, services.terms, day)
    return run


def days_from(first: date, last: date) -> Iterator[date]:
    """Every day from the first to the last, both included."""
    return (first + timedelta(days=passed) for passed in range((last - first).days + 1))
