"""Values that no template can have, written past the validator: one bad row stops no other."""

from __future__ import annotations

import logging
from decimal import Decimal
from typing import Any

import pytest

from accounting.clock import as_stored_day
from accounting.db.client import MongoDatabase
from accounting.recurring.billing import Charge
from accounting.recurring.documents import RecurringInvoice
from accounting.recurring.plan import make_plan, run_plan, save_plan
from accounting.runs.rules import ItemStatus, RunStatus
from accounting.worker.runs import execute_to_the_end
from builders import ADMIN, TERMS, TODAY, a_template
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

GARBAGE: list[dict[str, Any]] = [
    {"dayOfMonth": 99},
    {"dayOfMonth": "five"},
    {"userId": "nobody"},
    {"unitPrice": "free"},
    {"endDate": "never"},
    {"failedRuns": -1},
    {"version": None},
]


async def poison(mongo: MongoDatabase, template: RecurringInvoice, fields: dict[str, Any]) -> None:
    update = {"q": {"_id": template.id}, "u": {"$set": fields}}
    done = await mongo.command(
        {"update": "recurring_invoices", "updates": [update], "bypassDocumentValidation": True}
    )
    assert done["nModified"] == 1


async def templates_around_a_bad_one(
    db: TestDatabase, mongo: MongoDatabase, platform: FakePlatform, garbage: dict[str, Any]
) -> list[RecurringInvoice]:
    templates = [
        await a_template(db, platform, a_miner_owner(platform), unit_price=Decimal(1))
        for _ in range(5)
    ]
    await poison(mongo, templates[2], garbage)
    return templates


@pytest.mark.parametrize("garbage", GARBAGE, ids=str)
async def test_the_others_are_billed_and_the_bad_one_says_why_not(
    real_db: TestDatabase,
    real_mongo: MongoDatabase,
    platform: FakePlatform,
    caplog: pytest.LogCaptureFixture,
    garbage: dict[str, Any],
) -> None:
    templates = await templates_around_a_bad_one(real_db, real_mongo, platform, garbage)
    services = services_of(real_db, platform)

    with caplog.at_level(logging.ERROR):
        run = await generate_on(services, TODAY)
    again = await generate_on(services, TODAY)

    items = await items_of(run)
    assert run.status is RunStatus.DONE
    assert [item.id for item in items] == [template.id for template in templates]
    assert [item.status for item in items] == [
        ItemStatus.FAILED if at == 2 else ItemStatus.DONE for at in range(5)
    ]
    bad = items[2]
    assert (bad.label, bad.code) == ("2026-01", "internal_error")
    assert bad.reason is not None
    assert "quote run" in bad.reason
    assert "ValidationError" in caplog.text, "the log says what is wrong with it"
    assert (again.counts.total, again.counts.failed) == (1, 1), "it is seen in each run"
    assert {invoice.recurring_invoice_id for invoice in await generated_invoices()} == {
        template.id for template in templates if template is not templates[2]
    }


async def test_a_plan_shows_it_and_can_be_carried_out(
    real_db: TestDatabase, real_mongo: MongoDatabase, platform: FakePlatform
) -> None:
    templates = await templates_around_a_bad_one(real_db, real_mongo, platform, GARBAGE[0])
    services = services_of(real_db, platform)

    plan = await make_plan(platform, TERMS, TODAY)
    await real_db.run(ADMIN, save_plan, plan)
    started = await run_plan(real_db, ADMIN, platform, TERMS, plan.plan_hash)
    run = await execute_to_the_end(services, started.run_id)

    bad = plan.months[2]
    assert (bad.template_id, str(bad.decision)) == (templates[2].id, "fail unreadable")
    assert len(plan.charges) == 4
    assert all(isinstance(line.decision, Charge) for line in plan.months if line is not bad)
    assert (run.counts.done, run.counts.failed) == (4, 1)


async def test_a_bad_one_that_is_over_does_not_hide_what_is_gone(
    real_db: TestDatabase, real_mongo: MongoDatabase, platform: FakePlatform
) -> None:
    templates = await templates_around_a_bad_one(real_db, real_mongo, platform, GARBAGE[0])
    await generate_on(services_of(real_db, platform), TODAY)
    await real_mongo["recurring_invoices"].update_many(
        {"_id": {"$ne": templates[2].id}}, {"$set": {"isActive": False}}
    )
    billed = {"isActive": False, "lastGeneratedDate": as_stored_day(day("2026-01-05"))}
    await poison(real_mongo, templates[2], billed)

    plan = await make_plan(platform, TERMS, TODAY.replace(month=2))

    assert [gone.template_id for gone in plan.gone] == [
        id_of(template) for template in templates if template is not templates[2]
    ]


async def test_a_template_that_is_gone_since_it_was_found_fails_alone(
    real_db: TestDatabase, real_mongo: MongoDatabase, platform: FakePlatform
) -> None:
    templates = [
        await a_template(real_db, platform, a_miner_owner(platform), unit_price=Decimal(1))
        for _ in range(3)
    ]
    plan = await make_plan(platform, TERMS, TODAY)
    await real_db.run(ADMIN, save_plan, plan)
    started = await run_plan(real_db, ADMIN, platform, TERMS, plan.plan_hash)
    await real_mongo["recurring_invoices"].delete_one({"_id": templates[1].id})

    run = await execute_to_the_end(services_of(real_db, platform), started.run_id)

    assert [item.code for item in await items_of(run)] == [
        "generated",
        "recurring_invoice_not_found",
        "generated",
    ]
