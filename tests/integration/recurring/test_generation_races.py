"""Many at once on the same templates: one invoice for each template and month, whoever makes it."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import pytest
from pymongo.errors import DuplicateKeyError

from accounting.actor import SYSTEM, Actor, Role
from accounting.audit.documents import AuditLog
from accounting.bootstrap import Services
from accounting.db.client import MongoDatabase
from accounting.db.database import Transaction
from accounting.ids import ObjectId, new_id
from accounting.invoices.documents import Invoice
from accounting.notifications.documents import InvoiceNotification
from accounting.recurring.documents import RecurringInvoice, get_recurring_invoice
from accounting.recurring.generation import generation_work, start_generation
from accounting.recurring.plan import PlanAlreadyStarted, make_plan, run_plan, save_plan
from accounting.recurring.service import (
    TemplateChanges,
    delete_recurring_invoice,
    pause_recurring_invoice,
    update_recurring_invoice,
)
from accounting.runs.documents import AccountingRun, get_run
from accounting.runs.rules import ItemStatus, RunKind, RunStatus
from accounting.runs.service import Work, execute_slice, list_free
from accounting.worker.generation import generate_now
from accounting.worker.runs import execute_run_slice, execute_to_the_end
from builders import ADMIN, TERMS, TODAY, a_template
from fakes import FakePlatform, TestDatabase
from generating import (
    a_miner_owner,
    day,
    generate_on,
    generated_invoices,
    id_of,
    results_of,
    services_of,
)

TEMPLATES = 130  # more than a batch
MONTHS = 3
AS_OF = day("2026-03-10")


@pytest.fixture
def services(real_db: TestDatabase, platform: FakePlatform) -> Services:
    return services_of(real_db, platform)


async def some_templates(
    db: TestDatabase, platform: FakePlatform, count: int = TEMPLATES
) -> list[RecurringInvoice]:
    return [
        await a_template(
            db, platform, a_miner_owner(platform), unit_price=Decimal(1), auto_issue=True
        )
        for _ in range(count)
    ]


async def assert_each_month_once(count: int) -> None:
    """Invoices, entries and e-mails: as many as template months, each template's in order."""
    invoices = await generated_invoices()
    assert len(invoices) == count * MONTHS
    assert len({(found.recurring_invoice_id, found.billing_period) for found in invoices}) == (
        count * MONTHS
    )
    assert len({found.invoice_number for found in invoices}) == count * MONTHS
    for action in ("INVOICE_CREATED", "INVOICE_ISSUED"):
        entries = await AuditLog.find({"action": action}).to_list()
        assert Counter(entry.entity_id for entry in entries) == Counter(
            found.id for found in invoices
        )
    mails = await InvoiceNotification.find_all().to_list()
    assert Counter(mail.invoice_id for mail in mails) == Counter(found.id for found in invoices)
    last = {
        template.last_generated_date for template in await RecurringInvoice.find_all().to_list()
    }
    assert last == {day("2026-03-05")}


async def test_runs_of_many_admins_and_the_schedule_at_once(
    services: Services, platform: FakePlatform, real_db: TestDatabase
) -> None:
    await some_templates(real_db, platform)
    admins = [Actor(user_id=new_id(), role=Role.ADMIN) for _ in range(3)]
    runs = [await real_db.run(who, start_generation, AS_OF) for who in (*admins, SYSTEM)]

    async def work(run: AccountingRun) -> AccountingRun:
        return await execute_to_the_end(services, run.run_id, patience_seconds=5)

    ended = await asyncio.gather(
        *(work(run) for run in runs), *(work(run) for run in runs), generate_now(services, AS_OF)
    )

    await assert_each_month_once(TEMPLATES)
    assert {run.status for run in ended} == {RunStatus.DONE}
    by_id = {run.id: run for run in [await get_run(run.run_id) for run in runs]}
    assert len(by_id) == 4
    assert sum(run.counts.done for run in by_id.values()) == TEMPLATES * MONTHS
    assert all(run.counts.failed == 0 for run in by_id.values())
    for run in by_id.values():
        assert {code for _, _, code in await results_of(run)} <= {
            "generated",
            "already_generated",
            "not_due",
        }


async def test_workers_that_take_slices_of_everything_they_find(
    services: Services, platform: FakePlatform, real_db: TestDatabase
) -> None:
    await some_templates(real_db, platform, 40)
    for who in (ADMIN, SYSTEM):
        await real_db.run(who, start_generation, AS_OF)
    dice = random.Random(7)

    async def worker() -> None:
        while run_ids := await list_free(real_db, limit=10):
            await execute_run_slice(services, dice.choice(run_ids))

    await asyncio.gather(*(worker() for _ in range(6)))

    await assert_each_month_once(40)


async def test_who_asks_many_times_at_once_gets_one_run(
    services: Services, real_db: TestDatabase
) -> None:
    runs = await asyncio.gather(
        *(real_db.run(ADMIN, start_generation, AS_OF) for _ in range(10)),
        *(real_db.run(SYSTEM, start_generation, AS_OF) for _ in range(10)),
        real_db.run(ADMIN, start_generation, TODAY),
    )

    assert len({run.id for run in runs[:10]}) == 1
    assert len({run.id for run in runs[10:20]}) == 1
    assert len({run.id for run in runs}) == 3
    assert await AccountingRun.find_all().count() == 3


async def test_of_many_who_start_a_plan_one_does(
    services: Services, platform: FakePlatform, real_db: TestDatabase
) -> None:
    await some_templates(real_db, platform, 3)
    plan = await make_plan(platform, TERMS, AS_OF)
    for _ in range(2):
        await real_db.run(ADMIN, save_plan, plan)

    outcomes = await asyncio.gather(
        *(run_plan(real_db, ADMIN, platform, TERMS, plan.plan_hash) for _ in range(8)),
        return_exceptions=True,
    )

    [started] = [found for found in outcomes if isinstance(found, AccountingRun)]
    refused = [found for found in outcomes if isinstance(found, PlanAlreadyStarted)]
    assert len(refused) == 7
    assert {error.facts["runId"] for error in refused} == {str(started.id)}
    await execute_to_the_end(services, started.run_id)
    await assert_each_month_once(3)


async def test_the_last_two_parts_that_end_at_once_end_the_whole(
    services: Services, platform: FakePlatform, real_db: TestDatabase
) -> None:
    await some_templates(real_db, platform, 2)
    plan = await make_plan(platform, TERMS, AS_OF)
    kept = await real_db.run(ADMIN, save_plan, plan)
    # As if the plan had been so long that each template had a part of its own.
    [only] = await AccountingRun.find({"partOf": kept.id}).to_list()
    first, second = only.items[:MONTHS], only.items[MONTHS:]
    await real_db.run(
        ADMIN, only.change, items=first, counts=only.counts.model_copy(update={"total": MONTHS})
    )
    other = only.model_copy(
        update={
            "id": new_id(),
            "part_number": 1,
            "items": second,
            "counts": only.counts.model_copy(update={"total": MONTHS}),
        }
    )
    await real_db.run(ADMIN, other.add)
    await real_db.run(ADMIN, kept.change, parts=2)
    run = await run_plan(real_db, ADMIN, platform, TERMS, plan.plan_hash)

    await asyncio.gather(*(execute_run_slice(services, id_of(part)) for part in (only, other)))

    ended = await get_run(run.run_id)
    assert (ended.status, ended.parts_over) == (RunStatus.DONE, 2)
    assert (ended.counts.total, ended.counts.done) == (2 * MONTHS, 2 * MONTHS)
    await assert_each_month_once(2)


Change = Callable[[TestDatabase, ObjectId], Awaitable[object]]


async def pause(db: TestDatabase, template_id: ObjectId) -> object:
    return await db.run(ADMIN, pause_recurring_invoice, template_id, TERMS.zone)


async def delete(db: TestDatabase, template_id: ObjectId) -> object:
    return await db.run(ADMIN, delete_recurring_invoice, template_id, TERMS.zone)


async def raise_the_price(db: TestDatabase, template_id: ObjectId) -> object:
    changes = TemplateChanges({"unit_price": Decimal(9)})
    return await db.run(ADMIN, update_recurring_invoice, template_id, TERMS.zone, changes)


async def move_the_day(db: TestDatabase, template_id: ObjectId) -> object:
    changes = TemplateChanges({"day_of_month": 6})
    return await db.run(ADMIN, update_recurring_invoice, template_id, TERMS.zone, changes)


@pytest.mark.parametrize(
    ("change", "prices"),
    [(pause, []), (delete, []), (raise_the_price, ["9.00"] * 3), (move_the_day, ["1.00"] * 3)],
)
async def test_a_template_that_is_changed_in_the_middle_of_a_batch(
    services: Services,
    platform: FakePlatform,
    real_db: TestDatabase,
    change: Change,
    prices: list[str],
) -> None:
    """The batch has decided already; it cannot commit, and decides again by what is so now."""
    templates = await some_templates(real_db, platform, 3)
    work, changed = generation_work(platform, TERMS), id_of(templates[1])
    attempts = 0

    async def act(tx: Transaction, run: AccountingRun, items: Any) -> Any:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            await get_recurring_invoice(changed, session=tx.session)  # the batch sees it as it was
            await change(real_db, changed)
        return await work.act(tx, run, items)

    run = await real_db.run(ADMIN, start_generation, AS_OF)
    await execute_run_slice(services, run.run_id)
    [part] = await AccountingRun.find({"partOf": run.id}).to_list()
    slow = Work(act, batch_items=work.batch_items, slice_items=work.slice_items)
    await execute_slice(real_db, part.run_id, {RunKind.GENERATE: slow})

    ended = await get_run(run.run_id)
    assert attempts > 1
    assert (ended.status, ended.counts.failed) == (RunStatus.DONE, 0)
    found = await generated_invoices(changed)
    assert [str(invoice.unit_price) for invoice in found] == prices
    assert len(await generated_invoices()) == 6 + len(prices)
    # Each month keeps the number of the first attempt; those of a paused template stay a gap.
    numbers = [found.invoice_number[8:] for found in await generated_invoices()]
    assert numbers == ["01", "02", "03", *["04", "05", "06"][: len(prices)], "07", "08", "09"]


async def test_templates_that_are_changed_all_the_time(
    services: Services, platform: FakePlatform, real_db: TestDatabase
) -> None:
    """Whatever comes first: a paused one has no invoice, and no month comes twice."""
    templates = await some_templates(real_db, platform, 60)
    run = await real_db.run(ADMIN, start_generation, AS_OF)

    async def change_some() -> None:
        for template in templates[::6]:
            await raise_the_price(real_db, id_of(template))
            await pause(real_db, id_of(templates[templates.index(template) + 1]))

    await asyncio.gather(
        execute_to_the_end(services, run.run_id, patience_seconds=10), change_some()
    )

    ended = await get_run(run.run_id)
    assert (ended.status, ended.counts.failed) == (RunStatus.DONE, 0)
    invoices = Counter(found.recurring_invoice_id for found in await generated_invoices())
    for at, template in enumerate(templates):
        wanted = {0, MONTHS} if at % 6 == 1 else {MONTHS}
        assert invoices[template.id] in wanted
    for invoice in await generated_invoices():
        assert invoice.unit_price in (Decimal(1), Decimal(9))


async def test_the_database_refuses_a_second_invoice_of_a_month(
    services: Services, platform: FakePlatform, real_db: TestDatabase, real_mongo: MongoDatabase
) -> None:
    await some_templates(real_db, platform, 1)
    await generate_on(services, TODAY)
    raw = await real_mongo["invoices"].find_one()
    assert raw is not None
    again = raw | {"_id": new_id(), "invoiceNumber": "2026011299"}

    with pytest.raises(DuplicateKeyError, match="recurringInvoiceId_1_billingPeriod_1"):
        await real_mongo["invoices"].insert_one(again)
    await real_mongo["invoices"].insert_one(again | {"billingPeriod": "2026-02"})
    for number in ("2026011277", "2026011278"):  # by hand there may be two for a month
        by_hand = {"_id": new_id(), "invoiceNumber": number, "recurringInvoiceId": None}
        await real_mongo["invoices"].insert_one(raw | by_hand)

    assert await Invoice.find_all().count() == 4


async def test_an_invoice_that_is_there_without_the_template_knowing_is_skipped(
    services: Services, platform: FakePlatform, real_db: TestDatabase
) -> None:
    """As after a restore of older templates: the index never has to say it."""
    [template] = await some_templates(real_db, platform, 1)
    await generate_on(services, AS_OF)
    await RecurringInvoice.get_motor_collection().update_one(
        {"_id": template.id}, {"$set": {"lastGeneratedDate": None}}
    )

    run = await generate_on(services, AS_OF)

    assert await results_of(run) == [
        (period, ItemStatus.SKIPPED, "already_generated")
        for period in ("2026-01", "2026-02", "2026-03")
    ]
    stored = await get_recurring_invoice(id_of(template))
    assert stored.last_generated_date == day("2026-03-05")
    assert len(await generated_invoices()) == MONTHS
