"""Generation by runs, in memory and on the real server: who is billed for what, and how often."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from accounting.actor import SYSTEM, Actor
from accounting.audit.rules import AuditAction, EntityType
from accounting.audit.service import history
from accounting.invoices.documents import Invoice, PricingSnapshot
from accounting.invoices.drafts import (
    DraftChanges,
    delete_invoice,
    update_invoice,
)
from accounting.invoices.rules import BillingPeriodFixed, InvoiceStatus
from accounting.notifications.documents import InvoiceNotification
from accounting.pricing.rules import PriceSource
from accounting.recurring.documents import get_recurring_invoice
from accounting.recurring.service import (
    TemplateChanges,
    pause_recurring_invoice,
    update_recurring_invoice,
)
from accounting.runs.rules import ItemStatus, RunStatus
from builders import ADMIN, NOW, TERMS, TODAY, a_customer, a_price, a_template
from fakes import FakePlatform, TestDatabase
from generating import (
    a_miner_owner,
    day,
    generate_on,
    generated_invoices,
    id_of,
    items_of,
    periods_of,
    results_of,
    services_of,
)

DONE, SKIPPED, FAILED = ItemStatus.DONE, ItemStatus.SKIPPED, ItemStatus.FAILED
HUGE = Decimal("99999999.99")  # with 101 miners it is more than an amount can be


async def test_three_missed_months_are_made_once_each_with_the_price_of_its_date(
    db: TestDatabase, platform: FakePlatform
) -> None:
    customer = a_miner_owner(platform)
    first = await a_price(db, platform, customer, day("2025-10-01"), "10.00")
    second = await a_price(db, platform, customer, day("2025-12-05"), "20.00")
    template = await a_template(db, platform, customer, start_date=day("2025-11-01"))
    services = services_of(db, platform)

    run = await generate_on(services, TODAY)
    again = await generate_on(services, TODAY)

    found = [
        (invoice.billing_period, invoice.total_amount, invoice.pricing)
        for invoice in await generated_invoices()
    ]
    source = PriceSource.PRICING_CONFIG
    assert found == [
        (
            period,
            total,
            PricingSnapshot(source=source, pricing_config_id=price.id, miner_ids_count=3),
        )
        for period, total, price in [
            ("2025-11", Decimal("30.00"), first),
            ("2025-12", Decimal("60.00"), second),
            ("2026-01", Decimal("60.00"), second),
        ]
    ]
    assert (run.status, run.counts.done, run.counts.total) == (RunStatus.DONE, 3, 3)
    assert (again.status, again.counts.total) == (RunStatus.DONE, 0)
    stored = await get_recurring_invoice(id_of(template))
    assert (stored.last_generated_date, stored.version) == (day("2026-01-05"), 2)


async def test_a_generated_draft_waits_for_its_review(
    db: TestDatabase, platform: FakePlatform
) -> None:
    customer = a_miner_owner(platform)
    template = await a_template(db, platform, customer, unit_price=Decimal("45.50"))

    run = await generate_on(services_of(db, platform), day("2026-01-20"))

    [invoice] = await generated_invoices()
    assert invoice.status is InvoiceStatus.DRAFT
    assert (invoice.user_id, invoice.recurring_invoice_id) == (customer.id, template.id)
    assert (invoice.total_miners, invoice.unit_price) == (3, Decimal("45.50"))
    assert invoice.pricing == PricingSnapshot(source=PriceSource.TEMPLATE, miner_ids_count=3)
    # It bears the day of the run, not the scheduled one, and is due from there.
    assert invoice.invoice_generated_date == day("2026-01-20")
    assert invoice.due_date == day("2026-02-19")
    assert invoice.invoice_number == "2026012001"
    assert (invoice.created_at, invoice.issued_date, invoice.customer) == (NOW, None, None)
    assert await InvoiceNotification.find_all().count() == 0
    [item] = await items_of(run)
    assert (item.id, item.label, item.status) == (template.id, "2026-01", DONE)
    assert (item.code, item.result_id) == ("generated", invoice.id)
    assert item.reason == "Invoice 2026012001 of 136.50."


@pytest.mark.parametrize("who", [ADMIN, SYSTEM], ids=["admin", "system"])
async def test_what_is_made_bears_the_name_of_who_asked(
    db: TestDatabase, platform: FakePlatform, who: Actor
) -> None:
    template = await a_template(
        db, platform, a_miner_owner(platform), unit_price=Decimal(1), auto_issue=True
    )

    run = await generate_on(services_of(db, platform), TODAY, who)

    [invoice] = await generated_invoices()
    entries = await history(EntityType.INVOICE, id_of(invoice))
    moved = (await history(EntityType.RECURRING_INVOICE, id_of(template)))[-1]
    assert run.requested_by == who.user_id
    assert (invoice.created_by, invoice.updated_by) == (who.user_id, who.user_id)
    assert [entry.action for entry in entries] == [
        AuditAction.INVOICE_CREATED,
        AuditAction.INVOICE_ISSUED,
    ]
    assert {(entry.user_id, entry.request_id) for entry in [*entries, moved]} == {
        (who.user_id, who.request_id)
    }


async def test_the_template_s_trail_says_what_was_generated(
    db: TestDatabase, platform: FakePlatform
) -> None:
    customer = a_miner_owner(platform)
    template = await a_template(
        db, platform, customer, unit_price=Decimal(1), start_date=day("2025-12-01")
    )

    await generate_on(services_of(db, platform), TODAY)

    moved = (await history(EntityType.RECURRING_INVOICE, id_of(template)))[-1]
    assert moved.action is AuditAction.RECURRING_INVOICE_UPDATED
    assert moved.changes == {
        "before": {"lastGeneratedDate": None},
        "after": {"lastGeneratedDate": "2026-01-05"},
    }
    assert moved.description == (
        f"Recurring invoice on day 5 of customer {customer.id} generated 2026011201, 2026011202"
    )


async def test_each_template_is_judged_by_itself(db: TestDatabase, platform: FakePlatform) -> None:
    price = Decimal("50.00")
    gone = a_miner_owner(platform)
    for customer, own_price in [
        (a_miner_owner(platform), price),
        (a_miner_owner(platform), None),
        (a_miner_owner(platform, miners=0), price),
        (gone, price),
        (a_miner_owner(platform, miners=101), HUGE),
        (a_miner_owner(platform), price),
    ]:
        await a_template(db, platform, customer, unit_price=own_price)
    platform.add_user(a_customer(id=gone.id, is_deleted=True))

    run = await generate_on(services_of(db, platform), TODAY)

    assert await results_of(run) == [
        ("2026-01", DONE, "generated"),
        ("2026-01", SKIPPED, "no_price"),
        ("2026-01", SKIPPED, "no_miners"),
        ("2026-01", SKIPPED, "customer_deleted"),
        ("2026-01", FAILED, "amount_too_large"),
        ("2026-01", DONE, "generated"),
    ]
    counts = run.counts
    assert (counts.done, counts.skipped, counts.failed, counts.pending) == (2, 3, 1, 0)
    assert len(await generated_invoices()) == 2


async def test_only_what_is_due_becomes_an_item(db: TestDatabase, platform: FakePlatform) -> None:
    async def template(**facts: object) -> object:
        customer = a_miner_owner(platform)
        return (await a_template(db, platform, customer, unit_price=Decimal(1), **facts)).id

    due_today = await template(day_of_month=12)
    await template(day_of_month=13)
    await template(start_date=day("2026-01-06"))
    await template(start_date=day("2026-02-01"))
    ended = await template(start_date=day("2025-12-01"), end_date=day("2025-12-31"))
    paused = await template()
    await db.run(ADMIN, pause_recurring_invoice, paused, TERMS.zone)

    run = await generate_on(services_of(db, platform), TODAY)

    assert [item.id for item in await items_of(run)] == [due_today, ended]
    assert periods_of(await generated_invoices(ended)) == ["2025-12"]


async def test_a_skipped_month_is_billed_once_there_is_a_price(
    db: TestDatabase, platform: FakePlatform
) -> None:
    customer = a_miner_owner(platform)
    template = await a_template(db, platform, customer)
    services = services_of(db, platform)

    first = await generate_on(services, day("2026-01-05"))
    second = await generate_on(services, day("2026-02-04"))
    untouched = await get_recurring_invoice(id_of(template))
    await a_price(db, platform, customer, day("2026-01-01"))
    await generate_on(services, day("2026-02-04"))

    assert await results_of(first) == await results_of(second) == [("2026-01", SKIPPED, "no_price")]
    assert untouched.version == 1, "nothing moved, and no entry was left"
    assert periods_of(await generated_invoices()) == ["2026-01"]


async def test_a_skipped_month_is_passed_over_when_the_next_one_comes(
    db: TestDatabase, platform: FakePlatform
) -> None:
    customer = a_miner_owner(platform, miners=0)
    template = await a_template(db, platform, customer, unit_price=Decimal(1))
    services = services_of(db, platform)

    await generate_on(services, day("2026-01-05"))
    run = await generate_on(services, day("2026-02-05"))
    passed_over = await get_recurring_invoice(id_of(template))
    entry = (await history(EntityType.RECURRING_INVOICE, id_of(template)))[-1]
    platform.miner_statuses[customer.id] = ["AUTO"]
    await generate_on(services, day("2026-02-10"))

    assert await results_of(run) == [
        ("2026-01", SKIPPED, "no_miners"),
        ("2026-02", SKIPPED, "no_miners"),
    ]
    assert passed_over.last_skipped_date == day("2026-01-05")
    assert passed_over.last_generated_date is None
    assert entry.description.endswith("passed over a month")
    assert periods_of(await generated_invoices()) == ["2026-02"]


async def test_a_failed_month_holds_up_the_later_ones_and_then_all_are_billed(
    db: TestDatabase, platform: FakePlatform
) -> None:
    customer = a_miner_owner(platform, miners=101)
    template = await a_template(db, platform, customer, unit_price=HUGE)
    services = services_of(db, platform)

    failed = await generate_on(services, day("2026-03-10"))
    made_before = await generated_invoices()
    changes = TemplateChanges({"unit_price": Decimal("1.00")})
    await db.run(ADMIN, update_recurring_invoice, id_of(template), TERMS.zone, changes)
    mended = await generate_on(services, day("2026-03-11"))

    assert await results_of(failed) == [
        ("2026-01", FAILED, "amount_too_large"),
        ("2026-02", FAILED, "earlier_period_open"),
        ("2026-03", FAILED, "earlier_period_open"),
    ]
    assert made_before == []
    assert await results_of(mended) == [
        (period, DONE, "generated") for period in ("2026-01", "2026-02", "2026-03")
    ]
    assert (await get_recurring_invoice(id_of(template))).failed_runs == 0


async def test_a_month_whose_draft_was_deleted_is_not_billed_again(
    db: TestDatabase, platform: FakePlatform
) -> None:
    await a_template(db, platform, a_miner_owner(platform), unit_price=Decimal(1))
    services = services_of(db, platform)
    await generate_on(services, TODAY)
    [draft] = await generated_invoices()
    await db.run(ADMIN, delete_invoice, id_of(draft))

    again = await generate_on(services, TODAY)

    assert again.counts.total == 0
    assert await Invoice.find_all().count() == 0


async def test_the_month_of_a_generated_draft_is_fixed(
    db: TestDatabase, platform: FakePlatform
) -> None:
    await a_template(db, platform, a_miner_owner(platform), unit_price=Decimal(1))
    await generate_on(services_of(db, platform), TODAY)
    [draft] = await generated_invoices()

    for period in ("2026-02", None):
        change = DraftChanges({"billing_period": period})
        with pytest.raises(BillingPeriodFixed, match="generated for 2026-01") as refused:
            await db.run(ADMIN, update_invoice, id_of(draft), change)
        assert refused.value.code == "billing_period_fixed"
    same = DraftChanges({"billing_period": "2026-01", "total_miners": 7})
    changed = await db.run(ADMIN, update_invoice, id_of(draft), same)

    assert (changed.total_miners, changed.billing_period) == (7, "2026-01")


async def test_a_run_each_day_bills_each_month_on_its_day(
    real_db: TestDatabase, platform: FakePlatform
) -> None:
    """Through the whole machinery; see `test_billing_days` for every day of every calendar."""
    first_day, days = day("2026-01-25"), 70
    templates = {
        id_of(
            await a_template(
                real_db,
                platform,
                a_miner_owner(platform),
                unit_price=Decimal(1),
                day_of_month=day_of_month,
                start_date=first_day,
                end_date=day("2026-04-01"),
            )
        ): day_of_month
        for day_of_month in (1, 5, 24, 25, 28)
    }
    services = services_of(real_db, platform)

    for number in range(days):
        await generate_on(services, first_day + timedelta(days=number))

    made = {
        template_id: [
            (invoice.billing_period, invoice.invoice_generated_date)
            for invoice in await generated_invoices(template_id)
        ]
        for template_id in templates
    }
    months = {1: (2, 3, 4), 5: (2, 3), 24: (2, 3), 25: (1, 2, 3), 28: (1, 2, 3)}
    assert made == {
        template_id: [
            (f"2026-{month:02d}", day(f"2026-{month:02d}-{day_of_month:02d}"))
            for month in months[day_of_month]
        ]
        for template_id, day_of_month in templates.items()
    }
