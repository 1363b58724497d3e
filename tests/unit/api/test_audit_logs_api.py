"""`GET /audit-logs` over HTTP: filters, pages, cursors, and who may read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

from accounting.actor import SYSTEM, Role
from accounting.audit.rules import AuditAction, EntityType
from accounting.audit.service import record
from accounting.ids import new_id
from api_app import a_token, an_api
from builders import ADMIN, NOW, a_customer
from fakes import FakePlatform, SettableClock, TestDatabase

INVOICE, TEMPLATE = new_id(), new_id()


@pytest.fixture
async def api(
    memory_db: TestDatabase, platform: FakePlatform, clock: SettableClock
) -> AsyncIterator[httpx.AsyncClient]:
    """Six entries, a day apart: four about an invoice, two about a template."""
    platform.add_user(a_customer(id=ADMIN.user_id, name="Ann Ode", role=Role.ADMIN))
    facts = [
        (ADMIN, AuditAction.INVOICE_CREATED, EntityType.INVOICE, INVOICE),
        (ADMIN, AuditAction.INVOICE_ISSUED, EntityType.INVOICE, INVOICE),
        (SYSTEM, AuditAction.EMAIL_SENT, EntityType.INVOICE, INVOICE),
        (ADMIN, AuditAction.RECURRING_INVOICE_CREATED, EntityType.RECURRING_INVOICE, TEMPLATE),
        (SYSTEM, AuditAction.INVOICE_OVERDUE, EntityType.INVOICE, INVOICE),
        (ADMIN, AuditAction.RECURRING_INVOICE_PAUSED, EntityType.RECURRING_INVOICE, TEMPLATE),
    ]
    for day, (actor, action, entity_type, entity_id) in enumerate(facts):
        clock.now = NOW + timedelta(days=day)
        await memory_db.run(actor, record, action, (entity_type, entity_id), f"entry {day + 1}")
    async with an_api(memory_db, platform) as client:
        client.headers["Authorization"] = f"Bearer {a_token(ADMIN.user_id)}"
        yield client


async def read(api: httpx.AsyncClient, **query: Any) -> dict[str, Any]:
    answer = await api.get("/audit-logs", params=query)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def numbers(body: dict[str, Any]) -> list[int]:
    return [int(entry["description"].removeprefix("entry ")) for entry in body["auditLogs"]]


async def test_the_newest_come_first_in_pages(api: httpx.AsyncClient) -> None:
    first, second = await read(api, limit=4), await read(api, limit=4, page=2)

    assert (numbers(first), numbers(second)) == ([6, 5, 4, 3], [2, 1])
    assert first["pagination"] == {"page": 1, "limit": 4, "total": 6, "pages": 2}


async def test_an_entry_has_the_shape_of_the_invoices_trail(api: httpx.AsyncClient) -> None:
    newest = (await read(api, entityId=str(INVOICE), limit=1))["auditLogs"][0]
    trail = (await api.get(f"/invoices/{INVOICE}/audit-log")).json()["auditLogs"]

    assert newest == trail[-1]
    assert (newest["actor"], newest["seq"]) == ("system", 4)
    assert [entry["actor"] for entry in trail] == ["Ann Ode", "Ann Ode", "system", "system"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"action": "EMAIL_SENT"}, [3]),
        ({"action": ["EMAIL_SENT", "INVOICE_OVERDUE"]}, [5, 3]),
        ({"entityType": "RecurringInvoice"}, [6, 4]),
        ({"entityId": str(INVOICE)}, [5, 3, 2, 1]),
        ({"entityId": str(new_id())}, []),
        ({"userId": "0" * 24}, [5, 3]),
        ({"userId": str(ADMIN.user_id), "entityType": "Invoice"}, [2, 1]),
        ({"from": "2026-01-15"}, [6, 5, 4]),
        ({"to": "2026-01-13"}, [2, 1]),
        ({"from": "2026-01-13", "to": "2026-01-14"}, [3, 2]),
        ({"from": "2026-01-14", "to": "2026-01-13"}, []),
        ({"action": "EMAIL_SENT", "from": "2026-01-15"}, []),
    ],
)
async def test_filters_narrow(
    api: httpx.AsyncClient, query: dict[str, Any], expected: list[int]
) -> None:
    body = await read(api, **query)

    assert numbers(body) == expected
    assert body["pagination"]["total"] == len(expected)


async def test_a_cursor_leads_through_the_list_while_it_grows(
    api: httpx.AsyncClient, memory_db: TestDatabase, clock: SettableClock
) -> None:
    seen: list[int] = []
    cursor: str | None = ""
    while cursor is not None:
        body = await read(api, cursor=cursor, limit=2)
        seen += numbers(body)
        cursor = body["nextCursor"]
        clock.move(days=1)
        await memory_db.run(
            ADMIN, record, AuditAction.INVOICE_UPDATED, (EntityType.INVOICE, INVOICE), "entry 99"
        )

    assert seen == [6, 5, 4, 3, 2, 1]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"cursor": "nonsense"}, "cursor"),
        ({"cursor": "x" * 5_000}, "cursor"),
        ({"cursor": "", "page": 2}, "cursor"),
        ({"entityId": "12"}, "entityId"),
        ({"userId": "me"}, "userId"),
        ({"action": "COFFEE_MADE"}, "action"),
        ({"entityType": "Coffee"}, "entityType"),
        ({"from": "yesterday"}, "from"),
        ({"to": "9999-12-31"}, "to"),
        ({"limit": 101}, "limit"),
        ({"page": 0}, "page"),
    ],
)
async def test_a_wrong_query_is_refused_by_name(
    api: httpx.AsyncClient, query: dict[str, Any], field: str
) -> None:
    answer = await api.get("/audit-logs", params=query)

    assert answer.status_code == 400
    assert [error["field"] for error in answer.json()["errors"]] == [field]


async def test_customers_may_not_read_the_trail(
    api: httpx.AsyncClient, platform: FakePlatform
) -> None:
    customer = platform.add_user(a_customer())
    token = a_token(customer.id, Role.CLIENT)

    answer = await api.get("/audit-logs", headers={"Authorization": f"Bearer {token}"})

    assert (answer.status_code, answer.json()["code"]) == (403, "admins_only")
