"""The calendar of a monthly template, and what can be done with one (spec section 3, "Recurring").

Days are in the business zone. A template's range is inclusive at both ends, as the specification's
`startDate` and `endDate` are; `dayOfMonth` is at most 28, so that every month has the day.

`lastGeneratedDate` is the scheduled date of the last generated occurrence, never the day of the
run: a run that catches up would else seem to have done the month in which it ran. Its whole month
is done, so that no month comes twice when `dayOfMonth` changes. `lastSkippedDate` is the same for
months in which there was nothing to bill: a skipped month stays due until the next one comes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from itertools import islice, takewhile
from typing import Final, NamedTuple, TypeAlias

from accounting.errors import Conflict, Invalid, NotFound
from accounting.ids import ObjectId

RecurringInvoiceId: TypeAlias = ObjectId

DAY_OF_MONTH_MIN: Final = 1
DAY_OF_MONTH_MAX: Final = 28
# A template that fails in so many runs is paused, and somebody has to look at it.
FAILED_RUNS_MAX: Final = 3
# Ten years of one template; what is beyond is due again in the next run.
DUE_PERIODS_MAX: Final = 120

_MONTHS: Final = 12


class Occurrence(NamedTuple):
    """One month of a template: its billing period "YYYY-MM" and the day that it is billed on."""

    period: str
    scheduled_date: date


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a template bills: on `day_of_month`, from start to end inclusive, after the last."""

    day_of_month: int
    start_date: date
    end_date: date | None = None
    last_generated_date: date | None = None
    last_skipped_date: date | None = None


def scheduled_date(period: str, day_of_month: int) -> date:
    """The day on which a billing period "YYYY-MM" is billed."""
    return date.fromisoformat(f"{period}-{day_of_month:02d}")


def period_of(day: date) -> str:
    """The billing period "YYYY-MM" that a day belongs to."""
    return f"{day:%Y-%m}"


def due_periods(
    schedule: Schedule, today: date, *, limit: int = DUE_PERIODS_MAX
) -> list[Occurrence]:
    """What is to be generated on a business day: every month not yet done, the oldest first.

    A month is due from its scheduled date on if that lies from the start to the end date, both
    inclusive, and the month comes after the one last generated. Missed months are all here, so that
    one run after an outage does what a run on every day would have done; at most `limit` of them.
    Whether the template is active is the caller's to ask.
    """
    due = takewhile(lambda occurrence: occurrence.scheduled_date <= today, _occurrences(schedule))
    return list(islice(due, limit))


def next_run_date(schedule: Schedule) -> date | None:
    """The scheduled date of the next month to be generated; None when the end date is before it.

    In the past if a month was missed.
    """
    occurrence = next(_occurrences(schedule), None)
    return occurrence.scheduled_date if occurrence else None


def _occurrences(schedule: Schedule) -> Iterator[Occurrence]:
    """The months that are not done, ascending, without an end unless the template has one."""
    month = _month_number(schedule.start_date)
    for done in (schedule.last_generated_date, schedule.last_skipped_date):
        if done is not None:
            month = max(month, _month_number(done) + 1)
    while True:
        day = date(month // _MONTHS, month % _MONTHS + 1, schedule.day_of_month)
        if schedule.end_date is not None and day > schedule.end_date:
            return
        if day >= schedule.start_date:
            yield Occurrence(period_of(day), day)
        month += 1


def _month_number(day: date) -> int:
    return day.year * _MONTHS + day.month - 1


def start_after_pause(start_date: date, today: date) -> date:
    """The start date of a template that is resumed: it starts anew today, unless it starts later.

    So that what was scheduled before today and not generated, as in a pause, is never billed.
    """
    return max(start_date, today)


class TemplateStatus(StrEnum):
    """Where a template stands on a day; computed, since an end date comes by itself.

    DELETED is final. A template that was paused when its end date came is no longer told apart from
    a deleted one, and as final.
    """

    ACTIVE = "ACTIVE"
    PAUSED = "PAUSED"
    ENDED = "ENDED"
    DELETED = "DELETED"


def template_status(is_active: bool, end_date: date | None, today: date) -> TemplateStatus:
    """A template's status on a business day, from the two stored fields that decide it.

    An active one ends after its end date, which is billed. Deleting sets the end date to today at
    the latest, and so an inactive one is deleted from its end date on.
    """
    if is_active:
        is_past_end = end_date is not None and end_date < today
        return TemplateStatus.ENDED if is_past_end else TemplateStatus.ACTIVE
    is_deleted = end_date is not None and end_date <= today
    return TemplateStatus.DELETED if is_deleted else TemplateStatus.PAUSED


class RecurringInvoiceNotFound(NotFound):
    """There is no template with this id."""

    def __init__(self, template_id: RecurringInvoiceId) -> None:
        super().__init__(
            f"There is no recurring invoice {template_id}.", recurringInvoiceId=str(template_id)
        )


class RecurringInvoiceDeleted(Conflict):
    """A deleted template stays as it is; so does one that was paused when its end date came."""

    def __init__(self, template_id: RecurringInvoiceId, end_date: date | None) -> None:
        super().__init__(
            f"Recurring invoice {template_id} was ended for good on {end_date}; create a new one.",
            recurringInvoiceId=str(template_id),
            endDate=end_date and end_date.isoformat(),
        )


class RecurringInvoiceEnded(Conflict):
    """The end date has passed: there is nothing to pause or resume."""

    def __init__(self, template_id: RecurringInvoiceId, end_date: date | None) -> None:
        super().__init__(
            f"Recurring invoice {template_id} ended on {end_date}; "
            "change its endDate, delete it or create a new one.",
            recurringInvoiceId=str(template_id),
            endDate=end_date and end_date.isoformat(),
        )


class AlreadyPaused(Conflict):
    """The template is paused; it can be resumed."""

    def __init__(self, template_id: RecurringInvoiceId) -> None:
        super().__init__(
            f"Recurring invoice {template_id} is paused already.",
            recurringInvoiceId=str(template_id),
        )


class AlreadyActive(Conflict):
    """The template is active; it can be paused."""

    def __init__(self, template_id: RecurringInvoiceId) -> None:
        super().__init__(
            f"Recurring invoice {template_id} is active already.",
            recurringInvoiceId=str(template_id),
        )


class StartDateFixed(Conflict):
    """Invoices were generated from this start; another one would tell another story."""

    def __init__(self, template_id: RecurringInvoiceId, last_generated_date: date) -> None:
        super().__init__(
            f"Recurring invoice {template_id} has generated invoices, the last for "
            f"{last_generated_date}; its startDate can no longer change.",
            recurringInvoiceId=str(template_id),
            lastGeneratedDate=last_generated_date.isoformat(),
        )


class EndBeforeStart(Invalid):
    """A template has at least one day; both ends are inclusive."""

    def __init__(self, start_date: date, end_date: date) -> None:
        rule = f"must be {start_date} (the start date) or later"
        super().__init__(
            f"A recurring invoice cannot end on {end_date}: endDate {rule}.",
            errors=[("endDate", rule)],
        )


def check_range(start_date: date, end_date: date | None) -> None:
    """Raises EndBeforeStart; an end on the start date itself is a template of one day."""
    if end_date is not None and end_date < start_date:
        raise EndBeforeStart(start_date, end_date)
