"""`GET /customers` on the real server: who is listed, and what each owes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import date
from decimal import Decimal
from typing import Any

import httpx
import pytest

from accounting.actor import Role
from accounting.ids import ObjectId
from accounting.invoices.service import cancel_invoice
from accounting.invoices.settlement import record_payment
from accounting.platform.reader import MongoPlatform
from accounting.platform.rules import PlatformUser
from accounting.platform.user_book import KEPT_SECONDS_MAX
from api_app import a_token, an_api
from builders import (
    ADMIN,
    a_cost_payment,
    a_customer,
    a_draft,
    a_price,
    an_issued_invoice,
)
from fakes import FakePlatform, SettableClock, Stopwatch, TestDatabase

ADA = a_customer()
BOB = a_customer(name="bob Stone", email="bob@stone.example", company_name=None)


@pytest.fixture
def watch() -> Stopwatch:
    return Stopwatch()


@pytest.fixture
async def api(
    real_db: TestDatabase, platform: FakePlatform, watch: Stopwatch
) -> AsyncIterator[httpx.AsyncClient]:
    """The API with an admin's token."""
    platform.add_user(a_customer(id=ADMIN.user_id, name="Alex Admin", role=Role.ADMIN))
    for customer in (BOB, ADA):
        platform.add_user(customer)
    async with an_api(real_db, platform, monotonic=watch) as client:
        client.headers["Authorization"] = f"Bearer {a_token(ADMIN.user_id)}"
        yield client


@pytest.fixture
async def books(real_db: TestDatabase, platform: FakePlatform, clock: SettableClock) -> None:
    """Ada owes 300.00 and 500.00, and the first is overdue; drafts and cancelled ones count not."""
    early = date(2026, 1, 20)
    part_paid = await an_issued_invoice(real_db, platform, ADA, due_date=early)
    await an_issued_invoice(real_db, platform, ADA)
    cancelled = await an_issued_invoice(real_db, platform, ADA)
    await real_db.run(ADMIN, cancel_invoice, ObjectId(cancelled.id), "typed twice")
    await a_draft(real_db, platform, ADA)
    cost_payment = platform.add_cost_payment(a_cost_payment(ADA))
    await real_db.run(
        ADMIN,
        record_payment,
        platform,
        ObjectId(part_paid.id),
        cost_payment.id,
        amount=Decimal("200.00"),
    )
    await a_price(real_db, platform, ADA, date(2026, 1, 1), "50.00")
    await a_price(real_db, platform, ADA, date(2026, 1, 21), "60.00")
    platform.miner_statuses[ADA.id] = ["AUTO", "ACTIVE", "OFFLINE"]
    clock.move(days=9)


async def customers(api: httpx.AsyncClient, **parameters: Any) -> list[dict[str, Any]]:
    answer = await api.get("/customers", params=parameters)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["customers"]
    return found


@pytest.mark.usefixtures("books")
async def test_a_row_says_who_he_is_what_he_pays_and_what_he_owes(api: httpx.AsyncClient) -> None:
    body = (await api.get("/customers")).json()

    ada, bob = body["customers"]
    assert ada == {
        "id": str(ADA.id),
        "name": "Ada Holm",
        "email": "ada@example.com",
        "companyName": "Northern Hash Ltd",
        "activeMiners": 2,
        "unitPrice": "60.00",
        "outstanding": "800.00",
        "overdue": "300.00",
        "openInvoices": 2,
    }
    assert (bob["companyName"], bob["activeMiners"], bob["unitPrice"]) == (None, 0, None)
    assert (bob["outstanding"], bob["overdue"], bob["openInvoices"]) == ("0.00", "0.00", 0)
    assert body["pagination"] == {"page": 1, "limit": 10, "total": 2, "pages": 1}
    assert body["nextCursor"] is None


@pytest.mark.usefixtures("books")
@pytest.mark.parametrize("days", [-1, 0, 20, 21, 22, 60])
async def test_what_he_owes_is_what_his_balance_says(
    api: httpx.AsyncClient, clock: SettableClock, days: int
) -> None:
    clock.move(days=days)

    [ada] = await customers(api, q="ada")
    balance = (await api.get(f"/customers/{ADA.id}/balance")).json()

    for name in ("outstanding", "overdue", "openInvoices"):
        assert ada[name] == balance[name]


@pytest.mark.usefixtures("books")
@pytest.mark.parametrize(
    ("days", "price"), [(-21, None), (-20, "50.00"), (-1, "50.00"), (0, "60.00")]
)
async def test_the_price_is_the_one_in_effect_today(
    api: httpx.AsyncClient, clock: SettableClock, days: int, price: str | None
) -> None:
    clock.move(days=days)

    [ada] = await customers(api, q="ada")

    assert ada["unitPrice"] == price


async def test_it_is_searched_and_read_on_by_cursor(api: httpx.AsyncClient) -> None:
    first = (await api.get("/customers", params={"limit": 1, "cursor": ""})).json()
    rest = (await api.get("/customers", params={"cursor": first["nextCursor"]})).json()

    assert [item["name"] for item in first["customers"] + rest["customers"]] == [
        "Ada Holm",
        "bob Stone",
    ]
    assert rest["pagination"] == {"page": None, "limit": 10, "total": None, "pages": None}
    assert [item["name"] for item in await customers(api, q="STONE.ex")] == ["bob Stone"]
    assert await customers(api, q=".*") == []


async def test_a_new_customer_shows_up_in_time(
    api: httpx.AsyncClient, platform: FakePlatform, watch: Stopwatch
) -> None:
    await customers(api)
    platform.add_user(a_customer(name="Carla Ruiz"))
    watch.seconds += KEPT_SECONDS_MAX + 0.1

    assert [item["name"] for item in await customers(api, q="carla")] == ["Carla Ruiz"]


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({"cursor": "x"}, "cursor"),
        ({"cursor": "", "page": 1}, "cursor"),
        ({"q": "a\nb"}, "q"),
        ({"limit": 101}, "limit"),
        ({"role": "CLIENT"}, "role"),
    ],
)
async def test_a_wrong_parameter_is_named(
    api: httpx.AsyncClient, parameters: dict[str, Any], field: str
) -> None:
    answer = await api.get("/customers", params=parameters)

    assert answer.status_code == 400
    assert [error["field"] for error in answer.json()["errors"]] == [field]


async def test_customers_may_not_see_each_other(api: httpx.AsyncClient) -> None:
    as_ada = {"Authorization": f"Bearer {a_token(ADA.id, Role.CLIENT)}"}

    answer = await api.get("/customers", headers=as_ada)

    assert (answer.status_code, answer.json()["code"]) == (403, "admins_only")


async def test_the_platforms_own_documents_become_entries(real_db: TestDatabase) -> None:
    ids = [ObjectId(f"{serial:024x}") for serial in range(1, 7)]
    users: list[dict[str, Any]] = [
        {"name": " Ada Holm ", "email": "ada@example.com", "role": "CLIENT", "password": "secret"},
        {"email": "no.name@example.com", "role": "CLIENT", "isDeleted": False},
        {"name": 5, "email": "e" * 300, "companyName": "x" * 300, "role": "CLIENT"},
        {"name": "Gone", "email": "g@example.com", "role": "CLIENT", "isDeleted": True},
        {"name": "Gone too", "email": "h@example.com", "role": "CLIENT", "isDeleted": 1},
        {"name": "Staff", "email": "s@example.com", "role": "ADMIN"},
    ]
    users = [{"_id": user_id} | user for user_id, user in zip(ids, users, strict=True)]
    await real_db.mongo["users"].insert_many([*users, {"_id": "no id of ours", "name": "Ada"}])
    reader = MongoPlatform(real_db.mongo)

    found = [entry async for part in reader.walk_users() for entry in part]
    entries = sorted(found, key=lambda entry: entry.id)

    assert [entry.id for entry in entries] == ids
    assert [entry.is_customer for entry in entries] == [True, True, True, False, False, False]
    assert entries[0] == (ids[0], "Ada Holm", "ada@example.com", None, True)
    assert entries[1].name == "no.name@example.com"
    assert (entries[2].name, entries[2].email, len(entries[2].company_name or "")) == ("5", "", 200)
    for entry in entries:
        user = await reader.find_user(ObjectId(entry.id))
        assert isinstance(user, PlatformUser)
        assert (user.name, user.email, user.company_name, user.is_customer) == entry[1:]


@pytest.mark.parametrize(
    ("change", "is_seen"),
    [
        ({"$set": {"name": "Ada Berg"}}, True),
        ({"$set": {"email": "ada@berg.example"}}, True),
        ({"$set": {"companyName": None}}, True),
        ({"$set": {"isDeleted": True}}, True),
        ({"$set": {"role": "ADMIN"}}, True),
        ({"$set": {"isDeleted": False}}, True),
        ({"$set": {"password": "new"}}, False),
    ],
)
async def test_the_digest_of_all_users_changes_with_any(
    real_db: TestDatabase, change: dict[str, Any], is_seen: bool
) -> None:
    users = real_db.mongo["users"]
    reader = MongoPlatform(real_db.mongo)
    assert await reader.digest_users() == []
    await users.insert_many(
        {"name": f"C {serial}", "email": "c@x.test", "companyName": "X", "role": "CLIENT"}
        for serial in range(20)
    )

    before, again = await reader.digest_users(), await reader.digest_users()
    await users.update_one({"name": "C 7"}, change)

    assert before == again
    assert before is not None
    assert (await reader.digest_users() != before) is is_seen
