"""What a plan points at, compared with the bill before it."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest

from accounting.invoices.drafts import delete_invoice
from accounting.pricing.rules import PriceSource
from accounting.recurring.billing import CannotBill, Charge, Decision, NothingToBill
from accounting.recurring.comparison import Bill, PlanFlag, find_gone, flags_of
from accounting.recurring.plan import make_plan
from accounting.recurring.service import (
    TemplateChanges,
    delete_recurring_invoice,
    pause_recurring_invoice,
    resume_recurring_invoice,
    update_recurring_invoice,
)
from builders import ADMIN, TERMS, TODAY, a_customer, a_template
from fakes import FakePlatform, SettableClock, TestDatabase
from generating import (
    a_miner_owner,
    day,
    generate_on,
    generated_invoices,
    id_of,
    services_of,
)

ADA, NOBODY = a_customer(), a_customer(email="")
FEB_5, FEB_20 = day("2026-02-05"), day("2026-02-20")
NEW, PRICE_CHANGED, MINERS_CHANGED, UNUSUAL_JUMP, NO_EMAIL, NO_PRICE, NO_MINERS = PlanFlag


def a_charge(miners: int = 10, price: str = "10.00", total: str | None = None) -> Charge:
    return Charge(
        customer=ADA,
        total_miners=miners,
        unit_price=Decimal(price),
        total_amount=Decimal(total) if total else miners * Decimal(price),
        source=PriceSource.TEMPLATE,
        pricing_config_id=None,
        is_issued=False,
    )


def a_bill(miners: int = 10, price: str = "10.00", total: str = "100.00") -> Bill:
    return Bill("2026-01", miners, Decimal(price), Decimal(total), "2026010501")


@pytest.mark.parametrize(
    ("decision", "previous", "flags"),
    [
        (a_charge(), None, [NEW]),
        (a_charge(), a_bill(), []),
        (a_charge(price="10.01"), a_bill(), [PRICE_CHANGED]),
        (a_charge(miners=11), a_bill(), [MINERS_CHANGED]),
        (a_charge(11, "9.00"), a_bill(), [PRICE_CHANGED, MINERS_CHANGED]),
        # Half of it, up and down, and one cent less than that.
        (a_charge(15), a_bill(), [MINERS_CHANGED, UNUSUAL_JUMP]),
        (a_charge(5), a_bill(), [MINERS_CHANGED, UNUSUAL_JUMP]),
        (a_charge(1, "149.99"), a_bill(1, "100.00"), [PRICE_CHANGED]),
        (a_charge(1, "150.00"), a_bill(1, "100.00"), [PRICE_CHANGED, UNUSUAL_JUMP]),
        (a_charge(1, "50.01"), a_bill(1, "100.00"), [PRICE_CHANGED]),
        (a_charge(1, "50.00"), a_bill(1, "100.00"), [PRICE_CHANGED, UNUSUAL_JUMP]),
        (a_charge(1, "0.02"), a_bill(1, "0.01", "0.01"), [PRICE_CHANGED, UNUSUAL_JUMP]),
        (NothingToBill("no_price", "."), a_bill(), [NO_PRICE]),
        (NothingToBill("no_price", "."), None, [NO_PRICE]),
        (NothingToBill("no_miners", "."), a_bill(), [NO_MINERS]),
        (NothingToBill("customer_deleted", "."), a_bill(), []),
        (CannotBill("amount_too_large", "."), None, []),
    ],
)
def test_what_differs_from_the_last_bill_is_flagged(
    decision: Decision, previous: Bill | None, flags: Sequence[PlanFlag]
) -> None:
    assert list(flags_of(decision, ADA, previous)) == flags


def test_a_bill_that_nobody_will_get_is_flagged() -> None:
    assert list(flags_of(a_charge(), NOBODY, None)) == [NO_EMAIL, NEW]
    assert list(flags_of(a_charge(), NOBODY, a_bill())) == [NO_EMAIL]
    assert list(flags_of(NothingToBill("no_price", "."), NOBODY, None)) == [NO_PRICE]


async def test_a_plan_compares_with_the_bill_that_the_template_made_last(
    db: TestDatabase, platform: FakePlatform
) -> None:
    customer = a_miner_owner(platform, miners=2)
    template = await a_template(db, platform, customer, unit_price=Decimal(10))
    # Bills of others, and of the same customer by hand or by another template, are not its own.
    await a_template(db, platform, customer, unit_price=Decimal(99), day_of_month=28)
    services = services_of(db, platform)
    await generate_on(services, day("2026-01-05"))
    platform.miner_statuses[customer.id] = ["ACTIVE"] * 4

    plan = await make_plan(platform, TERMS, day("2026-03-05"))

    lines = [line for line in plan.months if line.template_id == template.id]
    assert [line.flags for line in lines] == [(MINERS_CHANGED, UNUSUAL_JUMP), ()]
    first, second = (line.previous for line in lines)
    assert first == Bill("2026-01", 2, Decimal("10.00"), Decimal("20.00"), "2026010501")
    # The month before is in the plan itself, and has no number yet.
    assert second == Bill("2026-02", 4, Decimal("10.00"), Decimal("40.00"), None)
    other = [line for line in plan.months if line.template_id != template.id]
    assert [line.flags for line in other] == [(NEW,), ()]


async def test_a_month_without_a_bill_is_compared_with_the_one_before(
    db: TestDatabase, platform: FakePlatform
) -> None:
    customer = a_miner_owner(platform, miners=2)
    await a_template(db, platform, customer, unit_price=Decimal(10))
    services = services_of(db, platform)
    await generate_on(services, day("2026-01-05"))
    platform.miner_statuses[customer.id] = []
    await generate_on(services, day("2026-02-05"))
    await generate_on(services, day("2026-03-05"))
    platform.miner_statuses[customer.id] = ["ACTIVE"] * 2

    [line] = (await make_plan(platform, TERMS, day("2026-03-06"))).months

    assert line.previous is not None
    assert (line.previous.billing_period, line.flags) == ("2026-01", ())


async def test_a_template_whose_last_draft_was_deleted_is_like_new(
    db: TestDatabase, platform: FakePlatform
) -> None:
    await a_template(db, platform, a_miner_owner(platform), unit_price=Decimal(1))
    await generate_on(services_of(db, platform), TODAY)
    [draft] = await generated_invoices()
    await db.run(ADMIN, delete_invoice, id_of(draft))

    [line] = (await make_plan(platform, TERMS, FEB_5)).months

    assert (line.previous, line.flags) == (None, (NEW,))


async def billed_in_january(db: TestDatabase, platform: FakePlatform, **facts: Any) -> Any:
    template = await a_template(
        db, platform, a_miner_owner(platform), unit_price=Decimal(1), **facts
    )
    await generate_on(services_of(db, platform), day("2026-01-28"))
    return id_of(template)


async def test_who_was_billed_last_month_and_is_not_any_more_is_gone(
    db: TestDatabase, platform: FakePlatform, clock: SettableClock
) -> None:
    paused = await billed_in_january(db, platform)
    deleted = await billed_in_january(db, platform)
    ended = await billed_in_january(db, platform, end_date=day("2026-01-31"))
    still = await billed_in_january(db, platform)
    await db.run(ADMIN, pause_recurring_invoice, paused, TERMS.zone)
    await db.run(ADMIN, delete_recurring_invoice, deleted, TERMS.zone)
    clock.move(days=30)

    gone = await find_gone(platform, FEB_20)

    assert [bill.template_id for bill in gone] == [paused, deleted, ended]
    assert gone[0].customer == platform.users[gone[0].customer_id]
    assert gone[0].previous == Bill(
        "2026-01", 3, Decimal("1.00"), Decimal("3.00"), gone[0].previous.invoice_number
    )
    assert gone[0].previous.invoice_number is not None
    plan = await make_plan(platform, TERMS, FEB_20)
    assert [line.template_id for line in plan.months] == [still]
    assert plan.gone == gone


async def test_who_has_his_last_bill_still_to_come_is_not_gone(
    db: TestDatabase, platform: FakePlatform
) -> None:
    await billed_in_january(db, platform, end_date=day("2026-02-05"))
    before_its_day = await billed_in_january(db, platform, end_date=day("2026-02-04"))

    assert [bill.template_id for bill in await find_gone(platform, FEB_20)] == [before_its_day]
    assert await find_gone(platform, day("2026-02-04")) == [], "its last day is not over"


async def test_who_was_gone_before_last_month_or_is_back_is_not_shown(
    db: TestDatabase, platform: FakePlatform
) -> None:
    old = await billed_in_january(db, platform)
    await db.run(ADMIN, pause_recurring_invoice, old, TERMS.zone)
    assert len(await find_gone(platform, FEB_20)) == 1

    assert await find_gone(platform, day("2026-03-20")) == []
    await db.run(ADMIN, resume_recurring_invoice, platform, old, TERMS.zone)
    assert await find_gone(platform, FEB_20) == []


async def test_who_was_billed_this_month_as_well_is_not_gone(
    db: TestDatabase, platform: FakePlatform
) -> None:
    template_id = await billed_in_january(db, platform)
    await generate_on(services_of(db, platform), FEB_5)
    await db.run(ADMIN, pause_recurring_invoice, template_id, TERMS.zone)

    assert await find_gone(platform, FEB_20) == []
    assert [bill.template_id for bill in await find_gone(platform, day("2026-03-20"))] == [
        template_id
    ]


async def test_gone_at_the_turn_of_the_year(db: TestDatabase, platform: FakePlatform) -> None:
    template = await a_template(
        db,
        platform,
        a_miner_owner(platform),
        unit_price=Decimal(1),
        day_of_month=28,
        start_date=day("2025-12-01"),
    )
    await generate_on(services_of(db, platform), day("2025-12-28"))
    change = TemplateChanges({"end_date": day("2025-12-31")})
    await db.run(ADMIN, update_recurring_invoice, id_of(template), TERMS.zone, change)

    assert len(await find_gone(platform, day("2026-01-01"))) == 1
