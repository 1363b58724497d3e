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
        ({"dueDate": "1770768000"}, "dueDate"),
        ({"dueDate": "2026-02-11T00:00:00Z"}, "dueDate"),
        ({"dueDate": "9999-12-31"}, "dueDate"),
        ({"dueDate": "0001-01-01"}, "dueDate"),
        ({"dueDate": 20260211}, "dueDate"),
        ({"invoiceGeneratedDate": "9999-12-31"}, "invoiceGeneratedDate"),
        ({"billingPeriod": "2026-13"}, "billingPeriod"),
        ({"billingPeriod": "January"}, "billingPeriod"),
        ({"billingPeriod": "0000-05"}, "billingPeriod"),
        ({"billingPeriod": "2026-01\n"}, "billingPeriod"),
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
        (b'{"customerId": "\xff"}', JSON, 400),
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
        ("minAmount=1e-7000", "minAmount"),
        ("maxAmount=1.33333333333333333333333333333333333333", "maxAmount"),
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
    assert [(mail["notificationType"], mail["status"]) for mail in paid["notifications"]] == [
        ("INVOICE_ISSUED", "PENDING"),
        ("PAYMENT_RECEIVED", "PENDING"),
    ]
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


async def test_many_wrong_fields_get_a_short_answer(api: httpx.AsyncClient) -> None:
    response = await api.post("/invoices", json={f"field{number}": 1 for number in range(5_000)})

    assert response.status_code == 400
    assert len(response.json()["errors"]) == 20
    assert len(response.content) < 5_000


async def test_a_body_in_chunks_must_be_json_too(api: httpx.AsyncClient) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"{}"

    headers = {"Content-Type": "text/plain"}
    response = await api.post("/invoices", content=chunks(), headers=headers)

    assert response.status_code == 415


@pytest.mark.parametrize("price", ["1e2", "100", "100.0", 100, 100.0])
async def test_a_price_is_stored_with_two_places_however_it_is_written(
    api: httpx.AsyncClient, platform: FakePlatform, price: object
) -> None:
    customer = platform.add_user(a_customer())
    body = {"customerId": str(customer.id), "totalMiners": 1, "unitPrice": price}

    created = (await api.post("/invoices", json=body)).json()
    trail = (await api.get(f"/invoices/{created['id']}/audit-log")).json()["auditLogs"]

    assert created["unitPrice"] == "100.00"
    assert trail[0]["changes"]["after"]["unitPrice"] == "100.00"


@pytest.mark.parametrize("name", ["%00", "x" * 5_000, "..%2fcore.py", "default.min.css"])
async def test_only_the_scripts_of_the_docs_page_are_served(
    api: httpx.AsyncClient, name: str
) -> None:
    response = await api.get(f"http://accounting.test/schema-assets/{name}")

    assert response.status_code == 404


async def test_a_draft_is_changed_and_deleted_with_its_version(
    api: httpx.AsyncClient, memory_db: TestDatabase, platform: FakePlatform
) -> None:
    draft = await a_draft(memory_db, platform, a_customer())
    url = f"/invoices/{draft.id}"

    changed = await api.patch(url, json={"totalMiners": 3}, headers={"If-Match": '"1"'})
    stale = await api.patch(url, json={"totalMiners": 4}, headers={"If-Match": '"1"'})
    refused = await api.patch(url, json={"unitPrice": None})
    kept = await api.delete(url, headers={"If-Match": '"1"'})
    deleted = await api.delete(url, headers={"If-Match": '"2"'})

    assert (changed.status_code, changed.json()["totalAmount"]) == (200, "300.00")
    assert changed.headers["etag"] == '"2"'
    assert (stale.status_code, stale.json()["code"]) == (412, "stale_version")
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (400, "unitPrice")
    assert (kept.status_code, deleted.status_code) == (412, 204)
    assert (await api.get(url)).status_code == 404


async def test_cancel_and_refund_need_a_reason(
    api: httpx.AsyncClient, memory_db: TestDatabase, platform: FakePlatform
) -> None:
    invoice = await an_issued_invoice(memory_db, platform, a_customer())

    for body in ({}, {"reason": ""}, {"reason": "  "}, {"reason": "x" * 2_001}, {"reason": "\0"}):
        response = await api.post(f"/invoices/{invoice.id}/cancel", json=body)
        assert (response.status_code, response.json()["errors"][0]["field"]) == (400, "reason")
    early = await api.post(f"/invoices/{invoice.id}/refund", json={"reason": "why"})
    cancelled = await api.post(f"/invoices/{invoice.id}/cancel", json={"reason": " why "})

    assert (early.status_code, early.json()["code"]) == (409, "invalid_transition")
    assert (cancelled.json()["status"], cancelled.json()["cancelReason"]) == ("CANCELLED", "why")


async def test_a_payment_is_made_listed_read_and_removed(
    api: httpx.AsyncClient, memory_db: TestDatabase, platform: FakePlatform
) -> None:
    customer = a_customer()
    invoice = await an_issued_invoice(memory_db, platform, customer)
    row = platform.add_cost_payment(a_cost_payment(customer, "500.00"))
    body = {"invoiceId": str(invoice.id), "costPaymentId": str(row.id)}

    made = await api.post("/payments", json=body)
    payment = made.json()
    assert made.status_code == 201
    assert made.headers["location"].endswith(f"/payments/{payment['id']}")
    assert (payment["amountPaid"], payment["invoice"]["status"]) == ("500.00", "PAID")
    assert (await api.get(f"/payments/{payment['id']}")).json() == payment
    for query in (
        "",
        f"?invoiceId={invoice.id}",
        f"?customerId={customer.id}",
        f"?costPaymentId={row.id}",
    ):
        assert (await api.get(f"/payments{query}")).json()["payments"] == [payment]
    assert (await api.get(f"/payments?invoiceId={new_id()}")).json()["payments"] == []

    removed = await api.delete(f"/payments/{payment['id']}")
    assert removed.status_code == 204
    assert (await api.get(f"/payments/{payment['id']}")).status_code == 404
    assert (await api.get(f"/invoices/{invoice.id}")).json()["status"] == "ISSUED"


async def test_the_ledger_shows_what_is_left_and_settles_in_one_call(
    api: httpx.AsyncClient, memory_db: TestDatabase, platform: FakePlatform
) -> None:
    customer = a_customer()
    invoice = await an_issued_invoice(memory_db, platform, customer)
    platform.add_cost_payment(a_cost_payment(customer, "700.00"))
    url = f"/customers/{customer.id}"

    settled = (await api.post(f"{url}/allocate")).json()
    ledger = (await api.get(f"{url}/payments")).json()

    assert settled["total"] == "500.00"
    [made] = settled["allocations"]
    assert (made["invoiceId"], made["invoiceStatus"]) == (str(invoice.id), "PAID")
    [row] = ledger["payments"]
    assert (row["amount"], row["allocated"], row["unallocated"]) == ("700.00", "500.00", "200.00")
    assert (await api.get(f"/customers/{new_id()}/payments")).status_code == 404


async def test_an_amount_is_explained(
    api: httpx.AsyncClient, memory_db: TestDatabase, platform: FakePlatform
) -> None:
    customer = a_customer()
    platform.miner_statuses[customer.id] = ["AUTO"] * 4
    draft = await a_draft(memory_db, platform, customer, total_miners=None)

    explained = (await api.get(f"/invoices/{draft.id}/explain")).json()

    assert explained["calculation"] == "4 x 100.00 = 400.00"
    assert (explained["countedMiners"], explained["priceSource"]) == (4, "EXPLICIT")
    assert explained["sentences"][0] == (
        "4 miners of the customer were active when the draft was made."
    )
