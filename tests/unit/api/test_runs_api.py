"""Requests and answers of `/runs` and `/invoices/bulk-issue`, on a server that can roll back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import pytest

from accounting.actor import Role
from accounting.bootstrap import Services
from accounting.ids import ObjectId, new_id
from accounting.runs.documents import AccountingRun
from accounting.worker.runs import execute_run_slice
from api_app import a_token, an_api, settings
from builders import ADMIN, TERMS, a_customer, a_draft
from fakes import FakePlatform, SettableClock, TestDatabase


@pytest.fixture
async def api(real_db: TestDatabase, platform: FakePlatform) -> AsyncIterator[httpx.AsyncClient]:
    """The API with an admin's token."""
    platform.add_user(a_customer(id=ADMIN.user_id, name="Alex Admin", role=Role.ADMIN))
    async with an_api(real_db, platform) as client:
        client.headers["Authorization"] = f"Bearer {a_token(ADMIN.user_id)}"
        yield client


async def a_draft_id(db: TestDatabase, platform: FakePlatform) -> str:
    return str((await a_draft(db, platform, a_customer())).id)


async def start(api: httpx.AsyncClient, *invoice_ids: str, **choices: Any) -> str:
    body = {"invoiceIds": invoice_ids, **choices}
    response = await api.post("/invoices/bulk-issue", json=body)
    assert response.status_code == 202, response.text
    return str(response.json()["runId"])


async def work(db: TestDatabase, platform: FakePlatform, run_id: str) -> None:
    services = Services(db=db, platform=platform, terms=TERMS, settings=settings())
    await execute_run_slice(services, ObjectId(run_id))


async def test_a_bulk_request_answers_with_the_run_to_follow(
    api: httpx.AsyncClient, real_db: TestDatabase, platform: FakePlatform, clock: SettableClock
) -> None:
    draft, unknown = await a_draft_id(real_db, platform), str(new_id())

    response = await api.post("/invoices/bulk-issue", json={"invoiceIds": [draft, unknown]})
    run_id = response.json()["runId"]
    queued = (await api.get(f"/runs/{run_id}")).json()
    clock.move(seconds=2)
    await work(real_db, platform, run_id)
    clock.move(seconds=2)
    ended = (await api.get(f"/runs/{run_id}")).json()

    assert response.status_code == 202
    assert response.json() == {"runId": run_id}
    assert response.headers["location"] == f"/api/accounting/runs/{run_id}"
    assert queued == {
        "id": run_id,
        "kind": "BULK_ISSUE",
        "status": "QUEUED",
        "requestedBy": str(ADMIN.user_id),
        "createdAt": "2026-01-12T09:30:00.000Z",
        "startedAt": None,
        "finishedAt": None,
        "durationSeconds": None,
        "counts": {"total": 2, "pending": 2, "done": 0, "skipped": 0, "failed": 0},
        "progressPercent": 0,
        "parameters": {"skipEmail": False},
        "items": [
            {
                "id": draft,
                "label": "2026011201",
                "status": "PENDING",
                "code": None,
                "reason": None,
                "resultId": None,
                "at": None,
            },
            {
                "id": unknown,
                "label": None,
                "status": "PENDING",
                "code": None,
                "reason": None,
                "resultId": None,
                "at": None,
            },
        ],
        "itemPagination": {"page": 1, "limit": 1000, "total": 2, "pages": 1},
    }
    assert (ended["status"], ended["progressPercent"], ended["durationSeconds"]) == (
        "DONE",
        100,
        0.0,
    )
    assert ended["startedAt"] == ended["finishedAt"] == "2026-01-12T09:30:02.000Z"
    assert ended["counts"] == {"total": 2, "pending": 0, "done": 1, "skipped": 0, "failed": 1}
    assert ended["items"][1] == {
        "id": unknown,
        "label": None,
        "status": "FAILED",
        "code": "invoice_not_found",
        "reason": f"There is no invoice {unknown}.",
        "resultId": None,
        "at": "2026-01-12T09:30:02.000Z",
    }
    assert (await api.get(f"/invoices/{draft}")).json()["status"] == "ISSUED"


ID_A, ID_B = "a" * 24, "b" * 24


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, ["invoiceIds"]),
        ({"invoiceIds": []}, ["invoiceIds"]),
        ({"invoiceIds": None}, ["invoiceIds"]),
        ({"invoiceIds": ID_A}, ["invoiceIds"]),
        ({"invoiceIds": [ID_A, ID_B, "xyz", ID_A + "a"]}, ["invoiceIds.2", "invoiceIds.3"]),
        ({"invoiceIds": [ID_A, 7]}, ["invoiceIds.1"]),
        ({"invoiceIds": [ID_A, None]}, ["invoiceIds.1"]),
        ({"invoiceIds": [ID_A, ID_B, ID_A, ID_B.upper()]}, ["invoiceIds.2", "invoiceIds.3"]),
        ({"invoiceIds": [f"{number:024x}" for number in range(1_001)]}, ["invoiceIds"]),
        ({"invoiceIds": [ID_A], "skipEmail": "maybe"}, ["skipEmail"]),
        ({"invoiceIds": [ID_A], "issuedDate": "2026-01-01"}, ["issuedDate"]),
        ([ID_A], ["body"]),
    ],
)
async def test_a_wrong_list_is_refused_with_each_wrong_place(
    api: httpx.AsyncClient, body: object, fields: list[str]
) -> None:
    response = await api.post("/invoices/bulk-issue", json=body)

    assert response.status_code == 400
    assert [error["field"] for error in response.json()["errors"]] == fields
    assert await AccountingRun.find_all().count() == 0


async def test_a_thousand_invoices_are_one_run(api: httpx.AsyncClient) -> None:
    run_id = await start(api, *(f"{number:024x}" for number in range(1_000)))

    run = (await api.get(f"/runs/{run_id}")).json()

    assert run["counts"]["total"] == len(run["items"]) == 1_000


async def test_items_can_be_narrowed_and_paged(
    api: httpx.AsyncClient, real_db: TestDatabase, platform: FakePlatform
) -> None:
    unknown = [str(new_id()) for _ in range(3)]
    run_id = await start(api, await a_draft_id(real_db, platform), *unknown)
    await work(real_db, platform, run_id)

    def ids(run: Mapping[str, Any]) -> list[str]:
        return [item["id"] for item in run["items"]]

    failed = (await api.get(f"/runs/{run_id}?itemStatus=FAILED")).json()
    both = (await api.get(f"/runs/{run_id}?itemStatus=FAILED&itemStatus=DONE")).json()
    page = (await api.get(f"/runs/{run_id}?itemStatus=FAILED&itemPage=2&itemLimit=2")).json()
    none = (await api.get(f"/runs/{run_id}?itemStatus=SKIPPED")).json()

    assert ids(failed) == unknown
    assert len(ids(both)) == 4
    assert ids(page) == unknown[2:]
    assert page["itemPagination"] == {"page": 2, "limit": 2, "total": 3, "pages": 2}
    assert (ids(none), none["counts"]["total"]) == ([], 4)


async def test_runs_are_listed_newest_first_without_their_items(
    api: httpx.AsyncClient, real_db: TestDatabase, platform: FakePlatform, clock: SettableClock
) -> None:
    run_ids = []
    for _ in range(3):
        run_ids.append(await start(api, str(new_id())))
        clock.move(seconds=1)
    await work(real_db, platform, run_ids[1])

    listed = (await api.get("/runs?limit=2")).json()
    ended = (await api.get("/runs?status=DONE&kind=BULK_ISSUE")).json()
    rest = (await api.get("/runs", params={"cursor": listed["nextCursor"]})).json()

    assert [run["id"] for run in listed["runs"]] == [run_ids[2], run_ids[1]]
    assert listed["pagination"]["total"] == 3
    assert "items" not in listed["runs"][0]
    assert [run["id"] for run in ended["runs"]] == [run_ids[1]]
    assert [run["id"] for run in rest["runs"]] == [run_ids[0]]


async def test_failed_items_are_tried_again(
    api: httpx.AsyncClient, real_db: TestDatabase, platform: FakePlatform
) -> None:
    customer = a_customer()
    draft = await a_draft(real_db, platform, customer)
    del platform.users[customer.id]
    run_id = await start(api, str(draft.id))

    early = await api.post(f"/runs/{run_id}/retry-failed")
    await work(real_db, platform, run_id)
    platform.add_user(customer)
    again = await api.post(f"/runs/{run_id}/retry-failed")
    await work(real_db, platform, run_id)
    late = await api.post(f"/runs/{run_id}/retry-failed")

    assert (early.status_code, early.json()["code"]) == (409, "run_still_running")
    assert (early.json()["runStatus"], early.json()["runId"]) == ("QUEUED", run_id)
    assert (again.status_code, again.json()) == (202, {"runId": run_id})
    assert (late.status_code, late.json()["code"]) == (409, "nothing_failed")
    assert (await api.get(f"/invoices/{draft.id}")).json()["status"] == "ISSUED"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", f"/runs/{ID_A}", 404, "run_not_found"),
        ("POST", f"/runs/{ID_A}/retry-failed", 404, "run_not_found"),
        ("GET", "/runs/xyz", 400, "invalid"),
        ("POST", "/runs/xyz/retry-failed", 400, "invalid"),
        ("GET", "/runs?status=ASLEEP", 400, "invalid_request"),
        ("GET", "/runs?kind=DANCE", 400, "invalid_request"),
        ("GET", "/runs?limit=101", 400, "invalid_request"),
        ("GET", f"/runs/{ID_A}?itemStatus=LOST", 400, "invalid_request"),
        ("GET", f"/runs/{ID_A}?itemLimit=1001", 400, "invalid_request"),
        ("POST", "/runs", 405, "method_not_allowed"),
        ("GET", "/invoices/bulk-issue", 405, "method_not_allowed"),
    ],
)
async def test_wrong_requests_are_refused(
    api: httpx.AsyncClient, method: str, path: str, status: int, code: str
) -> None:
    response = await api.request(method, path)

    assert (response.status_code, response.json()["code"]) == (status, code)


async def test_runs_are_for_admins(api: httpx.AsyncClient, platform: FakePlatform) -> None:
    customer = platform.add_user(a_customer())
    run_id = await start(api, str(new_id()))
    api.headers["Authorization"] = f"Bearer {a_token(customer.id, Role.CLIENT)}"

    for method, path in (
        ("POST", "/invoices/bulk-issue"),
        ("GET", "/runs"),
        ("GET", f"/runs/{run_id}"),
        ("POST", f"/runs/{run_id}/retry-failed"),
    ):
        response = await api.request(method, path)
        assert (response.status_code, response.json()["code"]) == (403, "admins_only")


async def test_a_repeated_key_starts_one_run(api: httpx.AsyncClient) -> None:
    headers = {"Idempotency-Key": "once"}
    body = {"invoiceIds": [str(new_id())]}

    first = await api.post("/invoices/bulk-issue", json=body, headers=headers)
    again = await api.post("/invoices/bulk-issue", json=body, headers=headers)

    assert first.json() == again.json()
    assert again.status_code == 202
    assert again.headers["idempotent-replayed"] == "true"
    assert await AccountingRun.find_all().count() == 1
