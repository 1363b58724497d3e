from __future__ import annotations

from datetime import date

import pytest

from accounting.recurring.rules import (
    EndBeforeStart,
    TemplateStatus,
    check_range,
    scheduled_date,
    template_status,
)

YESTERDAY, TODAY, TOMORROW = (date(2026, 1, number) for number in (11, 12, 13))


@pytest.mark.parametrize(
    ("is_active", "end_date", "status"),
    [
        (True, None, TemplateStatus.ACTIVE),
        (True, TOMORROW, TemplateStatus.ACTIVE),
        (True, TODAY, TemplateStatus.ACTIVE),  # the end date is billed
        (True, YESTERDAY, TemplateStatus.ENDED),
        (False, None, TemplateStatus.PAUSED),
        (False, TOMORROW, TemplateStatus.PAUSED),
        (False, TODAY, TemplateStatus.DELETED),
        (False, YESTERDAY, TemplateStatus.DELETED),
    ],
)
def test_where_a_template_stands(
    is_active: bool, end_date: date | None, status: TemplateStatus
) -> None:
    assert template_status(is_active, end_date, TODAY) is status


@pytest.mark.parametrize("end_date", [None, TODAY, TOMORROW])
def test_a_range_of_a_day_or_more_is_fine(end_date: date | None) -> None:
    check_range(TODAY, end_date)


def test_an_end_before_the_start_is_refused_with_its_field() -> None:
    with pytest.raises(EndBeforeStart, match="must be 2026-01-12") as refused:
        check_range(TODAY, YESTERDAY)

    assert [field for field, _ in refused.value.errors] == ["endDate"]


@pytest.mark.parametrize(("period", "day_of_month"), [("2026-13", 1), ("2026-01", 32), ("", 1)])
def test_what_is_no_month_or_no_day_has_no_date(period: str, day_of_month: int) -> None:
    with pytest.raises(ValueError, match=r"."):
        scheduled_date(period, day_of_month)
