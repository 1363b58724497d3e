"""Requests and answers of `/recurring-invoices/run`, on a server that can roll back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import httpx
import pytest

from accounting.actor import Role
from accounting.idempotency.documents import IdempotencyKey
from accounting.ids import ObjectId
from accounting.platform.rules import PlatformUser
from accounting.runs.documents import AccountingRun
from accounting.runs.rules import PLAN_KEPT_SECONDS
from accounting.worker.runs import execute_run_slice, execute_to_the_end
from api_app import a_token, an_api
from builders import ADMIN, TODAY, a_customer, a_price, a_template
from fakes import FakePlatform, SettableClock, TestDatabase
from generating import a_miner_owner, day, generate_on, generated_invoices, services_of

Json = dict[str, Any]
PATH = "/recurring-invoices/run"


@pytest.fixture
async def api(real_db: TestDatabase, platform: FakePlatform) -> AsyncIterator[httpx.AsyncClient]:
    """The API with an admin's token; today is 2026-01-12."""
    platform.add_user(a_customer(id=ADMIN.user_id, name="Alex Admin", role=Role.ADMIN))
    async with an_api(real_db, platform) as client:
        client.headers["Authorization"] = f"Bearer {a_token(ADMIN.user_id)}"
        yield client


@pytest.fixture
def customer(platform: FakePlatform) -> PlatformUser:
    return a_miner_owner(platform)


async def run(api: httpx.AsyncClient, **choices: Any) -> httpx.Response:
    return await api.post(PATH, json=choices)


async def plan(api: httpx.AsyncClient, **choices: Any) -> Json:
    answer = await run(api, dryRun=True, **choices)
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    return found


async def work(db: TestDatabase, platform: FakePlatform, run_id: str) -> None:
    await execute_to_the_end(services_of(db, platform), ObjectId(run_id))


async def test_a_run_is_started_and_followed(
    api: httpx.AsyncClient, real_db: TestDatabase, platform: FakePlatform, customer: PlatformUser
) -> None:
    template = await a_template(real_db, platform, customer, unit_price=Decimal(1))
    await a_template(real_db, platform, a_miner_owner(platform))  # no price

    started = await run(api)
    run_id = started.json()["runId"]
    queued = (await api.get(f"/runs/{run_id}")).json()
    await execute_run_slice(services_of(real_db, platform), ObjectId(run_id))
    planned = (await api.get(f"/runs/{run_id}")).json()
    await work(real_db, platform, run_id)
    ended = (await api.get(f"/runs/{run_id}")).json()

    assert (started.status_code, started.json()) == (202, {"runId": run_id})
    assert started.headers["location"] == f"/api/accounting/runs/{run_id}"
    assert (queued["kind"], queued["status"], queued["items"]) == ("GENERATE", "QUEUED", [])
    assert queued["parameters"] == {"asOf": "2026-01-12"}
    assert queued["progressPercent"] == 0, "it has not looked for its work yet"
    assert queued["counts"] == {"total": 0, "pending": 0, "done": 0, "skipped": 0, "failed": 0}
    assert (planned["status"], planned["progressPercent"]) == ("RUNNING", 0)
    assert planned["counts"]["pending"] == 2
    assert (ended["status"], ended["progressPercent"]) == ("DONE", 100)
    assert ended["counts"] == {"total": 2, "pending": 0, "done": 1, "skipped": 1, "failed": 0}
    [invoice] = await generated_invoices()
    assert ended["items"][0] == {
        "id": str(template.id),
        "label": "2026-01",
        "status": "DONE",
        "code": "generated",
        "reason": f"Invoice {invoice.invoice_number} of 3.00.",
        "resultId": str(invoice.id),
        "at": "2026-01-12T09:30:00.000Z",
    }
    skipped = (await api.get(f"/runs/{run_id}?itemStatus=SKIPPED&itemPage=1&itemLimit=1")).json()
    assert [item["code"] for item in skipped["items"]] == ["no_price"]
    assert skipped["itemPagination"] == {"page": 1, "limit": 1, "total": 1, "pages": 1}
    listed = (await api.get("/runs?kind=GENERATE")).json()
    assert [(found["id"], found["progressPercent"]) for found in listed["runs"]] == [(run_id, 100)]


async def test_a_run_that_finds_nothing_is_whole(
    api: httpx.AsyncClient, real_db: TestDatabase, platform: FakePlatform
) -> None:
    run_id = (await run(api)).json()["runId"]
    await work(real_db, platform, run_id)

    ended = (await api.get(f"/runs/{run_id}")).json()

    assert (ended["status"], ended["progressPercent"], ended["items"]) == ("DONE", 100, [])


@pytest.mark.parametrize("body", [b"", b"{}", b'{"asOf": null, "planHash": null}'])
async def test_what_is_left_out_means_all_that_is_due_today(
    api: httpx.AsyncClient, body: bytes
) -> None:
    headers = {"Content-Type": "application/json"} if body else {}

    started = await api.post(PATH, content=body, headers=headers)

    assert started.status_code == 202, started.text
    found = (await api.get(f"/runs/{started.json()['runId']}")).json()
    assert found["parameters"] == {"asOf": "2026-01-12"}


async def test_a_double_click_returns_the_same_run(
    api: httpx.AsyncClient, real_db: TestDatabase, platform: FakePlatform
) -> None:
    first, second = await run(api), await run(api, asOf="2026-01-12")
    other_day = await run(api, asOf="2026-01-13")
    await work(real_db, platform, first.json()["runId"])
    after_it = await run(api)

    assert (second.status_code, second.json()) == (202, first.json())
    assert other_day.json() != first.json()
    assert after_it.json() != first.json()


async def test_a_plan_says_what_would_be_made(
    api: httpx.AsyncClient, real_db: TestDatabase, platform: FakePlatform, customer: PlatformUser
) -> None:
    price = await a_price(real_db, platform, customer, day("2025-12-01"))
    template = await a_template(
        real_db, platform, customer, start_date=day("2025-12-01"), auto_issue=True
    )
    await generate_on(services_of(real_db, platform), day("2025-12-05"))
    platform.miner_statuses[customer.id] = ["ACTIVE"] * 6
    skipped = await a_template(real_db, platform, a_miner_owner(platform, miners=0))

    found = await plan(api)

    user = {
        "id": str(customer.id),
        "name": "Ada Holm",
        "email": "ada@example.com",
        "companyName": "Northern Hash Ltd",
    }
    assert found == {
        "planHash": found["planHash"],
        "asOf": "2026-01-12",
        "expiresAt": "2026-01-13T09:30:00.000Z",
        "counts": {"create": 1, "skip": 1, "fail": 0},
        "totalAmount": "300.00",
        "items": [
            {
                "recurringInvoiceId": str(template.id),
                "customerId": str(customer.id),
                "user": user,
                "billingPeriod": "2026-01",
                "scheduledDate": "2026-01-05",
                "action": "CREATE",
                "code": None,
                "reason": None,
                "totalMiners": 6,
                "unitPrice": "50.00",
                "totalAmount": "300.00",
                "priceSource": "PRICING_CONFIG",
                "autoIssue": True,
                "previous": {
                    "billingPeriod": "2025-12",
                    "totalMiners": 3,
                    "unitPrice": "50.00",
                    "totalAmount": "150.00",
                    "invoiceNumber": "2025120501",
                },
                "flags": ["MINERS_CHANGED", "UNUSUAL_JUMP"],
            },
            {
                "recurringInvoiceId": str(skipped.id),
                "customerId": str(skipped.user_id),
                "user": user | {"id": str(skipped.user_id)},
                "billingPeriod": "2026-01",
                "scheduledDate": "2026-01-05",
                "action": "SKIP",
                "code": "no_miners",
                "reason": f"Customer {skipped.user_id} has no active miners.",
                "totalMiners": None,
                "unitPrice": None,
                "totalAmount": None,
                "priceSource": None,
                "autoIssue": None,
                "previous": None,
                "flags": ["NO_MINERS"],
            },
        ],
        "gone": [],
    }
    assert price.default_unit_price == Decimal("50.00")
    assert len(await generated_invoices()) == 1


async def test_a_plan_names_who_failed_and_who_is_gone(
    api: httpx.AsyncClient, real_db: TestDatabase, platform: FakePlatform, customer: PlatformUser
) -> None:
    ended = await a_template(
        real_db,
        platform,
        customer,
        unit_price=Decimal(1),
        start_date=day("2025-12-01"),
        end_date=day("2025-12-31"),
    )
    await generate_on(services_of(real_db, platform), day("2025-12-05"))
    rich = a_miner_owner(platform, miners=101)
    await a_template(real_db, platform, rich, unit_price=Decimal("99999999.99"))

    found = await plan(api)

    assert found["counts"] == {"create": 0, "skip": 0, "fail": 1}
    assert (found["items"][0]["action"], found["items"][0]["code"]) == ("FAIL", "amount_too_large")
    [gone] = found["gone"]
    assert gone["recurringInvoiceId"] == str(ended.id)
    assert gone["user"]["name"] == "Ada Holm"
    assert gone["previous"]["billingPeriod"] == "2025-12"
    assert gone["previous"]["totalAmount"] == "3.00"


async def test_just_what_was_planned_is_done(
    api: httpx.AsyncClient, real_db: TestDatabase, platform: FakePlatform, customer: PlatformUser
) -> None:
    await a_template(real_db, platform, customer, unit_price=Decimal(1))
    plan_hash = (await plan(api, asOf="2026-01-10"))["planHash"]
    hidden = (await api.get("/runs")).json()
    shown = (await api.get("/runs?status=PLANNED")).json()

    started = await run(api, planHash=plan_hash)
    run_id = started.json()["runId"]
    await work(real_db, platform, run_id)
    again = await run(api, planHash=plan_hash)

    assert hidden["runs"] == []
    assert [(found["id"], found["counts"]["total"]) for found in shown["runs"]] == [(run_id, 1)]
    assert started.status_code == 202
    assert started.headers["location"].endswith(f"/runs/{run_id}")
    [invoice] = await generated_invoices()
    assert invoice.invoice_number == "2026011001"
    assert again.status_code == 409
    assert again.json()["code"] == "plan_already_started"
    assert again.json()["runId"] == run_id


async def test_what_is_different_now_is_a_conflict_that_names_it(
    api: httpx.AsyncClient, real_db: TestDatabase, platform: FakePlatform, customer: PlatformUser
) -> None:
    template = await a_template(real_db, platform, customer, unit_price=Decimal(1))
    plan_hash = (await plan(api))["planHash"]
    platform.miner_statuses[customer.id] = []

    refused = await run(api, planHash=plan_hash)

    problem = refused.json()
    assert refused.status_code == 409
    assert refused.headers["content-type"] == "application/problem+json"
    assert {name: problem[name] for name in ("code", "planHash", "changeCount", "changes")} == {
        "code": "plan_changed",
        "planHash": plan_hash,
        "changeCount": 1,
        "changes": [
            {
                "recurringInvoiceId": str(template.id),
                "billingPeriod": "2026-01",
                "planned": "draft 3 x 1.00 = 3.00 by the template",
                "now": "skip no_miners",
            }
        ],
    }
    assert problem["error"].startswith("1 of the planned invoices would be different now")
    assert await AccountingRun.find({"status": {"$ne": "PLANNED"}}).count() == 0


@pytest.mark.parametrize(
    ("choices", "status", "code", "field"),
    [
        ({"planHash": "0" * 64}, 409, "plan_not_found", None),
        ({"planHash": "0" * 63}, 400, "invalid_request", "planHash"),
        ({"planHash": "A" * 64}, 400, "invalid_request", "planHash"),
        ({"planHash": "0" * 64, "dryRun": True}, 400, "invalid_request", None),
        ({"asOf": "2026-02-30"}, 400, "invalid_request", "asOf"),
        ({"asOf": "1999-12-31"}, 400, "invalid_request", "asOf"),
        ({"asOf": 20260112}, 400, "invalid_request", "asOf"),
        ({"dryRun": "perhaps"}, 400, "invalid_request", "dryRun"),
        ({"dryRun": None}, 400, "invalid_request", "dryRun"),
        ({"templates": []}, 400, "invalid_request", "templates"),
    ],
)
async def test_wrong_requests_are_refused(
    api: httpx.AsyncClient, choices: Json, status: int, code: str, field: str | None
) -> None:
    answer = await run(api, **choices)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    if field is not None:
        assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert await AccountingRun.find_all().count() == 0


async def test_a_plan_is_refused_for_another_day_and_when_it_is_too_old(
    api: httpx.AsyncClient, clock: SettableClock
) -> None:
    plan_hash = (await plan(api))["planHash"]

    other_day = await run(api, planHash=plan_hash, asOf="2026-01-13")
    clock.move(seconds=PLAN_KEPT_SECONDS)
    too_old = await run(api, planHash=plan_hash)

    assert (other_day.status_code, other_day.json()["code"]) == (400, "plan_for_another_day")
    assert [error["field"] for error in other_day.json()["errors"]] == ["asOf"]
    assert (too_old.status_code, too_old.json()["code"]) == (409, "plan_not_found")
    assert too_old.json()["planHash"] == plan_hash


async def test_generating_is_for_admins(api: httpx.AsyncClient, customer: PlatformUser) -> None:
    api.headers["Authorization"] = f"Bearer {a_token(customer.id, Role.CLIENT)}"

    for choices in ({}, {"dryRun": True}, {"planHash": "0" * 64}):
        answer = await run(api, **choices)
        assert (answer.status_code, answer.json()["code"]) == (403, "admins_only")
    assert await AccountingRun.find_all().count() == 0


async def test_a_repeated_dry_run_is_the_same_plan(
    api: httpx.AsyncClient, real_db: TestDatabase, platform: FakePlatform, customer: PlatformUser
) -> None:
    await a_template(real_db, platform, customer, unit_price=Decimal(1))
    headers = {"Idempotency-Key": "plan-1"}

    first = await api.post(PATH, json={"dryRun": True}, headers=headers)
    platform.miner_statuses[customer.id] = []
    again = await api.post(PATH, json={"dryRun": True}, headers=headers)
    other = await api.post(PATH, json={"dryRun": False}, headers=headers)

    assert (first.status_code, again.status_code) == (200, 200)
    assert again.content == first.content
    assert again.headers["idempotent-replayed"] == "true"
    assert "location" not in again.headers
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert await AccountingRun.find({"planHash": {"$ne": None}}).count() == 1


@pytest.mark.parametrize("is_planned", [False, True])
async def test_a_repeated_key_starts_one_run(
    api: httpx.AsyncClient,
    real_db: TestDatabase,
    platform: FakePlatform,
    customer: PlatformUser,
    is_planned: bool,
) -> None:
    await a_template(real_db, platform, customer, unit_price=Decimal(1))
    body = {"planHash": (await plan(api))["planHash"]} if is_planned else {"asOf": str(TODAY)}
    headers = {"Idempotency-Key": "once"}

    first = await api.post(PATH, json=body, headers=headers)
    await work(real_db, platform, first.json()["runId"])
    again = await api.post(PATH, json=body, headers=headers)

    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json() == first.json()
    assert again.headers["location"] == first.headers["location"]
    assert again.headers["idempotent-replayed"] == "true"
    assert await AccountingRun.find({"partOf": None}).count() == 1


async def test_a_refused_plan_leaves_its_key_free(
    api: httpx.AsyncClient, real_db: TestDatabase, platform: FakePlatform, customer: PlatformUser
) -> None:
    await a_template(real_db, platform, customer, unit_price=Decimal(1))
    body = {"planHash": (await plan(api))["planHash"]}
    headers = {"Idempotency-Key": "once"}
    miners = platform.miner_statuses.pop(customer.id)

    refused = await api.post(PATH, json=body, headers=headers)
    left = await IdempotencyKey.find_all().count()
    platform.miner_statuses[customer.id] = miners
    started = await api.post(PATH, json=body, headers=headers)

    assert (refused.status_code, left, started.status_code) == (409, 0, 202)
    assert "idempotent-replayed" not in started.headers
