"""`GET /invoices/export`: the rows of the list, as a file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import httpx
import pytest

from accounting.actor import Role
from accounting.api.exports import EXPORTS_AT_ONCE_MAX, let_exports_end, take_place
from accounting.ids import ObjectId, new_id
from accounting.invoices.service import cancel_invoice
from accounting.invoices.settlement import record_payment
from accounting.platform.rules import PlatformUser
from accounting.platform.user_book import KEPT_SECONDS_MAX
from api_app import APP, a_token, an_api
from builders import ADMIN, a_cost_payment, a_customer, a_draft, an_issued_invoice
from export_rows import read_csv, read_xlsx
from fakes import FakePlatform, SettableClock, Stopwatch, TestDatabase

FILTERS: list[dict[str, Any]] = [
    {},
    {"status": ["ISSUED", "DRAFT"]},
    {"status": "PAID", "sortBy": "totalAmount", "sortDirection": "asc"},
    {"sortBy": "status"},
    {"sortBy": "dueDate", "sortDirection": "asc"},
    {"sortBy": "paidDate"},
    {"sortBy": "invoiceNumber", "dueFrom": "2026-02-01"},
    {"minAmount": "500.00", "maxAmount": "600.00"},
    {"startDate": "2026-01-12", "endDate": "2026-01-12"},
    {"overdue": "true"},
    {"billingPeriod": "2026-01"},
    {"q": "bob"},
    {"q": "2026011203"},
    {"customerId": str(new_id())},
]


@pytest.fixture
def watch() -> Stopwatch:
    return Stopwatch()


@pytest.fixture
async def api(
    real_db: TestDatabase, platform: FakePlatform, watch: Stopwatch
) -> AsyncIterator[httpx.AsyncClient]:
    """The API with an admin's token."""
    platform.add_user(a_customer(id=ADMIN.user_id, name="Alex Admin", role=Role.ADMIN))
    async with an_api(real_db, platform, monotonic=watch) as client:
        client.headers["Authorization"] = f"Bearer {a_token(ADMIN.user_id)}"
        yield client


@pytest.fixture
async def ada(real_db: TestDatabase, platform: FakePlatform, clock: SettableClock) -> PlatformUser:
    """Ada's invoices: part paid, paid, cancelled, a draft; Bob has two, issued on the next day."""
    ada = a_customer()
    bob = a_customer(name="Bob Stone", email="bob@stone.example", company_name=None)
    part_paid, paid, cancelled = [
        ObjectId((await an_issued_invoice(real_db, platform, ada, billing_period="2026-01")).id)
        for _ in range(3)
    ]
    cost_payment = platform.add_cost_payment(a_cost_payment(ada, "900.00"))
    for invoice_id, amount in ((part_paid, "200.00"), (paid, "500.00")):
        await real_db.run(
            ADMIN, record_payment, platform, invoice_id, cost_payment.id, amount=Decimal(amount)
        )
    await real_db.run(ADMIN, cancel_invoice, cancelled, "typed twice")
    await a_draft(real_db, platform, ada, total_miners=6)
    clock.move(days=1)
    for miners in (1, 7):
        await an_issued_invoice(real_db, platform, bob, total_miners=miners)
    return ada


async def export(api: httpx.AsyncClient, **parameters: Any) -> list[dict[str, str]]:
    answer = await api.get("/invoices/export", params=parameters)
    assert answer.status_code == 200, answer.text
    return read_csv(answer.content)


async def test_it_is_a_dated_file_and_is_not_kept(
    api: httpx.AsyncClient, ada: PlatformUser
) -> None:
    answer = await api.get("/invoices/export")

    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == (
        'attachment; filename="invoices-2026-01-13.csv"'
    )
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-request-id"]


async def test_a_row_says_everything_about_its_invoice(
    api: httpx.AsyncClient, ada: PlatformUser
) -> None:
    rows = await export(api, sortBy="invoiceNumber", sortDirection="asc")

    assert rows[0] == {
        "invoiceNumber": "2026011201",
        "status": "ISSUED",
        "isOverdue": "false",
        "customerName": "Ada Holm",
        "customerEmail": "ada@example.com",
        "customerCompany": "Northern Hash Ltd",
        "customerId": str(ada.id),
        "billingPeriod": "2026-01",
        "totalMiners": "5",
        "unitPrice": "100.00",
        "totalAmount": "500.00",
        "amountPaid": "200.00",
        "balanceDue": "300.00",
        "currency": "USD",
        "invoiceGeneratedDate": "2026-01-12",
        "issuedDate": "2026-01-12",
        "dueDate": "2026-02-11",
        "paidDate": "",
        "cancelledDate": "",
        "refundedDate": "",
    }
    assert (rows[1]["status"], rows[1]["paidDate"], rows[1]["balanceDue"]) == (
        *("PAID", "2026-01-12"),
        "0.00",
    )
    assert (rows[2]["status"], rows[2]["cancelledDate"]) == ("CANCELLED", "2026-01-12")


async def test_a_draft_calls_its_customer_as_the_platform_does_now(
    api: httpx.AsyncClient, platform: FakePlatform, ada: PlatformUser
) -> None:
    platform.add_user(a_customer(id=ada.id, name="Ada Holm-Berg"))

    [draft] = await export(api, status="DRAFT")
    [issued] = await export(api, status="ISSUED", customerId=str(ada.id))

    assert (draft["customerName"], draft["issuedDate"]) == ("Ada Holm-Berg", "")
    assert issued["customerName"] == "Ada Holm"


async def test_a_draft_of_nobody_has_an_id_alone(
    api: httpx.AsyncClient, platform: FakePlatform, ada: PlatformUser
) -> None:
    del platform.users[ada.id]

    [draft] = await export(api, status="DRAFT")

    assert (draft["customerName"], draft["customerId"]) == ("", str(ada.id))


@pytest.mark.parametrize("parameters", FILTERS, ids=",".join)
async def test_it_has_the_rows_of_the_list_in_its_order(
    api: httpx.AsyncClient, ada: PlatformUser, parameters: dict[str, Any]
) -> None:
    listed, page = [], 1
    while True:
        wanted = parameters | {"limit": 2, "page": page}
        found = (await api.get("/invoices", params=wanted)).json()["invoices"]
        if not found:
            break
        listed += [(item["invoiceNumber"], item["isOverdue"]) for item in found]
        page += 1

    exported = await export(api, **parameters)

    flags = [(row["invoiceNumber"], row["isOverdue"] == "true") for row in exported]
    assert flags == listed


async def test_overdue_is_as_of_today(
    api: httpx.AsyncClient, ada: PlatformUser, clock: SettableClock
) -> None:
    clock.move(days=30)

    rows = await export(api, overdue="true")

    assert [(row["invoiceNumber"], row["isOverdue"]) for row in rows] == [("2026011201", "true")]


async def test_a_workbook_has_the_same_rows(api: httpx.AsyncClient, ada: PlatformUser) -> None:
    answer = await api.get("/invoices/export?format=xlsx&sortBy=dueDate")

    rows = read_xlsx(answer.content)["Invoices"]
    expected = await export(api, sortBy="dueDate")
    assert answer.headers["content-disposition"].endswith('.xlsx"')
    assert answer.headers["content-type"].endswith("spreadsheetml.sheet")
    assert [row["invoiceNumber"] for row in rows] == [row["invoiceNumber"] for row in expected]
    assert [f"{row['balanceDue']:.2f}" for row in rows] == [row["balanceDue"] for row in expected]
    assert [str(row["paidDate"]) for row in rows] == [row["paidDate"] for row in expected]


async def test_nothing_found_is_a_file_without_rows(api: httpx.AsyncClient) -> None:
    assert await export(api) == []
    assert await export(api, q="nobody") == []


async def test_a_search_knows_a_new_name_in_time(
    api: httpx.AsyncClient, platform: FakePlatform, ada: PlatformUser, watch: Stopwatch
) -> None:
    assert len(await export(api, q="ada h")) == 4
    platform.add_user(a_customer(id=ada.id, name="Ada Berg", is_deleted=True))
    assert (len(await export(api, q="ada h")), await export(api, q="ada b")) == (4, [])

    watch.seconds += KEPT_SECONDS_MAX + 0.1

    assert (await export(api, q="ada h"), len(await export(api, q="ada b"))) == ([], 4)


async def test_words_of_others_are_neither_formulas_nor_lines(
    api: httpx.AsyncClient, real_db: TestDatabase, platform: FakePlatform
) -> None:
    evil = a_customer(name='=HYPERLINK("x","y")', company_name="@SUM(1)\r\n2026,PAID,田中")
    await an_issued_invoice(real_db, platform, evil)
    await a_draft(real_db, platform, evil)

    rows = await export(api)
    answer = await api.get("/invoices/export?format=xlsx")

    assert {row["customerName"] for row in rows} == {'\'=HYPERLINK("x","y")'}
    assert {row["customerCompany"] for row in rows} == {"'@SUM(1) 2026,PAID,田中"}
    assert len((await api.get("/invoices/export")).content.splitlines()) == 3
    for row in read_xlsx(answer.content)["Invoices"]:
        assert row["customerName"] == '=HYPERLINK("x","y")'


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({"staus": "PAID"}, "staus"),
        ({"page": 1}, "page"),
        ({"limit": 5}, "limit"),
        ({"cursor": ""}, "cursor"),
        ({"format": "pdf"}, "format"),
        ({"minAmount": "NaN"}, "minAmount"),
        ({"startDate": "1999-01-01"}, "startDate"),
        ({"customerId": "7"}, "customerId"),
        ({"sortBy": "userId"}, "sortBy"),
        ({"q": "a\nb"}, "q"),
    ],
)
async def test_what_is_wrong_is_said_instead_of_a_file(
    api: httpx.AsyncClient, parameters: dict[str, Any], field: str
) -> None:
    answer = await api.get("/invoices/export", params=parameters)

    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert [error["field"] for error in answer.json()["errors"]] == [field]


async def test_customers_may_not(api: httpx.AsyncClient, ada: PlatformUser) -> None:
    as_ada = {"Authorization": f"Bearer {a_token(ada.id, Role.CLIENT)}"}

    answer = await api.get("/invoices/export", headers=as_ada)

    assert (answer.status_code, answer.json()["code"]) == (403, "admins_only")


async def test_one_more_than_run_at_a_time_is_told_to_wait(api: httpx.AsyncClient) -> None:
    leave = [take_place(APP.app.state) for _ in range(EXPORTS_AT_ONCE_MAX)]

    refused = await api.get("/invoices/export")
    for end in leave:
        end()
    allowed = [(await api.get("/invoices/export")).status_code for _ in range(5)]

    assert (refused.status_code, refused.json()["code"]) == (503, "exports_busy")
    assert refused.headers["retry-after"] == "30"
    assert allowed == [200] * 5


async def test_a_server_that_stops_lets_exports_remove_their_files() -> None:
    leave = take_place(APP.app.state)
    stopping = asyncio.create_task(let_exports_end(APP.app.state))
    await asyncio.sleep(0.1)
    is_waiting = not stopping.done()

    leave()
    await asyncio.wait_for(stopping, 1)

    assert is_waiting


async def test_a_request_that_is_refused_takes_no_place(api: httpx.AsyncClient) -> None:
    for _ in range(EXPORTS_AT_ONCE_MAX + 1):
        assert (await api.get("/invoices/export?q=a%0ab")).status_code == 400

    assert (await api.get("/invoices/export")).status_code == 200
