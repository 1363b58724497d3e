"""A dry run: it says what a run would do, changes nothing, and its hash changes with the bills."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from accounting.bootstrap import DOCUMENTS
from accounting.clock import as_stored_day
from accounting.platform.rules import PlatformUser
from accounting.pricing.documents import CustomerPricingConfig
from accounting.recurring.billing import Charge
from accounting.recurring.documents import RecurringInvoice
from accounting.recurring.plan import Plan, make_plan
from accounting.recurring.service import (
    TemplateChanges,
    pause_recurring_invoice,
    update_recurring_invoice,
)
from accounting.runs.rules import ItemStatus
from builders import ADMIN, TERMS, TODAY, a_customer, a_draft, a_price, a_template
from fakes import FakePlatform, TestDatabase
from generating import (
    a_miner_owner,
    day,
    generate_on,
    generated_invoices,
    id_of,
    items_of,
    services_of,
)

HUGE = Decimal("99999999.99")  # with 101 miners it is more than an amount can be


@dataclass
class World:
    """A customer with a price of 50.00, billed on the 5th since December."""

    db: TestDatabase
    platform: FakePlatform
    customer: PlatformUser
    price: CustomerPricingConfig
    template: RecurringInvoice

    async def plan(self, as_of: date = TODAY) -> Plan:
        return await make_plan(self.platform, TERMS, as_of)

    async def change(self, **fields: Any) -> None:
        changes = TemplateChanges(fields)
        template_id = id_of(self.template)
        await self.db.run(ADMIN, update_recurring_invoice, template_id, TERMS.zone, changes)

    async def counts(self) -> dict[str, int]:
        names = [document.Settings.name for document in DOCUMENTS]  # type: ignore[attr-defined]
        return {name: await self.db.mongo[name].count_documents({}) for name in names}


@pytest.fixture
async def world(db: TestDatabase, platform: FakePlatform) -> World:
    customer = a_miner_owner(platform)
    price = await a_price(db, platform, customer, day("2025-01-01"))
    template = await a_template(db, platform, customer, start_date=day("2025-12-01"))
    return World(db, platform, customer, price, template)


async def test_a_plan_says_each_month_in_order_and_what_it_comes_to(world: World) -> None:
    other = a_miner_owner(world.platform, miners=0)
    skipped = await a_template(world.db, world.platform, other)

    plan = await world.plan()

    assert [
        (line.template_id, line.billing_period, line.scheduled_date, str(line.decision))
        for line in plan.months
    ] == [
        (
            world.template.id,
            f"{period}",
            day(f"{period}-05"),
            f"draft 3 x 50.00 = 150.00 by price {world.price.id}",
        )
        for period in ("2025-12", "2026-01")
    ] + [(skipped.id, "2026-01", day("2026-01-05"), "skip no_miners")]
    assert plan.total_amount == Decimal("300.00")
    assert plan.months[0].customer == world.customer
    assert (plan.as_of, len(plan.charges), plan.gone) == (TODAY, 2, [])


async def test_a_plan_of_nothing_is_a_plan(memory_db: TestDatabase, platform: FakePlatform) -> None:
    plan = await make_plan(platform, TERMS, TODAY)

    assert (plan.months, plan.total_amount, plan.gone) == ([], Decimal("0.00"), [])
    assert len(plan.plan_hash) == 64
    assert plan.plan_hash != (await make_plan(platform, TERMS, day("2026-01-13"))).plan_hash


async def test_planning_changes_nothing(world: World) -> None:
    before = await world.counts()

    await world.plan()

    assert await world.counts() == before


async def test_the_same_state_has_the_same_hash(world: World) -> None:
    first, second = await world.plan(), await world.plan()

    assert first.plan_hash == second.plan_hash
    assert first == second


async def more_miners(world: World) -> None:
    world.platform.miner_statuses[world.customer.id].append("AUTO")


async def a_miner_less(world: World) -> None:
    world.platform.miner_statuses[world.customer.id].pop()


async def no_miners(world: World) -> None:
    world.platform.miner_statuses[world.customer.id] = []


async def own_price(world: World) -> None:
    await world.change(unit_price=Decimal("45.00"))


async def own_price_of_the_same_amount(world: World) -> None:
    await world.change(unit_price=Decimal("50.00"))


async def another_price_in_effect(world: World) -> None:
    await a_price(world.db, world.platform, world.customer, day("2026-01-05"), "60.00")


async def another_row_of_the_same_price(world: World) -> None:
    await a_price(world.db, world.platform, world.customer, day("2026-01-05"), "50.00")


async def a_gap_in_the_prices(world: World) -> None:
    await CustomerPricingConfig.get_motor_collection().update_one(
        {"_id": world.price.id}, {"$set": {"effectiveTo": as_stored_day(day("2026-01-05"))}}
    )


async def issue_at_once(world: World) -> None:
    await world.change(auto_issue=True)


async def another_day_of_the_month(world: World) -> None:
    await world.change(day_of_month=13)  # January is no longer due


async def a_later_start(world: World) -> None:
    await world.change(start_date=day("2026-01-01"))


async def an_earlier_end(world: World) -> None:
    await world.change(end_date=day("2025-12-31"))


async def paused(world: World) -> None:
    await world.db.run(ADMIN, pause_recurring_invoice, id_of(world.template), TERMS.zone)


async def the_customer_left(world: World) -> None:
    world.platform.add_user(a_customer(id=world.customer.id, is_deleted=True))


async def one_more_template(world: World) -> None:
    await a_template(world.db, world.platform, world.customer)


async def made_meanwhile(world: World) -> None:
    await generate_on(services_of(world.db, world.platform), day("2025-12-31"))


CHANGES: list[Callable[[World], Awaitable[None]]] = [
    more_miners,
    a_miner_less,
    no_miners,
    own_price,
    own_price_of_the_same_amount,
    another_price_in_effect,
    another_row_of_the_same_price,
    a_gap_in_the_prices,
    issue_at_once,
    another_day_of_the_month,
    a_later_start,
    an_earlier_end,
    paused,
    the_customer_left,
    one_more_template,
    made_meanwhile,
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
async def test_what_changes_an_invoice_changes_the_hash(
    world: World, change: Callable[[World], Awaitable[None]]
) -> None:
    before = (await world.plan()).plan_hash

    await change(world)

    assert (await world.plan()).plan_hash != before


async def a_template_that_is_not_due(world: World) -> None:
    await a_template(world.db, world.platform, world.customer, day_of_month=13)


async def a_future_price(world: World) -> None:
    await a_price(world.db, world.platform, world.customer, day("2026-01-06"), "60.00")


async def an_invoice_by_hand(world: World) -> None:
    await a_draft(world.db, world.platform, world.customer, billing_period="2026-01")


async def a_miner_in_repair(world: World) -> None:
    world.platform.miner_statuses[world.customer.id].append("REPAIR")


async def another_name_and_address(world: World) -> None:
    """The invoice goes to the customer as he is called when it is issued."""
    world.platform.add_user(a_customer(id=world.customer.id, name="Ada", email="a@example.org"))


@pytest.mark.parametrize(
    "change",
    [
        a_template_that_is_not_due,
        a_future_price,
        an_invoice_by_hand,
        a_miner_in_repair,
        another_name_and_address,
    ],
    ids=lambda change: change.__name__,
)
async def test_what_changes_no_amount_leaves_the_hash(
    world: World, change: Callable[[World], Awaitable[None]]
) -> None:
    before = (await world.plan()).plan_hash

    await change(world)

    assert (await world.plan()).plan_hash == before


async def test_a_run_does_what_the_plan_said(world: World) -> None:
    db, platform = world.db, world.platform
    for miners, price, auto_issue in [(1, "1.00", True), (0, "1.00", False), (101, HUGE, False)]:
        await a_template(
            db,
            platform,
            a_miner_owner(platform, miners=miners),
            unit_price=Decimal(price),
            auto_issue=auto_issue,
            start_date=day("2025-10-15"),
        )
    await a_template(db, platform, a_miner_owner(platform))  # no price

    plan = await world.plan()
    run = await generate_on(services_of(db, platform), TODAY)

    ends = {"draft": ItemStatus.DONE, "issue": ItemStatus.DONE, "skip": ItemStatus.SKIPPED}
    planned = [
        (
            line.template_id,
            line.billing_period,
            ends.get(str(line.decision).split()[0], ItemStatus.FAILED),
        )
        for line in plan.months
    ]
    assert [(item.id, item.label, item.status) for item in await items_of(run)] == planned
    assert [
        (found.recurring_invoice_id, found.billing_period, found.total_amount, found.status)
        for found in await generated_invoices()
    ] == [
        (
            line.template_id,
            line.billing_period,
            line.decision.total_amount,
            "ISSUED" if line.decision.is_issued else "DRAFT",
        )
        for line in plan.months
        if isinstance(line.decision, Charge)
    ]
    assert len(plan.months) == 12
