"""`GET /invoices`: parameters, pages, cursors, and what a customer gets whatever he asks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from accounting.actor import Role
from accounting.ids import new_id
from accounting.invoices.documents import Invoice
from accounting.platform.rules import PlatformUser
from accounting.platform.user_book import KEPT_SECONDS_MAX
from api_app import a_token, an_api
from builders import ADMIN, a_customer, a_draft, an_issued_invoice
from fakes import FakePlatform, Stopwatch, TestDatabase


@pytest.fixture
def watch() -> Stopwatch:
    return Stopwatch()


@pytest.fixture
async def api(
    db: TestDatabase, platform: FakePlatform, watch: Stopwatch
) -> AsyncIterator[httpx.AsyncClient]:
    """The API with an admin's token."""
    platform.add_user(a_customer(id=ADMIN.user_id, name="Alex Admin", role=Role.ADMIN))
    async with an_api(db, platform, monotonic=watch) as client:
        client.headers["Authorization"] = f"Bearer {a_token(ADMIN.user_id)}"
        yield client


@pytest.fixture
async def ada(db: TestDatabase, platform: FakePlatform) -> PlatformUser:
    """A customer with three issued invoices and a draft; Bob has one of each."""
    ada = a_customer()
    bob = a_customer(name="Bob Stone", email="bob@stone.example", company_name=None)
    for _ in range(3):
        await an_issued_invoice(db, platform, ada)
    await a_draft(db, platform, ada)
    await an_issued_invoice(db, platform, bob)
    await a_draft(db, platform, bob)
    return ada


async def numbers(api: httpx.AsyncClient, **parameters: Any) -> list[str]:
    response = await api.get("/invoices", params={"sortBy": "invoiceNumber", **parameters})
    assert response.status_code == 200, response.text
    return [invoice["invoiceNumber"][-2:] for invoice in response.json()["invoices"]]


@pytest.mark.parametrize("start", [{}, {"cursor": ""}], ids=["a page", "an empty cursor"])
async def test_a_list_is_read_to_its_end_by_cursor(
    api: httpx.AsyncClient, ada: PlatformUser, start: dict[str, str]
) -> None:
    parameters = {"limit": 4, "sortDirection": "asc"}
    first = (await api.get("/invoices", params=parameters | start)).json()
    rest = (await api.get("/invoices", params=parameters | {"cursor": first["nextCursor"]})).json()

    shown = [invoice["invoiceNumber"][-2:] for invoice in first["invoices"] + rest["invoices"]]
    assert shown == ["01", "02", "03", "04", "05", "06"]
    assert rest["nextCursor"] is None
    assert rest["pagination"] == {"page": None, "limit": 4, "total": None, "pages": None}


async def test_a_search_finds_numbers_by_their_start_and_customers_by_a_part(
    api: httpx.AsyncClient, ada: PlatformUser
) -> None:
    assert await numbers(api, q="2026011203") == ["03"]
    assert len(await numbers(api, q="202601")) == 6
    assert await numbers(api, q="011203") == []
    assert await numbers(api, q="bob s") == ["06", "05"]
    assert await numbers(api, q="STONE.example") == ["06", "05"]
    assert await numbers(api, q=" northern ") == ["04", "03", "02", "01"]
    assert await numbers(api, q="nobody") == []
    assert len(await numbers(api, q="")) == 6


async def test_a_search_knows_a_new_name_in_time(
    api: httpx.AsyncClient, platform: FakePlatform, ada: PlatformUser, watch: Stopwatch
) -> None:
    assert len(await numbers(api, q="ada h")) == 4
    platform.add_user(a_customer(id=ada.id, name="Ada Berg", is_deleted=True))
    assert (len(await numbers(api, q="ada h")), await numbers(api, q="ada b")) == (4, [])

    watch.seconds += KEPT_SECONDS_MAX + 0.1

    assert (await numbers(api, q="ada h"), len(await numbers(api, q="ada b"))) == ([], 4)


@pytest.mark.parametrize("text", [".*", "(", "[a-z]", "$", "^A", "a|b", "\\", "%", '{"$gt": ""}'])
async def test_a_search_is_a_text_and_no_pattern(
    api: httpx.AsyncClient, ada: PlatformUser, text: str
) -> None:
    assert await numbers(api, q=text) == []


@pytest.mark.parametrize("text", ["a\x00b", "a\nb", "\u200ba", "x" * 101])
async def test_a_search_has_a_length_and_no_control_characters(
    api: httpx.AsyncClient, text: str
) -> None:
    response = await api.get("/invoices", params={"q": text})

    assert response.status_code == 400
    assert [error["field"] for error in response.json()["errors"]] == ["q"]


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({"staus": "PAID"}, "staus"),
        ({"customerid": str(new_id())}, "customerid"),
        ({"status": "PAID", "sort_by": "status"}, "sort_by"),
        ({"$where": "1"}, "$where"),
        ({"customerId": ""}, "customerId"),
        ({"cursor": "x"}, "cursor"),
        ({"cursor": "", "page": 1}, "cursor"),
        ({"limit": 101}, "limit"),
        ({"page": 0}, "page"),
        ({"sortBy": "userId"}, "sortBy"),
    ],
)
async def test_a_wrong_parameter_is_named_and_not_ignored(
    api: httpx.AsyncClient, parameters: dict[str, str], field: str
) -> None:
    response = await api.get("/invoices", params=parameters)

    assert response.status_code == 400
    assert [error["field"] for error in response.json()["errors"]] == [field]


async def test_a_cursor_belongs_to_its_order(api: httpx.AsyncClient, ada: PlatformUser) -> None:
    given = (await api.get("/invoices?limit=2&sortBy=dueDate")).json()["nextCursor"]
    for other in ("sortBy=createdAt", "sortBy=dueDate&sortDirection=asc"):
        response = await api.get(f"/invoices?{other}&cursor={given}")

        assert response.status_code == 400
        assert response.json()["errors"][0]["field"] == "cursor"


async def test_routes_without_parameters_let_strange_ones_pass(
    api: httpx.AsyncClient, ada: PlatformUser
) -> None:
    listed = (await api.get("/invoices?limit=1")).json()["invoices"][0]["id"]

    assert (await api.get(f"/invoices/{listed}?_=1700000000")).status_code == 200


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"status": "DRAFT"},
        {"status": ["DRAFT", "ISSUED"]},
        {"q": "bob"},
        {"q": "2026"},
        {"q": "ada"},
        {"customerId": "66f0c0ffee00000000000101"},
        {"cursor": ""},
        {"overdue": "true"},
    ],
)
async def test_a_customer_gets_his_own_issued_invoices_whatever_he_asks(
    api: httpx.AsyncClient, ada: PlatformUser, parameters: dict[str, Any]
) -> None:
    api.headers["Authorization"] = f"Bearer {a_token(ada.id, Role.CLIENT)}"

    shown = await numbers(api, **parameters)

    assert set(shown) <= {"01", "02", "03"}
    asks_for_others = parameters in ({"status": "DRAFT"}, {"q": "bob"}, {"overdue": "true"})
    assert len(shown) == (0 if asks_for_others else 3)


async def test_what_a_row_of_an_older_version_does_not_have_is_shown_as_nothing(
    api: httpx.AsyncClient, ada: PlatformUser
) -> None:
    lacking = ("customer", "pricing", "updatedBy", "cancelReason", "issuedDay")
    await Invoice.get_motor_collection().update_many({}, {"$unset": dict.fromkeys(lacking, "")})

    [shown] = (await api.get("/invoices", params={"limit": 1})).json()["invoices"]

    assert [shown[name] for name in lacking[:-1]] == [None] * 4
    assert shown["updatedByUser"] is None
