"""Requests and answers of `/pricing-configs` and `/customers/{id}/price`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from accounting.actor import Role
from accounting.ids import new_id
from accounting.platform.rules import PlatformUser
from accounting.pricing.documents import CustomerPricingConfig
from api_app import a_token, an_api
from builders import ADMIN, a_customer
from fakes import FakePlatform, TestDatabase


@pytest.fixture
async def api(memory_db: TestDatabase, platform: FakePlatform) -> AsyncIterator[httpx.AsyncClient]:
    """The API with an admin's token; today is 2026-01-12."""
    platform.add_user(a_customer(id=ADMIN.user_id, name="Alex Admin", role=Role.ADMIN))
    async with an_api(memory_db, platform) as client:
        client.headers["Authorization"] = f"Bearer {a_token(ADMIN.user_id)}"
        yield client


@pytest.fixture
def customer(platform: FakePlatform) -> PlatformUser:
    return platform.add_user(a_customer())


async def set_price(
    api: httpx.AsyncClient, customer: PlatformUser, day: str | None = None, price: str = "50.00"
) -> httpx.Response:
    body = {"customerId": str(customer.id), "defaultUnitPrice": price}
    return await api.post("/pricing-configs", json=body | ({"effectiveFrom": day} if day else {}))


async def test_a_price_is_set_and_read_back_in_the_same_shape(
    api: httpx.AsyncClient, customer: PlatformUser
) -> None:
    created = await set_price(api, customer)
    price = created.json()
    read = await api.get(f"/pricing-configs/{price['id']}")

    assert created.status_code == 201
    assert created.headers["location"].endswith(f"/pricing-configs/{price['id']}")
    assert read.json() == price
    assert price == {
        "id": price["id"],
        "userId": str(customer.id),
        "user": {
            "id": str(customer.id),
            "name": "Ada Holm",
            "email": "ada@example.com",
            "companyName": "Northern Hash Ltd",
        },
        "defaultUnitPrice": "50.00",
        "effectiveFrom": "2026-01-12",
        "effectiveTo": None,
        "isOpen": True,
        "isInEffect": True,
        "createdBy": str(ADMIN.user_id),
        "updatedBy": None,
        "createdByUser": {
            "id": str(ADMIN.user_id),
            "name": "Alex Admin",
            "email": "ada@example.com",
        },
        "updatedByUser": None,
        "createdAt": "2026-01-12T09:30:00.000Z",
        "updatedAt": "2026-01-12T09:30:00.000Z",
    }


async def test_a_list_shows_what_is_and_what_will_be_in_effect(
    api: httpx.AsyncClient, customer: PlatformUser
) -> None:
    for day in ("2025-06-01", "2026-01-01", "2026-03-01"):
        await set_price(api, customer, day)

    listed = (await api.get("/pricing-configs", params={"customerId": str(customer.id)})).json()
    on_a_day = (await api.get("/pricing-configs", params={"on": "2026-02-28"})).json()

    facts = [
        (price["effectiveFrom"], price["effectiveTo"], price["isOpen"], price["isInEffect"])
        for price in listed["pricingConfigs"]
    ]
    assert facts == [
        ("2026-03-01", None, True, False),
        ("2026-01-01", "2026-03-01", False, True),
        ("2025-06-01", "2026-01-01", False, False),
    ]
    assert listed["pagination"] == {"page": 1, "limit": 10, "total": 3, "pages": 1}
    assert [price["effectiveFrom"] for price in on_a_day["pricingConfigs"]] == ["2026-01-01"]


async def test_a_cursor_leads_through_the_list(
    api: httpx.AsyncClient, platform: FakePlatform
) -> None:
    for _ in range(5):  # equal days: the id decides
        await set_price(api, platform.add_user(a_customer()), "2026-01-01")
    seen, cursor = [], ""

    while cursor is not None:
        page = await api.get("/pricing-configs", params={"cursor": cursor, "limit": 2})
        seen += [price["id"] for price in page.json()["pricingConfigs"]]
        cursor = page.json()["nextCursor"]

    assert len(seen) == len(set(seen)) == 5


async def test_an_overlap_is_a_conflict_with_the_row_that_is_in_the_way(
    api: httpx.AsyncClient, customer: PlatformUser
) -> None:
    later = (await set_price(api, customer, "2026-03-01")).json()

    refused = await set_price(api, customer, "2026-02-01")

    assert refused.status_code == 409
    problem = refused.json()
    assert problem["code"] == "prices_overlap"
    assert problem["conflictingId"] == later["id"]
    assert (problem["effectiveFrom"], problem["effectiveTo"]) == ("2026-03-01", None)
    assert "can start on 2026-03-02 or later" in problem["error"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"customerId": "xyz"}, "customerId"),
        ({"defaultUnitPrice": "0.00"}, "defaultUnitPrice"),
        ({"defaultUnitPrice": "1.005"}, "defaultUnitPrice"),
        ({"defaultUnitPrice": "100000000.00"}, "defaultUnitPrice"),
        ({"defaultUnitPrice": None}, "defaultUnitPrice"),
        ({"effectiveFrom": "2026-02-30"}, "effectiveFrom"),
        ({"effectiveFrom": "9999-12-31"}, "effectiveFrom"),
        ({"effectiveTo": "2026-02-01"}, "effectiveTo"),
        ({"unitPrice": "1.00"}, "unitPrice"),
    ],
)
async def test_a_wrong_value_is_refused_with_its_field(
    api: httpx.AsyncClient, customer: PlatformUser, change: dict[str, Any], field: str
) -> None:
    body = {"customerId": str(customer.id), "defaultUnitPrice": "50.00"} | change

    response = await api.post("/pricing-configs", json=body)

    assert response.status_code == 400
    assert field in [error["field"] for error in response.json()["errors"]]
    assert await CustomerPricingConfig.find_all().count() == 0


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
async def test_history_has_no_way_to_be_changed(
    api: httpx.AsyncClient, customer: PlatformUser, method: str
) -> None:
    price = (await set_price(api, customer)).json()

    answer = await api.request(method, f"/pricing-configs/{price['id']}", json={})

    assert answer.status_code == 405


async def test_a_price_is_archived_today_or_on_a_later_day(
    api: httpx.AsyncClient, platform: FakePlatform
) -> None:
    first, second = [
        (await set_price(api, platform.add_user(a_customer()), "2026-01-01")).json()["id"]
        for _ in range(2)
    ]

    today = await api.post(f"/pricing-configs/{first}/archive")
    later = await api.post(f"/pricing-configs/{second}/archive", json={"effectiveTo": "2026-02-01"})
    again = await api.post(f"/pricing-configs/{second}/archive", json={})

    assert today.status_code == 200
    ended = today.json()
    assert (ended["effectiveTo"], ended["isOpen"], ended["isInEffect"]) == (
        "2026-01-12",
        False,
        False,
    )
    assert (later.json()["effectiveTo"], later.json()["isInEffect"]) == ("2026-02-01", True)
    assert (again.status_code, again.json()["code"]) == (409, "price_already_ends")


@pytest.mark.parametrize(
    ("effective_from", "body", "status", "code"),
    [
        ("2026-01-12", None, 409, "price_never_in_effect"),
        ("2026-03-01", None, 409, "price_never_in_effect"),
        ("2026-01-01", {"effectiveTo": "2026-01-11"}, 400, "price_ends_in_the_past"),
        ("2026-01-01", {"effectiveTo": "soon"}, 400, "invalid_request"),
    ],
)
async def test_what_cannot_be_archived_says_why(
    api: httpx.AsyncClient,
    customer: PlatformUser,
    effective_from: str,
    body: dict[str, str] | None,
    status: int,
    code: str,
) -> None:
    price = (await set_price(api, customer, effective_from)).json()

    refused = await api.post(f"/pricing-configs/{price['id']}/archive", json=body)

    assert (refused.status_code, refused.json()["code"]) == (status, code)
    assert (await api.get(f"/pricing-configs/{price['id']}")).json() == price


async def test_the_price_of_a_customer_on_a_day(
    api: httpx.AsyncClient, customer: PlatformUser
) -> None:
    await set_price(api, customer, "2026-01-01", "50.00")
    await set_price(api, customer, "2026-03-01", "60.00")
    path = f"/customers/{customer.id}/price"

    today = await api.get(path)
    later = await api.get(path, params={"on": "2026-03-01"})
    before = await api.get(path, params={"on": "2025-12-31"})

    assert (today.status_code, today.json()["defaultUnitPrice"]) == (200, "50.00")
    assert later.json()["defaultUnitPrice"] == "60.00"
    assert (before.status_code, before.json()["code"]) == (404, "customer_has_no_price")
    assert before.json()["on"] == "2025-12-31"


async def test_what_does_not_exist_is_not_found(api: httpx.AsyncClient) -> None:
    stranger = a_customer()

    price = await api.get(f"/pricing-configs/{new_id()}")
    archived = await api.post(f"/pricing-configs/{new_id()}/archive")
    of_a_stranger = await api.get(f"/customers/{stranger.id}/price")
    for_a_stranger = await set_price(api, stranger)

    assert (price.status_code, price.json()["code"]) == (404, "pricing_config_not_found")
    assert archived.status_code == 404
    assert of_a_stranger.json()["code"] == for_a_stranger.json()["code"] == "customer_not_found"


async def test_a_repeated_request_sets_one_price(
    api: httpx.AsyncClient, customer: PlatformUser
) -> None:
    api.headers["Idempotency-Key"] = "price-1"

    first, second = await set_price(api, customer), await set_price(api, customer)

    assert second.headers["Idempotent-Replayed"] == "true"
    assert second.content == first.content
    assert await CustomerPricingConfig.find_all().count() == 1


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/pricing-configs?on=tomorrow", "on"),
        ("/pricing-configs?on=9999-12-31", "on"),
        ("/pricing-configs?customerId=x", "customerId"),
        ("/pricing-configs?limit=101", "limit"),
        ("/pricing-configs?isOpen=true", "isOpen"),
        ("/pricing-configs/xyz", "id"),
        ("/customers/xyz/price", "id"),
    ],
)
async def test_a_wrong_address_is_refused_with_its_field(
    api: httpx.AsyncClient, path: str, field: str
) -> None:
    answer = await api.get(path)

    assert answer.status_code == 400
    assert [error["field"] for error in answer.json()["errors"]] == [field]
