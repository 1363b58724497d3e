"""Daily seals on the real server."""

from __future__ import annotations

import asyncio
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from accounting.audit.documents import AuditSeal
from accounting.audit.rules import FIRST_PREV_HASH
from accounting.audit.sealing import SEAL_DELAY_SECONDS, seal_days
from accounting.clock import start_of_day
from builders import NOW, TODAY
from fakes import SettableClock, TestDatabase
from trails import a_chain, fill_trail

UTC_ZONE = ZoneInfo("UTC")
ONE_DAY = timedelta(days=1)


def sealed_at(day: date, zone: ZoneInfo = UTC_ZONE) -> datetime:
    """The first instant at which `day` may be sealed."""
    return start_of_day(day + ONE_DAY, zone) + timedelta(seconds=SEAL_DELAY_SECONDS)


async def stored_seals() -> list[AuditSeal]:
    return await AuditSeal.find_all().sort("day").to_list()


async def test_a_day_is_sealed_when_it_is_over(real_db: TestDatabase) -> None:
    await a_chain(real_db, entries=3)

    too_early = await seal_days(real_db, UTC_ZONE, sealed_at(TODAY) - timedelta(milliseconds=1))
    [seal] = await seal_days(real_db, UTC_ZONE, sealed_at(TODAY))

    assert too_early == []
    assert (seal.day, seal.entry_count, seal.prev_hash) == (TODAY, 3, FIRST_PREV_HASH)
    [stored] = await stored_seals()
    assert stored.computed_hash() == stored.hash == seal.hash


async def test_missed_and_empty_days_are_sealed_in_one_chain(
    real_db: TestDatabase, clock: SettableClock
) -> None:
    await a_chain(real_db, entries=2)
    clock.move(days=3)
    await a_chain(real_db, entries=1)

    seals = await seal_days(real_db, UTC_ZONE, sealed_at(TODAY + 4 * ONE_DAY))

    assert [seal.day for seal in seals] == [TODAY + number * ONE_DAY for number in range(5)]
    assert [seal.entry_count for seal in seals] == [2, 0, 0, 1, 0]
    hashes = [FIRST_PREV_HASH, *(seal.hash for seal in seals)]
    assert [seal.prev_hash for seal in seals] == hashes[:-1]


async def test_the_day_is_the_business_day(real_db: TestDatabase, clock: SettableClock) -> None:
    tokyo = ZoneInfo("Asia/Tokyo")
    clock.now = NOW.replace(hour=14, minute=59)  # 23:59 in Tokyo
    await a_chain(real_db, entries=1)
    clock.now = NOW.replace(hour=15, minute=0)
    await a_chain(real_db, entries=2)

    seals = await seal_days(real_db, tokyo, sealed_at(TODAY + ONE_DAY, tokyo))

    assert [(seal.day, seal.entry_count) for seal in seals] == [(TODAY, 1), (TODAY + ONE_DAY, 2)]


async def test_sealing_again_changes_nothing(real_db: TestDatabase) -> None:
    await a_chain(real_db)
    until = sealed_at(TODAY + ONE_DAY)
    await seal_days(real_db, UTC_ZONE, until)
    before = await stored_seals()

    assert await seal_days(real_db, UTC_ZONE, until) == []
    assert await stored_seals() == before


async def test_sealers_at_the_same_time_make_one_seal_per_day(real_db: TestDatabase) -> None:
    await fill_trail(real_db.mongo, chains=20, entries_each=5, start=NOW, days=10)
    until = sealed_at(TODAY + 11 * ONE_DAY)

    made: list[list[Any]] = await asyncio.gather(
        *(seal_days(real_db, UTC_ZONE, until) for _ in range(4))
    )

    seals = await stored_seals()
    assert [seal.day for seal in seals] == [TODAY + number * ONE_DAY for number in range(12)]
    assert sum(map(len, made)) == 12
    assert sum(seal.entry_count for seal in seals) == 100
    hashes = [FIRST_PREV_HASH, *(seal.hash for seal in seals)]
    assert [seal.prev_hash for seal in seals] == hashes[:-1]


async def test_an_empty_trail_has_nothing_to_seal(real_db: TestDatabase) -> None:
    assert await seal_days(real_db, UTC_ZONE, NOW) == []
