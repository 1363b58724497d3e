"""The counts of ids that are read behind the scenes: right, not too old, and not too often read."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from accounting.db import id_counts
from accounting.db.client import MongoDatabase
from accounting.db.id_counts import SHARE_OF_TIME_MAX, IdCounts
from accounting.ids import ObjectId, new_id
from accounting.invoices.documents import Invoice
from fakes import Stopwatch
from many_invoices import many_invoices

CUSTOMERS = [ObjectId(f"{serial:024x}") for serial in range(1, 31)]
RENEWED, REMEMBERED = 30.0, 60.0


@pytest.fixture
def watch() -> Stopwatch:
    return Stopwatch()


@pytest.fixture
async def of_whom(real_mongo: MongoDatabase) -> Counter[ObjectId]:
    """A thousand invoices, and how many each customer has."""
    rows = list(many_invoices(1_000, CUSTOMERS))
    await real_mongo["invoices"].insert_many(rows)
    return Counter(row["userId"] for row in rows)


def counts_of(field: str, watch: Stopwatch) -> IdCounts:
    return IdCounts(
        Invoice,
        field,
        renewed_seconds=RENEWED,
        remembered_seconds=REMEMBERED,
        monotonic=watch,
    )


@pytest.fixture
async def counts(watch: Stopwatch) -> AsyncIterator[IdCounts]:
    counts = counts_of("userId", watch)
    yield counts
    await counts.close()


async def until_known(counts: IdCounts, *, other_than: int | None = None) -> int:
    """The rows of all customers, as soon as they are known, or no longer what they were."""
    for _ in range(2_000):
        if (rows := counts.count(CUSTOMERS)) not in (None, other_than):
            return rows
        await asyncio.sleep(0.01)
    raise AssertionError("it was not read in time")


async def test_they_are_unknown_until_they_are_read(
    of_whom: Counter[ObjectId], counts: IdCounts
) -> None:
    some = CUSTOMERS[:7]

    assert counts.count(some) is None
    assert await until_known(counts) == 1_000
    assert counts.count(some) == sum(of_whom[each] for each in some)
    assert counts.count([new_id()]) == 0


async def test_they_are_read_again_in_time_and_never_told_too_old(
    of_whom: Counter[ObjectId], counts: IdCounts, watch: Stopwatch, real_mongo: MongoDatabase
) -> None:
    assert await until_known(counts) == 1_000
    await real_mongo["invoices"].delete_many({"userId": CUSTOMERS[0]})

    watch.seconds += RENEWED - 1
    assert counts.count(CUSTOMERS) == 1_000
    watch.seconds += 1
    assert counts.count(CUSTOMERS) == 1_000  # and read again from here on
    assert await until_known(counts, other_than=1_000) == 1_000 - of_whom[CUSTOMERS[0]]
    watch.seconds += REMEMBERED
    assert counts.count(CUSTOMERS) is None


async def test_reading_takes_no_more_than_its_share_of_the_time(
    of_whom: Counter[ObjectId], counts: IdCounts, watch: Stopwatch, real_mongo: MongoDatabase
) -> None:
    assert counts.count(CUSTOMERS) is None
    await asyncio.sleep(0)  # the reading begins
    watch.seconds += 2.0
    assert await until_known(counts) == 1_000
    await real_mongo["invoices"].delete_many({})

    watch.seconds += 2.0 / SHARE_OF_TIME_MAX - 3.0
    assert counts.count(CUSTOMERS) is None
    await asyncio.sleep(0.3)
    assert counts.count(CUSTOMERS) is None
    watch.seconds += 1.0
    assert await until_known(counts) == 0


async def test_of_too_many_ids_nothing_is_kept(
    of_whom: Counter[ObjectId], counts: IdCounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(id_counts, "IDS_MAX", len(CUSTOMERS) - 1)

    assert counts.count(CUSTOMERS) is None
    await asyncio.sleep(0.3)
    assert counts.count(CUSTOMERS) is None


async def test_after_a_failure_the_next_one_tries_again(
    of_whom: Counter[ObjectId], counts: IdCounts, real_mongo: MongoDatabase
) -> None:
    await real_mongo["invoices"].drop_index("userId_1")
    assert counts.count(CUSTOMERS) is None
    await asyncio.sleep(0.3)
    assert counts.count(CUSTOMERS) is None

    await real_mongo["invoices"].create_index("userId")
    assert await until_known(counts) == 1_000
