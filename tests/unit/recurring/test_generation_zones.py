"""Which day the scheduled task takes for today: that of the business zone, by its clock."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from accounting.actor import SYSTEM
from accounting.recurring.generation import as_of_day
from accounting.runs.documents import get_run
from accounting.worker.generation import start_todays_generation
from accounting.worker.runs import execute_free_runs
from builders import TERMS, a_template
from fakes import FakePlatform, JobList, SettableClock, TestDatabase
from generating import a_miner_owner, day, generated_invoices, id_of, services_of

EARLIEST, LATEST = "Etc/GMT-14", "Etc/GMT+12"  # UTC+14 and UTC-12: the signs are the other way
TEN_PAST_MIDNIGHT = timedelta(minutes=10)


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("zone", "now", "today"),
    [
        ("UTC", "2026-01-12T23:59:59.999", "2026-01-12"),
        ("UTC", "2026-01-13T00:00:00", "2026-01-13"),
        # One instant, two days: the whole range of zones.
        (EARLIEST, "2026-01-12T09:59:59.999", "2026-01-12"),
        (EARLIEST, "2026-01-12T10:00:00", "2026-01-13"),
        (LATEST, "2026-01-12T11:59:59.999", "2026-01-11"),
        (LATEST, "2026-01-12T12:00:00", "2026-01-12"),
        ("Asia/Kathmandu", "2026-01-12T18:14:59.999", "2026-01-12"),  # UTC+05:45
        ("Asia/Kathmandu", "2026-01-12T18:15:00", "2026-01-13"),
        ("Pacific/Chatham", "2026-01-12T10:15:00", "2026-01-13"),  # UTC+13:45 in summer
        # Summer time begins in the night of the 29th; it is the offset of the moment that counts.
        ("Europe/Berlin", "2026-03-28T22:59:59.999", "2026-03-28"),
        ("Europe/Berlin", "2026-03-28T23:00:00", "2026-03-29"),
        ("Europe/Berlin", "2026-03-29T21:59:59.999", "2026-03-29"),
        ("Europe/Berlin", "2026-03-29T22:00:00", "2026-03-30"),
        # The clock goes from 00:00 to 01:00: the day has no midnight.
        ("Africa/Cairo", "2026-04-23T21:59:59.999", "2026-04-23"),
        ("Africa/Cairo", "2026-04-23T22:00:00", "2026-04-24"),
        # The clock goes from 24:00 back to 23:00: the day's last hour comes twice.
        ("America/Santiago", "2026-04-05T02:59:59.999", "2026-04-04"),
        ("America/Santiago", "2026-04-05T03:30:00", "2026-04-04"),
        ("America/Santiago", "2026-04-05T04:00:00", "2026-04-05"),
    ],
)
async def test_today_is_the_day_of_the_business_zone(
    memory_db: TestDatabase,
    platform: FakePlatform,
    clock: SettableClock,
    zone: str,
    now: str,
    today: str,
) -> None:
    clock.now = instant(now)
    services = services_of(memory_db, platform, replace(TERMS, zone=ZoneInfo(zone)))

    run = await start_todays_generation(services)

    assert as_of_day(run) == day(today)
    assert run.requested_by == SYSTEM.user_id


@pytest.mark.parametrize(
    "zone",
    [EARLIEST, LATEST, "America/Santiago", "Africa/Cairo", "Asia/Beirut", "Australia/Lord_Howe"],
)
async def test_a_month_is_billed_in_the_night_of_its_day(
    memory_db: TestDatabase, platform: FakePlatform, clock: SettableClock, zone: str
) -> None:
    """Ten past midnight of the days around the 29th of March, where some clocks change."""
    here = ZoneInfo(zone)
    services = services_of(memory_db, platform, replace(TERMS, zone=here))
    template = await a_template(
        memory_db,
        platform,
        a_miner_owner(platform),
        unit_price=Decimal(1),
        day_of_month=28,
        start_date=day("2026-03-01"),
    )
    midnight = datetime(2026, 3, 27, tzinfo=here)

    for number in range(4):
        local = midnight + timedelta(days=number)
        clock.now = (local.astimezone(UTC) + TEN_PAST_MIDNIGHT).astimezone(UTC)
        await start_todays_generation(services)
        await execute_free_runs(services)

    [invoice] = await generated_invoices(id_of(template))
    assert invoice.invoice_generated_date == day("2026-03-28")
    assert invoice.invoice_number == "2026032801"


async def test_a_task_that_comes_twice_starts_one_run(
    db: TestDatabase, platform: FakePlatform, clock: SettableClock, jobs: JobList
) -> None:
    services = services_of(db, platform)

    first = await start_todays_generation(services)
    second = await start_todays_generation(services)
    queued = len(jobs.sent)
    clock.move(days=1)
    tomorrow = await start_todays_generation(services)

    assert second.id == first.id
    assert queued == 1
    assert tomorrow.id != first.id
    assert (await get_run(id_of(tomorrow))).parameters == {"asOf": "2026-01-13"}


async def test_days_without_a_worker_are_caught_up(
    db: TestDatabase, platform: FakePlatform, clock: SettableClock
) -> None:
    template = await a_template(db, platform, a_miner_owner(platform), unit_price=Decimal(1))
    services = services_of(db, platform)
    for _ in range(3):  # the task was sent, and nobody did the run
        await start_todays_generation(services)
        clock.move(days=31)

    ended = await execute_free_runs(services)
    await start_todays_generation(services)
    await execute_free_runs(services)

    assert len(ended) == 3
    assert [
        (invoice.billing_period, str(invoice.invoice_generated_date))
        for invoice in await generated_invoices(id_of(template))
    ] == [
        ("2026-01", "2026-01-12"),
        ("2026-02", "2026-02-12"),
        ("2026-03", "2026-03-15"),
        ("2026-04", "2026-04-15"),
    ]
