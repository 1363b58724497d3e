"""Balance and statement over HTTP, with figures that a slow recomputation gives too."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import date, timedelta
from decimal import Decimal

import httpx
import pytest

from accounting.actor import Role
from accounting.ids import ObjectId
from accounting.invoices.service import cancel_invoice
from accounting.invoices.settlement import record_payment, refund_invoice
from accounting.reports.archived import note_archived
from api_app import a_token, an_api
from builders import ADMIN, a_cost_payment, a_customer, a_draft, an_issued_invoice
from fakes import FakePlatform, SettableClock, TestDatabase

CUSTOMER = a_customer()


@pytest.fixture
async def api(real_db: TestDatabase, platform: FakePlatform) -> AsyncIterator[httpx.AsyncClient]:
    platform.add_user(a_customer(id=ADMIN.user_id, name="Alex Admin", role=Role.ADMIN))
    platform.add_user(CUSTOMER)
    async with an_api(real_db, platform) as client:
        client.headers["Authorization"] = f"Bearer {a_token(ADMIN.user_id)}"
        yield client


@pytest.fixture
async def a_year(real_db: TestDatabase, platform: FakePlatform, clock: SettableClock) -> list[str]:
    """Invoices of 500.00: part paid, paid, cancelled, refunded, and a draft that counts nowhere."""
    cost_payment = platform.add_cost_payment(a_cost_payment(CUSTOMER, "1200.00"))
    platform.add_cost_payment(
        a_cost_payment(CUSTOMER, "-75.50", type="ELECTRICITY_CHARGES", created_at=None)
    )
    platform.add_cost_payment(a_cost_payment(CUSTOMER, "999.00", is_deleted=True))
    invoices = [await an_issued_invoice(real_db, platform, CUSTOMER) for _ in range(4)]
    await a_draft(real_db, platform, CUSTOMER)
    part_paid, paid, cancelled, refunded = (ObjectId(invoice.id) for invoice in invoices)
    clock.move(days=1)
    for invoice_id, amount in ((part_paid, "200.00"), (paid, "500.00"), (refunded, "500.00")):
        await real_db.run(
            ADMIN,
            record_payment,
            platform,
            invoice_id,
            cost_payment.id,
            amount=Decimal(amount),
        )
    clock.move(days=1)
    await real_db.run(ADMIN, cancel_invoice, cancelled, "typed twice")
    await real_db.run(ADMIN, refund_invoice, refunded, "hall closed")
    return [invoice.invoice_number for invoice in invoices]


@pytest.mark.usefixtures("a_year")
async def test_balance_tells_what_is_owed_and_what_the_wallet_holds(
    api: httpx.AsyncClient, clock: SettableClock
) -> None:
    now = (await api.get(f"/customers/{CUSTOMER.id}/balance")).json()
    clock.move(days=45)
    later = (await api.get(f"/customers/{CUSTOMER.id}/balance")).json()

    assert now == {
        "customerId": str(CUSTOMER.id),
        "outstanding": "300.00",
        "overdue": "0.00",
        "openInvoices": 1,
        "aging": {
            "current": "300.00",
            "1-30": "0.00",
            "31-60": "0.00",
            "61-90": "0.00",
            "90+": "0.00",
        },
        "nextDueDate": "2026-02-11",
        "walletBalance": "1124.50",
    }
    assert (later["overdue"], later["aging"]["1-30"]) == ("300.00", "300.00")
    assert later["nextDueDate"] is None


async def test_statement_tells_the_whole_story(api: httpx.AsyncClient, a_year: list[str]) -> None:
    part_paid, paid, cancelled, refunded = a_year

    body = (await api.get(f"/customers/{CUSTOMER.id}/statement")).json()

    assert (body["from"], body["to"]) == ("2026-01-01", "2026-01-14")
    assert (body["openingBalance"], body["closingBalance"]) == ("0.00", "300.00")
    told = [
        (entry["date"], entry["kind"], entry["invoiceNumber"], entry["amount"], entry["balance"])
        for entry in body["entries"]
    ]
    assert told[:4] == [
        ("2026-01-12", "INVOICE", part_paid, "500.00", "500.00"),
        ("2026-01-12", "INVOICE", paid, "500.00", "1000.00"),
        ("2026-01-12", "INVOICE", cancelled, "500.00", "1500.00"),
        ("2026-01-12", "INVOICE", refunded, "500.00", "2000.00"),
    ]
    assert told[4:7] == [
        ("2026-01-13", "PAYMENT", part_paid, "-200.00", "1800.00"),
        ("2026-01-13", "PAYMENT", paid, "-500.00", "1300.00"),
        ("2026-01-13", "PAYMENT", refunded, "-500.00", "800.00"),
    ]
    assert told[7] == ("2026-01-14", "CANCELLATION", cancelled, "-500.00", "300.00")
    assert sorted(entry[3] for entry in told[8:]) == ["-500.00", "500.00"]
    assert all(entry[:3] == ("2026-01-14", "REFUND", refunded) for entry in told[8:])
    assert body["aging"]["current"] == "300.00"


@pytest.mark.usefixtures("a_year")
async def test_a_later_range_opens_with_what_came_before(api: httpx.AsyncClient) -> None:
    url = f"/customers/{CUSTOMER.id}/statement"

    body = (await api.get(url, params={"from": "2026-01-14", "to": "2026-12-31"})).json()
    nothing = (await api.get(url, params={"from": "2025-01-01", "to": "2025-12-31"})).json()

    assert (body["openingBalance"], len(body["entries"])) == ("800.00", 3)
    assert body["closingBalance"] == "300.00"
    assert (nothing["openingBalance"], nothing["entries"]) == ("0.00", [])


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"from": "2026-02-01", "to": "2026-01-31"}, "to"),
        ({"from": "yesterday"}, "from"),
        ({"to": "1999-01-01"}, "to"),
        ({"from": "2001-01-01", "to": "2026-01-01"}, "to"),
    ],
)
async def test_a_wrong_range_is_refused_by_name(
    api: httpx.AsyncClient, params: dict[str, str], field: str
) -> None:
    response = await api.get(f"/customers/{CUSTOMER.id}/statement", params=params)

    assert response.status_code == 400
    assert [error["field"] for error in response.json()["errors"]] == [field]


@pytest.mark.parametrize("what", ["balance", "statement"])
async def test_a_customer_sees_his_own_account_only(
    api: httpx.AsyncClient, platform: FakePlatform, what: str
) -> None:
    other = platform.add_user(a_customer(name="Ben"))
    headers = {"Authorization": f"Bearer {a_token(CUSTOMER.id, Role.CLIENT)}"}

    own = await api.get(f"/customers/{CUSTOMER.id}/{what}", headers=headers)
    foreign = await api.get(f"/customers/{other.id}/{what}", headers=headers)
    unknown = await api.get(f"/customers/{'0' * 24}/{what}")

    assert own.status_code == 200
    assert (foreign.status_code, foreign.json()["code"]) == (404, "customer_not_found")
    assert unknown.status_code == 404


async def test_days_are_those_of_the_business_zone(
    api: httpx.AsyncClient, real_db: TestDatabase, platform: FakePlatform, clock: SettableClock
) -> None:
    clock.now = clock.now.replace(hour=0, minute=0) - timedelta(milliseconds=1)
    await an_issued_invoice(real_db, platform, CUSTOMER)

    url = f"/customers/{CUSTOMER.id}/statement"
    eve = (await api.get(url, params={"from": "2026-01-01", "to": "2026-01-11"})).json()
    day = (await api.get(url, params={"from": "2026-01-12", "to": "2026-01-12"})).json()

    assert len(eve["entries"]) == 1
    assert (day["entries"], day["openingBalance"]) == ([], "500.00")


async def test_a_statement_over_archived_days_is_refused(
    api: httpx.AsyncClient, real_db: TestDatabase
) -> None:
    customer_id = CUSTOMER.id
    await real_db.run(ADMIN, note_archived, {customer_id: date(2021, 3, 12)}, {customer_id: 2})

    refused = await api.get(f"/customers/{customer_id}/statement?from=2021-03-11")
    answered = await api.get(f"/customers/{customer_id}/statement?from=2021-03-12")

    assert refused.status_code == 409
    assert refused.json()["code"] == "range_archived"
    assert refused.json()["earliestFrom"] == "2021-03-12"
    assert "It can begin on 2021-03-12 or later." in refused.json()["error"]
    assert answered.status_code == 200
