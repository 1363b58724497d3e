"""Carrying out a plan: exactly what it says or nothing, once, within a day."""

from __future__ import annotations

import itertools
from decimal import Decimal

import pytest

from accounting.actor import Actor, Role
from accounting.db.document import DocumentChanged
from accounting.ids import new_id
from accounting.platform.rules import PlatformUser
from accounting.pricing.service import find_price_in_effect
from accounting.recurring.documents import RecurringInvoice
from accounting.recurring.plan import (
    PlanAlreadyStarted,
    PlanChanged,
    PlanForAnotherDay,
    PlanNotFound,
    make_plan,
    run_plan,
    save_plan,
)
from accounting.recurring.service import (
    TemplateChanges,
    pause_recurring_invoice,
    update_recurring_invoice,
)
from accounting.runs.documents import AccountingRun, get_run
from accounting.runs.parts import with_progress
from accounting.runs.rules import (
    EXECUTE_JOB,
    PART_ITEMS,
    PLAN_KEPT_SECONDS,
    ItemStatus,
    RunId,
    RunStatus,
)
from accounting.runs.service import list_free, list_stalled, retry_failed
from accounting.worker.runs import execute_free_runs, execute_to_the_end
from builders import ADMIN, TERMS, TODAY, a_price, a_template
from fakes import FakePlatform, JobList, SettableClock, TestDatabase
from generating import (
    a_miner_owner,
    day,
    generate_on,
    generated_invoices,
    id_of,
    items_of,
    results_of,
    services_of,
)

DONE, FAILED = ItemStatus.DONE, ItemStatus.FAILED
OTHER_ADMIN = Actor(user_id=new_id(), role=Role.SUPER_ADMIN)


class Plans:
    """Three customers with a template each, and what is done with plans."""

    def __init__(self, db: TestDatabase, platform: FakePlatform) -> None:
        self.db, self.platform = db, platform
        self.services = services_of(db, platform)
        self.customers: list[PlatformUser] = []
        self.templates: list[RecurringInvoice] = []

    async def add_template(self, **facts: object) -> RecurringInvoice:
        customer = a_miner_owner(self.platform)
        await a_price(self.db, self.platform, customer, day("2025-01-01"))
        template = await a_template(self.db, self.platform, customer, **facts)
        self.customers.append(customer)
        self.templates.append(template)
        return template

    async def keep(self) -> AccountingRun:
        plan = await make_plan(self.platform, TERMS, TODAY)
        return await self.db.run(ADMIN, save_plan, plan)

    async def start(self, plan_hash: str | None, **choices: object) -> AccountingRun:
        assert plan_hash is not None
        actor = choices.pop("actor", OTHER_ADMIN)
        return await run_plan(self.db, actor, self.platform, TERMS, plan_hash, **choices)  # type: ignore[arg-type]

    async def end(self, run: AccountingRun) -> AccountingRun:
        return await execute_to_the_end(self.services, RunId(run.id))


@pytest.fixture
async def plans(db: TestDatabase, platform: FakePlatform) -> Plans:
    made = Plans(db, platform)
    for _ in range(3):
        await made.add_template()
    return made


async def test_a_started_plan_is_done_in_the_name_of_who_started_it(
    plans: Plans, jobs: JobList
) -> None:
    kept = await plans.keep()
    before = len(jobs.sent)

    started = await plans.start(kept.plan_hash)
    ended = await plans.end(started)

    assert started.id == kept.id
    assert (started.status, started.requested_by) == (RunStatus.RUNNING, OTHER_ADMIN.user_id)
    assert [job.name for job in jobs.sent[before:]] == [EXECUTE_JOB]
    assert (ended.status, ended.counts.done) == (RunStatus.DONE, 3)
    invoices = await generated_invoices()
    assert {invoice.created_by for invoice in invoices} == {OTHER_ADMIN.user_id}
    assert [item.planned for item in await items_of(ended)] == [
        f"draft {found.total_miners} x {found.unit_price} = {found.total_amount} "
        f"by price {found.pricing.pricing_config_id}"
        for found in invoices
        if found.pricing
    ]


async def test_a_plan_that_nobody_starts_is_never_done(
    plans: Plans, clock: SettableClock, jobs: JobList
) -> None:
    kept = await plans.keep()
    clock.move(seconds=PLAN_KEPT_SECONDS - 1)

    ended = await execute_free_runs(plans.services)

    assert ended == []
    assert await list_free(plans.db, limit=10) == await list_stalled(plans.db, limit=10) == []
    assert jobs.sent == []
    assert await generated_invoices() == []
    assert (await get_run(id_of(kept))).status is RunStatus.PLANNED


async def test_a_plan_shows_its_items_before_it_is_started(plans: Plans) -> None:
    kept = await plans.keep()

    [shown] = await with_progress([kept])

    assert (shown.counts.total, shown.counts.pending) == (3, 3)
    assert [item.id for item in await items_of(kept)] == [item.id for item in plans.templates]
    assert await results_of(kept) == [("2026-01", ItemStatus.PENDING, None)] * 3


async def test_what_is_different_now_is_named_and_nothing_is_started(
    plans: Plans, jobs: JobList
) -> None:
    kept = await plans.keep()
    changed, _, gone = plans.templates
    plans.platform.miner_statuses[plans.customers[0].id].append("ACTIVE")
    await plans.db.run(ADMIN, pause_recurring_invoice, id_of(gone), TERMS.zone)
    new = await plans.add_template()

    with pytest.raises(PlanChanged, match="3 of the planned invoices") as refused:
        await plans.start(kept.plan_hash)

    prices = [await price_of(template) for template in (changed, new)]
    assert refused.value.code == "plan_changed"
    assert refused.value.facts == {
        "planHash": kept.plan_hash,
        "changeCount": 3,
        "changes": [
            {
                "recurringInvoiceId": str(changed.id),
                "billingPeriod": "2026-01",
                "planned": f"draft 3 x 50.00 = 150.00 by price {prices[0]}",
                "now": f"draft 4 x 50.00 = 200.00 by price {prices[0]}",
            },
            {
                "recurringInvoiceId": str(gone.id),
                "billingPeriod": "2026-01",
                "planned": (await items_of(kept))[2].planned,
                "now": None,
            },
            {
                "recurringInvoiceId": str(new.id),
                "billingPeriod": "2026-01",
                "planned": None,
                "now": f"draft 3 x 50.00 = 150.00 by price {prices[1]}",
            },
        ],
    }
    assert (await get_run(id_of(kept))).status is RunStatus.PLANNED
    assert jobs.sent == []
    assert await execute_free_runs(plans.services) == []


async def price_of(template: RecurringInvoice) -> str:
    price = await find_price_in_effect(template.user_id, TODAY)
    assert price is not None
    return str(price.id)


async def test_what_is_as_planned_again_can_be_started(plans: Plans) -> None:
    kept = await plans.keep()
    statuses = plans.platform.miner_statuses[plans.customers[0].id]
    statuses.append("ACTIVE")
    with pytest.raises(PlanChanged):
        await plans.start(kept.plan_hash)
    statuses.pop()

    ended = await plans.end(await plans.start(kept.plan_hash))

    assert ended.counts.done == 3


async def test_many_changes_are_counted_and_the_first_hundred_named(plans: Plans) -> None:
    kept = await plans.keep()
    await plans.add_template(start_date=day("2016-01-01"))

    with pytest.raises(PlanChanged) as refused:
        await plans.start(kept.plan_hash)

    assert refused.value.facts["changeCount"] == 120
    assert isinstance(refused.value.facts["changes"], list)
    assert len(refused.value.facts["changes"]) == 100


async def test_a_change_after_the_start_fails_that_item_alone(plans: Plans) -> None:
    kept = await plans.keep()
    started = await plans.start(kept.plan_hash)
    plans.platform.miner_statuses[plans.customers[1].id].append("ACTIVE")
    await plans.add_template()  # not in the plan, and so not made by it

    ended = await plans.end(started)

    assert await results_of(ended) == [
        ("2026-01", DONE, "generated"),
        ("2026-01", FAILED, "plan_changed"),
        ("2026-01", DONE, "generated"),
    ]
    reason = (await items_of(ended, FAILED))[0].reason
    assert reason is not None
    assert "Planned was: draft 3 x 50.00 = 150.00" in reason
    assert "Now it would be: draft 4 x 50.00 = 200.00" in reason
    assert [found.recurring_invoice_id for found in await generated_invoices()] == [
        plans.templates[0].id,
        plans.templates[2].id,
    ]


async def test_another_source_of_the_same_price_is_a_change_too(plans: Plans) -> None:
    kept = await plans.keep()
    started = await plans.start(kept.plan_hash)
    changes = TemplateChanges({"unit_price": Decimal("50.00")})
    template_id = id_of(plans.templates[0])
    await plans.db.run(ADMIN, update_recurring_invoice, template_id, TERMS.zone, changes)

    ended = await plans.end(started)

    assert [code for _, _, code in await results_of(ended)] == ["plan_changed"] + ["generated"] * 2


async def test_a_failed_item_of_a_plan_is_tried_again_as_it_was_planned(plans: Plans) -> None:
    kept = await plans.keep()
    started = await plans.start(kept.plan_hash)
    statuses = plans.platform.miner_statuses[plans.customers[0].id]
    statuses.append("ACTIVE")
    await plans.end(started)

    for done in (2, 3):
        await plans.db.run(ADMIN, retry_failed, id_of(kept))
        ended = await plans.end(started)
        assert (ended.counts.done, ended.counts.failed) == (done, 3 - done)
        if done == 2:
            statuses.pop()

    assert {found.total_amount for found in await generated_invoices()} == {Decimal("150.00")}


async def test_a_plan_is_kept_for_a_day(plans: Plans, clock: SettableClock) -> None:
    """Also while the server has not yet deleted what has expired."""
    kept = await plans.keep()

    clock.move(seconds=PLAN_KEPT_SECONDS - 0.001)
    with pytest.raises(PlanForAnotherDay):
        await plans.start(kept.plan_hash, as_of=day("2026-01-13"))
    clock.move(seconds=0.001)
    with pytest.raises(PlanNotFound) as refused:
        await plans.start(kept.plan_hash)

    assert refused.value.code == "plan_not_found"
    assert refused.value.facts == {"planHash": kept.plan_hash}
    assert await AccountingRun.find({"status": "PLANNED"}).count() == 2


async def test_a_started_plan_no_longer_expires(plans: Plans, clock: SettableClock) -> None:
    kept = await plans.keep()
    started = await plans.start(kept.plan_hash)
    clock.move(seconds=2 * PLAN_KEPT_SECONDS)

    assert await AccountingRun.find({"expiresAt": {"$ne": None}}).count() == 0
    assert (await plans.end(started)).counts.done == 3
    with pytest.raises(PlanAlreadyStarted):
        await plans.start(kept.plan_hash)


async def test_an_unknown_hash_is_no_plan(plans: Plans) -> None:
    with pytest.raises(PlanNotFound):
        await plans.start("0" * 64)


@pytest.mark.parametrize("is_over", [False, True])
async def test_a_plan_is_started_once(plans: Plans, is_over: bool) -> None:
    kept = await plans.keep()
    started = await plans.start(kept.plan_hash)
    if is_over:
        await plans.end(started)

    with pytest.raises(PlanAlreadyStarted, match=str(kept.id)) as refused:
        await plans.start(kept.plan_hash)

    assert refused.value.code == "plan_already_started"
    assert refused.value.facts == {"planHash": kept.plan_hash, "runId": str(kept.id)}


async def test_of_two_plans_that_say_the_same_one_is_started_at_a_time(
    plans: Plans, clock: SettableClock
) -> None:
    """Two dry runs, and a double click: the second click is told of the first one's run."""
    older = await plans.keep()
    clock.move(seconds=1)
    newer = await plans.keep()
    assert older.plan_hash == newer.plan_hash

    started = await plans.start(older.plan_hash)
    with pytest.raises(PlanAlreadyStarted) as refused:
        await plans.start(older.plan_hash)

    assert started.id == newer.id
    assert refused.value.facts["runId"] == str(newer.id)
    assert (await get_run(id_of(older))).status is RunStatus.PLANNED


async def test_a_plan_is_for_its_own_day(plans: Plans) -> None:
    kept = await plans.keep()

    with pytest.raises(PlanForAnotherDay, match="for 2026-01-12, not for 2026-01-13") as refused:
        await plans.start(kept.plan_hash, as_of=day("2026-01-13"))
    started = await plans.start(kept.plan_hash, as_of=TODAY)

    assert refused.value.code == "plan_for_another_day"
    assert [field for field, _ in refused.value.errors] == ["asOf"]
    assert started.id == kept.id


async def test_a_plan_of_nothing_is_done_at_once(
    db: TestDatabase, platform: FakePlatform, jobs: JobList
) -> None:
    plans = Plans(db, platform)
    kept = await plans.keep()

    run = await plans.start(kept.plan_hash)

    assert (run.status, run.counts.total, jobs.sent) == (RunStatus.DONE, 0, [])
    assert run.finished_at is not None


async def test_a_long_plan_has_parts_and_keeps_the_months_of_a_template_together(
    memory_db: TestDatabase, platform: FakePlatform
) -> None:
    plans = Plans(memory_db, platform)
    for _ in range(10):  # 120 months each
        await plans.add_template(start_date=day("2016-02-01"))

    kept = await plans.keep()

    parts = await AccountingRun.find({"partOf": kept.id}).sort("partNumber").to_list()
    of_part = [{item.id for item in part.items} for part in parts]
    assert (kept.counts.total, kept.parts) == (1_200, 2)
    assert [len(part.items) for part in parts] == [600, 600]
    assert all(len(part.items) >= PART_ITEMS for part in parts[:-1])
    assert not any(first & second for first, second in itertools.combinations(of_part, 2))
    assert {part.expires_at for part in parts} == {kept.expires_at}


async def test_a_plan_that_is_half_deleted_is_not_started(plans: Plans) -> None:
    kept = await plans.keep()
    await AccountingRun.find({"partOf": kept.id}).delete()

    with pytest.raises(DocumentChanged):
        await plans.start(kept.plan_hash)

    assert (await get_run(id_of(kept))).status is RunStatus.PLANNED


async def test_a_run_for_all_that_is_due_is_not_taken_for_a_plan(plans: Plans) -> None:
    """A plan does what was planned and no more, so that who asks for all gets a run of his own."""
    kept = await plans.keep()
    started = await plans.start(kept.plan_hash, actor=ADMIN)
    new = await plans.add_template()

    run = await generate_on(plans.services, TODAY, ADMIN)
    await plans.end(started)

    assert run.id != started.id
    assert [found.recurring_invoice_id for found in await generated_invoices(new.id)] == [new.id]
    assert len(await generated_invoices()) == 4
