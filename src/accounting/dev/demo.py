"""Demo data of the platform's own collections, for a development database without a platform.

This is the one module that writes to platform collections (`users`, `cost_payments`, `miners`,
`spaces`, `hardware`, `miner_rate_history`, `user_activities`), which the service itself never does:
in development there is no platform that could fill them. It writes only where all seven are empty,
so a database with anything of a real platform in it stays as it is, and the service never imports
it: only `accounting dev` and the tests do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from bson import ObjectId
from pymongo import ASCENDING, MongoClient
from pymongo.database import Database

from accounting.clock import utc_now
from accounting.errors import Misconfigured
from accounting.platform.rules import PLATFORM_COLLECTIONS

CONNECT_LIMIT_MILLISECONDS: Final = 10_000
MONTHS: Final = 12
FAKE_PASSWORD: Final = "$2b$10$not-a-real-hash-nobody-can-log-in-with-this-demo-user"
# An invoice of 500.00 can be paid with these two.
FIRST_PART: Final = 300.0
SECOND_PART: Final = 200.0

A_MONTH: Final = timedelta(days=30)
_ALL_STATES: Final = ("AUTO", "AUTO", "AUTO", "ACTIVE", "ACTIVE", "OFFLINE", "MAINTENANCE")

Document = dict[str, Any]


@dataclass(frozen=True)
class DemoPlatform:
    """Whom and what an example can use.

    `cost_payment_ids` are a payment of 300.00 and one of 200.00 of the customer which no invoice
    uses yet; it is empty where the customer has none left.
    """

    admin_id: ObjectId
    super_admin_id: ObjectId
    customer_id: ObjectId
    cost_payment_ids: tuple[ObjectId, ...]


class NobodyToShow(Misconfigured):
    """The platform's data lacks the users that an example needs."""

    def __init__(self, who: str, database_name: str) -> None:
        super().__init__(
            f"The database {database_name} has platform data, so no demo data was added, but it "
            f"has no {who}; use another database, or an empty one."
        )


@dataclass(frozen=True)
class _Customer:
    name: str
    company_name: str | None
    miner_states: tuple[str, ...]


_CUSTOMERS: Final = (
    _Customer("Ada Holm", "Northern Hash Ltd", _ALL_STATES),
    _Customer("Ben Okafor", "Okafor Mining", ("ACTIVE",) * 12),
    _Customer("Carla Ruiz", "Sierra Blocks SL", ("AUTO",) * 3),
    _Customer("Dmitri Wolff", "Wolff & Sons", ("AUTO", "OFFLINE")),
    _Customer("Elif Demir", "Demir Enerji A.Ş.", ("ACTIVE", "ACTIVE", "MAINTENANCE")),
    _Customer("Frank Moor", None, ("AUTO",)),
    _Customer("田中 太郎", "田中マイニング株式会社", ("AUTO", "AUTO", "ACTIVE", "OFFLINE")),
    _Customer("Greta Blitz", "Block & <b>Bolt</b> GmbH", ("ACTIVE",) * 2),
    _Customer("Hugo Blanc", "Nouveau Client SARL", ()),
    _Customer("Ines Costa", "Costa Power Lda", ("AUTO",) * 40),
    _Customer("Jon Aase", "Fjord Compute AS", ("OFFLINE", "MAINTENANCE")),
    _Customer("Kim Lee", "O'Lee, Park; Partners", ("ACTIVE",) * 7),
)


def load_demo_platform(
    uri: str, database_name: str, *, now: datetime | None = None
) -> DemoPlatform:
    """Fill an empty platform with demo data, or find in a filled one whom an example can use.

    Ids and amounts are always the same; the dates lie in the year before `now`.
    Raises NobodyToShow where there is other data, but no admin or no customer in it.
    """
    with MongoClient[Document](uri, serverSelectionTimeoutMS=CONNECT_LIMIT_MILLISECONDS) as client:
        database = client[database_name]
        if all(database[name].find_one({}, {"_id": 1}) is None for name in PLATFORM_COLLECTIONS):
            _insert(database, now or utc_now())
        return _find(database)


def demo_id(collection: str, number: int) -> ObjectId:
    """The id of a demo document; documents of each collection are numbered from 1."""
    return ObjectId(f"65de{PLATFORM_COLLECTIONS.index(collection):04x}{number:016x}")


def _insert(database: Database[Document], now: datetime) -> None:
    database["users"].create_index([("email", ASCENDING)], unique=True)
    database["cost_payments"].create_index([("userId", ASCENDING)])
    content = {
        "users": _users(now),
        "cost_payments": _cost_payments(now),
        "miners": _miners(now),
        "spaces": _spaces(now),
        "hardware": _hardware(now),
        "miner_rate_history": _miner_rates(now),
        "user_activities": _user_activities(now),
    }
    for collection, documents in content.items():
        database[collection].insert_many(
            [
                {"_id": demo_id(collection, number), **document}
                for number, document in enumerate(documents, start=1)
            ]
        )


def _find(database: Database[Document]) -> DemoPlatform:
    admin_id = _find_user(database, "ADMIN") or _find_user(database, "SUPER_ADMIN")
    if admin_id is None:
        raise NobodyToShow("admin", database.name)
    customer_id = _find_user(database, "CLIENT")
    if customer_id is None:
        raise NobodyToShow("customer", database.name)
    return DemoPlatform(
        admin_id=admin_id,
        super_admin_id=_find_user(database, "SUPER_ADMIN") or admin_id,
        customer_id=customer_id,
        cost_payment_ids=_free_payments(database, customer_id),
    )


def _find_user(database: Database[Document], role: str) -> ObjectId | None:
    """The first user with the role who is not deleted."""
    wanted = {"role": role, "isDeleted": {"$ne": True}}
    user = database["users"].find_one(wanted, {"_id": 1}, sort=[("_id", ASCENDING)])
    return user["_id"] if user else None


def _free_payments(database: Database[Document], customer_id: ObjectId) -> tuple[ObjectId, ...]:
    """The oldest payments of 300.00 and 200.00 that no invoice uses, or nothing."""
    used = database["invoice_payments"].distinct("costPaymentId")
    wanted = {"userId": customer_id, "type": "PAYMENT", "isDeleted": {"$ne": True}}
    parts = [
        database["cost_payments"].find_one(
            {**wanted, "amount": amount, "_id": {"$nin": used}},
            {"_id": 1},
            sort=[("createdAt", ASCENDING), ("_id", ASCENDING)],
        )
        for amount in (FIRST_PART, SECOND_PART)
    ]
    found = tuple(part["_id"] for part in parts if part)
    return found if len(found) == len(parts) else ()


# The first user numbers: 1 and 2 are admins, the customers follow, the deleted one is last.
_FIRST_CUSTOMER_NUMBER: Final = 3


def demo_customer_id(index: int) -> ObjectId:
    """The id of a demo customer, by his place in the list, from 0."""
    return demo_id("users", _FIRST_CUSTOMER_NUMBER + index)


def _users(now: datetime) -> Iterator[Document]:
    joined = now - MONTHS * A_MONTH

    def user(name: str, email: str, role: str, **more: object) -> Document:
        return {
            "name": name,
            "email": email,
            "role": role,
            "password": FAKE_PASSWORD,
            "isDeleted": False,
            "createdAt": joined,
            "updatedAt": joined,
            **more,
        }

    yield user("Alex Admin", "admin@example.com", "ADMIN")
    yield user("Sam Super", "super.admin@example.com", "SUPER_ADMIN")
    for number, customer in enumerate(_CUSTOMERS, start=1):
        company = {"companyName": customer.company_name} if customer.company_name else {}
        yield user(customer.name, f"customer{number}@example.com", "CLIENT", **company)
    yield user(
        "Gone Customer", "gone@example.com", "CLIENT", companyName="Gone Ltd", isDeleted=True
    )


def _cost_payments(now: datetime) -> Iterator[Document]:
    def row(index: int, amount: float, kind: str, created_at: datetime, **more: object) -> Document:
        return {
            "userId": demo_customer_id(index),
            "amount": amount,
            "type": kind,
            "consumption": 0.0,
            "createdAt": created_at,
            "isDeleted": False,
            **more,
        }

    for months_ago in range(MONTHS, 0, -1):
        day = now - months_ago * A_MONTH
        yield row(0, FIRST_PART, "PAYMENT", day, narration="Bank transfer, first part")
        yield row(0, SECOND_PART, "PAYMENT", day, narration="Bank transfer, second part")
        for index, customer in enumerate(_CUSTOMERS):
            if not customer.miner_states:
                continue
            kilowatt_hours = 2400.5 * len(customer.miner_states) + 10 * months_ago
            yield row(
                index,
                -round(kilowatt_hours * 0.06, 2),
                "ELECTRICITY_CHARGES",
                day,
                consumption=kilowatt_hours,
            )
            if index > 0:
                amount = 100.25 * len(customer.miner_states)
                yield row(index, amount, "PAYMENT", day + timedelta(days=index))

    yesterday = now - timedelta(days=1)
    yield row(1, 0.1 + 0.2, "PAYMENT", yesterday, narration="A double as the platform computes it")
    yield row(2, 950.0, "PAYMENT", yesterday, isDeleted=True, narration="Entered by mistake")
    yield row(3, 45.0, "ADJUSTMENT", yesterday, narration="Goodwill for the outage")
    yield row(3, -12.75, "ADJUSTMENT", yesterday, narration="Correction of a meter reading")


def _miners(now: datetime) -> Iterator[Document]:
    def miner(index: int, number: int, status: str, *, is_deleted: bool = False) -> Document:
        return {
            "name": f"miner-{index + 1:02}-{number:03}",
            "userId": demo_customer_id(index),
            "status": status,
            "hardwareId": demo_id("hardware", 1 + index % 2),
            "spaceId": demo_id("spaces", 1 + index % 2),
            "isDeleted": is_deleted,
            "createdAt": now - MONTHS * A_MONTH,
        }

    for index, customer in enumerate(_CUSTOMERS):
        for number, status in enumerate(customer.miner_states, start=1):
            yield miner(index, number, status)
    yield miner(0, len(_ALL_STATES) + 1, "AUTO", is_deleted=True)


def _spaces(now: datetime) -> Iterator[Document]:
    for name, location in (("Hall North", "Tromsø"), ("Hall South", "Porto")):
        yield {"name": name, "location": location, "capacity": 200, "createdAt": now}


def _hardware(now: datetime) -> Iterator[Document]:
    for name, watts, terahashes in (
        ("Antminer S19", 3250.0, 95.0),
        ("Whatsminer M50", 3276.0, 114.0),
    ):
        yield {"name": name, "powerUsage": watts, "hashRate": terahashes, "createdAt": now}


def _miner_rates(now: datetime) -> Iterator[Document]:
    for number, rate in enumerate((0.055, 0.06, 0.06), start=1):
        yield {"minerId": demo_id("miners", number), "rate": rate, "createdAt": now - A_MONTH}


def _user_activities(now: datetime) -> Iterator[Document]:
    for index in range(3):
        yield {
            "userId": demo_customer_id(index),
            "type": "LOGIN",
            "ip": f"192.0.2.{index + 1}",
            "userAgent": "Mozilla/5.0 (demo)",
            "createdAt": now - timedelta(hours=index),
        }
