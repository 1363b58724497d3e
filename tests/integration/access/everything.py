"""Everything that the service does to its database, at least once: API, worker and jobs."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
from bson import ObjectId

from accounting.actor import SYSTEM, Actor, Role
from accounting.audit.sealing import seal_days
from accounting.bootstrap import open_services
from accounting.cli.jobs import JOBS
from accounting.clock import utc_now
from accounting.ids import ObjectId as Id
from accounting.invoices.drafts import NewInvoice, create_invoice
from accounting.invoices.service import issue_invoice
from accounting.invoices.settlement import record_payment
from accounting.links import BASE_PATH, PUBLIC_PATH
from accounting.reports.upkeep import forget_figures
from integration.acceptance.conftest import settings_of
from service import Service

WAIT_SECONDS_MAX = 30


class Customer:
    """An admin's dealings with the demo customer, each of which must succeed."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.keys = 0

    def send(self, method: str, path: str, body: Any = None, *, status: int = 200) -> Any:
        """One request of the admin, a POST under a key of its own; returns the answer's JSON."""
        headers = self.service.as_admin()
        if method == "POST":
            self.keys += 1
            headers["Idempotency-Key"] = f"everything-{self.keys}"
        sent = {} if body is None else {"json": body}
        answer = self.service.api.request(method, path, headers=headers, **sent)
        assert answer.status_code == status, answer.text
        return answer.json() if answer.headers.get("content-type", "").endswith("json") else answer

    def draft(self, **facts: Any) -> dict[str, Any]:
        body = {"customerId": str(self.service.demo.customer_id), "unitPrice": "100.00"}
        invoice: dict[str, Any] = self.send(
            "POST", "/invoices", {**body, "totalMiners": 5, **facts}, status=201
        )
        return invoice

    def issued(self, **facts: Any) -> dict[str, Any]:
        invoice: dict[str, Any] = self.send("POST", f"/invoices/{self.draft(**facts)['id']}/issue")
        return invoice

    def email_of(self, invoice_id: str) -> dict[str, Any]:
        """The stored e-mail of an invoice once it is sent."""
        mails = self.service.mongo["invoice_notifications"]
        return dict(
            wait_for(lambda: mails.find_one({"invoiceId": ObjectId(invoice_id), "status": "SENT"}))
        )


def wait_for(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while time.monotonic() < deadline:
        if result := condition():
            return result
        time.sleep(0.1)
    raise AssertionError("it did not happen in time")


def do_everything(service: Service) -> None:
    """Raises AssertionError for the first thing that does not succeed."""
    customer = Customer(service)
    edit_and_delete_a_draft(customer)
    issue_pay_and_refund(customer)
    cancel_and_delete(customer)
    change_prices(customer)
    generate(customer)
    read_hosted_page(customer)
    read_everything(customer)
    archive(service)
    due = date.fromisoformat(customer.issued()["dueDate"])
    asyncio.run(run_jobs(service, due))
    look_at_the_books(service)


def edit_and_delete_a_draft(customer: Customer) -> None:
    draft = customer.draft()
    customer.send("PATCH", f"/invoices/{draft['id']}", {"totalMiners": 6})
    customer.send("POST", f"/invoices/{draft['id']}/cancel", {"reason": "no"}, status=409)
    customer.send("DELETE", f"/invoices/{draft['id']}", status=204)


def issue_pay_and_refund(customer: Customer) -> None:
    invoice = customer.issued()
    path = f"/invoices/{invoice['id']}"
    first, second = (str(row) for row in customer.service.demo.cost_payment_ids)
    part = customer.send("POST", f"{path}/record-payment", {"costPaymentId": first})
    [payment] = part["payments"]
    customer.send("DELETE", f"/payments/{payment['id']}", status=204)
    customer.send("POST", f"{path}/record-payment", {"costPaymentId": first})
    paid = customer.send("POST", f"{path}/record-payment", {"costPaymentId": second})
    assert paid["status"] == "PAID"
    assert customer.email_of(invoice["id"])
    assert customer.send("POST", f"{path}/refund", {"reason": "test"})["status"] == "REFUNDED"
    customer_id = customer.service.demo.customer_id
    customer.issued(totalMiners=1)
    customer.send("POST", f"/customers/{customer_id}/allocate", {})


def cancel_and_delete(customer: Customer) -> None:
    """With its PDF, which the worker has made."""
    invoice = customer.issued()
    path = f"/invoices/{invoice['id']}"
    assert customer.send("GET", f"{path}/download").content.startswith(b"%PDF")
    customer.email_of(invoice["id"])
    customer.send("POST", f"{path}/cancel", {"reason": "test"})
    customer.send("DELETE", path, status=204)


def change_prices(customer: Customer) -> None:
    customer_id = str(customer.service.demo.customer_id)
    today = utc_now().date()
    price = {"customerId": customer_id, "defaultUnitPrice": "90.00"}
    customer.send("POST", "/pricing-configs", {**price, "effectiveFrom": f"{today}"}, status=201)
    tomorrow = f"{today + timedelta(days=1)}"
    second = customer.send(
        "POST", "/pricing-configs", {**price, "effectiveFrom": tomorrow}, status=201
    )
    end = {"effectiveTo": f"{today + timedelta(days=10)}"}
    customer.send("POST", f"/pricing-configs/{second['id']}/archive", end)
    assert customer.send("GET", f"/customers/{customer_id}/price")


def generate(customer: Customer) -> None:
    customer_id = str(customer.service.demo.customer_id)
    start = utc_now().date().replace(day=1)
    template = customer.send(
        "POST",
        "/recurring-invoices",
        {"customerId": customer_id, "dayOfMonth": 1, "startDate": f"{start}", "autoIssue": True},
        status=201,
    )
    path = f"/recurring-invoices/{template['id']}"
    customer.send("PATCH", path, {"unitPrice": "80.00"})
    plan = customer.send("POST", "/recurring-invoices/run", {"dryRun": True})
    run = customer.send(
        "POST", "/recurring-invoices/run", {"planHash": plan["planHash"]}, status=202
    )
    done = wait_for(lambda: finished(customer, run["runId"]))
    assert done["counts"]["done"] == 1, done
    draft = customer.draft()
    bulk = customer.send("POST", "/invoices/bulk-issue", {"invoiceIds": [draft["id"]]}, status=202)
    assert wait_for(lambda: finished(customer, bulk["runId"]))["counts"]["done"] == 1
    customer.send("POST", f"{path}/pause")
    customer.send("DELETE", path)


def finished(customer: Customer, run_id: str) -> Any:
    run = customer.send("GET", f"/runs/{run_id}")
    return run if run["status"] not in ("QUEUED", "RUNNING") else None


def read_hosted_page(customer: Customer) -> None:
    """The customer opens the link of an e-mail, and does not want reminders for a while."""
    invoice = customer.issued()
    link = customer.email_of(invoice["id"])["viewToken"]
    public = f"{customer.service.root_url}{PUBLIC_PATH}"
    browser = {"User-Agent": "Mozilla/5.0", "Accept": "text/html", "Sec-Fetch-Mode": "navigate"}
    with httpx.Client(headers=browser) as visitor:
        for method, path in (
            ("GET", f"invoices/{link}"),
            ("GET", f"invoices/{link}.pdf"),
            ("GET", f"unsubscribe/{link}"),
            ("POST", f"unsubscribe/{link}"),
            ("POST", f"resubscribe/{link}"),
        ):
            answer = visitor.request(method, f"{public}/{path}")
            assert answer.status_code == 200, answer.text


def read_everything(customer: Customer) -> None:
    """Every address of the API document that needs no id, and the customer's own."""
    root_url = customer.service.root_url
    document = httpx.get(f"{root_url}/schema/openapi.json").json()
    paths = [
        path.removeprefix(BASE_PATH)
        for path, methods in document["paths"].items()
        if "get" in methods and "{" not in path and path.startswith(BASE_PATH)
    ]
    assert "/invoices" in paths
    for name in ("balance", "payments"):
        paths.append(f"/customers/{customer.service.demo.customer_id}/{name}")
    for path in (*paths, "/invoices?q=ada"):
        customer.send("GET", path)
    assert httpx.get(f"{root_url}/health/ready").json()["status"] == "ready"


def archive(service: Service) -> None:
    """An invoice that was paid more than a year ago goes into a folder."""
    asyncio.run(pay_an_invoice_then(service, utc_now() - timedelta(days=400)))
    folder = service.data_dir / "archives"
    folder.mkdir()
    asked = ("--older-than", "1y", "--out", str(folder), "--confirm", service.mongo.name, "--json")
    archived = service.command("archive", *asked)
    assert archived.returncode == 0, archived.stdout + archived.stderr
    [made] = json.loads(archived.stdout)["archives"]
    assert made["removed"] == 1
    path = f"/customers/{service.demo.customer_id}/statement?from=2020-01-01"
    refused = service.api.get(path, headers=service.as_admin())
    assert refused.json()["code"] == "range_archived"


async def pay_an_invoice_then(service: Service, then: datetime) -> None:
    """A small one that nobody was mailed about."""
    async with open_services(settings_of(service.environment), clock=lambda: then) as services:
        db, platform, terms = services.db, services.platform, services.terms
        admin = Actor(Id(service.demo.admin_id), Role.ADMIN)
        order = NewInvoice(Id(service.demo.customer_id), 1, Decimal("0.10"))
        draft = await create_invoice(db, admin, platform, terms, order)
        invoice_id, row_id = Id(draft.id), Id(service.demo.cost_payment_ids[1])
        await db.run(admin, issue_invoice, platform, terms, invoice_id, skip_email=True)
        await db.run(admin, record_payment, platform, invoice_id, row_id)


async def run_jobs(service: Service, due: date) -> None:
    """Every job, around the due date of an invoice; and the seal of today, which is over then."""
    async with open_services(settings_of(service.environment)) as services:
        await services.db.run(SYSTEM, forget_figures)
        for name, job in JOBS.items():
            day = due - timedelta(days=3) if name == "reminders" else due + timedelta(days=1)
            assert await job(services, day)
    tomorrow = utc_now() + timedelta(days=2)
    async with open_services(settings_of(service.environment), clock=lambda: tomorrow) as services:
        assert await seal_days(services.db, services.terms.zone, tomorrow)


def look_at_the_books(service: Service) -> None:
    for command in (
        ("audit", "verify"),
        ("doctor",),
        ("numbers", "audit"),
        ("db", "check", "--strict"),
    ):
        looked = service.command(*command)
        assert looked.returncode == 0, looked.stdout + looked.stderr
