from __future__ import annotations

from datetime import date

import pytest

from accounting.invoices.rules import (
    InvalidTransition,
    InvoiceAction,
    InvoiceStatus,
    allowed_actions,
    check_allowed,
    due_date,
    invoice_number,
    is_overdue,
)

TODAY = date(2026, 1, 12)


@pytest.mark.parametrize(
    ("serial", "width", "number"),
    [
        (1, 2, "2026011201"),
        (99, 2, "2026011299"),
        (100, 2, "20260112100"),
        (7, 4, "202601120007"),
    ],
)
def test_the_number_is_the_day_and_a_growing_serial(serial: int, width: int, number: str) -> None:
    assert invoice_number(TODAY, serial, width) == number


@pytest.mark.parametrize(
    ("generated", "due"),
    [
        (date(2026, 1, 12), date(2026, 2, 11)),
        (date(2028, 1, 30), date(2028, 2, 29)),
        (date(2026, 12, 31), date(2027, 1, 30)),
    ],
)
def test_the_due_date_is_thirty_days_later(generated: date, due: date) -> None:
    assert due_date(generated, 30) == due


@pytest.mark.parametrize(
    ("status", "due", "overdue"),
    [
        (InvoiceStatus.ISSUED, date(2026, 1, 11), True),
        (InvoiceStatus.ISSUED, date(2026, 1, 12), False),
        (InvoiceStatus.OVERDUE, date(2026, 1, 12), True),
        (InvoiceStatus.DRAFT, date(2026, 1, 11), False),
        (InvoiceStatus.PAID, date(2026, 1, 11), False),
        (InvoiceStatus.CANCELLED, date(2026, 1, 11), False),
    ],
)
def test_an_open_invoice_is_overdue_from_the_day_after_its_due_date(
    status: InvoiceStatus, due: date, overdue: bool
) -> None:
    assert is_overdue(status, due, TODAY) is overdue


@pytest.mark.parametrize("status", list(InvoiceStatus))
@pytest.mark.parametrize("action", list(InvoiceAction))
def test_an_action_is_refused_exactly_where_it_is_not_offered(
    status: InvoiceStatus, action: InvoiceAction
) -> None:
    if action in allowed_actions(status):
        check_allowed(action, status, "2026011201")
    else:
        with pytest.raises(InvalidTransition, match=f"2026011201 is {status}: {action}"):
            check_allowed(action, status, "2026011201")


def test_a_refusal_names_what_is_allowed() -> None:
    with pytest.raises(InvalidTransition) as refused:
        check_allowed(InvoiceAction.ISSUE, InvoiceStatus.ISSUED, "2026011201")

    assert refused.value.code == "invalid_transition"
    assert refused.value.facts["allowedActions"] == ["record-payment", "remove-payment", "cancel"]
