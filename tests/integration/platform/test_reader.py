"""Reading the platform's own collections."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from bson import ObjectId

from accounting.actor import Role
from accounting.db.client import MongoDatabase
from accounting.ids import ObjectId as Id
from accounting.platform.reader import MongoPlatform, get_cost_payment, get_customer
from accounting.platform.rules import CostPaymentNotFound, CostPaymentUnusable, CustomerNotFound
from accounting.platform.user_book import UserBook
from fakes import FakePlatform

NOW = datetime(2026, 1, 12, 9, 30, tzinfo=UTC)


@pytest.fixture
def reader(real_mongo: MongoDatabase) -> MongoPlatform:
    return MongoPlatform(real_mongo)


async def a_user(mongo: MongoDatabase, **changes: object) -> Id:
    user = {
        "_id": ObjectId(),
        "email": "ada@example.com",
        "name": "Ada Holm",
        "role": "CLIENT",
        "password": "never read",
    } | changes
    await mongo["users"].insert_one(user)
    return Id(user["_id"])


async def test_a_customer_is_read_without_the_password(
    reader: MongoPlatform, real_mongo: MongoDatabase
) -> None:
    user_id = await a_user(real_mongo, companyName="Northern Hash Ltd")

    customer = await get_customer(reader, user_id)

    assert (customer.name, customer.email) == ("Ada Holm", "ada@example.com")
    assert customer.company_name == "Northern Hash Ltd"
    assert "never read" not in repr(customer)


@pytest.mark.parametrize(
    "changes", [{"role": "ADMIN"}, {"role": "SUPER_ADMIN"}, {"isDeleted": True}]
)
async def test_staff_and_deleted_users_are_no_customers(
    reader: MongoPlatform, real_mongo: MongoDatabase, changes: dict[str, object]
) -> None:
    user_id = await a_user(real_mongo, **changes)

    with pytest.raises(CustomerNotFound):
        await get_customer(reader, user_id)


async def test_an_unknown_role_has_no_admin_rights(
    reader: MongoPlatform, real_mongo: MongoDatabase
) -> None:
    user = await reader.find_user(await a_user(real_mongo, role="ROOT"))

    assert user is not None
    assert user.role is Role.UNKNOWN
    assert not user.is_customer


@pytest.mark.parametrize("text", ["ADA", "ada@", "Hash (", ".*", "é", "ß", "gone", "  ", "no one"])
async def test_what_is_kept_of_the_users_finds_whom_the_server_finds(
    reader: MongoPlatform, real_mongo: MongoDatabase, text: str
) -> None:
    ids = [
        await a_user(real_mongo, **changes)
        for changes in (
            {"companyName": "Northern Hash (EU) Ltd"},
            {"name": "Adalbert É. Groß", "email": "gross@example.com", "role": "ADMIN"},
            {"name": "Bob", "email": "bob@example.com", "companyName": None, "role": "ROOT"},
            {"name": "Gone  Ada", "email": None, "isDeleted": True},
            {"name": None, "email": "madam@example.com", "isDeleted": None},
        )
    ]
    book = UserBook(reader)

    for among in (None, ids[1:4], []):
        found = await book.find_customer_ids(text, limit=10, among=among)

        assert set(found) == set(await reader.find_customer_ids(text, limit=10, among=among))


async def test_a_ledger_double_becomes_cents_at_the_border(
    reader: MongoPlatform, real_mongo: MongoDatabase
) -> None:
    row = {"_id": ObjectId(), "userId": ObjectId(), "amount": 0.1 + 0.2, "type": "PAYMENT"}
    await real_mongo["cost_payments"].insert_one(row)

    cost_payment = await get_cost_payment(reader, Id(row["_id"]))

    assert cost_payment.amount == Decimal("0.30")
    cost_payment.check_can_pay()


@pytest.mark.parametrize(
    "amount", [float("nan"), float("inf"), 1e300, 1e10, "500.00", None, True, {}, [500.0]]
)
async def test_a_ledger_row_without_a_real_amount_cannot_pay(
    reader: MongoPlatform, real_mongo: MongoDatabase, amount: object
) -> None:
    row = {"_id": ObjectId(), "userId": ObjectId(), "amount": amount, "type": "PAYMENT"}
    await real_mongo["cost_payments"].insert_one(row)

    cost_payment = await get_cost_payment(reader, Id(row["_id"]))

    with pytest.raises(CostPaymentUnusable, match="no amount that can be read"):
        cost_payment.check_can_pay()


async def test_an_unknown_ledger_row_is_not_found(reader: MongoPlatform) -> None:
    with pytest.raises(CostPaymentNotFound):
        await get_cost_payment(reader, Id(ObjectId()))


async def test_usable_payments_are_those_that_can_pay_oldest_first(
    reader: MongoPlatform, real_mongo: MongoDatabase
) -> None:
    owner = ObjectId()
    rows = [
        {"amount": 20.0, "type": "PAYMENT", "createdAt": NOW},
        {"amount": 10.0, "type": "PAYMENT", "createdAt": NOW - timedelta(days=1)},
        {"amount": 0.004, "type": "PAYMENT"},
        {"amount": float("nan"), "type": "PAYMENT"},
        {"amount": float("inf"), "type": "PAYMENT"},
        {"amount": -5.0, "type": "PAYMENT"},
        {"amount": 5.0, "type": "ADJUSTMENT"},
        {"amount": 5.0, "type": "PAYMENT", "isDeleted": True},
        {"amount": 5.0, "type": "PAYMENT", "userId": ObjectId()},
    ]
    await real_mongo["cost_payments"].insert_many([{"userId": owner} | row for row in rows])

    usable = await reader.list_usable_payments(Id(owner), 10)
    page, total = await reader.page_of_payments(Id(owner), page=1, limit=1)

    assert [str(row.amount) for row in usable] == ["10.00", "20.00"]
    assert ([str(row.amount) for row in page], total) == (["20.00"], 2)


async def test_odd_values_of_a_user_fit_our_documents(
    reader: MongoPlatform, real_mongo: MongoDatabase
) -> None:
    user = await reader.find_user(
        await a_user(real_mongo, name="n" * 999, companyName=5, email="e" * 999)
    )

    assert user is not None
    assert (len(user.name), user.company_name, user.email) == (200, "5", "")


async def test_active_miners_have_an_active_status_and_are_not_deleted(
    reader: MongoPlatform, real_mongo: MongoDatabase
) -> None:
    owner, other = ObjectId(), ObjectId()
    miners = [
        {"userId": owner, "status": "AUTO"},
        {"userId": owner, "status": "ACTIVE", "isDeleted": False},
        {"userId": owner, "status": "ACTIVE", "isDeleted": True},
        {"userId": owner, "status": "OFFLINE"},
        {"userId": other, "status": "AUTO"},
    ]
    await real_mongo["miners"].insert_many(miners)

    assert await reader.count_active_miners(Id(owner), ("AUTO", "ACTIVE")) == 2


async def test_active_miners_of_many_are_counted_for_each(
    reader: MongoPlatform, real_mongo: MongoDatabase, platform: FakePlatform
) -> None:
    two, one, none, unasked, unknown = owners = [Id(ObjectId()) for _ in range(5)]
    miners = [
        {"userId": two, "status": "AUTO"},
        {"userId": two, "status": "ACTIVE", "isDeleted": False},
        {"userId": two, "status": "ACTIVE", "isDeleted": True},
        {"userId": one, "status": "ACTIVE", "isDeleted": None},
        {"userId": one, "status": "OFFLINE"},
        {"userId": none, "status": "OFFLINE"},
        {"userId": unasked, "status": "AUTO"},
    ]
    await real_mongo["miners"].insert_many(miners)
    for miner in miners:
        if not miner.get("isDeleted"):
            platform.miner_statuses.setdefault(Id(miner["userId"]), []).append(str(miner["status"]))
    asked, statuses = [two, one, none, unknown, two], ("AUTO", "ACTIVE")

    counts = await reader.count_active_miners_of(asked, statuses)

    assert counts == {two: 2, one: 1}
    assert counts == await platform.count_active_miners_of(asked, statuses)
    for owner in owners[:3]:
        assert counts.get(owner, 0) == await reader.count_active_miners(owner, statuses)
    assert await reader.count_active_miners_of([], statuses) == {}


async def test_a_revoked_token_counts_until_it_expires(
    reader: MongoPlatform, real_mongo: MongoDatabase
) -> None:
    assert await reader.is_token_revoked("t1", NOW) is False  # no such collection yet
    await real_mongo["token_blacklist"].insert_one(
        {"token": "t1", "userId": ObjectId(), "expiresAt": NOW + timedelta(seconds=1)}
    )

    assert await reader.is_token_revoked("t1", NOW) is True
    assert await reader.is_token_revoked("t1", NOW + timedelta(seconds=1)) is False
    assert await reader.is_token_revoked("t2", NOW) is False
