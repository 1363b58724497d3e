"""Statements as PDF, and sent by e-mail, over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from accounting.actor import Role
from accounting.bootstrap import Services
from accounting.ids import ObjectId
from accounting.invoices.documents import Invoice
from accounting.notifications.mailer import RecipientRefused
from accounting.notifications.rules import NotificationStatus
from accounting.printing.company import Company
from accounting.worker.delivery import deliver_due
from api_app import a_token, an_api, settings
from builders import ADMIN, NOW, TERMS, a_cost_payment, a_customer, a_draft
from fakes import FakeMailer, FakePlatform, TestDatabase
from many_invoices import many_invoices
from outbox import last_row
from pdf_reading import lines_of, same_line, standards_of
from statements import open_invoices, statements_of

CUSTOMER = a_customer()
URL = f"/customers/{CUSTOMER.id}/statement"
AS_PDF = {"Accept": "application/pdf"}
COMPANY = Company(name="Northern Hosting Ltd", payment_instructions=("IBAN: GB33",))


@pytest.fixture
async def api(real_db: TestDatabase, platform: FakePlatform) -> AsyncIterator[httpx.AsyncClient]:
    platform.add_user(a_customer(id=ADMIN.user_id, name="Alex Admin", role=Role.ADMIN))
    platform.add_user(CUSTOMER)
    async with an_api(real_db, platform, company=COMPANY) as client:
        client.headers["Authorization"] = f"Bearer {a_token(ADMIN.user_id)}"
        yield client


@pytest.fixture
def services(real_db: TestDatabase, platform: FakePlatform) -> Services:
    return Services(real_db, platform, TERMS, settings())


@pytest.fixture
async def owed(services: Services, platform: FakePlatform) -> list[Invoice]:
    return await open_invoices(services, platform, CUSTOMER)


def as_customer(user_id: ObjectId) -> dict[str, str]:
    return {"Authorization": f"Bearer {a_token(user_id, Role.CLIENT)}"}


async def send(api: httpx.AsyncClient, tone: str = "FRIENDLY", **more: Any) -> httpx.Response:
    return await api.post(f"{URL}/send-email", json={"tone": tone}, **more)


# --- as PDF -----------------------------------------------------------------------------------


async def test_as_pdf_it_says_what_it_says_as_json(
    api: httpx.AsyncClient, owed: list[Invoice]
) -> None:
    body = (await api.get(URL)).json()

    answer = await api.get(URL, headers=AS_PDF)

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/pdf"
    filename = "statement-2026-01-01-2026-01-12.pdf"
    assert answer.headers["content-disposition"] == f'attachment; filename="{filename}"'
    assert answer.headers["cache-control"] == "no-store"
    lines = lines_of(answer.content)
    assert lines[0].startswith("Northern Hosting Ltd")
    assert body["closingBalance"] == "1500.00"
    assert same_line(lines, "12 January 2026", "Closing balance", "USD 1,500.00")
    assert same_line(lines, "USD 1,500.00", "USD 1,000.00 overdue")
    ages = [f"USD {amount}" for amount in body["aging"].values()]
    assert ages == ["USD 500.00", "USD 500.00", "USD 0.00", "USD 0.00", "USD 500.00"]
    assert same_line(lines, *ages)
    assert sum(f"Invoice {owed[0].invoice_number}" in line for line in lines) == 1
    assert standards_of(answer.content) == {"PDF/A-2A", "PDF/UA-1"}


@pytest.mark.parametrize("accept", ["*/*", "application/json", "application/pdf;q=0, */*"])
@pytest.mark.usefixtures("owed")
async def test_unless_a_pdf_is_asked_for_it_is_json(api: httpx.AsyncClient, accept: str) -> None:
    answer = await api.get(URL, headers={"Accept": accept})

    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["closingBalance"] == "1500.00"


@pytest.mark.usefixtures("owed")
async def test_caches_are_told_that_there_are_two_forms(api: httpx.AsyncClient) -> None:
    for headers in ({}, AS_PDF):
        assert (await api.get(URL, headers=headers)).headers["vary"] == "Accept"


@pytest.mark.usefixtures("owed")
async def test_a_range_opens_with_what_came_before(api: httpx.AsyncClient) -> None:
    params = {"from": "2026-01-13", "to": "2026-03-31"}

    answer = await api.get(URL, params=params, headers=AS_PDF)

    lines = lines_of(answer.content)
    assert same_line(lines, "13 January 2026", "Opening balance", "USD 1,500.00")
    assert same_line(lines, "Balance on 31 March 2026")
    assert same_line(lines, "USD 1,500.00", "USD 1,500.00 overdue")
    assert same_line(lines, "Statement date", "12 January 2026")
    assert "statement-2026-01-13-2026-03-31.pdf" in answer.headers["content-disposition"]


async def test_a_customer_prints_his_own_only(
    api: httpx.AsyncClient, platform: FakePlatform
) -> None:
    other = platform.add_user(a_customer(name="Ben"))
    headers = as_customer(CUSTOMER.id) | AS_PDF

    own = await api.get(URL, headers=headers)
    foreign = await api.get(f"/customers/{other.id}/statement", headers=headers)

    assert own.content.startswith(b"%PDF")
    assert (foreign.status_code, foreign.json()["code"]) == (404, "customer_not_found")
    assert foreign.headers["content-type"] == "application/problem+json"


async def test_more_than_a_pdf_takes_is_refused_and_answered_as_json(
    api: httpx.AsyncClient,
) -> None:
    rows = many_invoices(1_300, [CUSTOMER.id])
    await Invoice.get_motor_collection().insert_many(list(rows))
    params = {"from": "2021-01-01", "to": "2025-12-31"}

    refused = await api.get(URL, params=params, headers=AS_PDF)
    plain = await api.get(URL, params=params)
    fewer_days = await api.get(
        URL, params={"from": "2025-06-01", "to": "2025-12-31"}, headers=AS_PDF
    )

    problem = refused.json()
    assert (refused.status_code, problem["code"]) == (409, "statement_too_long")
    assert problem["entries"] == len(plain.json()["entries"]) > problem["entriesMax"]
    assert fewer_days.status_code == 200


# --- by e-mail --------------------------------------------------------------------------------


async def test_it_is_queued_and_answered_as_other_mails_are(
    api: httpx.AsyncClient, owed: list[Invoice]
) -> None:
    answer = await send(api, "FINAL")

    assert answer.status_code == 202
    [row] = await statements_of(owed)
    assert answer.json() == {
        "id": str(row.id),
        "invoiceId": str(owed[0].id),
        "notificationType": "OVERDUE_REMINDER",
        "statementTone": "FINAL",
        "sentTo": "ada@example.com",
        "ccEmails": [],
        "status": "PENDING",
        "sentAt": None,
        "handedOverAt": None,
        "isRead": False,
        "openedAt": None,
        "failureReason": None,
        "retryCount": 0,
        "nextRetryAt": None,
        "createdAt": "2026-01-12T09:30:00.000Z",
        "invoice": {
            "id": str(owed[0].id),
            "invoiceNumber": owed[0].invoice_number,
            "userId": str(CUSTOMER.id),
            "status": "ISSUED",
        },
    }
    location = f"/api/accounting/notifications?invoiceId={owed[0].id}"
    assert answer.headers["location"] == location
    assert row.created_at == NOW


async def test_the_logs_say_that_it_was_a_statement(
    api: httpx.AsyncClient, services: Services, owed: list[Invoice]
) -> None:
    await send(api, "FIRM")
    await deliver_due(services, FakeMailer())

    log = (await api.get("/notifications", params={"customerId": str(CUSTOMER.id)})).json()
    invoice = (await api.get(f"/invoices/{owed[0].id}")).json()
    trail = (await api.get(f"/invoices/{owed[0].id}/audit-log")).json()

    tones = [row["statementTone"] for row in log["notifications"]]
    assert tones == ["FIRM", None, None, None]
    assert [row["statementTone"] for row in invoice["notifications"]] == [None, "FIRM"]
    assert "(FIRM statement) sent to ada@example.com" in repr(trail)


async def test_pressed_twice_it_is_queued_once(api: httpx.AsyncClient, owed: list[Invoice]) -> None:
    first, second = await send(api), await send(api)

    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json() == second.json()
    assert len(await statements_of(owed)) == 1


async def test_a_repeated_request_replays_its_answer(
    api: httpx.AsyncClient, services: Services, owed: list[Invoice]
) -> None:
    key = {"Idempotency-Key": "statement-1"}
    first = await send(api, headers=key)
    await deliver_due(services, FakeMailer())

    again = await send(api, headers=key)

    assert again.headers["idempotent-replayed"] == "true"
    assert again.content == first.content
    assert len(await statements_of(owed)) == 1


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "tone"),
        ({"tone": "LOUD"}, "tone"),
        ({"tone": "firm"}, "tone"),
        ({"tone": None}, "tone"),
        ({"tone": "FIRM", "type": "OVERDUE_REMINDER"}, "type"),
    ],
)
async def test_a_wrong_body_is_refused_by_name(
    api: httpx.AsyncClient, owed: list[Invoice], body: dict[str, Any], field: str
) -> None:
    answer = await api.post(f"{URL}/send-email", json=body)

    assert answer.status_code == 400
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert await statements_of(owed) == []


async def test_what_cannot_be_told_is_refused_with_its_code(
    api: httpx.AsyncClient, services: Services, platform: FakePlatform
) -> None:
    draft = await a_draft(services.db, platform, CUSTOMER)
    nothing = await send(api)
    await api.post(f"/invoices/{draft.id}/issue", json={})
    on_time = await send(api, "FIRM")
    unknown = await api.post(
        f"/customers/{'0' * 24}/statement/send-email", json={"tone": "FRIENDLY"}
    )

    assert (nothing.status_code, nothing.json()["code"]) == (409, "nothing_to_state")
    assert (on_time.status_code, on_time.json()["code"]) == (409, "nothing_overdue")
    assert on_time.json()["tone"] == "FIRM"
    assert (unknown.status_code, unknown.json()["code"]) == (404, "customer_not_found")


async def test_customers_do_not_send_them(api: httpx.AsyncClient, owed: list[Invoice]) -> None:
    answer = await send(api, headers=as_customer(CUSTOMER.id))

    assert (answer.status_code, answer.json()["code"]) == (403, "admins_only")
    assert await statements_of(owed) == []


async def test_a_bounced_one_is_retried_by_its_own_rules(
    api: httpx.AsyncClient, services: Services, platform: FakePlatform, owed: list[Invoice]
) -> None:
    await send(api, "FIRM")
    mailer = FakeMailer()
    mailer.failure = RecipientRefused("550 5.1.1 no such user")
    await deliver_due(services, mailer)
    [bounced] = await statements_of(owed)
    await send(api, "FIRM")
    waiting = await api.post(f"/notifications/{bounced.id}/retry")
    await deliver_due(services, FakeMailer())

    # The invoice that it hangs on is paid, and another is still overdue.
    money = platform.add_cost_payment(a_cost_payment(CUSTOMER, "500.00"))
    paid = await api.post(
        f"/invoices/{owed[0].id}/record-payment", json={"costPaymentId": str(money.id)}
    )
    tried = await api.post(f"/notifications/{(await last_row(owed[0])).id}/retry")
    clock = services.db.clock
    clock.move(minutes=5)  # type: ignore[attr-defined]
    again = await api.post(f"/notifications/{bounced.id}/retry")

    assert (waiting.status_code, waiting.json()["code"]) == (409, "statement_queued")
    assert paid.status_code == 200
    assert tried.json()["code"] == "email_not_failed"
    assert again.status_code == 202
    [row, _] = await statements_of(owed)
    assert row.status is NotificationStatus.PENDING
