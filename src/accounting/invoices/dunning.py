"""The sequence of reminders about one invoice: which is due on which day (spec section 6)."""

from __future__ import annotations

from datetime import date, timedelta
from enum import IntEnum
from typing import Final

from accounting.notifications.contents import Tone
from accounting.notifications.rules import NotificationType

# How long the last reminder can still be made up for: an outage may last that long, but the first
# day of this job in an old installation must not write to customers about the debts of years ago.
LAST_STEP_DAYS: Final = 30


class ReminderStep(IntEnum):
    """A reminder of the sequence; the value is its day, counted from the due date."""

    BEFORE_DUE = -3
    FIRST_OVERDUE = 1
    SECOND_OVERDUE = 7
    LAST = 14

    @property
    def key(self) -> str:
        """What tells it from the others in a dedupeKey: `+7`."""
        return f"{self.value:+d}"

    @property
    def notification_type(self) -> NotificationType:
        is_early = self is ReminderStep.BEFORE_DUE
        return NotificationType.PAYMENT_REMINDER if is_early else NotificationType.OVERDUE_REMINDER

    @property
    def tone(self) -> Tone:
        if self is ReminderStep.LAST:
            return Tone.LAST
        return Tone.FIRM if self is ReminderStep.SECOND_OVERDUE else Tone.FRIENDLY


_STEP_OF_KEY: Final = {step.key: step for step in ReminderStep}


def due_step(due: date, *, issued: date, today: date) -> ReminderStep | None:
    """The one reminder that may go out today for an open invoice, if it has not gone out before.

    The latest step that has begun: when days were missed, a step is made up for until the next one
    begins, and the steps before it are passed over, so that nobody gets two reminders at once. The
    one before the due date is made up for until that day itself, which is the last day to pay.
    A step whose day came before the invoice was issued was never missed: else an invoice that is
    issued late would be followed by a reminder of days when its customer did not know it.
    """
    days = (today - due).days
    begun = [step for step in ReminderStep if step <= days]
    if not begun or days >= ReminderStep.LAST + LAST_STEP_DAYS:
        return None
    step = max(begun)
    is_made_up_for = days > step
    if is_made_up_for and due + timedelta(days=step) < issued:
        return None
    return step


def due_dates_in_sequence(today: date) -> tuple[date, date]:
    """The first and the last due date, both included, whose invoices can have a step due today."""
    oldest = ReminderStep.LAST + LAST_STEP_DAYS - 1
    return today - timedelta(days=oldest), today - timedelta(days=min(ReminderStep))


def step_named(key: str, *, days_overdue: int) -> ReminderStep | None:
    """The overdue step that a dedupeKey names; without one, the step that so many days call for.

    A reminder that an admin asks for has no step of its own. None before the first overdue day.
    """
    if key in _STEP_OF_KEY:
        return _STEP_OF_KEY[key]
    begun = [step for step in ReminderStep if 0 < step <= days_overdue]
    return max(begun, default=None)
