from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from accounting.archiving.rules import (
    Age,
    AgeNotValid,
    Candidate,
    Cutoff,
    Kept,
    TemplateFacts,
    cutoff_day,
    is_needed_by,
    parse_age,
    why_kept,
)
from accounting.ids import new_id
from accounting.reports.rules import EntryKind, Movement

TODAY = date(2026, 1, 12)
CUTOFF = Cutoff.of(date(2023, 1, 12), TODAY, ZoneInfo("UTC"))
INVOICE_ID = new_id()


def a_movement(day: date, kind: EntryKind, amount: str) -> Movement:
    return Movement(day, kind, Decimal(amount), INVOICE_ID, "2021010101", date(2021, 1, 31))


BILLED = a_movement(date(2021, 1, 1), EntryKind.INVOICE, "500.00")
PAID = a_movement(date(2023, 1, 11), EntryKind.PAYMENT, "-500.00")
CLOSED = Candidate([BILLED, PAID], updated_at=datetime(2023, 1, 11, 23, tzinfo=UTC))


@pytest.mark.parametrize(
    ("text", "months"), [("1y", 12), ("3y", 36), ("12m", 12), ("18m", 18), ("100y", 1_200)]
)
def test_an_age_is_years_or_months(text: str, months: int) -> None:
    assert parse_age(text) == Age(text, months)


@pytest.mark.parametrize(
    "text", ["", "0y", "11m", "3", "y", "-3y", "3 y", "3Y", "1.5y", "101y", "1201m", "365d", "٣y"]
)
def test_what_is_no_age_or_too_young_is_refused(text: str) -> None:
    with pytest.raises(AgeNotValid, match="such as 3y or 18m"):
        parse_age(text)


@pytest.mark.parametrize(
    ("today", "age", "cutoff"),
    [
        (date(2026, 1, 12), "3y", date(2023, 1, 12)),
        (date(2026, 1, 12), "18m", date(2024, 7, 12)),
        (date(2026, 12, 31), "18m", date(2025, 6, 30)),
        (date(2028, 2, 29), "1y", date(2027, 2, 28)),
        (date(2028, 2, 29), "4y", date(2024, 2, 29)),
    ],
)
def test_the_cutoff_is_so_many_months_ago(today: date, age: str, cutoff: date) -> None:
    assert cutoff_day(parse_age(age), today) == cutoff


def test_the_cutoff_is_a_day_of_the_business_zone() -> None:
    cutoff = Cutoff.of(date(2023, 1, 12), TODAY, ZoneInfo("America/New_York"))

    assert cutoff.starts_at == datetime(2023, 1, 12, 5, tzinfo=UTC)


def test_what_was_closed_the_day_before_the_cutoff_can_go() -> None:
    assert why_kept(CLOSED, CUTOFF) is None


def test_a_payment_on_the_cutoff_day_keeps_it() -> None:
    late = replace(CLOSED, movements=[BILLED, replace(PAID, day=CUTOFF.day)])

    assert why_kept(late, CUTOFF) is Kept.MOVED_SINCE


def test_what_does_not_add_up_to_zero_stays() -> None:
    part_paid = replace(CLOSED, movements=[BILLED, replace(PAID, amount=Decimal("-499.99"))])

    assert why_kept(part_paid, CUTOFF) is Kept.UNSOUND


@pytest.mark.parametrize(
    ("last_mail_at", "kept"),
    [
        (datetime(2023, 1, 11, 23, 59, 59, 999_000, tzinfo=UTC), None),
        (datetime(2023, 1, 12, tzinfo=UTC), Kept.MAILED_SINCE),
    ],
)
def test_an_email_since_the_cutoff_keeps_it(last_mail_at: datetime, kept: Kept | None) -> None:
    assert why_kept(replace(CLOSED, last_mail_at=last_mail_at), CUTOFF) is kept


def test_an_email_that_waits_keeps_it_however_old() -> None:
    mailed = replace(CLOSED, last_mail_at=datetime(2021, 1, 1, tzinfo=UTC), has_waiting_mail=True)

    assert why_kept(mailed, CUTOFF) is Kept.MAILED_SINCE


@pytest.mark.parametrize(
    ("updated_at", "kept"),
    [
        (datetime(2025, 12, 12, 23, 59, tzinfo=UTC), None),
        (datetime(2025, 12, 13, tzinfo=UTC), Kept.CHANGED_LATELY),
    ],
)
def test_an_old_date_that_was_entered_lately_keeps_it(
    updated_at: datetime, kept: Kept | None
) -> None:
    assert why_kept(replace(CLOSED, updated_at=updated_at), CUTOFF) is kept


def test_the_last_of_its_template_stays() -> None:
    assert why_kept(replace(CLOSED, is_last_of_template=True), CUTOFF) is Kept.LAST_OF_TEMPLATE


@pytest.mark.parametrize(
    ("is_active", "end", "last", "is_needed"),
    [
        (True, None, date(2021, 5, 1), True),  # the month was the last one
        (True, None, date(2021, 6, 1), False),
        (True, None, None, True),  # it does not know of it
        (True, date(2021, 5, 31), date(2021, 5, 1), True),  # ended: it can be given a later end
        (False, None, date(2021, 5, 1), True),  # paused
        (False, date(2021, 5, 31), date(2021, 5, 1), False),  # deleted
        (False, date(2021, 5, 31), None, False),
    ],
)
def test_a_template_needs_its_last_month(
    is_active: bool, end: date | None, last: date | None, is_needed: bool
) -> None:
    template = TemplateFacts(is_active, end, last)

    assert is_needed_by(template, "2021-05", TODAY) is is_needed


def test_without_a_template_nothing_is_needed() -> None:
    assert not is_needed_by(None, "2021-05", TODAY)
