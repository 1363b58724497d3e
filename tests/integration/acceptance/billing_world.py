"""Customers, price lists and templates after an outage, and what they have to be billed.

Everything is stored as raw documents, and the expectation is worked out here, in plain Python and
by other means than the service's own, so that the two can differ.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cached_property
from typing import Any, Final, TypeAlias

from bson import ObjectId
from pymongo.database import Database

from accounting.db.client import CODEC_OPTIONS

STAFF: Final = ObjectId("aaaaaaaaaaaaaaaaaaaaaaaa")
MISSED_MONTHS: Final = 3
HIGHEST_PRICE: Final = Decimal("99999999.99")
# With the highest price just more than an invoice can hold.
TOO_MANY_MINERS: Final = 101
# The platform sets no limit; an address of this length cannot be written to.
USELESS_EMAIL_LENGTH: Final = 400
LAST_DAY_OF_MONTH: Final = 28
# The share of templates whose customer has another one.
SECOND_TEMPLATES: Final = 0.05

AMOUNT_TOO_LARGE: Final = "amount_too_large"
EARLIER_PERIOD_OPEN: Final = "earlier_period_open"
FAILURES: Final = {AMOUNT_TOO_LARGE, EARLIER_PERIOD_OPEN}

# A month "YYYY-MM" of a template.
Key: TypeAlias = tuple[ObjectId, str]


@dataclass(frozen=True)
class Price:
    """In effect on the days first <= day < end, or without an end."""

    unit_price: Decimal
    first: date
    end: date | None = None
    id: ObjectId = field(default_factory=ObjectId)


@dataclass(frozen=True)
class Customer:
    prices: Sequence[Price]
    miners: int = 3
    is_deleted: bool = False
    has_email: bool = True
    id: ObjectId = field(default_factory=ObjectId)

    @property
    def email(self) -> str:
        address = f"{self.id}@example.com"
        return address if self.has_email else address.rjust(USELESS_EMAIL_LENGTH, "x")


@dataclass(frozen=True)
class Template:
    customer: Customer
    day_of_month: int
    start: date
    last_generated: date | None
    end: date | None = None
    unit_price: Decimal | None = None
    auto_issue: bool = False
    is_active: bool = True
    id: ObjectId = field(default_factory=ObjectId)

    def due(self, as_of: date) -> list[date]:
        """The scheduled days that are not billed yet, the oldest first."""
        days = [date(year, month, self.day_of_month) for year, month in _months(self.start, as_of)]
        last_day = min(self.end or as_of, as_of)
        return [
            day
            for day in days
            if self.is_active
            and self.start <= day <= last_day
            and (self.last_generated is None or f"{day:%Y%m}" > f"{self.last_generated:%Y%m}")
        ]


@dataclass(frozen=True)
class Bill:
    """An invoice that has to be made."""

    template: Template
    scheduled: date
    unit_price: Decimal
    price: Price | None

    @property
    def total(self) -> Decimal:
        return self.template.customer.miners * self.unit_price


@dataclass(frozen=True)
class World:
    """What is stored before the run, and what is true after it."""

    as_of: date
    templates: Sequence[Template]

    @property
    def customers(self) -> list[Customer]:
        return list({each.customer.id: each.customer for each in self.templates}.values())

    @cached_property
    def expected(self) -> dict[Key, Bill | str]:
        """What every due month comes to: a bill, or the code that says why there is none."""
        return {
            (template.id, f"{day:%Y-%m}"): _expected(template, day, is_first=number == 0)
            for template in self.templates
            for number, day in enumerate(template.due(self.as_of))
        }

    @property
    def bills(self) -> dict[Key, Bill]:
        return {key: bill for key, bill in self.expected.items() if isinstance(bill, Bill)}

    @property
    def failures(self) -> list[Key]:
        """The months that cannot be billed and that somebody has to look at."""
        return [key for key, code in self.expected.items() if code in FAILURES]

    def store(self, mongo: Database[Any]) -> None:
        """Insert everything as the platform and the service would have it."""
        stored = mongo.with_options(codec_options=CODEC_OPTIONS)
        customers = self.customers
        stored["users"].insert_many([_user(customer) for customer in customers])
        stored["miners"].insert_many([row for each in customers for row in _miners(each)])
        prices = [_price(each, price) for each in customers for price in each.prices]
        stored["customer_pricing_config"].insert_many(prices)
        stored["recurring_invoices"].insert_many([_template(each) for each in self.templates])


def a_world(count: int, as_of: date, seed: int) -> World:
    """So many templates of which the last three months are missing, of every kind there is."""
    dice = random.Random(seed)
    kinds = list(KINDS)
    shares = [share for share, _ in KINDS.values()]
    # One of each kind first, so that small worlds have them all.
    chosen = [*kinds, *dice.choices(kinds, shares, k=count)][:count]
    templates = [KINDS[kind][1](dice, as_of) for kind in chosen]
    for position in range(len(kinds), count):
        if dice.random() < SECOND_TEMPLATES:
            before = templates[position - 1].customer
            templates[position] = replace(templates[position], customer=before)
    return World(as_of, templates)


def _expected(template: Template, day: date, *, is_first: bool) -> Bill | str:
    customer = template.customer
    if customer.is_deleted:
        return "customer_deleted"
    if not customer.miners:
        return "no_miners"
    in_effect = [price for price in customer.prices if price.first <= day < (price.end or date.max)]
    if template.unit_price is None and not in_effect:
        return "no_price"
    price = None if template.unit_price is not None else in_effect[0]
    unit_price = price.unit_price if price else template.unit_price
    assert unit_price is not None
    if customer.miners * unit_price >= 10**10:
        return AMOUNT_TOO_LARGE if is_first else EARLIER_PERIOD_OPEN
    return Bill(template, day, unit_price, price)


def _months(first: date, last: date) -> Iterator[tuple[int, int]]:
    year, month = first.year, first.month
    while (year, month) <= (last.year, last.month):
        yield year, month
        year, month = (year, month + 1) if month < 12 else (year + 1, 1)


def _months_ago(day: date, months: int) -> date:
    number = day.year * 12 + day.month - 1 - months
    return date(number // 12, number % 12 + 1, day.day)


def _a_price(dice: random.Random) -> Decimal:
    return Decimal(dice.randint(5_000, 25_000)) / 100


def _last_scheduled(dice: random.Random, as_of: date) -> date:
    day = dice.randint(1, LAST_DAY_OF_MONTH)
    this_month = as_of.replace(day=day)
    return this_month if this_month <= as_of else _months_ago(this_month, 1)


def _ordinary(dice: random.Random, as_of: date, **changes: Any) -> Template:
    """Billed until the outage; the price changed in it, also right on a scheduled day."""
    last = _last_scheduled(dice, as_of)
    second = _months_ago(last, 1)
    change = second + timedelta(days=dice.choice([-20, -1, 0, 1, 12]))
    customer: dict[str, Any] = {
        "prices": (
            Price(_a_price(dice), _months_ago(last, 30), change),
            Price(_a_price(dice), change),
        ),
        "miners": dice.randint(1, 4),
        **changes.pop("customer", {}),
    }
    facts: dict[str, Any] = {
        "day_of_month": last.day,
        "start": _months_ago(last, 20) - timedelta(days=dice.randint(0, 10)),
        "last_generated": _months_ago(last, MISSED_MONTHS),
        "auto_issue": dice.random() < 0.1,
    }
    return Template(Customer(**customer), **facts | changes)


def _own_price(dice: random.Random, as_of: date) -> Template:
    prices = dice.choice([{}, {"prices": ()}])
    return _ordinary(dice, as_of, unit_price=_a_price(dice), customer=prices)


def _price_from_later_on(dice: random.Random, as_of: date) -> Template:
    """The first missed month, or two of them, had no price yet."""
    first = as_of - timedelta(days=dice.randint(20, 70))
    return _ordinary(dice, as_of, customer={"prices": (Price(_a_price(dice), first),)})


def _new(dice: random.Random, as_of: date) -> Template:
    """Never billed; it started in the outage, also right on a scheduled day or the day after."""
    start = _months_ago(_last_scheduled(dice, as_of), dice.randint(0, 2))
    day = start.day
    start += timedelta(days=dice.choice([-9, -1, 0, 0, 1]))
    return _ordinary(dice, as_of, day_of_month=day, start=start, last_generated=None)


def _ended(dice: random.Random, as_of: date) -> Template:
    """It ended in the outage, also right on a scheduled day or the day before."""
    template = _ordinary(dice, as_of)
    assert template.last_generated is not None
    second = _months_ago(template.last_generated, -2)
    return replace(template, end=second + timedelta(days=dice.choice([-1, 0, 0, 5])))


# Of each kind: its share of a large world, and how one is made.
KINDS: Final[Mapping[str, tuple[float, Callable[[random.Random, date], Template]]]] = {
    "ordinary": (70, _ordinary),
    "own price": (8, _own_price),
    "price from later on": (4, _price_from_later_on),
    "new": (4, _new),
    "ended": (4, _ended),
    "paused": (2, lambda dice, as_of: _ordinary(dice, as_of, is_active=False)),
    "no price": (2, lambda dice, as_of: _ordinary(dice, as_of, customer={"prices": ()})),
    "no miners": (2, lambda dice, as_of: _ordinary(dice, as_of, customer={"miners": 0})),
    "deleted": (2, lambda dice, as_of: _ordinary(dice, as_of, customer={"is_deleted": True})),
    "no e-mail": (
        1,
        lambda dice, as_of: _ordinary(dice, as_of, auto_issue=True, customer={"has_email": False}),
    ),
    "issued": (1, lambda dice, as_of: _ordinary(dice, as_of, auto_issue=True)),
    "too large": (
        0.2,
        lambda dice, as_of: _ordinary(
            dice, as_of, unit_price=HIGHEST_PRICE, customer={"miners": TOO_MANY_MINERS}
        ),
    ),
}


def as_stored(day: date | None) -> datetime | None:
    """Midnight UTC, which is how days are stored."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC) if day else None


def _stamps() -> dict[str, Any]:
    before = datetime(2020, 1, 1, tzinfo=UTC)
    return {"createdBy": STAFF, "updatedBy": None, "createdAt": before, "updatedAt": before}


def _user(customer: Customer) -> dict[str, Any]:
    return {
        "_id": customer.id,
        "name": f"Customer {customer.id}",
        "email": customer.email,
        "companyName": f"Mining {customer.id} Ltd",
        "role": "CLIENT",
        "isDeleted": customer.is_deleted,
    }


def _miners(customer: Customer) -> list[dict[str, Any]]:
    active = [{"status": ("AUTO", "ACTIVE")[number % 2]} for number in range(customer.miners)]
    others = [{"status": "OFFLINE"}, {"status": "AUTO", "isDeleted": True}]
    return [{"userId": customer.id, "isDeleted": False, **row} for row in [*active, *others]]


def _price(customer: Customer, price: Price) -> dict[str, Any]:
    return {
        "_id": price.id,
        "userId": customer.id,
        "defaultUnitPrice": price.unit_price,
        "effectiveFrom": as_stored(price.first),
        "effectiveTo": as_stored(price.end),
        **_stamps(),
    }


def _template(template: Template) -> dict[str, Any]:
    return {
        "_id": template.id,
        "userId": template.customer.id,
        "dayOfMonth": template.day_of_month,
        "unitPrice": template.unit_price,
        "startDate": as_stored(template.start),
        "endDate": as_stored(template.end),
        "isActive": template.is_active,
        "autoIssue": template.auto_issue,
        "lastGeneratedDate": as_stored(template.last_generated),
        "lastSkippedDate": None,
        "failedRuns": 0,
        "lastFailedRunId": None,
        "parkedReason": None,
        "version": 1,
        **_stamps(),
    }
