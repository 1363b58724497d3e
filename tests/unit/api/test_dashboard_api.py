"""The dashboard over HTTP: the whole answer, for admins, at once after a change."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import httpx
import pytest

from accounting.actor import Role
from accounting.api import errors as edge
from accounting.ids import ObjectId
from accounting.invoices.service import cancel_invoice
from accounting.invoices.settlement import record_payment, refund_invoice
from accounting.reports.dashboard import FiguresNotReady
from api_app import a_token, an_api
from builders import (
    ADMIN,
    TERMS,
    a_cost_payment,
    a_customer,
    a_draft,
    a_template,
    an_issued_invoice,
)
from dashboard_books import add_up, read_books
from fakes import FakePlatform, SettableClock, TestDatabase

CUSTOMER = a_customer()
EMPTY = {"count": 0, "totalAmount": "0.00", "amountPaid": "0.00"}


@pytest.fixture
async def api(real_db: TestDatabase, platform: FakePlatform) -> AsyncIterator[httpx.AsyncClient]:
    platform.add_user(a_customer(id=ADMIN.user_id, name="Alex Admin", role=Role.ADMIN))
    platform.add_user(CUSTOMER)
    async with an_api(real_db, platform) as client:
        client.headers["Authorization"] = f"Bearer {a_token(ADMIN.user_id)}"
        yield client


async def read(api: httpx.AsyncClient) -> dict[str, Any]:
    answer = await api.get("/dashboard")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def test_an_empty_store_has_nothing_to_show(api: httpx.AsyncClient) -> None:
    shown = await read(api)

    assert shown["asOf"] == "2026-01-12T09:30:00.000Z"
    assert shown["today"] == "2026-01-12"
    assert shown["byStatus"] == dict.fromkeys(
        ("DRAFT", "ISSUED", "OVERDUE", "PAID", "CANCELLED", "REFUNDED"), EMPTY
    )
    assert (shown["outstanding"], shown["openInvoices"]) == ("0.00", 0)
    assert len(shown["collectedPerMonth"]) == 12
    assert shown["recentInvoices"] == []
    assert shown["templates"] == {
        "active": 0,
        "paused": 0,
        "ended": 0,
        "deleted": 0,
        "nextRunDate": None,
    }


async def test_the_dashboard_tells_where_the_business_stands(
    api: httpx.AsyncClient, real_db: TestDatabase, platform: FakePlatform, clock: SettableClock
) -> None:
    row = platform.add_cost_payment(a_cost_payment(CUSTOMER, "1200.00"))
    invoices = [await an_issued_invoice(real_db, platform, CUSTOMER) for _ in range(4)]
    part_paid, paid, cancelled, refunded = (ObjectId(invoice.id) for invoice in invoices)
    draft = await a_draft(real_db, platform, CUSTOMER)
    await a_template(real_db, platform, CUSTOMER, day_of_month=20)
    for invoice_id, amount in ((part_paid, "200.00"), (paid, "500.00"), (refunded, "500.00")):
        await real_db.run(
            ADMIN, record_payment, platform, invoice_id, row.id, amount=Decimal(amount)
        )
    await real_db.run(ADMIN, cancel_invoice, cancelled, "typed twice")
    await real_db.run(ADMIN, refund_invoice, refunded, "hall closed")

    now = await read(api)
    clock.move(days=25)
    soon_due = await read(api)
    clock.move(days=6)
    late = await read(api)

    assert now["byStatus"]["ISSUED"] == {
        "count": 1,
        "totalAmount": "500.00",
        "amountPaid": "200.00",
    }
    assert {name: sums["count"] for name, sums in now["byStatus"].items()} == {
        "DRAFT": 1,
        "ISSUED": 1,
        "OVERDUE": 0,
        "PAID": 1,
        "CANCELLED": 1,
        "REFUNDED": 1,
    }
    assert (now["outstanding"], now["openInvoices"]) == ("300.00", 1)
    assert now["collectedPerMonth"][-1] == {"month": "2026-01", "amount": "700.00"}
    assert now["templates"]["nextRunDate"] == "2026-01-20"
    assert now["recentInvoices"][0]["id"] == str(draft.id)
    assert now["recentInvoices"][0]["createdByUser"]["name"] == "Alex Admin"
    assert now["dueNext7Days"] == {"count": 0, "amount": "0.00"}
    assert soon_due["dueNext7Days"] == {"count": 1, "amount": "300.00"}
    # Nobody has marked it yet, and it is late all the same.
    assert late["byStatus"]["OVERDUE"] == EMPTY
    assert late["overdue"] == {"count": 1, "amount": "300.00"}
    assert late["aging"] == {
        "current": "0.00",
        "1-30": "300.00",
        "31-60": "0.00",
        "61-90": "0.00",
        "90+": "0.00",
    }
    expected = add_up(*await read_books(real_db.mongo), clock(), TERMS.zone)
    assert late | expected == late


async def test_outstanding_is_what_the_customers_owe_together(
    api: httpx.AsyncClient, real_db: TestDatabase, platform: FakePlatform
) -> None:
    customers = [platform.add_user(a_customer()) for _ in range(3)]
    for number, customer in enumerate(customers, start=1):
        await an_issued_invoice(real_db, platform, customer, total_miners=number)

    owed = [
        Decimal((await api.get(f"/customers/{customer.id}/balance")).json()["outstanding"])
        for customer in customers
    ]

    assert Decimal((await read(api))["outstanding"]) == sum(owed)


async def test_the_newest_ten_are_shown_the_newest_first(
    api: httpx.AsyncClient, real_db: TestDatabase, platform: FakePlatform, clock: SettableClock
) -> None:
    numbers = []
    for _ in range(12):
        numbers.append((await a_draft(real_db, platform, CUSTOMER)).invoice_number)
        clock.move(seconds=1)

    shown = await read(api)

    assert [row["invoiceNumber"] for row in shown["recentInvoices"]] == numbers[:1:-1]
    assert shown["byStatus"]["DRAFT"]["count"] == 12


async def test_customers_see_no_dashboard(api: httpx.AsyncClient) -> None:
    headers = {"Authorization": f"Bearer {a_token(CUSTOMER.id, Role.CLIENT)}"}

    answer = await api.get("/dashboard", headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (403, "admins_only")


def test_figures_that_are_not_ready_are_503_and_say_how_far_they_are() -> None:
    error = FiguresNotReady(1_000, 5_000)

    assert error.code == "figures_not_ready"
    assert "1000 of about 5000" in error.sentence
    assert edge.STATUS_OF[next(kind for kind in edge.STATUS_OF if isinstance(error, kind))] == 503
