"""When the schedule is due, in the business time zone."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from accounting.audit.sealing import SEAL_JOB
from accounting.clock import business_day, start_of_day
from accounting.invoices.papers import FREEZE_JOB
from accounting.notifications.service import DELIVER_JOB
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


def test_invoices_are_generated_at_ten_past_midnight_of_the_business_day() -> None:
    celery = make_celery(settings(timezone="Europe/Oslo"))
    entry = celery.conf.beat_schedule[tasks.GENERATE_JOB]
    schedule = entry["schedule"]
    schedule.nowfun = lambda: datetime(2026, 1, 12, 22, 0, tzinfo=UTC)  # 23:00 in Oslo

    remaining = schedule.remaining_estimate(datetime(2026, 1, 12, 12, 0, tzinfo=UTC))

    assert entry["task"] == tasks.generate.name == "recurring.generate"
    assert remaining.total_seconds() == 70 * 60


@pytest.mark.parametrize(
    ("zone", "night"),
    [
        ("Africa/Cairo", date(2026, 4, 24)),  # the day has no ten past midnight
        ("America/Santiago", date(2026, 9, 6)),  # likewise
        ("America/Santiago", date(2026, 4, 5)),  # 23:10 comes twice before it
        ("Europe/Berlin", date(2026, 3, 29)),
        ("Etc/GMT-14", date(2026, 3, 29)),
        ("Etc/GMT+12", date(2026, 3, 29)),
    ],
)
def test_invoices_are_generated_once_on_each_day_also_when_the_clock_changes(
    zone: str, night: date
) -> None:
    here = ZoneInfo(zone)
    schedule = make_celery(settings(timezone=zone)).conf.beat_schedule[tasks.GENERATE_JOB][
        "schedule"
    ]
    now = last = start_of_day(night, here) - timedelta(hours=20)
    started_on = []
    for _ in range(3 * 24 * 6):
        schedule.nowfun = lambda now=now: now.astimezone(here)
        is_due, _ = schedule.is_due(last.astimezone(here))
        if is_due:
            started_on.append(business_day(now, here))
            last = now
        now += timedelta(minutes=10)

    assert started_on == [night + timedelta(days=number) for number in range(3)]


def test_what_no_invoice_needs_is_deleted_at_night() -> None:
    entry = make_celery(settings()).conf.beat_schedule["papers.tidy"]

    assert entry["task"] == tasks.tidy.name == tasks.TIDY_PAPERS_JOB
    assert (entry["schedule"].hour, entry["schedule"].minute) == ({3}, {10})


def test_the_jobs_that_are_sent_have_their_tasks() -> None:
    assert tasks.freeze.name == FREEZE_JOB
    assert tasks.deliver.name == DELIVER_JOB


def test_the_figures_are_brought_up_to_date_each_minute() -> None:
    entry = make_celery(settings()).conf.beat_schedule[tasks.FIGURES_JOB]

    assert entry["task"] == tasks.refresh_figures.name
    assert (entry["schedule"], entry["options"]["expires"]) == (60, 60)
