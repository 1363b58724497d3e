"""No write path without an audit entry: each write route of the table, and each job, leaves one.

A route that is new and has no scenario here fails the first test.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

import httpx
import pytest

from accounting.actor import Role
from accounting.audit.documents import AuditLog
from accounting.bootstrap import Services
from accounting.cli.jobs import JOBS
from accounting.ids import ObjectId, new_id
from accounting.invoices.documents import Invoice
from accounting.invoices.reminders import queue_reminders
from accounting.invoices.rules import InvoiceStatus
from accounting.invoices.service import mark_overdue
from accounting.invoices.settlement import record_payment
from accounting.notifications.documents import InvoiceNotification
from accounting.notifications.mailer import RecipientRefused
from accounting.recurring.service import pause_recurring_invoice
from accounting.worker.delivery import deliver_due
from accounting.worker.generation import generate_now
from accounting.worker.runs import execute_free_runs
from api_app import a_token, an_api, api_routes, settings
from builders import (
    ADMIN,
    TERMS,
    TODAY,
    a_cost_payment,
    a_customer,
    a_draft,
    a_price,
    a_template,
    an_issued_invoice,
)
from fakes import FakeMailer, FakePlatform, SettableClock, TestDatabase


@dataclass(frozen=True)
class World:
    """What a scenario works with."""

    api: httpx.AsyncClient
    db: TestDatabase
    platform: FakePlatform
    clock: SettableClock

    @property
    def services(self) -> Services:
        return Services(self.db, self.platform, TERMS, settings())

    async def draft(self) -> str:
        return str((await a_draft(self.db, self.platform, a_customer())).id)

    async def issued(self) -> Invoice:
        return await an_issued_invoice(self.db, self.platform, a_customer())

    async def view_token(self) -> str:
        invoice = await self.issued()
        mail = await InvoiceNotification.find_one({"invoiceId": invoice.id})
        assert mail is not None
        return mail.view_token

    def money_for(self, invoice: Invoice) -> str:
        customer = self.platform.users[invoice.user_id]
        return str(self.platform.add_cost_payment(a_cost_payment(customer, "500.00")).id)

    async def paid(self) -> tuple[Invoice, str]:
        invoice = await self.issued()
        money = ObjectId(self.money_for(invoice))
        changed, payment = await self.db.run(
            ADMIN, record_payment, self.platform, ObjectId(invoice.id), money
        )
        return changed, str(payment.id)

    async def price(self) -> str:
        return str((await a_price(self.db, self.platform, a_customer())).id)

    async def template(self) -> str:
        return str((await a_template(self.db, self.platform, a_customer())).id)


Scenario = Callable[[World], Awaitable[httpx.Response]]


async def create(world: World) -> httpx.Response:
    customer = world.platform.add_user(a_customer())
    body = {"customerId": str(customer.id), "totalMiners": 1, "unitPrice": "1.00"}
    return await world.api.post("/invoices", json=body)


async def update(world: World) -> httpx.Response:
    return await world.api.patch(f"/invoices/{await world.draft()}", json={"totalMiners": 2})


async def delete(world: World) -> httpx.Response:
    return await world.api.delete(f"/invoices/{await world.draft()}")


async def issue(world: World) -> httpx.Response:
    return await world.api.post(f"/invoices/{await world.draft()}/issue")


async def cancel(world: World) -> httpx.Response:
    invoice = await world.issued()
    return await world.api.post(f"/invoices/{invoice.id}/cancel", json={"reason": "why"})


async def refund(world: World) -> httpx.Response:
    invoice, _ = await world.paid()
    return await world.api.post(f"/invoices/{invoice.id}/refund", json={"reason": "why"})


async def record(world: World) -> httpx.Response:
    invoice = await world.issued()
    body = {"costPaymentId": world.money_for(invoice)}
    return await world.api.post(f"/invoices/{invoice.id}/record-payment", json=body)


async def add_payment(world: World) -> httpx.Response:
    invoice = await world.issued()
    body = {"invoiceId": str(invoice.id), "costPaymentId": world.money_for(invoice)}
    return await world.api.post("/payments", json=body)


async def remove_payment(world: World) -> httpx.Response:
    _, payment_id = await world.paid()
    return await world.api.delete(f"/payments/{payment_id}")


async def allocate(world: World) -> httpx.Response:
    invoice = await world.issued()
    world.money_for(invoice)
    return await world.api.post(f"/customers/{invoice.user_id}/allocate")


async def bulk_issue(world: World) -> httpx.Response:
    # A run changes nothing by itself; its items leave their entries under the admin's name.
    body = {"invoiceIds": [await world.draft()]}
    started = await world.api.post("/invoices/bulk-issue", json=body)
    await execute_free_runs(world.services)
    return started


async def send_email(world: World) -> httpx.Response:
    return await world.api.post(f"/invoices/{(await world.issued()).id}/send-email")


async def send_statement(world: World) -> httpx.Response:
    url = f"/customers/{(await world.issued()).user_id}/statement/send-email"
    return await world.api.post(url, json={"tone": "FRIENDLY"})


async def bulk_send_email(world: World) -> httpx.Response:
    # The run queues nothing by itself; its worker leaves the entries under the admin's name.
    body = {"invoiceIds": [str((await world.issued()).id)]}
    started = await world.api.post("/invoices/bulk-send-email", json=body)
    await execute_free_runs(world.services)
    return started


async def retry_email(world: World) -> httpx.Response:
    invoice = await world.issued()
    mailer = FakeMailer()
    mailer.failure = RecipientRefused("550 no such user")
    await deliver_due(world.services, mailer)
    [row] = await InvoiceNotification.find({"invoiceId": invoice.id}).to_list()
    return await world.api.post(f"/notifications/{row.id}/retry")


async def retry_failed(world: World) -> httpx.Response:
    draft = await a_draft(world.db, world.platform, a_customer())
    gone = world.platform.users.pop(draft.user_id)
    started = await world.api.post("/invoices/bulk-issue", json={"invoiceIds": [str(draft.id)]})
    await execute_free_runs(world.services)
    world.platform.add_user(gone)
    tried = await world.api.post(f"/runs/{started.json()['runId']}/retry-failed")
    await execute_free_runs(world.services)
    return tried


async def set_price(world: World) -> httpx.Response:
    customer = world.platform.add_user(a_customer())
    body = {"customerId": str(customer.id), "defaultUnitPrice": "50.00"}
    return await world.api.post("/pricing-configs", json=body)


async def archive_price(world: World) -> httpx.Response:
    return await world.api.post(f"/pricing-configs/{await world.price()}/archive")


async def create_template(world: World) -> httpx.Response:
    customer = world.platform.add_user(a_customer())
    body = {"customerId": str(customer.id), "dayOfMonth": 5}
    return await world.api.post("/recurring-invoices", json=body)


async def update_template(world: World) -> httpx.Response:
    template_id = await world.template()
    return await world.api.patch(f"/recurring-invoices/{template_id}", json={"dayOfMonth": 6})


async def delete_template(world: World) -> httpx.Response:
    return await world.api.delete(f"/recurring-invoices/{await world.template()}")


async def pause_template(world: World) -> httpx.Response:
    return await world.api.post(f"/recurring-invoices/{await world.template()}/pause")


async def resume_template(world: World) -> httpx.Response:
    template_id = await world.template()
    await world.db.run(ADMIN, pause_recurring_invoice, ObjectId(template_id), TERMS.zone)
    return await world.api.post(f"/recurring-invoices/{template_id}/resume")


async def unsubscribe(world: World) -> httpx.Response:
    return await world.api.post(f"/public/unsubscribe/{await world.view_token()}")


async def resubscribe(world: World) -> httpx.Response:
    view_token = await world.view_token()
    await world.api.post(f"/public/unsubscribe/{view_token}", headers={"X-Request-Id": "before"})
    return await world.api.post(f"/public/resubscribe/{view_token}")


async def generate(world: World) -> httpx.Response:
    # As with every run, it is its items that leave their entries under the admin's name.
    template = await a_template(world.db, world.platform, a_customer(), unit_price=Decimal(1))
    world.platform.miner_statuses[template.user_id] = ["ACTIVE"]
    started = await world.api.post("/recurring-invoices/run", json={"asOf": str(TODAY)})
    await execute_free_runs(world.services)
    assert await Invoice.find({"recurringInvoiceId": template.id}).count() == 1
    return started


SCENARIOS: Mapping[tuple[str, str], Scenario] = {
    ("POST", "/invoices"): create,
    ("PATCH", "/invoices/{id}"): update,
    ("DELETE", "/invoices/{id}"): delete,
    ("POST", "/invoices/{id}/issue"): issue,
    ("POST", "/invoices/{id}/cancel"): cancel,
    ("POST", "/invoices/{id}/refund"): refund,
    ("POST", "/invoices/{id}/record-payment"): record,
    ("POST", "/invoices/{id}/send-email"): send_email,
    ("POST", "/invoices/bulk-issue"): bulk_issue,
    ("POST", "/invoices/bulk-send-email"): bulk_send_email,
    ("POST", "/notifications/{id}/retry"): retry_email,
    ("POST", "/payments"): add_payment,
    ("DELETE", "/payments/{id}"): remove_payment,
    ("POST", "/customers/{id}/allocate"): allocate,
    ("POST", "/customers/{id}/statement/send-email"): send_statement,
    ("POST", "/runs/{id}/retry-failed"): retry_failed,
    ("POST", "/pricing-configs"): set_price,
    ("POST", "/pricing-configs/{id}/archive"): archive_price,
    ("POST", "/recurring-invoices"): create_template,
    ("POST", "/recurring-invoices/run"): generate,
    ("PATCH", "/recurring-invoices/{id}"): update_template,
    ("DELETE", "/recurring-invoices/{id}"): delete_template,
    ("POST", "/recurring-invoices/{id}/pause"): pause_template,
    ("POST", "/recurring-invoices/{id}/resume"): resume_template,
    ("POST", "/public/unsubscribe/{view_token}"): unsubscribe,
    ("POST", "/public/resubscribe/{view_token}"): resubscribe,
}


@pytest.fixture
async def world(
    memory_db: TestDatabase, platform: FakePlatform, clock: SettableClock
) -> AsyncIterator[World]:
    platform.add_user(a_customer(id=ADMIN.user_id, role=Role.ADMIN))
    async with an_api(memory_db, platform) as api:
        api.headers["Authorization"] = f"Bearer {a_token(ADMIN.user_id)}"
        yield World(api, memory_db, platform, clock)


def test_every_write_route_has_a_scenario() -> None:
    writes = {(method, path) for method, path in api_routes() if method != "GET"}

    assert writes == SCENARIOS.keys()


@pytest.mark.parametrize(("method", "path"), sorted(SCENARIOS))
async def test_every_write_leaves_an_entry_of_its_actor(
    world: World, method: str, path: str
) -> None:
    before = await AuditLog.find_all().count()
    world.api.headers["X-Request-Id"] = request_id = f"walk-{new_id()}"

    response = await SCENARIOS[method, path](world)

    assert response.is_success, response.text
    entries = await AuditLog.find({"requestId": request_id}).to_list()
    assert await AuditLog.find_all().count() > before
    assert entries, f"{method} {path} left no entry"
    actors = {entry.user_id for entry in entries}
    if path.startswith("/public/"):  # whoever has a customer's link acts for him
        assert actors < world.platform.users.keys()
        assert ADMIN.user_id not in actors
    else:
        assert actors == {ADMIN.user_id}


async def overdue(world: World) -> None:
    await mark_overdue(world.db, TODAY + timedelta(days=31))
    assert await Invoice.find({"status": InvoiceStatus.OVERDUE}).count() == 1


async def reminders(world: World) -> None:
    today = TODAY + timedelta(days=31)
    queued = await queue_reminders(world.db, world.platform, TERMS, today)
    assert queued.total() == 1


async def deliver(world: World) -> None:
    # With the fake mailer the mail is accepted; what is recorded is the same for every outcome.
    await deliver_due(world.services, FakeMailer())


async def runs(world: World) -> None:
    await bulk_issue(world)


async def generate_today(world: World) -> None:
    template = await a_template(world.db, world.platform, a_customer(), unit_price=Decimal(1))
    world.platform.miner_statuses[template.user_id] = ["ACTIVE"]
    run = await generate_now(world.services, TODAY)
    assert run.counts.done == 1


JOB_SCENARIOS: Mapping[str, Callable[[World], Awaitable[None]]] = {
    "generate": generate_today,
    "overdue": overdue,
    "reminders": reminders,
    "deliver": deliver,
    "runs": runs,
}
# Seals are the trail's own, what no invoice needs is in no trail, an examination changes nothing,
# and figures are what the books add up to.
JOBS_WITHOUT_ENTRIES = {"figures", "integrity", "papers", "seal"}


def test_every_job_has_a_scenario() -> None:
    assert JOBS.keys() - JOBS_WITHOUT_ENTRIES == JOB_SCENARIOS.keys()


@pytest.mark.parametrize("name", sorted(JOB_SCENARIOS))
async def test_every_job_leaves_an_entry(world: World, name: str) -> None:
    await world.issued()
    before = await AuditLog.find_all().count()

    await JOB_SCENARIOS[name](world)

    assert await AuditLog.find_all().count() > before
