"""Prices of one customer, written at once: windows never overlap and at most one is open."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from datetime import date, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest

from accounting.audit.documents import AuditLog
from accounting.audit.rules import AuditAction, EntityType
from accounting.audit.service import history
from accounting.db.database import Database, Transaction
from accounting.ids import ObjectId
from accounting.platform.rules import UserId
from accounting.pricing.documents import CustomerPricingConfig, find_last_price
from accounting.pricing.rules import (
    PriceAlreadyEnds,
    PriceNeverInEffect,
    PricesOverlap,
)
from accounting.pricing.service import archive_price, create_price
from builders import ADMIN, TERMS, TODAY, a_customer
from fakes import FakePlatform, TestDatabase

FIRST = date(2026, 1, 1)
WRITERS = 20
ROUNDS = 15
REFUSALS = (PricesOverlap, PriceAlreadyEnds, PriceNeverInEffect)


async def prices_of(user_id: UserId) -> list[CustomerPricingConfig]:
    found = CustomerPricingConfig.find({"userId": user_id})
    return await found.sort("effectiveFrom").to_list()


def check_windows(prices: Sequence[CustomerPricingConfig]) -> None:
    """No overlap, no empty window, at most one open one, which is the last."""
    for earlier, later in pairwise(prices):
        assert earlier.effective_to is not None, "an open window is not the last"
        assert earlier.effective_to <= later.effective_from, "two windows overlap"
    assert all(p.effective_to is None or p.effective_from < p.effective_to for p in prices)


async def check_trail(prices: Sequence[CustomerPricingConfig]) -> None:
    """One entry for the start and one for the end of each window, and none of what was undone."""
    for price in prices:
        entries = await history(EntityType.CUSTOMER_PRICING_CONFIG, ObjectId(price.id))
        assert entries[0].action is AuditAction.PRICING_CONFIG_CREATED
        assert len(entries) == (1 if price.effective_to is None else 2)
    of_these = {"entityId": {"$nin": [price.id for price in prices]}}
    assert await AuditLog.find(of_these).count() == 0


async def set_price(
    db: Database, platform: FakePlatform, user_id: UserId, day: date
) -> CustomerPricingConfig:
    return await db.run(ADMIN, create_price, platform, user_id, Decimal("50.00"), day)


async def all_at_once(*writes: object) -> list[CustomerPricingConfig]:
    """What was written; everything else must have been refused for a reason."""
    outcomes = await asyncio.gather(*writes, return_exceptions=True)  # type: ignore[call-overload]
    unexpected = [o for o in outcomes if isinstance(o, Exception) and not isinstance(o, REFUSALS)]
    assert unexpected == []
    return [o for o in outcomes if isinstance(o, CustomerPricingConfig)]


@pytest.mark.parametrize("seed", range(ROUNDS))
async def test_twenty_inserts_at_once_never_overlap(
    real_db: TestDatabase, platform: FakePlatform, seed: int
) -> None:
    customer = platform.add_user(a_customer())
    chance = random.Random(seed)
    days = [FIRST + timedelta(days=chance.randrange(30)) for _ in range(WRITERS)]
    if seed % 2:  # on top of an open window; else the first prices of the customer
        await set_price(real_db, platform, customer.id, FIRST - timedelta(days=1))

    written = await all_at_once(*(set_price(real_db, platform, customer.id, day) for day in days))

    prices = await prices_of(customer.id)
    check_windows(prices)
    assert written
    assert prices[-1].effective_to is None
    # The latest day wins whoever else was first: nothing can be in its way.
    assert prices[-1].effective_from == max(days)
    assert len(prices) == len(written) + seed % 2
    await check_trail(prices)


async def test_the_same_first_price_twenty_times_is_set_once(
    real_db: TestDatabase, platform: FakePlatform
) -> None:
    customer = platform.add_user(a_customer())

    written = await all_at_once(
        *(set_price(real_db, platform, customer.id, FIRST) for _ in range(WRITERS))
    )

    assert len(written) == 1
    assert len(await prices_of(customer.id)) == 1


@pytest.mark.parametrize("seed", range(ROUNDS))
async def test_inserts_and_archives_at_once_never_overlap(
    real_db: TestDatabase, platform: FakePlatform, seed: int
) -> None:
    customer = platform.add_user(a_customer())
    chance = random.Random(seed)

    async def insert() -> CustomerPricingConfig:
        day = TODAY + timedelta(days=chance.randrange(-5, 40))
        return await set_price(real_db, platform, customer.id, day)

    async def archive() -> CustomerPricingConfig:
        # Which one is the last is decided inside, so that most of them find an open window.
        async def archive_last(tx: Transaction) -> CustomerPricingConfig:
            last = await find_last_price(customer.id, session=tx.session)
            if last is None:
                return await create_price(tx, platform, customer.id, Decimal("1.00"), TODAY)
            end = max(TODAY, last.effective_from) + timedelta(days=chance.randrange(1, 9))
            return await archive_price(tx, ObjectId(last.id), TERMS.zone, effective_to=end)

        return await real_db.run(ADMIN, archive_last)

    writes = [insert() if chance.random() < 0.6 else archive() for _ in range(WRITERS)]
    written = await all_at_once(*writes)

    prices = await prices_of(customer.id)
    check_windows(prices)
    assert written
    await check_trail(prices)


@pytest.mark.parametrize("has_history", [False, True])
async def test_an_insert_sees_a_price_that_was_set_and_ended_meanwhile(
    real_db: TestDatabase, platform: FakePlatform, has_history: bool
) -> None:
    """The one order in which two inserts share no document: the index entry makes them collide.

    The first transaction has read before the other price was set, and writes after it was ended:
    then no open window is left to change, and its own reads do not show the other price.
    """
    customer = platform.add_user(a_customer())
    if has_history:
        old = await set_price(real_db, platform, customer.id, FIRST)
        await real_db.run(ADMIN, archive_price, ObjectId(old.id), TERMS.zone)
    attempts: Counter[str] = Counter()

    async def insert_late(tx: Transaction) -> CustomerPricingConfig:
        attempts["tried"] += 1
        await find_last_price(customer.id, session=tx.session)
        if attempts["tried"] == 1:
            other = await set_price(real_db, platform, customer.id, date(2026, 3, 1))
            await real_db.run(
                ADMIN, archive_price, ObjectId(other.id), TERMS.zone, effective_to=date(2026, 9, 1)
            )
        return await create_price(tx, platform, customer.id, Decimal("1.00"), date(2026, 5, 1))

    with pytest.raises(PricesOverlap, match="can start on 2026-09-01"):
        await real_db.run(ADMIN, insert_late)

    assert attempts["tried"] == 2
    check_windows(await prices_of(customer.id))
