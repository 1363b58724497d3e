"""The main job over HTTP: draft, issue, e-mail, payment in two parts, history."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from bson import ObjectId

from accounting.clock import utc_now
from accounting.dev.mail_catcher import MailCatcher, start_mail_catcher
from accounting.dev.processes import Server, free_port
from service import Service, running_service, service_environment

PLATFORM_COLLECTIONS = [
    "users",
    "cost_payments",
    "miners",
    "spaces",
    "hardware",
    "miner_rate_history",
    "user_activities",
]
WAIT_SECONDS_MAX = 20


def wait_for(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while time.monotonic() < deadline:
        if result := condition():
            return result
        time.sleep(0.05)
    raise AssertionError("it did not happen in time")


def platform_hashes(service: Service) -> dict[str, Any]:
    hashes = service.mongo.command("dbHash", collections=PLATFORM_COLLECTIONS)["collections"]
    assert hashes.keys() == set(PLATFORM_COLLECTIONS)
    return dict(hashes)


def find_mails(catcher: MailCatcher, issued: dict[str, Any]) -> list[dict[str, Any]]:
    """The mails of this invoice: other tests' services send here too, with numbers of their own."""
    listed = httpx.get(f"{catcher.list_url}mails").json()
    same_number = [mail for mail in listed if issued["invoiceNumber"] in mail["subject"]]
    mails = [httpx.get(f"{catcher.list_url}mails/{mail['id']}").json() for mail in same_number]
    [notification] = issued["notifications"]
    return [mail for mail in mails if notification["id"] in mail["headers"]["Message-ID"]]


def create(service: Service, **facts: Any) -> dict[str, Any]:
    body = {"customerId": str(service.demo.customer_id), "totalMiners": 5, "unitPrice": "100.00"}
    response = service.api.post("/invoices", headers=service.as_admin(), json=body | facts)
    assert response.status_code == 201, response.text
    return dict(response.json())


def issue(service: Service, invoice: dict[str, Any]) -> dict[str, Any]:
    response = service.api.post(f"/invoices/{invoice['id']}/issue", headers=service.as_admin())
    assert response.status_code == 200, response.text
    return dict(response.json())


def test_from_draft_to_paid(service: Service, mail_catcher: MailCatcher) -> None:
    api, admin = service.api, service.as_admin()
    before = platform_hashes(service)

    invoice = create(service, totalMiners=None)
    url = f"/invoices/{invoice['id']}"
    assert (invoice["totalMiners"], invoice["totalAmount"]) == (5, "500.00")
    issued = issue(service, invoice)
    assert issued["status"] == "ISSUED"

    [mail] = wait_for(lambda: find_mails(mail_catcher, issued))
    assert mail["to"] == issued["customer"]["email"]
    for part in ("text", "html"):
        assert invoice["invoiceNumber"] in mail[part]
        assert "USD 500.00" in mail[part]
        assert issued["customer"]["name"] in mail[part]

    first, second = (str(row) for row in service.demo.cost_payment_ids)
    part_paid = api.post(f"{url}/record-payment", headers=admin, json={"costPaymentId": first})
    assert (part_paid.json()["status"], part_paid.json()["balanceDue"]) == ("ISSUED", "200.00")
    paid = api.post(f"{url}/record-payment", headers=admin, json={"costPaymentId": second})
    assert (paid.json()["status"], paid.json()["balanceDue"]) == ("PAID", "0.00")

    def are_all_sent() -> bool:
        mails = api.get(url, headers=admin).json()["notifications"]
        return [(mail["notificationType"], mail["status"]) for mail in mails] == [
            ("INVOICE_ISSUED", "SENT"),
            ("PAYMENT_RECEIVED", "SENT"),
            ("PAYMENT_RECEIVED", "SENT"),
        ]

    wait_for(are_all_sent)
    trail = api.get(f"{url}/audit-log", headers=admin).json()["auditLogs"]
    staff = issued["updatedByUser"]["name"]
    assert sorted((entry["action"], entry["actor"]) for entry in trail) == [
        *[("EMAIL_SENT", "system")] * 3,
        ("INVOICE_CREATED", staff),
        ("INVOICE_ISSUED", staff),
        ("INVOICE_PAID", staff),
        ("PAYMENT_ADDED", staff),
        ("PAYMENT_ADDED", staff),
    ]
    seen = api.get(url, headers=service.as_customer()).json()
    assert (seen["status"], seen["amountPaid"]) == ("PAID", "500.00")
    assert platform_hashes(service) == before


def test_fifty_creations_at_once_get_consecutive_numbers(service: Service) -> None:
    with ThreadPoolExecutor(10) as pool:
        invoices = list(pool.map(lambda _: create(service), range(50)))

    day = f"{utc_now():%Y%m%d}"
    serials = sorted(int(invoice["invoiceNumber"].removeprefix(day)) for invoice in invoices)
    assert serials == list(range(serials[0], serials[0] + 50))


def test_ten_payments_at_once_give_one_success_and_nine_conflicts(service: Service) -> None:
    rows = [
        {"userId": service.demo.customer_id, "amount": 500.0, "type": "PAYMENT"} for _ in range(10)
    ]
    ids = service.mongo["cost_payments"].insert_many(rows).inserted_ids
    invoice = issue(service, create(service))

    def pay(row: ObjectId) -> int:
        response = service.api.post(
            f"/invoices/{invoice['id']}/record-payment",
            headers=service.as_admin(),
            json={"costPaymentId": str(row), "amountPaid": "500.00"},
        )
        return response.status_code

    with ThreadPoolExecutor(10) as pool:
        assert sorted(pool.map(pay, ids)) == [200] + [409] * 9


def test_without_a_mail_server_issuing_answers_at_once_and_the_mail_goes_out_once_later(
    mongod: Server, redis_server: Server, tmp_path: Path
) -> None:
    smtp_port = free_port()
    environment = service_environment(
        mongod,
        redis_url=redis_server.uri.removesuffix("/0") + "/1",
        smtp_url=f"smtp://127.0.0.1:{smtp_port}",
        database="mail_server_down",
    )
    with running_service(environment, tmp_path) as service:
        draft = create(service)
        started = time.monotonic()
        invoice = issue(service, draft)
        assert time.monotonic() - started < 2.0
        mails = service.mongo["invoice_notifications"]
        waiting = wait_for(lambda: mails.find_one({"retryCount": 1}))
        assert waiting["status"] == "PENDING"
        assert "Connect call failed" in waiting["failureReason"]

        with start_mail_catcher(tmp_path / "mails", smtp_port=smtp_port) as catcher:
            tomorrow = f"{utc_now() + timedelta(days=1):%Y-%m-%d}"
            delivered = service.command("jobs", "run", "deliver", "--as-of", tomorrow)
            again = service.command("jobs", "run", "deliver", "--as-of", tomorrow)
            sent = find_mails(catcher, invoice)

        assert delivered.stdout.strip() == "deliver: 1 SENT"
        assert again.stdout.strip() == "deliver: nothing was due"
        assert len(sent) == 1


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/metrics", "/schema"])
def test_operators_pages_need_no_token(service: Service, path: str) -> None:
    assert httpx.get(f"{service.root_url}{path}", follow_redirects=True).status_code == 200


def test_the_openapi_document_describes_the_routes(service: Service) -> None:
    document = httpx.get(f"{service.root_url}/schema/openapi.json").json()

    assert document["openapi"].startswith("3.1")
    assert {
        "/api/accounting/invoices",
        "/api/accounting/invoices/{id}",
        "/api/accounting/invoices/{id}/issue",
        "/api/accounting/invoices/{id}/record-payment",
        "/api/accounting/invoices/{id}/audit-log",
    } <= document["paths"].keys()
