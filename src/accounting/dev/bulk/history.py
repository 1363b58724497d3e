"""What happened in the years of a large demo: who was billed when, how much, and what became of it.

Everything is a function of the order, the contract and the month, so that processes can work on
different months without asking each other, and the same order always tells the same story.
"""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache
from hashlib import blake2b
from itertools import accumulate
from typing import Final
from zoneinfo import ZoneInfo

from accounting.clock import business_day, start_of_day
from accounting.invoices.rules import InvoiceStatus, due_date, invoice_number

MONTHS: Final = 60
DAYS_OF_MONTH: Final = 28
# Where there are fewer customers than monthly invoices: how far the last month is above the mean.
GROWTH: Final = 1.2
# What becomes of an invoice, in percent, by its age in days: only new ones are still open.
FATES: Final = (
    InvoiceStatus.PAID,
    InvoiceStatus.ISSUED,
    InvoiceStatus.DRAFT,
    InvoiceStatus.CANCELLED,
    InvoiceStatus.REFUNDED,
)
SHARES_BY_AGE: Final = (
    (30, (40.0, 45.0, 11.0, 3.0, 1.0)),
    (60, (80.0, 13.0, 3.0, 3.0, 1.0)),
    (200, (92.0, 3.0, 1.0, 3.0, 1.0)),
    (10_000, (95.3, 0.5, 0.2, 3.0, 1.0)),
)
PAID_FOR_TWO_MONTHS: Final = 0.05
PAID_IN_TWO_PARTS: Final = 0.06
PAID_LATE: Final = 0.10
PAID_IN_PART: Final = 0.20
PAID_TOO_MUCH: Final = 0.03
# E-mails were sent about the invoices of so many days.
MAILED_DAYS: Final = 180
# Another price at the start of a year, and a template with a price of its own.
PRICE_CHANGED: Final = 0.6
OWN_PRICE: Final = 0.1

GENERATED_AFTER: Final = timedelta(minutes=10)
WRITTEN_BEFORE: Final = timedelta(minutes=10)
OVERDUE_AFTER: Final = timedelta(minutes=20)
ISSUED_AFTER: Final = timedelta(hours=9)
PAID_AFTER: Final = timedelta(hours=13)


@dataclass(frozen=True, slots=True)
class BulkOrder:
    """How much is wanted, and when it ends; small enough to be sent to every process."""

    invoices: int
    customers: int
    seed: int
    now: datetime
    zone: ZoneInfo
    due_days: int = 30
    serial_width: int = 2


@dataclass(frozen=True, slots=True)
class Dice:
    """Sixteen chances that are always the same for the same thing."""

    rolled: tuple[int, ...]

    def share(self, number: int) -> float:
        """From 0 up to 1."""
        return self.rolled[number] / 65_536

    def pick(self, number: int, count: int) -> int:
        """One of so many, from 0."""
        return self.rolled[number] * count >> 16


@dataclass(frozen=True, slots=True)
class Price:
    """What a customer pays for a miner from a day on, in cents."""

    start: date
    cents: int
    end: date | None = None


@dataclass(frozen=True, slots=True)
class Contract:
    """What is billed to a customer each month; without a template an admin writes it by hand."""

    number: int
    customer: int
    day_of_month: int
    first_month: int
    miners: int
    has_template: bool
    own_price_cents: int | None


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """What a customer paid in: the row of the contract, month and part; amounts in cents."""

    contract: int
    month: int
    part: int
    at: datetime
    cents: int
    allocated_cents: int


@dataclass(frozen=True, slots=True)
class Paid:
    """A part of a row that was applied to an invoice at an instant."""

    row: tuple[int, int, int]
    row_at: datetime
    at: datetime
    cents: int


@dataclass(frozen=True, slots=True)
class Bill:
    """An invoice and what became of it; what did not happen is None."""

    contract: Contract
    month: int
    number: str
    day: date
    due: date
    miners: int
    unit_cents: int
    # The start of the customer's price that it was billed at; None for a price of its own.
    price_start: date | None
    created_at: datetime
    issued_at: datetime | None
    overdue_at: datetime | None
    cancelled_at: datetime | None
    refunded_at: datetime | None
    payments: tuple[Paid, ...]
    ledger: tuple[LedgerRow, ...]
    is_mailed: bool

    @property
    def total_cents(self) -> int:
        return self.miners * self.unit_cents


class History:
    """The story of an order."""

    def __init__(self, order: BulkOrder) -> None:
        self.order = order
        self.start_of = lru_cache(maxsize=4_096)(self._start_of)
        self.prices = lru_cache(maxsize=65_536)(self._prices)
        # A bill asks for its own and those of the month beside it again and again.
        self.dice = lru_cache(maxsize=256)(self._dice)
        self.today = business_day(order.now, order.zone)
        self.last_day = self.today - timedelta(days=1)
        self.billed = _billed_by_month(order.invoices, order.customers)
        self.contracts = [self._contract(number) for number in range(self.billed[-1])]
        # By day of the month, ascending: those of an earlier month are a beginning of the list.
        self._by_day: list[list[int]] = [[] for _ in range(DAYS_OF_MONTH + 1)]
        for contract in self.contracts:
            self._by_day[contract.day_of_month].append(contract.number)

    def days_of(self, month: int) -> Iterator[tuple[date, Sequence[int]]]:
        """The days of a month on which bills are made, ascending, with the contracts."""
        days = sorted((self.day_of(month, day), day) for day in range(1, DAYS_OF_MONTH + 1))
        for day, day_of_month in days:
            numbers = self._by_day[day_of_month]
            yield day, numbers[: bisect_left(numbers, self.billed[month])]

    def day_of(self, month: int, day_of_month: int) -> date:
        """The day of a month, counted so that the last one lies before today for everybody."""
        last = self.last_day
        back = MONTHS - 1 - month + (day_of_month > last.day)
        months = last.year * 12 + last.month - 1 - back
        return date(months // 12, months % 12 + 1, day_of_month)

    def _start_of(self, day: date) -> datetime:
        """The first instant of a business day."""
        return start_of_day(day, self.order.zone)

    def _dice(self, first: int, second: int) -> Dice:
        """The chances of a contract and month, or of whatever else has two numbers."""
        what = struct.pack("<qqq", self.order.seed, first, second)
        return Dice(struct.unpack("<16H", blake2b(what, digest_size=32).digest()))

    def first_day(self, customer: int) -> date:
        """From when on a customer has a price: the month of his first bill."""
        if customer < len(self.contracts):
            contract = self.contracts[customer]  # his first one has his own number
            return self.day_of(contract.first_month, contract.day_of_month).replace(day=1)
        return self.last_day.replace(day=1)

    def _prices(self, customer: int) -> Sequence[Price]:
        """A customer's prices, oldest first; the last one has no end."""
        cents = 6_000 + 25 * self.dice(-1, customer).pick(0, 480)
        found: list[Price] = []
        start = self.first_day(customer)
        for year in range(start.year + 1, self.today.year + 1):
            dice = self.dice(-2 - year, customer)
            if dice.share(0) < PRICE_CHANGED:
                found.append(Price(start, cents, date(year, 1, 1)))
                start, cents = date(year, 1, 1), cents + 25 * (dice.pick(1, 60) - 20)
        return [*found, Price(start, cents)]

    def miners(self, contract: Contract, month: int) -> int:
        """How many miners a contract has in a month: some more every year and a half."""
        return contract.miners + contract.miners // 4 * ((month - contract.first_month) // 18)

    def bill(self, contract: Contract, month: int, serial: int) -> Bill:
        """The bill of a contract and month with the given serial of its day."""
        day = self.day_of(month, contract.day_of_month)
        unit_cents, price_start = self._price(contract, day)
        due, started = due_date(day, self.order.due_days), self.start_of(day)
        fate = self.fate(contract, month)
        dice = self.dice(contract.number, month)
        payments, ledger = self._payments(contract, month, fate)
        issued_at = started + ISSUED_AFTER + timedelta(seconds=dice.pick(2, 10_800))
        overdue_at = self.start_of(due + timedelta(days=1)) + OVERDUE_AFTER
        is_settled = bool(payments) and fate is not InvoiceStatus.ISSUED
        ended_at = None
        if fate is InvoiceStatus.CANCELLED:
            ended_at = self._later(issued_at, 1 + dice.pick(3, 12))
        elif fate is InvoiceStatus.REFUNDED:
            ended_at = self._later(payments[-1].at, 1 + dice.pick(3, 20))
        closed_at = payments[-1].at if is_settled else ended_at or self.order.now
        is_draft = fate is InvoiceStatus.DRAFT
        return Bill(
            contract=contract,
            month=month,
            number=invoice_number(day, serial, self.order.serial_width),
            day=day,
            due=due,
            miners=self.miners(contract, month),
            unit_cents=unit_cents,
            price_start=price_start,
            created_at=self._created_at(contract, started, issued_at, serial),
            issued_at=None if is_draft else issued_at,
            overdue_at=overdue_at if overdue_at < closed_at and not is_draft else None,
            cancelled_at=ended_at if fate is InvoiceStatus.CANCELLED else None,
            refunded_at=ended_at if fate is InvoiceStatus.REFUNDED else None,
            payments=payments,
            ledger=ledger,
            is_mailed=not is_draft and (self.today - day).days <= MAILED_DAYS,
        )

    def fate(self, contract: Contract, month: int) -> InvoiceStatus:
        """What becomes of a bill; ISSUED is any that is still open."""
        if self._is_paid_with_next(contract, month - month % 2):
            return InvoiceStatus.PAID
        age = self._age(contract, month)
        shares = next(shares for days, shares in SHARES_BY_AGE if age <= days)
        chance = self.dice(contract.number, month).share(0) * 100
        below = accumulate(shares)
        fate = next(
            (fate for fate, end in zip(FATES, below, strict=True) if chance < end), FATES[0]
        )
        # What takes a day or more cannot have happened to one of yesterday.
        needs_time = fate in (InvoiceStatus.PAID, InvoiceStatus.REFUNDED, InvoiceStatus.CANCELLED)
        return InvoiceStatus.ISSUED if needs_time and age < 4 else fate

    def _payments(
        self, contract: Contract, month: int, fate: InvoiceStatus
    ) -> tuple[tuple[Paid, ...], tuple[LedgerRow, ...]]:
        """How a bill was paid, and the rows of the ledger that are told of with it."""
        dice, total = self.dice(contract.number, month), self._total(contract, month)
        if self._is_paid_with_next(contract, month - month % 2):
            return self._payment_for_two(contract, month)
        age = self._age(contract, month)
        is_part = fate is InvoiceStatus.ISSUED and age >= 4 and dice.share(5) < PAID_IN_PART
        if fate not in (InvoiceStatus.PAID, InvoiceStatus.REFUNDED) and not is_part:
            return (), ()
        days = 1 + dice.pick(6, min(28, age - 2))
        if dice.share(7) < PAID_LATE and age > self.order.due_days + 24:
            days = self.order.due_days + 1 + dice.pick(8, 20)
        if fate is InvoiceStatus.REFUNDED:
            days = max(1, min(days, age - 3))
        first = total * (30 + dice.pick(9, 40)) // 100
        if is_part:
            amounts = [first]
        elif dice.share(10) < PAID_IN_TWO_PARTS and days > 1 and first:
            amounts = [first, total - first]
        else:
            amounts = [total]
        payments, ledger = [], []
        for part, cents in enumerate(amounts):
            after = days if part == len(amounts) - 1 else days // 2
            at = self._paid_at(contract, month, after, part)
            row_at = at - timedelta(hours=1 + dice.pick(11, 10))
            rest = 100 * dice.pick(12, 200) if dice.share(13) < PAID_TOO_MUCH else 0
            is_free = fate is InvoiceStatus.REFUNDED
            key = (contract.number, month, part)
            payments.append(Paid(key, row_at, at, cents))
            ledger.append(LedgerRow(*key, row_at, cents + rest, 0 if is_free else cents))
        return tuple(payments), tuple(ledger)

    def _payment_for_two(
        self, contract: Contract, month: int
    ) -> tuple[tuple[Paid, ...], tuple[LedgerRow, ...]]:
        """One row that pays this month and the one beside it, when the later one is paid."""
        last = month - month % 2 + 1
        dice = self.dice(contract.number, last)
        at = self._paid_at(contract, last, 1 + dice.pick(6, 20), 0)
        row_at = at - timedelta(hours=1 + dice.pick(11, 10))
        key = (contract.number, last, 0)
        both = self._total(contract, last - 1) + self._total(contract, last)
        ledger = (LedgerRow(*key, row_at, both, both),) if month == last else ()
        # The older invoice first, a second apart.
        at += timedelta(seconds=month % 2)
        return (Paid(key, row_at, at, self._total(contract, month)),), ledger

    def _is_paid_with_next(self, contract: Contract, month: int) -> bool:
        return (
            contract.first_month <= month
            and self.dice(contract.number, month).share(1) < PAID_FOR_TWO_MONTHS
            and self._age(contract, month + 1) > self.order.due_days
        )

    def _paid_at(self, contract: Contract, month: int, days: int, part: int) -> datetime:
        day = self.day_of(month, contract.day_of_month) + timedelta(days=days)
        seconds = self.dice(contract.number, month).pick(14, 18_000) + part * 60
        return self.start_of(day) + PAID_AFTER + timedelta(seconds=seconds)

    def _created_at(
        self, contract: Contract, started: datetime, issued_at: datetime, serial: int
    ) -> datetime:
        if contract.has_template:
            return started + GENERATED_AFTER + timedelta(milliseconds=4 * serial)
        return issued_at - WRITTEN_BEFORE

    def _later(self, instant: datetime, days: int) -> datetime:
        """So many days later, or a while ago where that is still to come."""
        latest = self.start_of(self.last_day) + timedelta(hours=20)
        return max(min(instant + timedelta(days=days), latest), instant + timedelta(minutes=5))

    def _total(self, contract: Contract, month: int) -> int:
        day = self.day_of(month, contract.day_of_month)
        return self.miners(contract, month) * self._price(contract, day)[0]

    def _price(self, contract: Contract, day: date) -> tuple[int, date | None]:
        if contract.own_price_cents is not None:
            return contract.own_price_cents, None
        prices = self.prices(contract.customer)
        price = prices[bisect_right(prices, day, key=lambda price: price.start) - 1]
        return price.cents, price.start

    def _age(self, contract: Contract, month: int) -> int:
        return (self.today - self.day_of(month, contract.day_of_month)).days

    def _contract(self, number: int) -> Contract:
        dice = self.dice(number, -1)
        return Contract(
            number=number,
            customer=number % self.order.customers,
            day_of_month=1 + dice.pick(0, DAYS_OF_MONTH),
            first_month=bisect_right(self.billed, number),
            # Most have a few, some have many.
            miners=1 + int(29 * dice.share(1) ** 3),
            has_template=dice.share(2) >= OWN_PRICE,
            own_price_cents=10_000 + 50 * dice.pick(4, 100) if dice.share(3) < OWN_PRICE else None,
        )


def _billed_by_month(invoices: int, customers: int) -> list[int]:
    """How many contracts are billed in each month: more and more, as many invoices in all.

    A contract that is billed once is billed every month from then on.
    """
    mean = invoices / MONTHS
    last = min(max(customers, GROWTH * mean), 2 * mean)
    first = 2 * mean - last
    billed = [round(first + (last - first) * month / (MONTHS - 1)) for month in range(MONTHS)]
    missing = invoices - sum(billed)
    for month in range(MONTHS - 1, -1, -1):
        billed[month] += max(0, min(1, missing - (MONTHS - 1 - month)))
    for month, count in enumerate(billed):
        if missing < 0 < count:
            billed[month], missing = count - 1, missing + 1
    return billed
