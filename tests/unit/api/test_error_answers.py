"""Errors at the edge: status, code and headers of those that no other test meets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from litestar import Litestar, get

from accounting.actor import Role
from accounting.api.errors import exception_handlers
from accounting.db.client import ConnectionLost
from accounting.db.database import DuplicateValue
from accounting.invoices.listing import CUSTOMERS_FOUND_MAX
from accounting.payments.documents import PaymentAllocation
from api_app import a_token, an_api
from builders import ADMIN, a_cost_payment, a_customer, an_issued_invoice
from fakes import FakePlatform, TestDatabase


@pytest.fixture
async def api(memory_db: TestDatabase, platform: FakePlatform) -> AsyncIterator[httpx.AsyncClient]:
    platform.add_user(a_customer(id=ADMIN.user_id, role=Role.ADMIN))
    async with an_api(memory_db, platform) as client:
        client.headers["Authorization"] = f"Bearer {a_token(ADMIN.user_id)}"
        yield client


async def answer_to(error: Exception) -> httpx.Response:
    @get("/")
    async def fails() -> None:
        raise error

    app: Any = Litestar([fails], exception_handlers=exception_handlers(), openapi_config=None)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://errors.test") as client:
        return await client.get("/")


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (DuplicateValue(("invoiceNumber",)), 409, "duplicate_value"),
        (ConnectionLost("no server"), 503, "database_unavailable"),
        (ZeroDivisionError(), 500, "internal_error"),
    ],
)
async def test_an_error_has_its_status_and_code(error: Exception, status: int, code: str) -> None:
    answer = await answer_to(error)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert ("retry-after" in answer.headers) == (status == 503)


@pytest.mark.parametrize(
    ("content_type", "length", "status", "code"),
    [
        ("text/plain", 2, 415, "unsupported_media_type"),
        ("application/json", 1_048_577, 413, "request_entity_too_large"),
    ],
)
async def test_a_body_that_is_not_read(
    api: httpx.AsyncClient, content_type: str, length: int, status: int, code: str
) -> None:
    headers = {"Content-Type": content_type}

    answer = await api.post("/invoices", content=b" " * length, headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_a_write_by_cookie_from_elsewhere(api: httpx.AsyncClient) -> None:
    del api.headers["Authorization"]
    headers = {"Cookie": f"token={a_token(ADMIN.user_id)}", "Origin": "https://evil.example.com"}

    answer = await api.post("/invoices", json={}, headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (403, "origin_not_allowed")


async def test_a_payment_whose_record_was_removed_by_hand(
    api: httpx.AsyncClient, memory_db: TestDatabase, platform: FakePlatform
) -> None:
    customer = a_customer()
    invoice = await an_issued_invoice(memory_db, platform, customer)
    row = platform.add_cost_payment(a_cost_payment(customer))
    body = {"invoiceId": str(invoice.id), "costPaymentId": str(row.id)}
    payment = (await api.post("/payments", json=body)).json()
    await PaymentAllocation.get_motor_collection().delete_many({})

    answer = await api.delete(f"/payments/{payment['id']}")

    assert (answer.status_code, answer.json()["code"]) == (409, "allocation_missing")
    assert answer.json()["costPaymentId"] == str(row.id)


async def test_a_misspelt_filter(api: httpx.AsyncClient) -> None:
    answer = await api.get("/invoices", params={"staus": "DRAFT"})

    assert (answer.status_code, answer.json()["code"]) == (400, "unknown_parameter")
    assert [error["field"] for error in answer.json()["errors"]] == ["staus"]


async def test_a_search_that_finds_nearly_everybody(
    api: httpx.AsyncClient, platform: FakePlatform
) -> None:
    for _ in range(CUSTOMERS_FOUND_MAX + 1):
        platform.add_user(a_customer(name="Ada Holm"))

    answer = await api.get("/invoices", params={"q": "holm"})

    assert (answer.status_code, answer.json()["code"]) == (400, "search_too_wide")
