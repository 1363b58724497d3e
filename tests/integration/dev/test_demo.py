"""Demo data goes into an empty platform only."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from bson import ObjectId
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError

from accounting.dev.demo import (
    PLATFORM_COLLECTIONS,
    NobodyToShow,
    demo_id,
    load_demo_platform,
)
from accounting.dev.mongod import start_mongod
from accounting.dev.processes import Server

ACTIVE = {"status": {"$in": ["AUTO", "ACTIVE"]}, "isDeleted": {"$ne": True}}

Platform = Database[dict[str, Any]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with start_mongod(tmp_path_factory.mktemp("demo")) as started:
        yield started


@pytest.fixture
def platform(server: Server) -> Iterator[Platform]:
    with MongoClient[dict[str, Any]](server.uri) as client:
        client.drop_database("hosting")
        yield client["hosting"]


def everything(platform: Platform) -> dict[str, list[dict[str, Any]]]:
    return {name: list(platform[name].find().sort("_id")) for name in PLATFORM_COLLECTIONS}


def test_every_collection_gets_documents(server: Server, platform: Platform) -> None:
    load_demo_platform(server.uri, "hosting")

    assert all(everything(platform).values())


def test_second_load_changes_nothing(server: Server, platform: Platform) -> None:
    first = load_demo_platform(server.uri, "hosting")
    before = everything(platform)

    second = load_demo_platform(server.uri, "hosting")

    assert second == first
    assert everything(platform) == before


def test_same_moment_gives_the_same_data(server: Server, platform: Platform) -> None:
    now = datetime(2026, 1, 12, 10, 11, 12, tzinfo=UTC)
    load_demo_platform(server.uri, "hosting", now=now)
    before = everything(platform)
    platform.client.drop_database("hosting")

    load_demo_platform(server.uri, "hosting", now=now)

    assert everything(platform) == before


@pytest.mark.parametrize("collection", PLATFORM_COLLECTIONS)
def test_one_foreign_document_anywhere_stops_the_insertion(
    server: Server, platform: Platform, collection: str
) -> None:
    platform[collection].insert_one({"email": "real@example.com", "role": "CLIENT"})

    with pytest.raises(NobodyToShow, match="no admin"):
        load_demo_platform(server.uri, "hosting")

    assert sum(len(documents) for documents in everything(platform).values()) == 1
    assert "email_1" not in platform["users"].index_information()


def test_existing_users_are_found(server: Server, platform: Platform) -> None:
    gone, super_admin, customer = ObjectId(), ObjectId(), ObjectId()
    platform["users"].insert_many(
        [
            {"_id": gone, "email": "a@example.com", "role": "CLIENT", "isDeleted": True},
            {"_id": super_admin, "email": "b@example.com", "role": "SUPER_ADMIN"},
            {"_id": customer, "email": "c@example.com", "role": "CLIENT"},
        ]
    )

    found = load_demo_platform(server.uri, "hosting")

    assert found.admin_id == found.super_admin_id == super_admin
    assert found.customer_id == customer
    assert found.cost_payment_ids == ()


def test_roles_and_names(server: Server, platform: Platform) -> None:
    found = load_demo_platform(server.uri, "hosting")

    users = platform["users"]
    assert users.count_documents({"role": "CLIENT", "isDeleted": False}) == 12
    assert users.count_documents({"role": "CLIENT", "isDeleted": True}) == 1
    assert users.count_documents({"role": "CLIENT", "companyName": {"$exists": False}}) == 1
    assert users.count_documents({"companyName": "Block & <b>Bolt</b> GmbH"}) == 1
    assert [user["_id"] for user in users.find({"role": "ADMIN"})] == [found.admin_id]
    assert [user["_id"] for user in users.find({"role": "SUPER_ADMIN"})] == [found.super_admin_id]
    assert found.customer_id == demo_id("users", 3)


def test_first_customer_has_five_active_miners_and_one_customer_none(
    server: Server, platform: Platform
) -> None:
    found = load_demo_platform(server.uri, "hosting")

    miners = platform["miners"]
    assert miners.count_documents({"userId": found.customer_id, **ACTIVE}) == 5
    assert miners.count_documents({"userId": found.customer_id}) == 8
    assert set(miners.distinct("status")) == {"AUTO", "ACTIVE", "OFFLINE", "MAINTENANCE"}
    customers = {user["_id"] for user in platform["users"].find({"role": "CLIENT"})}
    without = customers - set(miners.distinct("userId"))
    assert without == {demo_id("users", 11), demo_id("users", 15)}


def test_ledger_has_every_kind_of_row(server: Server, platform: Platform) -> None:
    load_demo_platform(server.uri, "hosting")

    rows = list(platform["cost_payments"].find())
    assert all(isinstance(row["amount"], float) for row in rows)
    assert all(row["amount"] > 0 for row in rows if row["type"] == "PAYMENT")
    charges = [row for row in rows if row["type"] == "ELECTRICITY_CHARGES"]
    assert charges
    assert all(row["amount"] < 0 < row["consumption"] for row in charges)
    adjustments = [row["amount"] for row in rows if row["type"] == "ADJUSTMENT"]
    assert min(adjustments) < 0 < max(adjustments)
    assert [row["type"] for row in rows if row["isDeleted"]] == ["PAYMENT"]
    assert 0.1 + 0.2 in [row["amount"] for row in rows]


def test_the_two_payments_are_free_at_each_start(server: Server, platform: Platform) -> None:
    first = load_demo_platform(server.uri, "hosting")
    platform["invoice_payments"].insert_one({"costPaymentId": first.cost_payment_ids[0]})

    second = load_demo_platform(server.uri, "hosting")

    amounts = [
        platform["cost_payments"].find_one({"_id": cost_payment_id})["amount"]  # type: ignore[index]
        for cost_payment_id in second.cost_payment_ids
    ]
    assert amounts == [300.0, 200.0]
    assert first.cost_payment_ids[0] not in second.cost_payment_ids


def test_platform_indexes_are_there(server: Server, platform: Platform) -> None:
    load_demo_platform(server.uri, "hosting")

    with pytest.raises(DuplicateKeyError):
        platform["users"].insert_one({"email": "admin@example.com"})
    assert "userId_1" in platform["cost_payments"].index_information()
