from __future__ import annotations

from datetime import date
from decimal import Decimal

from accounting.simulation.days import days_from
from accounting.simulation.figures import MonthFigures, total_of

JANUARY = MonthFigures(
    "2026-01", drafts=2, issued=3, amount=Decimal("10.10"), invoice_mails=3, payment_reminders=1
)
FEBRUARY = MonthFigures(
    "2026-02",
    issued=1,
    amount=Decimal("0.20"),
    overdue_reminders=4,
    overdue=2,
    overdue_amount=Decimal("7.00"),
    not_billed=5,
)


def test_a_total_is_the_sum_of_every_column() -> None:
    total = total_of([JANUARY, FEBRUARY])

    assert total == MonthFigures(
        "total",
        drafts=2,
        issued=4,
        amount=Decimal("10.30"),
        invoice_mails=3,
        payment_reminders=1,
        overdue_reminders=4,
        overdue=2,
        overdue_amount=Decimal("7.00"),
        not_billed=5,
    )
    assert (total.invoices, total.reminders) == (6, 5)


def test_the_total_of_no_month_is_nothing() -> None:
    assert total_of([]) == MonthFigures("total")


def test_amounts_are_strings_in_json() -> None:
    written = JANUARY.to_json()

    assert (written["amount"], written["overdueAmount"]) == ("10.10", "0.00")
    assert (written["month"], written["drafts"], written["invoiceMails"]) == ("2026-01", 2, 3)


def test_days_include_both_ends_and_a_leap_day() -> None:
    days = list(days_from(date(2028, 2, 28), date(2028, 3, 1)))

    assert days == [date(2028, 2, 28), date(2028, 2, 29), date(2028, 3, 1)]
    assert list(days_from(date(2028, 2, 28), date(2028, 2, 28))) == [date(2028, 2, 28)]
