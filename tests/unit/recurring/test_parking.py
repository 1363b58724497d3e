"""A template that fails again and again is paused and says why; nothing else pauses it."""

from __future__ import annotations

from decimal import Decimal

from accounting.actor import SYSTEM
from accounting.audit.documents import AuditLog
from accounting.audit.rules import AuditAction, EntityType
from accounting.audit.service import history
from accounting.ids import ObjectId
from accounting.platform.rules import PlatformUser
from accounting.recurring.documents import RecurringInvoice, get_recurring_invoice
from accounting.recurring.plan import make_plan, run_plan, save_plan
from accounting.recurring.rules import FAILED_RUNS_MAX
from accounting.recurring.service import pause_recurring_invoice, resume_recurring_invoice
from accounting.runs.rules import ItemStatus, RunId
from accounting.runs.service import retry_failed
from accounting.worker.runs import execute_to_the_end
from builders import ADMIN, TERMS, TODAY, a_template
from fakes import FakePlatform, SettableClock, TestDatabase
from generating import (
    a_miner_owner,
    day,
    generate_on,
    generated_invoices,
    id_of,
    periods_of,
    results_of,
    services_of,
)

HUGE = Decimal("99999999.99")  # with 101 miners it is more than an amount can be
TOO_MANY, FEW = ["ACTIVE"] * 101, ["ACTIVE"]


async def a_failing_template(
    db: TestDatabase, platform: FakePlatform, **facts: object
) -> tuple[RecurringInvoice, PlatformUser]:
    customer = a_miner_owner(platform, miners=len(TOO_MANY))
    return await a_template(db, platform, customer, unit_price=HUGE, **facts), customer


async def stored(template: RecurringInvoice) -> RecurringInvoice:
    return await get_recurring_invoice(id_of(template))


async def last_entry(template: RecurringInvoice) -> AuditLog:
    return (await history(EntityType.RECURRING_INVOICE, id_of(template)))[-1]


async def fail_in_runs(db: TestDatabase, platform: FakePlatform, count: int) -> ObjectId:
    run = None
    for _ in range(count):
        run = await generate_on(services_of(db, platform), TODAY)
        assert run.counts.failed > 0
    assert run is not None
    return RunId(run.id)


async def test_the_third_run_in_which_it_fails_pauses_it(
    db: TestDatabase, platform: FakePlatform
) -> None:
    template, _ = await a_failing_template(db, platform)

    counts, entries = [], []
    for _ in range(FAILED_RUNS_MAX):
        run_id = await fail_in_runs(db, platform, 1)
        found = await stored(template)
        counts.append((found.failed_runs, found.is_active, found.last_failed_run_id == run_id))
        entries.append(await last_entry(template))

    assert counts == [(1, True, True), (2, True, True), (3, False, True)]
    parked = await stored(template)
    assert parked.parked_reason is not None
    assert parked.parked_reason.startswith(
        "Failed in 3 runs, the last time for 2026-01: totalAmount would be 10099999998.99"
    )
    assert [entry.action for entry in entries] == [
        AuditAction.RECURRING_INVOICE_UPDATED,
        AuditAction.RECURRING_INVOICE_UPDATED,
        AuditAction.RECURRING_INVOICE_PAUSED,
    ]
    assert "could not be generated for 2026-01 (1 of 3): totalAmount" in entries[0].description
    assert "paused: failed in 3 runs: totalAmount" in entries[2].description
    assert entries[2].changes is not None
    assert entries[2].changes["after"]["isActive"] is False
    assert entries[2].changes["after"]["parkedReason"] == parked.parked_reason
    assert {entry.user_id for entry in entries} == {SYSTEM.user_id}
    assert (await generate_on(services_of(db, platform), TODAY)).counts.total == 0


async def test_many_failed_months_of_a_run_count_once(
    db: TestDatabase, platform: FakePlatform
) -> None:
    template, _ = await a_failing_template(db, platform, start_date=day("2025-06-01"))

    run = await generate_on(services_of(db, platform), TODAY)

    assert [code for _, _, code in await results_of(run)] == [
        "amount_too_large",
        *["earlier_period_open"] * 7,
    ]
    assert (await stored(template)).failed_runs == 1


async def test_trying_it_again_in_the_same_run_does_not_count_twice(
    db: TestDatabase, platform: FakePlatform
) -> None:
    template, _ = await a_failing_template(db, platform)
    run_id = await fail_in_runs(db, platform, 1)

    for _ in range(FAILED_RUNS_MAX):
        await db.run(ADMIN, retry_failed, run_id)
        await execute_to_the_end(services_of(db, platform), run_id)

    found = await stored(template)
    assert (found.failed_runs, found.is_active) == (1, True)


async def test_two_runs_that_take_turns_count_as_two(
    db: TestDatabase, platform: FakePlatform
) -> None:
    template, _ = await a_failing_template(db, platform)
    older = await fail_in_runs(db, platform, 1)
    newer = await fail_in_runs(db, platform, 1)

    for run_id in (older, newer, older):
        await db.run(ADMIN, retry_failed, run_id)
        await execute_to_the_end(services_of(db, platform), run_id)

    found = await stored(template)
    assert (found.failed_runs, found.is_active) == (2, True)


async def test_a_success_ends_a_row_of_failures(db: TestDatabase, platform: FakePlatform) -> None:
    template, customer = await a_failing_template(db, platform)
    await fail_in_runs(db, platform, FAILED_RUNS_MAX - 1)

    platform.miner_statuses[customer.id] = FEW
    await generate_on(services_of(db, platform), TODAY)
    billed = await stored(template)
    platform.miner_statuses[customer.id] = TOO_MANY
    await generate_on(services_of(db, platform), day("2026-02-05"))

    assert (billed.failed_runs, billed.last_failed_run_id) == (0, None)
    assert (await stored(template)).failed_runs == 1
    assert periods_of(await generated_invoices()) == ["2026-01"]


async def test_what_was_retried_with_success_is_forgotten(
    db: TestDatabase, platform: FakePlatform
) -> None:
    template, customer = await a_failing_template(db, platform)
    run_id = await fail_in_runs(db, platform, 1)
    platform.miner_statuses[customer.id] = FEW

    await db.run(ADMIN, retry_failed, run_id)
    run = await execute_to_the_end(services_of(db, platform), run_id)

    assert (run.counts.done, run.counts.failed) == (1, 0)
    assert (await stored(template)).failed_runs == 0
    assert (await generated_invoices())[0].created_by == ADMIN.user_id


async def test_a_skipped_month_neither_counts_nor_forgives(
    db: TestDatabase, platform: FakePlatform
) -> None:
    template, customer = await a_failing_template(db, platform)
    await fail_in_runs(db, platform, 1)

    platform.miner_statuses[customer.id] = []
    for _ in range(FAILED_RUNS_MAX):
        await generate_on(services_of(db, platform), TODAY)

    assert (await stored(template)).failed_runs == 1


async def test_resuming_it_begins_to_count_anew(
    db: TestDatabase, platform: FakePlatform, clock: SettableClock
) -> None:
    template, _ = await a_failing_template(db, platform)
    await fail_in_runs(db, platform, FAILED_RUNS_MAX)

    resumed = await db.run(ADMIN, resume_recurring_invoice, platform, id_of(template), TERMS.zone)
    clock.move(days=24)  # 2026-02-05
    await generate_on(services_of(db, platform), day("2026-02-05"))

    assert resumed.is_active
    assert (resumed.failed_runs, resumed.last_failed_run_id, resumed.parked_reason) == (
        0,
        None,
        None,
    )
    assert (await stored(template)).failed_runs == 1


async def test_the_months_that_failed_are_due_again_once_it_is_resumed(
    db: TestDatabase, platform: FakePlatform, clock: SettableClock
) -> None:
    template, customer = await a_failing_template(db, platform)
    await fail_in_runs(db, platform, FAILED_RUNS_MAX)
    clock.move(days=30)  # 2026-02-11
    platform.miner_statuses[customer.id] = FEW

    resumed = await db.run(ADMIN, resume_recurring_invoice, platform, id_of(template), TERMS.zone)
    await generate_on(services_of(db, platform), day("2026-02-11"))

    assert resumed.start_date == template.start_date
    assert periods_of(await generated_invoices()) == ["2026-01", "2026-02"]


async def test_a_retry_of_a_template_that_somebody_paused_does_not_touch_it(
    db: TestDatabase, platform: FakePlatform
) -> None:
    template, _ = await a_failing_template(db, platform)
    run_id = await fail_in_runs(db, platform, 1)
    paused = await db.run(ADMIN, pause_recurring_invoice, id_of(template), TERMS.zone)

    await db.run(ADMIN, retry_failed, run_id)
    run = await execute_to_the_end(services_of(db, platform), run_id)

    assert await results_of(run) == [("2026-01", ItemStatus.SKIPPED, "not_active")]
    assert await stored(template) == paused


async def test_what_differs_from_a_plan_says_nothing_about_the_template(
    db: TestDatabase, platform: FakePlatform
) -> None:
    customer = a_miner_owner(platform)
    template = await a_template(db, platform, customer, unit_price=Decimal(1))
    plan = await make_plan(platform, TERMS, TODAY)
    await db.run(ADMIN, save_plan, plan)
    started = await run_plan(db, ADMIN, platform, TERMS, plan.plan_hash)
    platform.miner_statuses[customer.id] = FEW

    run = await execute_to_the_end(services_of(db, platform), RunId(started.id))

    assert await results_of(run) == [("2026-01", ItemStatus.FAILED, "plan_changed")]
    assert await stored(template) == template
