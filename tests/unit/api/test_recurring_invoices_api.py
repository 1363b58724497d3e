"""Requests and answers of `/recurring-invoices`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from accounting.actor import Role
from accounting.clock import as_stored_day
from accounting.ids import ObjectId, new_id
from accounting.platform.rules import PlatformUser
from accounting.recurring.documents import RecurringInvoice
from api_app import a_token, an_api
from builders import ADMIN, TODAY, a_customer
from fakes import FakePlatform, SettableClock, TestDatabase

Json = dict[str, Any]


@pytest.fixture
async def api(memory_db: TestDatabase, platform: FakePlatform) -> AsyncIterator[httpx.AsyncClient]:
    """The API with an admin's token; today is 2026-01-12."""
    platform.add_user(a_customer(id=ADMIN.user_id, name="Alex Admin", role=Role.ADMIN))
    async with an_api(memory_db, platform) as client:
        client.headers["Authorization"] = f"Bearer {a_token(ADMIN.user_id)}"
        yield client


@pytest.fixture
def customer(platform: FakePlatform) -> PlatformUser:
    return platform.add_user(a_customer())


async def create(api: httpx.AsyncClient, customer: PlatformUser, **more: Any) -> httpx.Response:
    body = {"customerId": str(customer.id), "dayOfMonth": 5, **more}
    return await api.post("/recurring-invoices", json=body)


async def a_template(api: httpx.AsyncClient, customer: PlatformUser, **more: Any) -> Json:
    made = await create(api, customer, **more)
    assert made.status_code == 201, made.text
    template: Json = made.json()
    return template


def path_of(template: Json, action: str = "") -> str:
    return f"/recurring-invoices/{template['id']}{action}"


async def test_a_template_is_created_and_read_back_in_the_same_shape(
    api: httpx.AsyncClient, customer: PlatformUser
) -> None:
    created = await create(api, customer, unitPrice="45.5")
    template = created.json()
    read = await api.get(path_of(template))

    assert created.status_code == 201
    assert created.headers["location"].endswith(path_of(template))
    assert created.headers["etag"] == read.headers["etag"] == '"1"'
    assert read.json() == template
    people = {"user", "createdByUser", "updatedByUser", "createdBy", "updatedBy"}
    assert {name: value for name, value in template.items() if name not in people} == {
        "id": template["id"],
        "userId": str(customer.id),
        "dayOfMonth": 5,
        "unitPrice": "45.50",
        "startDate": "2026-01-12",
        "endDate": None,
        "isActive": True,
        "status": "ACTIVE",
        "autoIssue": False,
        "lastGeneratedDate": None,
        "lastSkippedDate": None,
        "failedRuns": 0,
        "parkedReason": None,
        "nextRunDate": "2026-02-05",
        "version": 1,
        "createdAt": "2026-01-12T09:30:00.000Z",
        "updatedAt": "2026-01-12T09:30:00.000Z",
    }
    assert template["user"]["name"] == "Ada Holm"
    assert template["createdByUser"]["name"] == "Alex Admin"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"customerId": "xyz"}, "customerId"),
        ({"dayOfMonth": 0}, "dayOfMonth"),
        ({"dayOfMonth": 29}, "dayOfMonth"),
        ({"dayOfMonth": "5"}, "dayOfMonth"),
        ({"dayOfMonth": None}, "dayOfMonth"),
        ({"dayOfMonth": 5.5}, "dayOfMonth"),
        ({"unitPrice": "0.00"}, "unitPrice"),
        ({"startDate": "2026-02-30"}, "startDate"),
        ({"endDate": "2026-01-11"}, "endDate"),
        ({"startDate": "2026-03-02", "endDate": "2026-03-01"}, "endDate"),
        ({"autoIssue": "perhaps"}, "autoIssue"),
        ({"lastGeneratedDate": "2026-01-05"}, "lastGeneratedDate"),
        ({"isActive": False}, "isActive"),
    ],
)
async def test_a_wrong_value_is_refused_with_its_field(
    api: httpx.AsyncClient, customer: PlatformUser, change: Json, field: str
) -> None:
    response = await create(api, customer, **change)

    assert response.status_code == 400
    assert field in [error["field"] for error in response.json()["errors"]]
    assert await RecurringInvoice.find_all().count() == 0


@pytest.mark.parametrize("day_of_month", [1, 28])
async def test_the_first_and_the_last_day_of_a_month_are_taken(
    api: httpx.AsyncClient, customer: PlatformUser, day_of_month: int
) -> None:
    template = await a_template(api, customer, dayOfMonth=day_of_month, endDate="2026-01-12")

    assert template["dayOfMonth"] == day_of_month


async def test_what_is_sent_is_changed_and_null_takes_away(
    api: httpx.AsyncClient, customer: PlatformUser
) -> None:
    template = await a_template(api, customer, unitPrice="45.00", endDate="2026-12-31")

    changes = {"unitPrice": None, "endDate": None, "autoIssue": True, "startDate": "2026-01-05"}
    changed = await api.patch(path_of(template), json=changes)

    assert changed.status_code == 200
    assert changed.headers["etag"] == '"2"'
    facts = changed.json()
    assert (facts["unitPrice"], facts["endDate"], facts["autoIssue"]) == (None, None, True)
    assert (facts["dayOfMonth"], facts["nextRunDate"]) == (5, "2026-01-05")
    assert facts["updatedByUser"]["name"] == "Alex Admin"


@pytest.mark.parametrize("field", ["dayOfMonth", "startDate", "autoIssue"])
async def test_what_every_template_has_cannot_be_taken_away(
    api: httpx.AsyncClient, customer: PlatformUser, field: str
) -> None:
    template = await a_template(api, customer)

    refused = await api.patch(path_of(template), json={field: None})

    assert refused.status_code == 400
    assert refused.json()["errors"] == [{"field": field, "message": "cannot be null"}]


async def test_a_start_that_was_billed_from_is_fixed(
    api: httpx.AsyncClient, customer: PlatformUser
) -> None:
    template = await a_template(api, customer, startDate="2026-01-01")
    await RecurringInvoice.get_motor_collection().update_one(
        {"_id": ObjectId(template["id"])}, {"$set": {"lastGeneratedDate": as_stored_day(TODAY)}}
    )

    refused = await api.patch(path_of(template), json={"startDate": "2026-01-02"})

    assert (refused.status_code, refused.json()["code"]) == (409, "start_date_fixed")


async def test_a_life_of_a_template(
    api: httpx.AsyncClient, customer: PlatformUser, clock: SettableClock
) -> None:
    template = await a_template(api, customer, startDate="2026-01-01")

    paused = (await api.post(path_of(template, "/pause"))).json()
    clock.move(days=60)  # 2026-03-13
    resumed = (await api.post(path_of(template, "/resume"))).json()
    deleted = await api.delete(path_of(template))

    assert (paused["status"], paused["isActive"], paused["nextRunDate"]) == ("PAUSED", False, None)
    assert (resumed["status"], resumed["startDate"]) == ("ACTIVE", "2026-03-13")
    assert resumed["nextRunDate"] == "2026-04-05"
    assert deleted.status_code == 200
    assert deleted.headers["etag"] == '"4"'
    assert (deleted.json()["status"], deleted.json()["endDate"]) == ("DELETED", "2026-03-13")
    assert (await api.get(path_of(template))).json() == deleted.json()


@pytest.mark.parametrize(
    ("before", "method", "action", "code"),
    [
        ([], "POST", "/resume", "already_active"),
        (["/pause"], "POST", "/pause", "already_paused"),
        ([""], "POST", "/pause", "recurring_invoice_deleted"),
        ([""], "POST", "/resume", "recurring_invoice_deleted"),
        (["/pause", ""], "POST", "/resume", "recurring_invoice_deleted"),
        ([""], "PATCH", "", "recurring_invoice_deleted"),
        ([""], "DELETE", "", "recurring_invoice_deleted"),
    ],
)
async def test_what_cannot_be_done_now_is_a_conflict(
    api: httpx.AsyncClient,
    customer: PlatformUser,
    before: list[str],
    method: str,
    action: str,
    code: str,
) -> None:
    template = await a_template(api, customer)
    for done in before:
        verb = "POST" if done else "DELETE"
        assert (await api.request(verb, path_of(template, done))).is_success

    body = {"dayOfMonth": 6} if method == "PATCH" else None
    refused = await api.request(method, path_of(template, action), json=body)

    assert (refused.status_code, refused.json()["code"]) == (409, code)
    assert refused.json()["recurringInvoiceId"] == template["id"]


async def test_an_ended_template_is_neither_paused_nor_resumed(
    api: httpx.AsyncClient, customer: PlatformUser, clock: SettableClock
) -> None:
    template = await a_template(api, customer, endDate="2026-01-31")
    clock.move(days=20)

    read = (await api.get(path_of(template))).json()
    refused = [await api.post(path_of(template, action)) for action in ("/pause", "/resume")]

    assert (read["status"], read["isActive"], read["nextRunDate"]) == ("ENDED", True, None)
    assert {answer.json()["code"] for answer in refused} == {"recurring_invoice_ended"}


@pytest.mark.parametrize(
    ("method", "action"), [("PATCH", ""), ("DELETE", ""), ("POST", "/pause"), ("POST", "/resume")]
)
async def test_a_change_from_an_older_version_is_refused(
    api: httpx.AsyncClient, customer: PlatformUser, method: str, action: str
) -> None:
    template = await a_template(api, customer)
    await api.patch(path_of(template), json={"dayOfMonth": 6})

    body = {"dayOfMonth": 7} if method == "PATCH" else None
    refused = await api.request(
        method, path_of(template, action), json=body, headers={"If-Match": '"1"'}
    )

    assert refused.status_code == 412
    assert refused.json()["currentVersion"] == 2


async def test_lists_are_narrowed_by_customer_and_activity(
    api: httpx.AsyncClient, platform: FakePlatform, customer: PlatformUser
) -> None:
    first = await a_template(api, customer)
    other = await a_template(api, platform.add_user(a_customer()))
    await api.post(path_of(first, "/pause"))

    async def listed(**parameters: str) -> list[str]:
        answer = await api.get("/recurring-invoices", params=parameters)
        return [template["id"] for template in answer.json()["recurringInvoices"]]

    assert await listed() == [other["id"], first["id"]]
    assert await listed(customerId=str(customer.id)) == [first["id"]]
    assert await listed(isActive="true") == [other["id"]]
    assert await listed(isActive="false") == [first["id"]]
    assert await listed(cursor="", limit="1") == [other["id"]]


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/recurring-invoices?isActive=perhaps", "isActive"),
        ("/recurring-invoices?customerId=x", "customerId"),
        ("/recurring-invoices?status=ACTIVE", "status"),
        ("/recurring-invoices/xyz", "id"),
    ],
)
async def test_a_wrong_address_is_refused_with_its_field(
    api: httpx.AsyncClient, path: str, field: str
) -> None:
    answer = await api.get(path)

    assert answer.status_code == 400
    assert [error["field"] for error in answer.json()["errors"]] == [field]


async def test_what_does_not_exist_is_not_found(api: httpx.AsyncClient) -> None:
    missing = await api.get(f"/recurring-invoices/{new_id()}")
    for_a_stranger = await create(api, a_customer())

    assert (missing.status_code, missing.json()["code"]) == (404, "recurring_invoice_not_found")
    assert for_a_stranger.json()["code"] == "customer_not_found"


async def test_a_repeated_request_makes_one_template(
    api: httpx.AsyncClient, customer: PlatformUser
) -> None:
    api.headers["Idempotency-Key"] = "template-1"

    first, second = await create(api, customer), await create(api, customer)

    assert second.headers["Idempotent-Replayed"] == "true"
    assert (second.content, second.headers["etag"]) == (first.content, first.headers["etag"])
    assert await RecurringInvoice.find_all().count() == 1
