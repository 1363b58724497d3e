"""When the schedule is due, in the business time zone."""

from __future__ import annotations

from datetime import UTC, datetime

from accounting.audit.sealing import SEAL_JOB
from accounting.worker import tasks
from accounting.worker.app import make_celery
from api_app import settings


def test_the_day_is_sealed_at_half_past_midnight_of_the_business_day() -> None:
    celery = make_celery(settings(timezone="Europe/Oslo"))
    entry = celery.conf.beat_schedule[SEAL_JOB]
    schedule = entry["schedule"]
    schedule.nowfun = lambda: datetime(2026, 1, 12, 22, 0, tzinfo=UTC)  # 23:00 in Oslo

    remaining = schedule.remaining_estimate(datetime(2026, 1, 12, 12, 0, tzinfo=UTC))

    assert entry["task"] == tasks.seal.name == SEAL_JOB
    assert remaining.total_seconds() == 90 * 60


def test_reminders_are_queued_at_eight_in_the_morning_of_the_business_day() -> None:
    celery = make_celery(settings(timezone="Europe/Oslo"))
    entry = celery.conf.beat_schedule[tasks.REMINDERS_JOB]
    schedule = entry["schedule"]
    schedule.nowfun = lambda: datetime(2026, 1, 12, 6, 0, tzinfo=UTC)  # 07:00 in Oslo

    remaining = schedule.remaining_estimate(datetime(2026, 1, 12, 0, 0, tzinfo=UTC))

    assert entry["task"] == tasks.reminders.name == "invoices.reminders"
    assert remaining.total_seconds() == 60 * 60
