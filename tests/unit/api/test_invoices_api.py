"""Requests and answers of `/invoices`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from accounting.actor import Role
from accounting.ids import new_id
from api_app import a_token, an_api
from builders import ADMIN, a_cost_payment, a_customer, a_draft, an_issued_invoice
from fakes import FakePlatform, TestDatabase

JSON = {"Content-Type": "application/json"}


@pytest.fixture
async def api(memory_db: TestDatabase, platform: FakePlatform) -> AsyncIterator[httpx.AsyncClient]:
    """The API with an admin's token."""
    platform.add_user(a_customer(id=ADMIN.user_id, name="Alex Admin", role=Role.ADMIN))
    async with an_api(memory_db, platform) as client:
        client.headers["Authorization"] = f"Bearer {a_token(ADMIN.user_id)}"
        yield client


async def test_a_draft_is_created_and_read_back_in_the_same_shape(
    api: httpx.AsyncClient, platform: FakePlatform
) -> None:
    customer = platform.add_user(a_customer())
    body = {
        "customerId": str(customer.id),
        "totalMiners": 5,
        "unitPrice": "250.10",
        "billingPeriod": "2026-01",
    }

    created = await api.post("/invoices", json=body)
    read = await api.get(f"/invoices/{created.json()['id']}")

    assert created.status_code == 201
    assert created.headers["location"].endswith(f"/api/accounting/invoices/{created.json()['id']}")
    assert created.headers["etag"] == '"1"'
    assert read.json() == created.json()
    invoice = created.json()
    assert invoice["totalAmount"] == "1250.50"
    assert (invoice["amountPaid"], invoice["balanceDue"]) == ("0.00", "1250.50")
    assert (invoice["status"], invoice["isOverdue"]) == ("DRAFT", False)
    assert (invoice["invoiceGeneratedDate"], invoice["dueDate"]) == ("2026-01-12", "2026-02-11")
    assert invoice["createdAt"] == "2026-01-12T09:30:00.000Z"
    assert invoice["user"] == {
        "id": str(customer.id),
        "name": "Ada Holm",
        "email": "ada@example.com",
        "companyName": "Northern Hash Ltd",
    }
    assert invoice["createdByUser"]["name"] == "Alex Admin"
    assert (invoice["payments"], invoice["notifications"]) == ([], [])


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"customerId": "xyz"}, "customerId"),
        ({"customerId": None}, "customerId"),
        ({"customerId": 7}, "customerId"),
        ({"totalMiners": 0}, "totalMiners"),
        ({"totalMiners": 1_000_001}, "totalMiners"),
        ({"totalMiners": "5"}, "totalMiners"),
        ({"totalMiners": 2.5}, "totalMiners"),
        ({"totalMiners": True}, "totalMiners"),
        ({"unitPrice": "-1.00"}, "unitPrice"),
        ({"unitPrice": "0.00"}, "unitPrice"),
        ({"unitPrice": "1.005"}, "unitPrice"),
        ({"unitPrice": "1234567890123"}, "unitPrice"),
        ({"unitPrice": "100000000.00"}, "unitPrice"),
        ({"unitPrice": "NaN"}, "unitPrice"),
        ({"unitPrice": "Infinity"}, "unitPrice"),
        ({"unitPrice": "1e400"}, "unitPrice"),
        ({"unitPrice": {"$gt": 0}}, "unitPrice"),
        ({"totalMiners": 1_000_000, "unitPrice": "99999999.99"}, "totalAmount"),
        ({"dueDate": "12.02.2026"}, "dueDate"),
        ({"dueDate": "2026-02-30"}, "dueDate"),
        ({"dueDate": "9999-12-31"}, "dueDate"),
        ({"dueDate": "0001-01-01"}, "dueDate"),
        ({"dueDate": 20260211}, "dueDate"),
        ({"invoiceGeneratedDate": "9999-12-31"}, "invoiceGeneratedDate"),
        ({"billingPeriod": "2026-13"}, "billingPeriod"),
        ({"billingPeriod": "January"}, "billingPeriod"),
        ({"unknown": 1}, "unknown"),
        ({"status": "PAID"}, "status"),
        ({"total_miners": 5}, "total_miners"),
    ],
)
async def test_a_wrong_value_is_refused_with_its_field(
    api: httpx.AsyncClient, platform: FakePlatform, change: dict[str, Any], field: str
) -> None:
    customer = platform.add_user(a_customer())
    body = {"customerId": str(customer.id), "totalMiners": 5, "unitPrice": "10.00"} | change

    response = await api.post("/invoices", json=body)

    assert response.status_code == 400
    assert field in [error["field"] for error in response.json()["errors"]]
    assert (await api.get("/invoices")).json()["invoices"] == []


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (b"{bad", JSON, 400),
        (b"", JSON, 400),
        (b"[]", JSON, 400),
        (b"null", JSON, 400),
        (b'"text"', JSON, 400),
        (b"\xff\xfe", JSON, 400),
        (b'{"customerId": "\\ud800"}', JSON, 400),
        (b'{"customerId": "a\\u0000b"}', JSON, 400),
        (b"[" * 100_000, JSON, 400),
        (b"a=b", {"Content-Type": "application/x-www-form-urlencoded"}, 415),
        (b"{}", {"Content-Type": "text/plain"}, 415),
        (b"{}", {}, 415),
        (b" " * 1_048_577, JSON, 413),
    ],
)
async def test_a_body_that_is_none_is_refused(
    api: httpx.AsyncClient, content: bytes, headers: dict[str, str], status: int
) -> None:
    response = await api.post("/invoices", content=content, headers=headers)

    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == status
    assert problem["error"] == problem["detail"]
    assert problem["requestId"] == response.headers["x-request-id"]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("page=0", "page"),
        ("page=x", "page"),
        ("page=99999999999999999999", "page"),
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("status=OPEN", "status"),
        ("customerId=xyz", "customerId"),
        ("billingPeriod=2026", "billingPeriod"),
        ("startDate=yesterday", "startDate"),
        ("endDate=9999-12-31", "endDate"),
        ("dueFrom=0001-01-01", "dueFrom"),
        ("minAmount=NaN", "minAmount"),
        ("maxAmount=1e999999", "maxAmount"),
        ("minAmount=ten", "minAmount"),
        ("overdue=maybe", "overdue"),
        ("sortBy=userId", "sortBy"),
        ("sortDirection=up", "sortDirection"),
    ],
)
async def test_a_wrong_query_is_refused_with_its_name(
    api: httpx.AsyncClient, query: str, field: str
) -> None:
    response = await api.get(f"/invoices?{query}")

    assert response.status_code == 400
    assert [error["field"] for error in response.json()["errors"]] == [field]


@pytest.mark.parametrize("text", ["1", "x" * 24, "%00", "zzzzzzzzzzzzzzzzzzzzzzzz", "a" * 5_000])
async def test_a_malformed_id_is_refused_with_its_name(api: httpx.AsyncClient, text: str) -> None:
    response = await api.get(f"/invoices/{text}")

    assert response.status_code == 400
    assert response.json()["errors"] == [{"field": "id", "message": "must be 24 hex digits"}]


async def test_unknown_things_are_not_found(api: httpx.AsyncClient) -> None:
    for method, path, code in (
        ("GET", f"/invoices/{new_id()}", "invoice_not_found"),
        ("POST", f"/invoices/{new_id()}/issue", "invoice_not_found"),
        ("GET", f"/invoices/{new_id()}/audit-log", "invoice_not_found"),
        ("GET", "/nothing/here", "not_found"),
    ):
        response = await api.request(method, path)
        assert (response.status_code, response.json()["code"]) == (404, code)
        assert response.headers["x-request-id"]


async def test_an_invoice_for_nobody_is_refused(api: httpx.AsyncClient) -> None:
    body = {"customerId": str(new_id()), "totalMiners": 5, "unitPrice": "10.00"}

    response = await api.post("/invoices", json=body)

    assert (response.status_code, response.json()["code"]) == (404, "customer_not_found")


async def test_a_conflict_says_what_is_allowed(
    api: httpx.AsyncClient, memory_db: TestDatabase, platform: FakePlatform
) -> None:
    invoice = await an_issued_invoice(memory_db, platform, a_customer())

    response = await api.post(f"/invoices/{invoice.id}/issue")

    assert response.status_code == 409
    problem = response.json()
    assert problem["code"] == "invalid_transition"
    assert problem["status"] == 409
    assert problem["invoiceStatus"] == "ISSUED"
    assert problem["allowedActions"] == ["record-payment", "remove-payment", "cancel"]
    assert problem["instance"] == f"/api/accounting/invoices/{invoice.id}/issue"


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("2026-01-10T12:00:00+02:00", "2026-01-10T10:00:00.000Z"),
        ("2026-01-10", "2026-01-10T00:00:00.000Z"),
    ],
)
async def test_the_issue_date_may_be_given(
    api: httpx.AsyncClient, memory_db: TestDatabase, platform: FakePlatform, given: str, stored: str
) -> None:
    draft = await a_draft(memory_db, platform, a_customer())

    response = await api.post(f"/invoices/{draft.id}/issue", json={"issuedDate": given})

    assert response.status_code == 200
    assert response.json()["issuedDate"] == stored


@pytest.mark.parametrize("given", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00", 0, ""])
async def test_an_impossible_issue_date_is_refused(
    api: httpx.AsyncClient, memory_db: TestDatabase, platform: FakePlatform, given: object
) -> None:
    draft = await a_draft(memory_db, platform, a_customer())

    response = await api.post(f"/invoices/{draft.id}/issue", json={"issuedDate": given})

    assert response.status_code == 400
    assert response.json()["errors"][0]["field"] == "issuedDate"


async def test_a_payment_shows_in_the_invoice(
    api: httpx.AsyncClient, memory_db: TestDatabase, platform: FakePlatform
) -> None:
    customer = a_customer()
    invoice = await an_issued_invoice(memory_db, platform, customer)
    row = platform.add_cost_payment(a_cost_payment(customer, "300.00"))

    response = await api.post(
        f"/invoices/{invoice.id}/record-payment", json={"costPaymentId": str(row.id)}
    )

    assert response.status_code == 200
    paid = response.json()
    assert (paid["amountPaid"], paid["balanceDue"]) == ("300.00", "200.00")
    assert [payment["costPaymentId"] for payment in paid["payments"]] == [str(row.id)]
    assert [mail["status"] for mail in paid["notifications"]] == ["PENDING"]
    assert paid["version"] == 3


async def test_the_trail_names_its_actors(
    api: httpx.AsyncClient, memory_db: TestDatabase, platform: FakePlatform
) -> None:
    invoice = await an_issued_invoice(memory_db, platform, a_customer())

    trail = (await api.get(f"/invoices/{invoice.id}/audit-log")).json()["auditLogs"]

    assert [(entry["action"], entry["actor"]) for entry in trail] == [
        ("INVOICE_CREATED", "Alex Admin"),
        ("INVOICE_ISSUED", "Alex Admin"),
    ]


async def test_a_request_id_is_kept_and_a_strange_one_replaced(api: httpx.AsyncClient) -> None:
    kept = await api.get("/invoices", headers={"X-Request-Id": "screen-7:42"})
    replaced = await api.get("/invoices", headers={"X-Request-Id": "two words"})

    assert kept.headers["x-request-id"] == "screen-7:42"
    assert replaced.headers["x-request-id"] not in ("", "two words")


async def test_pages_say_where_they_stand(
    api: httpx.AsyncClient, memory_db: TestDatabase, platform: FakePlatform
) -> None:
    customer = a_customer()
    for _ in range(3):
        await a_draft(memory_db, platform, customer)

    page = (await api.get("/invoices?limit=2&page=2&sortBy=invoiceNumber&sortDirection=asc")).json()

    assert [item["invoiceNumber"] for item in page["invoices"]] == ["2026011203"]
    assert page["pagination"] == {"page": 2, "limit": 2, "total": 3, "pages": 2}
