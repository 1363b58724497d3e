"""Which reminder is due on which day, also when days were missed."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from accounting.invoices.dunning import (
    ReminderStep,
    due_dates_in_sequence,
    due_step,
    step_named,
)
from accounting.notifications.contents import Tone
from accounting.notifications.rules import NotificationType

DUE = date(2026, 2, 27)  # so that the sequence crosses the end of a month
LONG_BEFORE = date(2026, 1, 1)
REMINDER, OVERDUE = NotificationType.PAYMENT_REMINDER, NotificationType.OVERDUE_REMINDER


def step_on(day: int, *, issued: date = LONG_BEFORE) -> ReminderStep | None:
    return due_step(DUE, issued=issued, today=DUE + timedelta(days=day))


@pytest.mark.parametrize(
    ("day", "step"),
    [
        (-30, None),
        (-4, None),
        (-3, ReminderStep.BEFORE_DUE),
        (-2, ReminderStep.BEFORE_DUE),
        (0, ReminderStep.BEFORE_DUE),  # the last day to pay
        (1, ReminderStep.FIRST_OVERDUE),
        (6, ReminderStep.FIRST_OVERDUE),
        (7, ReminderStep.SECOND_OVERDUE),
        (13, ReminderStep.SECOND_OVERDUE),
        (14, ReminderStep.LAST),
        (43, ReminderStep.LAST),
        (44, None),
        (1_000, None),
    ],
)
def test_the_latest_step_that_has_begun_is_due(day: int, step: ReminderStep | None) -> None:
    assert step_on(day) is step


@pytest.mark.parametrize(
    ("issued_on_day", "day", "step"),
    [
        # Issued later than the reminder before the due date would have gone out.
        (-3, -3, ReminderStep.BEFORE_DUE),
        (-3, -2, ReminderStep.BEFORE_DUE),
        (-2, -2, None),
        (-2, 0, None),
        (-2, 1, ReminderStep.FIRST_OVERDUE),
        # Issued when it was overdue already: what came before was never missed.
        (5, 6, None),
        (5, 7, ReminderStep.SECOND_OVERDUE),
        (10, 10, None),
        (10, 13, None),
        (10, 14, ReminderStep.LAST),
        (14, 20, ReminderStep.LAST),
        (15, 20, None),
        # On its very day a step is due, whatever `--as-of` makes of the day of issue.
        (200, 7, ReminderStep.SECOND_OVERDUE),
        (200, 8, None),
    ],
)
def test_days_before_the_issue_are_not_made_up_for(
    issued_on_day: int, day: int, step: ReminderStep | None
) -> None:
    assert step_on(day, issued=DUE + timedelta(days=issued_on_day)) is step


def test_the_due_dates_looked_at_are_those_that_can_have_a_step() -> None:
    today = date(2026, 3, 1)

    first, last = due_dates_in_sequence(today)

    every_day = [today + timedelta(days=day) for day in range(-100, 100)]
    with_a_step = [
        due for due in every_day if due_step(due, issued=LONG_BEFORE - timedelta(200), today=today)
    ]
    assert (first, last) == (min(with_a_step), max(with_a_step))


@pytest.mark.parametrize(
    ("step", "key", "kind", "tone"),
    [
        (ReminderStep.BEFORE_DUE, "-3", REMINDER, Tone.FRIENDLY),
        (ReminderStep.FIRST_OVERDUE, "+1", OVERDUE, Tone.FRIENDLY),
        (ReminderStep.SECOND_OVERDUE, "+7", OVERDUE, Tone.FIRM),
        (ReminderStep.LAST, "+14", OVERDUE, Tone.LAST),
    ],
)
def test_each_step_has_its_key_kind_and_tone(
    step: ReminderStep, key: str, kind: NotificationType, tone: Tone
) -> None:
    assert (step.key, step.notification_type, step.tone) == (key, kind, tone)
    assert step_named(key, days_overdue=-100) is step


@pytest.mark.parametrize(
    ("days_overdue", "step"),
    [
        (-3, None),
        (0, None),
        (1, ReminderStep.FIRST_OVERDUE),
        (7, ReminderStep.SECOND_OVERDUE),
        (400, ReminderStep.LAST),
    ],
)
def test_a_reminder_without_a_step_speaks_as_its_days_call_for(
    days_overdue: int, step: ReminderStep | None
) -> None:
    assert step_named("", days_overdue=days_overdue) is step
    assert step_named("asked-for-by-an-admin", days_overdue=days_overdue) is step
