"""Figures on paper: how they add up, and what they say on a day."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounting.audit.rules import AuditAction
from accounting.invoices.rules import InvoiceStatus
from accounting.recurring.rules import TemplateStatus
from accounting.reports.documents import from_rows, to_rows
from accounting.reports.figures import (
    Amounts,
    Figures,
    InvoiceKey,
    StatusSums,
    TemplateKey,
    draw_up_dashboard,
    months_up_to,
)
from accounting.reports.upkeep import CHANGES_NO_FIGURES

TODAY = date(2026, 1, 12)


def money(text: str) -> Decimal:
    return Decimal(text)


def one(status: InvoiceStatus, days: int, total: str = "100.00", paid: str = "0.00") -> Figures:
    """An open invoice that is due in so many days."""
    key = InvoiceKey(status, TODAY + timedelta(days=days))
    return Figures({key: (1, money(total), money(paid))})


amounts = st.decimals("0.01", "9999999999.99", places=2)
days = st.dates(date(2024, 1, 1), date(2027, 12, 31))
invoices = st.dictionaries(
    st.builds(InvoiceKey, st.sampled_from(InvoiceStatus), st.none() | days),
    st.tuples(st.integers(1, 500), amounts, amounts),
    max_size=6,
)
templates = st.dictionaries(
    st.builds(TemplateKey, st.booleans(), st.none() | days, st.none() | days),
    st.tuples(st.integers(1, 500)),
    max_size=4,
)
months = st.dictionaries(st.sampled_from(months_up_to(TODAY)), st.tuples(amounts), max_size=4)
figures = st.builds(Figures, invoices, months, templates)


@given(figures, figures)
def test_what_is_added_can_be_taken_away(one_part: Figures, other: Figures) -> None:
    both = one_part.plus([other])

    assert both == other.plus([one_part])
    assert both.minus([other]) == one_part
    assert both.minus([one_part, other]) == Figures()


@given(figures, days, st.integers(0, 1000))
def test_fewer_rows_say_the_same_from_then_on(part: Figures, day: date, later: int) -> None:
    on = day + timedelta(days=later)

    assert draw_up_dashboard(part.on(day), on) == draw_up_dashboard(part, on)
    assert part.on(day).documents == part.documents


@given(figures)
def test_figures_are_stored_and_read_as_they_are(part: Figures) -> None:
    assert from_rows(to_rows(part)) == part


@pytest.mark.parametrize(
    ("days", "bucket", "is_overdue", "is_due_soon"),
    [
        (8, "current", False, False),
        (7, "current", False, True),
        (0, "current", False, True),
        (-1, "1-30", True, False),
        (-30, "1-30", True, False),
        (-31, "31-60", True, False),
        (-60, "31-60", True, False),
        (-61, "61-90", True, False),
        (-90, "61-90", True, False),
        (-91, "90+", True, False),
    ],
)
def test_each_due_date_is_in_its_place(
    days: int, bucket: str, is_overdue: bool, is_due_soon: bool
) -> None:
    shown = draw_up_dashboard(one(InvoiceStatus.ISSUED, days, "100.00", "30.00"), TODAY)

    owed, nothing = Amounts(1, money("70.00")), Amounts()
    assert {name for name, amount in shown.aging.items() if amount} == {bucket}
    assert shown.overdue == (owed if is_overdue else nothing)
    assert shown.due_soon == (owed if is_due_soon else nothing)
    assert (shown.outstanding, shown.open_invoices) == (money("70.00"), 1)


def test_what_is_overdue_by_its_status_is_never_due_soon() -> None:
    shown = draw_up_dashboard(one(InvoiceStatus.OVERDUE, 3), TODAY)

    assert (shown.overdue.count, shown.due_soon.count) == (1, 0)


def test_only_issued_and_overdue_ones_are_outstanding() -> None:
    closed = Figures(
        {
            InvoiceKey(status): (1, money("10.00"), money("1.00"))
            for status in set(InvoiceStatus) - {InvoiceStatus.ISSUED, InvoiceStatus.OVERDUE}
        }
    )

    shown = draw_up_dashboard(closed.plus([one(InvoiceStatus.ISSUED, 5)]), TODAY)

    assert (shown.outstanding, shown.open_invoices) == (money("100.00"), 1)
    assert shown.by_status[InvoiceStatus.DRAFT] == StatusSums(1, money("10.00"), money("1.00"))
    assert shown.by_status[InvoiceStatus.OVERDUE] == StatusSums()


def test_twelve_months_are_shown_with_those_in_which_nothing_came() -> None:
    collected = {"2025-01": (money("1.00"),), "2025-02": (money("2.00"),), "2026-02": (TODAY.day,)}

    shown = draw_up_dashboard(Figures(collected=collected), TODAY).collected

    assert list(shown) == [*(f"2025-{month:02d}" for month in range(2, 13)), "2026-01"]
    assert shown["2025-02"] == money("2.00")
    assert shown["2026-01"] == money("0.00")


def test_templates_are_counted_by_their_status_on_the_day() -> None:
    soon = TODAY + timedelta(days=3)
    rows = {
        TemplateKey(True, None, soon): (2,),
        TemplateKey(True, TODAY, None): (1,),
        TemplateKey(True, TODAY - timedelta(days=1), TODAY - timedelta(days=5)): (1,),
        TemplateKey(False, None, None): (4,),
        TemplateKey(False, TODAY, None): (1,),
    }

    shown = draw_up_dashboard(Figures(templates=rows), TODAY)
    tomorrow = draw_up_dashboard(Figures(templates=rows), TODAY + timedelta(days=1))

    assert shown.templates == {
        TemplateStatus.ACTIVE: 3,
        TemplateStatus.PAUSED: 4,
        TemplateStatus.ENDED: 1,
        TemplateStatus.DELETED: 1,
    }
    # The ended one was not generated for its last month, and never will be.
    assert shown.next_run_date == soon
    assert tomorrow.templates[TemplateStatus.ENDED] == 2


def test_only_entries_about_emails_are_passed_over() -> None:
    assert all(
        action.startswith("EMAIL_") or action is AuditAction.INVOICE_SENT_TO_CUSTOMER
        for action in CHANGES_NO_FIGURES
    )
