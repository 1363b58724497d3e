"""Setting, ending and reading prices, in memory and on the real server."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from itertools import pairwise

import pytest

from accounting.audit.rules import AuditAction, EntityType
from accounting.audit.service import history
from accounting.db.database import Transaction
from accounting.db.paging import Window
from accounting.ids import ObjectId, new_id
from accounting.invoices.drafts import NewInvoice, create_invoice
from accounting.platform.rules import CustomerNotFound, UserId
from accounting.pricing.documents import CustomerPricingConfig, get_price
from accounting.pricing.rules import (
    CustomerHasNoPrice,
    PriceAlreadyEnds,
    PricesOverlap,
    PricingConfigNotFound,
)
from accounting.pricing.service import (
    archive_price,
    create_price,
    find_price_in_effect,
    find_prices_in_effect_between,
    get_price_in_effect,
    list_prices,
)
from builders import ADMIN, TERMS, TODAY, a_customer
from fakes import FakePlatform, SettableClock, TestDatabase

JAN, FEB, MAR, APR = (date(2026, month, 1) for month in (1, 2, 3, 4))
CUSTOMER = a_customer()


@pytest.fixture(autouse=True)
def customer(platform: FakePlatform) -> None:
    platform.add_user(CUSTOMER)


async def set_price(
    db: TestDatabase,
    platform: FakePlatform,
    day: date,
    price: str = "50.00",
    user_id: UserId = CUSTOMER.id,
) -> CustomerPricingConfig:
    return await db.run(ADMIN, create_price, platform, user_id, Decimal(price), day)


async def windows() -> list[tuple[date, date | None]]:
    prices = await CustomerPricingConfig.find({"userId": CUSTOMER.id}).to_list()
    return sorted((price.effective_from, price.effective_to) for price in prices)


async def trail(price: CustomerPricingConfig) -> list[tuple[AuditAction, object]]:
    entries = await history(EntityType.CUSTOMER_PRICING_CONFIG, ObjectId(price.id))
    return [(entry.action, entry.changes) for entry in entries]


async def test_a_new_price_ends_the_open_one_where_it_starts(
    db: TestDatabase, platform: FakePlatform
) -> None:
    first = await set_price(db, platform, JAN)
    second = await set_price(db, platform, MAR, "60.00")

    assert await windows() == [(JAN, MAR), (MAR, None)]
    assert (await get_price(ObjectId(first.id))).updated_by == ADMIN.user_id
    [created, ended] = await trail(first)
    assert created[0] is AuditAction.PRICING_CONFIG_CREATED
    assert ended == (
        AuditAction.PRICING_CONFIG_UPDATED,
        {"before": {"effectiveTo": None}, "after": {"effectiveTo": "2026-03-01"}},
    )
    assert [action for action, _ in await trail(second)] == [AuditAction.PRICING_CONFIG_CREATED]


async def test_several_future_prices_follow_each_other(
    db: TestDatabase, platform: FakePlatform
) -> None:
    for day in (JAN, FEB, MAR, APR):
        await set_price(db, platform, day)

    assert await windows() == [*pairwise([JAN, FEB, MAR, APR]), (APR, None)]


@pytest.mark.parametrize("day", [JAN, date(2026, 2, 15), MAR])
async def test_a_price_not_after_the_last_one_is_refused_and_changes_nothing(
    db: TestDatabase, platform: FakePlatform, day: date
) -> None:
    await set_price(db, platform, JAN)
    last = await set_price(db, platform, MAR)

    with pytest.raises(PricesOverlap) as refused:
        await set_price(db, platform, day)

    assert refused.value.facts["conflictingId"] == str(last.id)
    assert await windows() == [(JAN, MAR), (MAR, None)]


async def test_prices_of_another_customer_are_not_in_the_way(
    db: TestDatabase, platform: FakePlatform
) -> None:
    other = platform.add_user(a_customer())
    await set_price(db, platform, MAR)
    await set_price(db, platform, JAN, user_id=other.id)

    assert await windows() == [(MAR, None)]


async def test_only_a_customer_has_prices(db: TestDatabase, platform: FakePlatform) -> None:
    gone = platform.add_user(a_customer(is_deleted=True))

    for user_id in (gone.id, new_id()):
        with pytest.raises(CustomerNotFound):
            await set_price(db, platform, JAN, user_id=user_id)

    assert await CustomerPricingConfig.find_all().count() == 0


async def test_an_archived_price_ends_today_and_leaves_a_gap(
    db: TestDatabase, platform: FakePlatform
) -> None:
    price = await set_price(db, platform, JAN)

    archived = await db.run(ADMIN, archive_price, ObjectId(price.id), TERMS.zone)
    await set_price(db, platform, MAR)

    assert archived.effective_to == TODAY
    assert await windows() == [(JAN, TODAY), (MAR, None)]
    assert await find_price_in_effect(CUSTOMER.id, date(2026, 1, 11)) is not None
    assert await find_price_in_effect(CUSTOMER.id, TODAY) is None
    assert (await trail(price))[-1] == (
        AuditAction.PRICING_CONFIG_ARCHIVED,
        {"before": {"effectiveTo": None}, "after": {"effectiveTo": "2026-01-12"}},
    )


async def test_after_an_archive_a_price_may_start_on_the_end_and_not_before(
    db: TestDatabase, platform: FakePlatform
) -> None:
    price = await set_price(db, platform, JAN)
    await db.run(ADMIN, archive_price, ObjectId(price.id), TERMS.zone, effective_to=MAR)

    with pytest.raises(PricesOverlap):
        await set_price(db, platform, date(2026, 2, 28))
    await set_price(db, platform, MAR)

    assert await windows() == [(JAN, MAR), (MAR, None)]
    # The entry of an end that was there before is no other's.
    assert len(await trail(price)) == 2


async def test_an_ended_price_cannot_be_archived(db: TestDatabase, platform: FakePlatform) -> None:
    first = await set_price(db, platform, JAN)
    await set_price(db, platform, FEB)

    with pytest.raises(PriceAlreadyEnds):
        await db.run(ADMIN, archive_price, ObjectId(first.id), TERMS.zone, effective_to=MAR)
    with pytest.raises(PricingConfigNotFound):
        await db.run(ADMIN, archive_price, new_id(), TERMS.zone)

    assert await windows() == [(JAN, FEB), (FEB, None)]


async def test_the_price_of_a_day_is_found_or_missed_by_name(
    db: TestDatabase, platform: FakePlatform
) -> None:
    await set_price(db, platform, JAN, "50.00")
    await set_price(db, platform, MAR, "60.00")

    async def price_on(day: date) -> Decimal:
        return (await get_price_in_effect(platform, CUSTOMER.id, day)).default_unit_price

    assert await price_on(JAN) == await price_on(date(2026, 2, 28)) == Decimal("50.00")
    assert await price_on(MAR) == Decimal("60.00")
    with pytest.raises(CustomerHasNoPrice, match="on 2025-12-31"):
        await price_on(date(2025, 12, 31))
    with pytest.raises(CustomerNotFound):
        await get_price_in_effect(platform, new_id(), JAN)


async def test_an_invoice_takes_the_price_of_its_day(
    db: TestDatabase, platform: FakePlatform, clock: SettableClock
) -> None:
    await set_price(db, platform, JAN, "50.00")
    later = await set_price(db, platform, MAR, "60.00")

    order = NewInvoice(customer_id=CUSTOMER.id, total_miners=2, generated_date=MAR)
    invoice = await create_invoice(db, ADMIN, platform, TERMS, order)

    assert invoice.total_amount == Decimal("120.00")
    assert invoice.pricing is not None
    assert invoice.pricing.pricing_config_id == later.id


async def test_lists_are_narrowed_and_start_with_the_latest(
    db: TestDatabase, platform: FakePlatform
) -> None:
    other = platform.add_user(a_customer())
    await set_price(db, platform, JAN)
    await set_price(db, platform, MAR)
    await set_price(db, platform, FEB, user_id=other.id)

    async def starts(**wanted: object) -> list[date]:
        page = await list_prices(Window(), **wanted)  # type: ignore[arg-type]
        return [price.effective_from for price in page.items]

    assert await starts() == [MAR, FEB, JAN]
    assert await starts(user_id=CUSTOMER.id) == [MAR, JAN]
    assert await starts(on=FEB) == [FEB, JAN]
    assert await starts(user_id=CUSTOMER.id, on=date(2026, 2, 28)) == [JAN]
    assert await starts(user_id=new_id()) == []


@pytest.mark.parametrize(
    ("first_day", "last_day", "expected"),
    [
        (date(2025, 12, 1), date(2025, 12, 31), []),
        (date(2025, 12, 1), JAN, [JAN]),
        (JAN, JAN, [JAN]),
        (date(2026, 1, 31), date(2026, 1, 31), [JAN]),
        (date(2026, 1, 31), FEB, [JAN, FEB]),
        (FEB, FEB, [FEB]),
        (date(2026, 2, 28), MAR, [FEB]),
        (MAR, date(2026, 3, 31), []),  # the price of February was ended and none followed
        (MAR, APR, [APR]),
        (JAN, APR, [JAN, FEB, APR]),
        (date(2030, 1, 1), date(2030, 1, 2), [APR]),
    ],
)
async def test_the_windows_of_a_range_hold_at_least_one_of_its_days(
    db: TestDatabase,
    platform: FakePlatform,
    first_day: date,
    last_day: date,
    expected: list[date],
) -> None:
    other, without = platform.add_user(a_customer()), platform.add_user(a_customer())
    await set_price(db, platform, JAN)
    february = await set_price(db, platform, FEB)
    await db.run(ADMIN, archive_price, ObjectId(february.id), TERMS.zone, effective_to=MAR)
    await set_price(db, platform, APR)
    await set_price(db, platform, date(2025, 1, 1), user_id=other.id)
    await set_price(db, platform, JAN, user_id=platform.add_user(a_customer()).id)

    asked = [other.id, CUSTOMER.id, without.id]
    found = await find_prices_in_effect_between(asked, first_day, last_day)

    assert found.keys() == set(asked)
    assert [price.effective_from for price in found[CUSTOMER.id]] == expected
    assert [price.effective_from for price in found[other.id]] == [date(2025, 1, 1)]
    assert found[without.id] == []


async def test_a_transaction_finds_the_windows_that_it_has_set_itself(
    real_db: TestDatabase, platform: FakePlatform
) -> None:
    async def set_and_find(tx: Transaction) -> tuple[int, int]:
        await create_price(tx, platform, CUSTOMER.id, Decimal("50.00"), JAN)
        inside = await find_prices_in_effect_between([CUSTOMER.id], JAN, JAN, session=tx.session)
        outside = await find_prices_in_effect_between([CUSTOMER.id], JAN, JAN)
        return len(inside[CUSTOMER.id]), len(outside[CUSTOMER.id])

    assert await real_db.run(ADMIN, set_and_find) == (1, 0)
