"""The platform's side of a large demo: administrators, customers and their miners."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Final

from bson import ObjectId

from accounting.dev.bulk.history import MONTHS, History
from accounting.dev.bulk.trail import Document
from accounting.dev.demo import FAKE_PASSWORD, demo_customer_id, demo_id

FIRST_NAMES: Final = (
    *("Ada", "Ben", "Carla", "Dmitri", "Elif", "Frank", "Greta", "Hugo", "Ines", "Jon", "Kim"),
    *("Lena", "Mateo", "Nora", "Olga", "Pavel", "Quentin", "Rosa", "Sven", "Tara", "Ugo", "Vera"),
    *("Wei", "Ximena", "Yusuf", "Zoë", "Åse", "Łukasz", "太郎", "José"),
)
LAST_NAMES: Final = (
    *("Holm", "Okafor", "Ruiz", "Wolff", "Demir", "Moor", "Blitz", "Blanc", "Costa", "Aase", "Lee"),
    *("Novak", "Silva", "Kowalski", "Tanaka", "Haddad", "Schmidt", "Ivanova", "Rossi", "O'Brien"),
    *("Nguyen", "Larsen", "Dubois", "Kaya", "Mendes", "Fischer", "Petrov", "Svensson", "Chen"),
)
COMPANIES: Final = (
    *("Hash", "Mining", "Blocks", "Power", "Compute", "Energy", "Digital", "Hosting", "Systems"),
    *("Networks", "Data", "Cloud", "Grid"),
)
FORMS: Final = ("Ltd", "GmbH", "SL", "A.Ş.", "Lda", "AS", "SARL", "& Sons", "株式会社", "Inc")
# Of twenty miners one is not active.
IDLE_EVERY: Final = 20


@dataclass(frozen=True, slots=True)
class Customer:
    """A customer as the platform knows him."""

    id: ObjectId
    name: str
    email: str
    company_name: str | None


@lru_cache(maxsize=65_536)
def a_customer(number: int) -> Customer:
    """A customer by his place, from 0; many share a name, as people do, and none an address."""
    first = FIRST_NAMES[number % len(FIRST_NAMES)]
    last = LAST_NAMES[number * 7 // len(FIRST_NAMES) % len(LAST_NAMES)]
    company = None
    if number % 10:
        company = f"{last} {COMPANIES[number % len(COMPANIES)]} {FORMS[number * 3 % len(FORMS)]}"
    return Customer(
        demo_customer_id(number), f"{first} {last}", f"customer{number + 1}@example.com", company
    )


def users(history: History) -> Iterator[Document]:
    """Two administrators and the customers, each since some time before his first bill."""
    began = history.start_of(history.day_of(0, 1)) - timedelta(days=60)
    for number, (name, email, role) in enumerate(
        (
            ("Alex Admin", "admin@example.com", "ADMIN"),
            ("Sam Super", "super.admin@example.com", "SUPER_ADMIN"),
        ),
        start=1,
    ):
        yield _user(demo_id("users", number), name, email, role) | {"createdAt": began}
    for number in range(history.order.customers):
        customer = a_customer(number)
        joined = history.start_of(history.first_day(number)) - timedelta(days=10)
        company = {"companyName": customer.company_name} if customer.company_name else {}
        user = _user(customer.id, customer.name, customer.email, "CLIENT")
        yield user | company | {"createdAt": joined}


def miners(history: History) -> Iterator[Document]:
    """As many active miners as the last month's bills say, and some that are not active."""
    position = 0
    for contract in history.contracts:
        joined = history.start_of(history.first_day(contract.customer)) - timedelta(days=5)
        active = history.miners(contract, MONTHS - 1)
        for number in range(active + active // IDLE_EVERY):
            position += 1
            is_active = number < active
            yield {
                "_id": demo_id("miners", position),
                "name": f"miner-{contract.number + 1:05}-{number + 1:03}",
                "userId": demo_customer_id(contract.customer),
                "status": ("AUTO", "ACTIVE")[number % 2] if is_active else "OFFLINE",
                "hardwareId": demo_id("hardware", 1 + contract.number % 2),
                "spaceId": demo_id("spaces", 1 + contract.number % 2),
                "isDeleted": False,
                "createdAt": joined,
            }


def _user(user_id: ObjectId, name: str, email: str, role: str) -> Document:
    return {
        "_id": user_id,
        "name": name,
        "email": email,
        "role": role,
        "password": FAKE_PASSWORD,
        "isDeleted": False,
    }
