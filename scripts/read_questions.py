"""What `benchmark_reads.py` asks: each list with its filters and orders, accounts, trail, search.

Each question is about something else each time it is asked, so that nothing is measured that was
just answered.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any, Final
from urllib.parse import urlencode

from http_load import connect, read_json
from pymongo.database import Database

from accounting.links import BASE_PATH

SAMPLES: Final = 2_000
PAGE_ROWS: Final = 10
DEEP_PAGES: Final = 5_000
# The cursors are found by longer pages, and the last so many are kept.
STEP_ROWS: Final = 100
CURSORS_KEPT: Final = 50
SORTS: Final = (
    *("createdAt", "invoiceNumber", "totalAmount", "status", "dueDate", "issuedDate", "paidDate"),
)
ACTIONS: Final = ("INVOICE_CREATED", "PAYMENT_ADDED", "INVOICE_OVERDUE", "PRICING_CONFIG_CREATED")


@dataclass(slots=True)
class Samples:
    """Of a store: what can be asked about it."""

    invoices: int
    invoice_ids: list[str]
    customer_ids: list[str]
    numbers: list[str]
    names: list[str]
    emails: list[str]
    price_ids: list[str]
    staff_ids: list[str]
    first_day: date
    last_day: date
    cursors: dict[tuple[str, str], list[str]] = field(default_factory=dict)


Parameters = dict[str, Any]
Draw = Callable[[random.Random, Samples], str]


@dataclass(frozen=True, slots=True)
class Question:
    """A kind of request; `draw` makes one of them."""

    name: str
    draw: Draw
    is_customer: bool = False

    def paths(self, samples: Samples) -> Iterator[str]:
        """Requests without an end, the same at each run."""
        dice = random.Random(self.name)
        while True:
            yield self.draw(dice, samples)


FLOOR: Final = Question("floor: /health/live", lambda dice, samples: "/health/live")


def take_samples(database: Database[Any]) -> Samples:
    """Draw from a store what will be asked about."""
    invoices = list(
        database["invoices"].aggregate(
            [{"$sample": {"size": SAMPLES}}, {"$project": {"invoiceNumber": 1, "userId": 1}}]
        )
    )
    ids = list({row["userId"] for row in invoices})
    users = list(database["users"].find({"_id": {"$in": ids}}, {"name": 1, "email": 1}))
    prices = database["customer_pricing_config"].find({}, {"_id": 1}).limit(SAMPLES)
    staff = database["users"].find({"role": {"$ne": "CLIENT"}}, {"_id": 1})
    numbers = sorted(row["invoiceNumber"] for row in invoices)
    return Samples(
        invoices=database["invoices"].estimated_document_count(),
        invoice_ids=[str(row["_id"]) for row in invoices],
        customer_ids=[str(user["_id"]) for user in users],
        numbers=numbers,
        names=[user["name"] for user in users],
        emails=[user["email"] for user in users],
        price_ids=[str(row["_id"]) for row in prices],
        staff_ids=[str(row["_id"]) for row in staff],
        first_day=_day_of(numbers[0]),
        last_day=_day_of(numbers[-1]),
    )


async def ask_for_cursors(url: str, token: str, samples: Samples) -> None:
    """Walk each list to about page 5,000, or as far as it goes, and keep the last cursors."""
    connection = await connect(url, token)
    steps = min(DEEP_PAGES * PAGE_ROWS, samples.invoices * 8 // 10) // STEP_ROWS
    for sort in SORTS:
        cursors, cursor = list[str](), ""
        for _ in range(steps):
            path = _list(sortBy=sort, limit=STEP_ROWS, cursor=cursor)
            cursor = (await read_json(connection, path))["nextCursor"]
            if cursor is None:
                break
            cursors.append(cursor)
        samples.cursors[sort, "desc"] = cursors[-CURSORS_KEPT:]
    connection.close()


def questions(samples: Samples) -> Iterator[Question]:
    """All of them, in the order in which they are told."""
    yield from ONE
    for sort in SORTS:
        yield _all_by(sort, "desc")
        yield _all_by(sort, "asc")
        if samples.cursors[sort, "desc"]:
            yield _deep_by(sort)
    yield from FILTERED
    yield from OTHERS


def _api(path: str, **parameters: Any) -> str:
    query = urlencode(parameters, doseq=True)
    return f"{BASE_PATH}{path}?{query}" if query else f"{BASE_PATH}{path}"


def _list(**parameters: Any) -> str:
    return _api("/invoices", **parameters)


def _all_by(sort: str, direction: str) -> Question:
    def draw(dice: random.Random, samples: Samples) -> str:
        return _list(sortBy=sort, sortDirection=direction, page=dice.randint(1, 5))

    return Question(f"list by {sort} {direction}, pages 1-5 with total", draw)


def _deep_by(sort: str) -> Question:
    def draw(dice: random.Random, samples: Samples) -> str:
        return _list(sortBy=sort, cursor=dice.choice(samples.cursors[sort, "desc"]))

    return Question(f"list by {sort} desc, cursor of page {DEEP_PAGES:,}", draw)


def _filtered(name: str, draw: Callable[[random.Random, Samples], Parameters]) -> Question:
    return Question(f"list, {name}", lambda dice, samples: _list(**draw(dice, samples)))


def _day(dice: random.Random, samples: Samples) -> date:
    return samples.first_day + timedelta(
        days=dice.randrange((samples.last_day - samples.first_day).days)
    )


def _days(dice: random.Random, samples: Samples, first: str, last: str, count: int) -> Parameters:
    day = _day(dice, samples)
    return {first: day, last: day + timedelta(days=count - 1)}


def _amounts(dice: random.Random, samples: Samples) -> Parameters:
    least = dice.randint(60, 3_000)
    return {"minAmount": f"{least}.00", "maxAmount": f"{least + least // 10}.00"}


def _paid_in_a_year(dice: random.Random, samples: Samples) -> Parameters:
    return {"status": "PAID", **_days(dice, samples, "startDate", "endDate", 365)}


def _statement(dice: random.Random, samples: Samples) -> str:
    first = _day(dice, samples)
    customer = dice.choice(samples.customer_ids)
    last = first + timedelta(days=364)
    return _api(f"/customers/{customer}/statement", **{"from": first, "to": last})


def _part_of(dice: random.Random, text: str) -> str:
    return text[: max(3, dice.randint(len(text) // 2, len(text)))]


def _day_of(number: str) -> date:
    return date.fromisoformat(number[:8])


ONE: Final = (
    Question(
        "smallest read with a token",
        lambda dice, has: _api(f"/pricing-configs/{dice.choice(has.price_ids)}"),
    ),
    Question("get an invoice", lambda dice, has: _api(f"/invoices/{dice.choice(has.invoice_ids)}")),
    Question(
        "audit trail of an invoice",
        lambda dice, has: _api(f"/invoices/{dice.choice(has.invoice_ids)}/audit-log"),
    ),
    Question(
        "balance of a customer",
        lambda dice, has: _api(f"/customers/{dice.choice(has.customer_ids)}/balance"),
    ),
    Question("statement of a year", _statement),
    Question("dashboard", lambda dice, has: _api("/dashboard")),
)
FILTERED: Final = (
    _filtered("customerId", lambda dice, has: {"customerId": dice.choice(has.customer_ids)}),
    _filtered("status=PAID", lambda dice, has: {"status": "PAID", "page": dice.randint(1, 5)}),
    _filtered("status=OVERDUE", lambda dice, has: {"status": "OVERDUE"}),
    _filtered(
        "two statuses",
        lambda dice, has: {"status": dice.sample(["ISSUED", "OVERDUE", "CANCELLED", "DRAFT"], 2)},
    ),
    _filtered(
        "customerId and status",
        lambda dice, has: {"customerId": dice.choice(has.customer_ids), "status": "PAID"},
    ),
    _filtered("overdue=true", lambda dice, has: {"overdue": "true"}),
    _filtered("billingPeriod", lambda dice, has: {"billingPeriod": f"{_day(dice, has):%Y-%m}"}),
    _filtered(
        "billingPeriod by dueDate",
        lambda dice, has: {"billingPeriod": f"{_day(dice, has):%Y-%m}", "sortBy": "dueDate"},
    ),
    _filtered("a month of issue", lambda dice, has: _days(dice, has, "startDate", "endDate", 30)),
    _filtered("issued since a day", lambda dice, has: {"startDate": _day(dice, has)}),
    _filtered("a week of dueDate", lambda dice, has: _days(dice, has, "dueFrom", "dueTo", 7)),
    _filtered("due until a day", lambda dice, has: {"dueTo": _day(dice, has)}),
    _filtered("minAmount and maxAmount", _amounts),
    _filtered("minAmount", lambda dice, has: {"minAmount": f"{dice.randint(60, 3_000)}.00"}),
    _filtered("status and a year of issue", _paid_in_a_year),
    _filtered("q, a number", lambda dice, has: {"q": dice.choice(has.numbers)}),
    _filtered("q, a day's numbers", lambda dice, has: {"q": dice.choice(has.numbers)[:8]}),
    _filtered("q, a year's numbers", lambda dice, has: {"q": dice.choice(has.numbers)[:4]}),
    _filtered("q, an e-mail", lambda dice, has: {"q": dice.choice(has.emails)}),
    _filtered("q, part of a name", lambda dice, has: {"q": _part_of(dice, dice.choice(has.names))}),
    Question("list as a customer", lambda dice, has: _list(page=dice.randint(1, 3)), True),
)
OTHERS: Final = (
    Question("audit-logs", lambda dice, has: _api("/audit-logs", page=dice.randint(1, 5))),
    Question(
        "audit-logs of an action",
        lambda dice, has: _api("/audit-logs", action=dice.choice(ACTIONS)),
    ),
    Question(
        "audit-logs of an entityType", lambda dice, has: _api("/audit-logs", entityType="Invoice")
    ),
    Question(
        "audit-logs of an entityId",
        lambda dice, has: _api("/audit-logs", entityId=dice.choice(has.invoice_ids)),
    ),
    Question(
        "audit-logs of a userId",
        lambda dice, has: _api("/audit-logs", userId=dice.choice(has.staff_ids)),
    ),
    Question(
        "audit-logs of a day",
        lambda dice, has: _api("/audit-logs", **_days(dice, has, "from", "to", 1)),
    ),
    Question(
        "audit-logs since a day", lambda dice, has: _api("/audit-logs", **{"from": _day(dice, has)})
    ),
    Question("notifications", lambda dice, has: _api("/notifications", page=dice.randint(1, 5))),
    Question("customers", lambda dice, has: _api("/customers", page=dice.randint(1, 5))),
    Question(
        "customers, q",
        lambda dice, has: _api("/customers", q=_part_of(dice, dice.choice(has.names))),
    ),
)
