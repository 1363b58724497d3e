"""A customer's account on paper: opening, entries, running and closing balance, aging."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounting.ids import ObjectId, new_id
from accounting.money import ZERO
from accounting.reports.rules import (
    BUCKETS,
    STATEMENT_DAYS_MAX,
    EntryKind,
    Movement,
    RangeNotValid,
    age,
    bucket_of,
    draw_up,
)

DUE = date(2026, 2, 11)


def moved(
    day: date,
    amount: str,
    kind: EntryKind = EntryKind.INVOICE,
    *,
    invoice_id: ObjectId | None = None,
    due: date = DUE,
    number: str = "2026011201",
) -> Movement:
    return Movement(day, kind, Decimal(amount), invoice_id or new_id(), number, due)


@pytest.mark.parametrize(
    ("days_late", "bucket"),
    [
        (-30, "current"),
        (0, "current"),
        (1, "1-30"),
        (30, "1-30"),
        (31, "31-60"),
        (60, "31-60"),
        (61, "61-90"),
        (90, "61-90"),
        (91, "90+"),
        (4_000, "90+"),
    ],
)
def test_a_due_date_has_its_bucket(days_late: int, bucket: str) -> None:
    assert bucket_of(DUE, DUE + timedelta(days=days_late)) == bucket


def test_aging_has_every_bucket_and_adds_up() -> None:
    late = DUE - timedelta(days=45)
    sums = age([(Decimal("10.00"), DUE), (Decimal("5.50"), late), (Decimal("1.00"), late)], DUE)

    assert sums == {
        "current": Decimal("10.00"),
        "1-30": ZERO,
        "31-60": Decimal("6.50"),
        "61-90": ZERO,
        "90+": ZERO,
    }


def test_both_ends_of_the_range_are_included() -> None:
    first, last = date(2026, 1, 10), date(2026, 1, 20)
    amounts = {
        first - timedelta(days=1): "1.00",
        first: "10.00",
        last: "100.00",
        last + timedelta(days=1): "1000.00",
    }

    statement = draw_up([moved(day, amount) for day, amount in amounts.items()], first, last)

    assert statement.opening_balance == Decimal("1.00")
    assert [entry.movement.day for entry in statement.entries] == [first, last]
    assert [entry.balance for entry in statement.entries] == [Decimal("11.00"), Decimal("111.00")]
    assert statement.closing_balance == Decimal("111.00")


def test_entries_of_a_day_come_as_they_happen() -> None:
    invoice_id = new_id()
    day = date(2026, 1, 12)
    paid = moved(day, "-50.00", EntryKind.PAYMENT, invoice_id=invoice_id)
    billed = moved(day, "50.00", invoice_id=invoice_id)

    statement = draw_up([paid, billed], day, day)

    assert [entry.movement.kind for entry in statement.entries] == ["INVOICE", "PAYMENT"]
    assert statement.closing_balance == ZERO
    assert set(statement.aging.values()) == {ZERO}


def test_aging_is_that_of_the_last_day_and_not_of_today() -> None:
    invoice_id = new_id()
    billed = moved(date(2026, 1, 12), "80.00", invoice_id=invoice_id)
    paid_later = moved(date(2026, 6, 1), "-80.00", EntryKind.PAYMENT, invoice_id=invoice_id)

    on_due_date = draw_up([billed, paid_later], date(2026, 1, 1), DUE)
    a_day_later = draw_up([billed, paid_later], date(2026, 1, 1), DUE + timedelta(days=1))

    assert on_due_date.aging["current"] == Decimal("80.00")
    assert a_day_later.aging["1-30"] == Decimal("80.00")


@pytest.mark.parametrize(
    ("first", "last", "is_valid"),
    [
        (date(2026, 1, 12), date(2026, 1, 12), True),
        (date(2026, 1, 12), date(2026, 1, 11), False),
        (date(2026, 1, 1), date(2026, 1, 1) + timedelta(days=STATEMENT_DAYS_MAX - 1), True),
        (date(2026, 1, 1), date(2026, 1, 1) + timedelta(days=STATEMENT_DAYS_MAX), False),
    ],
)
def test_a_range_has_a_day_and_a_most(first: date, last: date, is_valid: bool) -> None:
    if is_valid:
        assert draw_up([], first, last).entries == []
        return
    with pytest.raises(RangeNotValid) as refused:
        draw_up([], first, last)
    assert refused.value.code == "range_not_valid"


days = st.dates(date(2026, 1, 1), date(2026, 12, 31))
amounts = st.decimals("-1000", "1000", places=2)


@given(st.lists(st.tuples(days, amounts), max_size=30), days, days)
def test_two_halves_of_a_year_are_the_year(
    drawn: list[tuple[date, Decimal]], cut: date, last: date
) -> None:
    cut, last = min(cut, last), max(cut, last)
    movements = [moved(day, str(amount)) for day, amount in drawn]
    first = date(2026, 1, 1)

    whole = draw_up(movements, first, last)
    before = draw_up(movements, first, cut)
    after_cut = [entry.balance for entry in whole.entries if entry.movement.day > cut]

    assert sum(whole.aging[name] for name in BUCKETS) == whole.closing_balance
    if cut < last:
        after = draw_up(movements, cut + timedelta(days=1), last)
        assert after.opening_balance == before.closing_balance
        assert after.closing_balance == whole.closing_balance
        assert [entry.balance for entry in after.entries] == after_cut
