"""The e-mail log, sending and retrying over HTTP; and who may."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

from accounting.actor import Role
from accounting.bootstrap import Services
from accounting.ids import ObjectId, new_id
from accounting.invoices.documents import Invoice
from accounting.notifications.documents import InvoiceNotification
from accounting.notifications.mailer import RecipientRefused
from accounting.worker.delivery import deliver_due
from accounting.worker.runs import execute_run_slice
from api_app import a_token, an_api, settings
from builders import ADMIN, NOW, TERMS, a_customer, a_draft, an_issued_invoice
from fakes import FakeMailer, FakePlatform, SettableClock, TestDatabase
from outbox import last_row, pay, remind


@pytest.fixture
async def api(real_db: TestDatabase, platform: FakePlatform) -> AsyncIterator[httpx.AsyncClient]:
    """The API with an admin's token, on a server that can roll back."""
    platform.add_user(a_customer(id=ADMIN.user_id, name="Alex Admin", role=Role.ADMIN))
    async with an_api(real_db, platform) as client:
        client.headers["Authorization"] = f"Bearer {a_token(ADMIN.user_id)}"
        yield client


@pytest.fixture
def services(real_db: TestDatabase, platform: FakePlatform) -> Services:
    return Services(real_db, platform, TERMS, settings())


async def an_invoice(services: Services, platform: FakePlatform) -> Invoice:
    return await an_issued_invoice(services.db, platform, a_customer())


async def bounce(services: Services) -> None:
    mailer = FakeMailer()
    mailer.failure = RecipientRefused("550 5.1.1 no such user")
    await deliver_due(services, mailer)


async def read(api: httpx.AsyncClient, **query: Any) -> dict[str, Any]:
    answer = await api.get("/notifications", params=query)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def kinds(body: dict[str, Any]) -> list[tuple[str, str]]:
    return [(row["notificationType"], row["status"]) for row in body["notifications"]]


# --- the log ----------------------------------------------------------------------------------


@pytest.fixture
async def story(
    services: Services, platform: FakePlatform, clock: SettableClock
) -> tuple[Invoice, Invoice]:
    """Two invoices five days apart: the first is reminded of and paid, the second one bounces."""
    first = await an_invoice(services, platform)
    await deliver_due(services, FakeMailer())
    clock.move(days=5)
    second = await an_invoice(services, platform)
    await bounce(services)
    clock.now = NOW + timedelta(days=31)
    await remind(services, first, 1)
    await deliver_due(services, FakeMailer())
    await pay(services, platform, first)
    return first, second


async def test_the_newest_come_first_with_their_invoices(
    api: httpx.AsyncClient, story: tuple[Invoice, Invoice]
) -> None:
    _, second = story

    body = await read(api)

    assert kinds(body) == [
        ("PAYMENT_RECEIVED", "PENDING"),
        ("OVERDUE_REMINDER", "SENT"),
        ("INVOICE_ISSUED", "BOUNCED"),
        ("INVOICE_ISSUED", "SENT"),
    ]
    assert body["pagination"] == {"page": 1, "limit": 10, "total": 4, "pages": 1}
    assert body["nextCursor"] is None
    bounced = body["notifications"][2]
    row = await last_row(second)
    assert bounced == {
        "id": str(row.id),
        "invoiceId": str(second.id),
        "notificationType": "INVOICE_ISSUED",
        "statementTone": None,
        "sentTo": "ada@example.com",
        "ccEmails": [],
        "status": "BOUNCED",
        "sentAt": None,
        "handedOverAt": None,
        "isRead": False,
        "openedAt": None,
        "failureReason": "550 5.1.1 no such user",
        "retryCount": 0,
        "nextRetryAt": None,
        "createdAt": "2026-01-17T09:30:00.000Z",
        "invoice": {
            "id": str(second.id),
            "invoiceNumber": second.invoice_number,
            "userId": str(second.user_id),
            "status": "ISSUED",
        },
    }
    assert body["notifications"][3]["invoice"]["status"] == "PAID"
    assert body["notifications"][3]["handedOverAt"] == "2026-01-12T09:30:00.000Z"


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ({"status": "SENT"}, 2),
        ({"status": ["SENT", "BOUNCED"]}, 3),
        ({"status": "FAILED"}, 0),
        ({"notificationType": "INVOICE_ISSUED"}, 2),
        ({"notificationType": ["PAYMENT_RECEIVED", "OVERDUE_REMINDER"]}, 2),
        ({"notificationType": "INVOICE_ISSUED", "status": "BOUNCED"}, 1),
        ({"from": "2026-01-13"}, 3),
        ({"from": "2026-01-17"}, 3),
        ({"from": "2026-01-18"}, 2),
        ({"to": "2026-01-16"}, 1),
        ({"to": "2026-01-17"}, 2),
        ({"from": "2026-01-12", "to": "2026-01-12"}, 1),
        ({"from": "2026-02-12", "status": "PENDING"}, 1),
    ],
    ids=str,
)
async def test_each_filter_narrows(
    api: httpx.AsyncClient, story: tuple[Invoice, Invoice], query: dict[str, Any], count: int
) -> None:
    body = await read(api, **query)

    assert len(body["notifications"]) == count
    assert body["pagination"]["total"] == count


async def test_the_log_of_an_invoice_and_of_a_customer(
    api: httpx.AsyncClient, story: tuple[Invoice, Invoice]
) -> None:
    first, second = story

    of_first = await read(api, invoiceId=str(first.id))
    of_customer = await read(api, customerId=str(first.user_id))
    of_both = await read(api, invoiceId=str(second.id), customerId=str(first.user_id))
    of_nobody = await read(api, customerId=str(new_id()))

    assert len(of_first["notifications"]) == 3
    assert of_customer["notifications"] == of_first["notifications"]
    assert of_both["notifications"] == of_nobody["notifications"] == []


async def test_cursors_lead_through_the_whole_log(
    api: httpx.AsyncClient, story: tuple[Invoice, Invoice]
) -> None:
    seen, cursor = [], ""
    while cursor is not None:
        body = await read(api, cursor=cursor, limit=1)
        seen += [row["id"] for row in body["notifications"]]
        assert body["pagination"]["total"] is None
        cursor = body["nextCursor"]

    assert seen == [row["id"] for row in (await read(api))["notifications"]]


@pytest.mark.parametrize(
    "query", [{"status": "LOST"}, {"invoiceId": "x"}, {"from": "yesterday"}, {"statu": "SENT"}]
)
async def test_a_wrong_filter_is_refused(api: httpx.AsyncClient, query: dict[str, str]) -> None:
    answer = await api.get("/notifications", params=query)

    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == next(iter(query))


# --- sending ----------------------------------------------------------------------------------


async def test_an_e_mail_is_queued_and_answered_as_the_log_shows_it(
    api: httpx.AsyncClient, services: Services, platform: FakePlatform
) -> None:
    invoice = await an_invoice(services, platform)

    answer = await api.post(f"/invoices/{invoice.id}/send-email", json={"type": "PAYMENT_REMINDER"})

    assert answer.status_code == 202, answer.text
    assert answer.json() == (await read(api))["notifications"][0]
    assert answer.json()["notificationType"] == "PAYMENT_REMINDER"
    where = f"/api/accounting/notifications?invoiceId={invoice.id}"
    assert answer.headers["location"] == where


async def test_a_double_click_under_one_key_is_one_e_mail_and_two_requests_are_two(
    api: httpx.AsyncClient, services: Services, platform: FakePlatform
) -> None:
    invoice = await an_invoice(services, platform)
    url = f"/invoices/{invoice.id}/send-email"

    first, second = [await api.post(url, headers={"Idempotency-Key": "click"}) for _ in range(2)]
    third = await api.post(url)

    assert first.content == second.content
    assert second.headers["idempotent-replayed"] == "true"
    assert third.json()["id"] != first.json()["id"]
    assert len((await read(api))["notifications"]) == 3  # the one of the issue and these two


async def test_what_does_not_fit_is_a_conflict_that_says_what_does(
    api: httpx.AsyncClient, services: Services, platform: FakePlatform
) -> None:
    invoice = await an_invoice(services, platform)
    draft = await a_draft(services.db, platform, a_customer())
    unreachable = await an_invoice(services, platform)
    platform.add_user(a_customer(id=unreachable.user_id, email=""))

    wrong = await api.post(f"/invoices/{invoice.id}/send-email", json={"type": "INVOICE_CANCELLED"})
    of_draft = await api.post(f"/invoices/{draft.id}/send-email")
    to_nobody = await api.post(f"/invoices/{unreachable.id}/send-email")

    assert (wrong.status_code, wrong.json()["code"]) == (409, "email_not_applicable")
    assert "INVOICE_ISSUED" in wrong.json()["allowedTypes"]
    assert (of_draft.status_code, of_draft.json()["code"]) == (409, "email_not_applicable")
    assert (to_nobody.status_code, to_nobody.json()["code"]) == (409, "no_email_address")


@pytest.mark.parametrize("kind", ["INVOICE_VIEWED", "LOVE_LETTER", "", 1])
async def test_what_is_no_e_mail_is_refused(
    api: httpx.AsyncClient, services: Services, platform: FakePlatform, kind: object
) -> None:
    invoice = await an_invoice(services, platform)

    answer = await api.post(f"/invoices/{invoice.id}/send-email", json={"type": kind})

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "type")


# --- trying again -----------------------------------------------------------------------------


async def test_a_bounced_e_mail_is_tried_again(
    api: httpx.AsyncClient, services: Services, platform: FakePlatform
) -> None:
    invoice = await an_invoice(services, platform)
    await bounce(services)
    row = await last_row(invoice)

    answer = await api.post(f"/notifications/{row.id}/retry")
    again = await api.post(f"/notifications/{row.id}/retry")
    unknown = await api.post(f"/notifications/{new_id()}/retry")

    assert answer.status_code == 202, answer.text
    assert (answer.json()["status"], answer.json()["failureReason"]) == ("PENDING", None)
    assert answer.json() == (await read(api))["notifications"][0]
    assert (again.status_code, again.json()["code"]) == (409, "email_not_failed")
    assert again.json()["notificationStatus"] == "PENDING"
    assert (unknown.status_code, unknown.json()["code"]) == (404, "notification_not_found")


# --- many -------------------------------------------------------------------------------------


async def test_a_bulk_request_is_followed_as_a_run(
    api: httpx.AsyncClient, services: Services, platform: FakePlatform
) -> None:
    invoices = [await an_invoice(services, platform) for _ in range(2)]
    draft = await a_draft(services.db, platform, a_customer())
    await deliver_due(services, FakeMailer())
    ids = [str(each.id) for each in (*invoices, draft)]

    body = {"invoiceIds": ids, "type": "INVOICE_ISSUED"}
    started = await api.post("/invoices/bulk-send-email", json=body)
    run_id = started.json()["runId"]
    await execute_run_slice(services, ObjectId(run_id))
    going = (await api.get(f"/runs/{run_id}")).json()
    await deliver_due(services, FakeMailer())
    ended = (await api.get(f"/runs/{run_id}")).json()

    assert started.status_code == 202, started.text
    assert started.headers["location"] == f"/api/accounting/runs/{run_id}"
    assert going["kind"] == "BULK_SEND_EMAIL"
    assert going["parameters"] == {"type": "INVOICE_ISSUED"}
    assert (going["status"], going["progressPercent"]) == ("RUNNING", 33)
    assert going["counts"] == {"total": 3, "pending": 2, "done": 0, "skipped": 0, "failed": 1}
    assert going["items"][2]["code"] == "email_not_applicable"
    assert (ended["status"], ended["progressPercent"]) == ("DONE", 100)
    assert [item["status"] for item in ended["items"]] == ["DONE", "DONE", "FAILED"]
    mailed = await InvoiceNotification.find({"runId": ObjectId(run_id)}).to_list()
    assert {item["resultId"] for item in ended["items"][:2]} == {str(row.id) for row in mailed}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/notifications"),
        ("POST", f"/notifications/{'a' * 24}/retry"),
        ("POST", f"/invoices/{'a' * 24}/send-email"),
        ("POST", "/invoices/bulk-send-email"),
    ],
)
async def test_customers_have_no_part_in_it(
    api: httpx.AsyncClient, platform: FakePlatform, method: str, path: str
) -> None:
    customer = platform.add_user(a_customer())
    headers = {"Authorization": f"Bearer {a_token(customer.id, Role.CLIENT)}"}

    answer = await api.request(method, path, headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (403, "admins_only")
