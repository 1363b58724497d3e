"""Many templates: how a run cuts them into parts, and goes on where it was stopped."""

from __future__ import annotations

import itertools
from datetime import date
from decimal import Decimal

from accounting.ids import ObjectId, new_id
from accounting.recurring.documents import SCAN_TEMPLATES, RecurringInvoice
from accounting.recurring.generation import BATCH_INVOICES, find_due_parts, parameters_of
from accounting.runs.documents import AccountingRun, RunCounts
from accounting.runs.rules import PART_ITEMS, NewPart, RunKind, RunStatus
from builders import ADMIN, NOW, a_template
from fakes import FakePlatform, TestDatabase
from generating import (
    a_miner_owner,
    day,
    generate_on,
    generated_invoices,
    items_of,
    periods_of,
    services_of,
)

AS_OF = day("2026-01-20")
JAN_1 = day("2026-01-01")


async def many_templates(
    count: int, user_id: ObjectId, *, start_date: date = JAN_1
) -> list[ObjectId]:
    """Straight into the database, on the 5th with a price of their own; their ids, ascending."""
    templates = [
        RecurringInvoice(
            id=new_id(),
            user_id=user_id,
            day_of_month=5,
            start_date=start_date,
            unit_price=Decimal(1),
            created_by=ADMIN.user_id,
            created_at=NOW,
            updated_at=NOW,
        )
        for _ in range(count)
    ]
    await RecurringInvoice.insert_many(templates)
    return [ObjectId(template.id) for template in templates]


def a_run(looked_through: ObjectId | None = None) -> AccountingRun:
    return AccountingRun.model_construct(
        kind=RunKind.GENERATE,
        status=RunStatus.RUNNING,
        parameters=parameters_of(AS_OF),
        looked_through=looked_through,
        counts=RunCounts(total=0),
    )


async def found_for(run: AccountingRun) -> list[NewPart]:
    return [part async for part in find_due_parts(run)]


async def test_a_part_has_some_hundred_items_and_the_last_one_the_rest(
    memory_db: TestDatabase, platform: FakePlatform
) -> None:
    ids = await many_templates(2 * PART_ITEMS + 1, new_id())

    parts = await found_for(a_run())

    assert [len(part.items) for part in parts] == [PART_ITEMS, PART_ITEMS, 1]
    assert [item.id for part in parts for item in part.items] == ids
    assert [part.looked_through for part in parts] == [
        ids[PART_ITEMS - 1],
        ids[2 * PART_ITEMS - 1],
        ids[-1],
    ]


async def test_the_months_of_a_template_stay_together(
    memory_db: TestDatabase, platform: FakePlatform
) -> None:
    """They depend on each other, and two workers must not have one template between them."""
    ids = await many_templates(30, new_id(), start_date=day("2023-02-01"))  # 36 months each

    parts = await found_for(a_run())

    of_part = [{item.id for item in part.items} for part in parts]
    assert len(parts) > 1
    assert sum(len(part.items) for part in parts) == 30 * 36
    assert not any(first & second for first, second in itertools.combinations(of_part, 2))
    assert all(part.looked_through == max(ids) for part, ids in zip(parts, of_part, strict=True))
    for template_id in ids:
        periods = [item.label for part in parts for item in part.items if item.id == template_id]
        assert periods == sorted(periods, key=str)


async def test_a_run_goes_on_after_the_last_template_that_it_looked_at(
    memory_db: TestDatabase, platform: FakePlatform
) -> None:
    ids = await many_templates(SCAN_TEMPLATES + 20, new_id())

    [rest] = await found_for(a_run(looked_through=ids[SCAN_TEMPLATES - 3]))

    assert [item.id for item in rest.items] == ids[SCAN_TEMPLATES - 2 :]
    assert await found_for(a_run(looked_through=ids[-1])) == []


async def test_a_part_may_be_found_on_several_pages(
    memory_db: TestDatabase, platform: FakePlatform
) -> None:
    """Most templates are not due: what is due of the next pages joins the same part."""
    early = await many_templates(10, new_id())
    await many_templates(SCAN_TEMPLATES, new_id(), start_date=day("2026-01-06"))
    late = await many_templates(10, new_id())

    [part] = await found_for(a_run())

    assert [item.id for item in part.items] == early + late


async def test_a_long_run_makes_every_invoice_once(
    real_db: TestDatabase, platform: FakePlatform
) -> None:
    customer = a_miner_owner(platform)
    count = PART_ITEMS + BATCH_INVOICES + 1
    ids = await many_templates(count, customer.id)
    services = services_of(real_db, platform)

    run = await generate_on(services, AS_OF)

    invoices = await generated_invoices()
    assert (run.status, run.counts.done, run.parts) == (RunStatus.DONE, count, 2)
    assert [found.recurring_invoice_id for found in invoices] == ids
    assert len({found.invoice_number for found in invoices}) == count
    assert [item.id for item in await items_of(run)] == ids
    numbers = sorted(int(found.invoice_number[8:]) for found in invoices)
    assert numbers == list(range(1, count + 1)), "no number was burnt"


async def test_a_template_with_more_months_than_a_run_takes_is_ended_by_the_next(
    db: TestDatabase, platform: FakePlatform
) -> None:
    template = await a_template(
        db,
        platform,
        a_miner_owner(platform),
        unit_price=Decimal(1),
        start_date=day("2015-12-01"),
    )
    services = services_of(db, platform)

    first = await generate_on(services, AS_OF)
    second = await generate_on(services, AS_OF)

    assert (first.counts.done, second.counts.done) == (120, 2)
    periods = periods_of(await generated_invoices(template.id))
    assert (len(set(periods)), periods[0], periods[-1]) == (122, "2015-12", "2026-01")
