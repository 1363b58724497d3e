"""The story of a large demo: as many invoices as asked for, nothing after now, always the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from accounting.clock import business_day
from accounting.dev.bulk.history import MONTHS, Bill, BulkOrder, History
from accounting.invoices.rules import InvoiceStatus

ORDER = BulkOrder(
    invoices=3_000,
    customers=60,
    seed=1,
    now=datetime(2026, 3, 31, 0, 5, tzinfo=UTC),
    zone=ZoneInfo("America/New_York"),
)


def bills_of(history: History) -> Iterator[Bill]:
    for month in range(MONTHS):
        for _, contracts in history.days_of(month):
            for serial, number in enumerate(contracts, start=1):
                yield history.bill(history.contracts[number], month, serial)


@pytest.fixture(scope="module")
def bills() -> list[Bill]:
    return list(bills_of(History(ORDER)))


@pytest.mark.parametrize(
    ("invoices", "customers"),
    [(1, 1), (1, 50), (59, 1), (61, 7), (1_000, 3), (1_234, 5_000), (20_000, 400), (99_999, 2_000)],
)
def test_there_are_as_many_bills_as_asked_for(invoices: int, customers: int) -> None:
    history = History(replace(ORDER, invoices=invoices, customers=customers))

    billed = [
        number for month in range(MONTHS) for _, of in history.days_of(month) for number in of
    ]

    assert len(billed) == invoices
    assert {history.contracts[number].customer for number in billed} <= set(range(customers))


def test_a_customer_is_billed_month_by_month(bills: list[Bill]) -> None:
    of_one = [bill for bill in bills if bill.contract.number == 0]

    months = [bill.day.year * 12 + bill.day.month for bill in of_one]
    assert months == list(range(months[0], months[0] + len(months)))
    assert len(months) > 30
    assert {bill.day.day for bill in of_one} == {of_one[0].contract.day_of_month}


def test_numbers_are_those_of_their_days_and_none_is_given_twice(bills: list[Bill]) -> None:
    numbers = {bill.number for bill in bills}

    assert len(numbers) == len(bills)
    assert all(bill.number.startswith(f"{bill.day:%Y%m%d}") for bill in bills)


def test_most_is_paid_and_every_other_fate_is_there(bills: list[Bill]) -> None:
    history = History(ORDER)

    fates = Counter(history.fate(bill.contract, bill.month) for bill in bills)

    assert fates[InvoiceStatus.PAID] > 0.9 * len(bills)
    for fate in ("ISSUED", "DRAFT", "CANCELLED", "REFUNDED"):
        assert 0 < fates[InvoiceStatus(fate)] < 0.05 * len(bills)
    assert any(bill.overdue_at and not bill.payments for bill in bills)


def test_payments_are_of_every_kind(bills: list[Bill]) -> None:
    used = Counter(paid.row for bill in bills for paid in bill.payments)
    rows = [row for bill in bills for row in bill.ledger]

    assert max(used.values()) == 2, "one row pays two months"
    assert any(len(bill.payments) == 2 for bill in bills), "two rows pay one invoice"
    in_part = [b for b in bills if b.payments and sum(p.cents for p in b.payments) < b.total_cents]
    assert in_part, "a part is paid"
    assert any(row.cents > row.allocated_cents > 0 for row in rows), "more is paid in than due"
    assert used.keys() == {(row.contract, row.month, row.part) for row in rows}


def test_a_row_of_the_ledger_gives_what_its_invoices_take(bills: list[Bill]) -> None:
    taken: Counter[tuple[int, int, int]] = Counter()
    for bill in bills:
        for paid in bill.payments:
            taken[paid.row] += 0 if bill.refunded_at else paid.cents

    for row in (row for bill in bills for row in bill.ledger):
        assert taken[row.contract, row.month, row.part] == row.allocated_cents <= row.cents


def test_nothing_happens_after_now_or_before_what_it_follows(bills: list[Bill]) -> None:
    for bill in bills:
        paid = [payment.at for payment in bill.payments]
        ended = bill.cancelled_at or bill.refunded_at
        told = [bill.created_at, bill.issued_at, *paid, ended]
        happened = [at for at in told if at is not None]
        assert happened == sorted(happened)
        assert max(happened) < ORDER.now
        assert business_day(bill.created_at, ORDER.zone) == bill.day
        assert all(payment.row_at < payment.at for payment in bill.payments)
        if bill.overdue_at:
            assert bill.issued_at
            assert bill.issued_at < bill.overdue_at < ORDER.now
            assert business_day(bill.overdue_at, ORDER.zone) > bill.due


def test_the_price_is_the_customers_on_the_day(bills: list[Bill]) -> None:
    history = History(ORDER)

    changed = [price for customer in range(60) for price in history.prices(customer) if price.end]
    for bill in bills:
        if bill.price_start is None:
            assert bill.unit_cents == bill.contract.own_price_cents
            continue
        [price] = [
            price
            for price in history.prices(bill.contract.customer)
            if price.start <= bill.day and (price.end is None or bill.day < price.end)
        ]
        assert (bill.unit_cents, bill.price_start) == (price.cents, price.start)
    assert changed


def test_the_same_seed_tells_the_same_story_and_another_one_does_not(bills: list[Bill]) -> None:
    again = list(bills_of(History(ORDER)))
    other = list(bills_of(History(replace(ORDER, seed=2))))

    assert again == bills
    assert len(other) == len(bills)
    assert other != bills
