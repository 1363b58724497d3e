"""Which invoices an archive may take, and which it must leave (README, "Archiving").

An archived invoice is gone from every total, list and statement, so it may only take what nets to
zero, lies wholly before the cutoff, and is needed by nothing that stays.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Final
from zoneinfo import ZoneInfo

from accounting.clock import start_of_day
from accounting.errors import AccountingError
from accounting.invoices.rules import InvoiceStatus
from accounting.money import ZERO
from accounting.recurring.rules import TemplateStatus, period_of, template_status
from accounting.reports.rules import Movement

# What the closing of an invoice is called in it; these statuses are the closed ones.
CLOSING_DATE: Final[Mapping[InvoiceStatus, str]] = {
    InvoiceStatus.PAID: "paidDate",
    InvoiceStatus.CANCELLED: "cancelledDate",
    InvoiceStatus.REFUNDED: "refundedDate",
}
# The dashboard looks back twelve months, a default statement to the first of January.
AGE_MONTHS_MIN: Final = 12
AGE_MONTHS_MAX: Final = 1_200
# An old date may have been entered yesterday, and be put right tomorrow.
UNCHANGED_DAYS_MIN: Final = 30
_AGE: Final = re.compile(r"([0-9]{1,4})([ym])")
_MONTHS_OF: Final = {"y": 12, "m": 1}


class ArchiveError(AccountingError):
    """An archive that was not made; no HTTP request ever meets one."""


class AgeNotValid(ArchiveError):
    """Not a number of years or months, or too few of them."""

    def __init__(self, text: str) -> None:
        super().__init__(
            f"--older-than {text} is no age: give years or months, 1y (12m) at least and "
            "100y at most, such as 3y or 18m."
        )


@dataclass(frozen=True, slots=True)
class Age:
    """How old invoices must be; `text` is how the operator said it."""

    text: str
    months: int


def parse_age(text: str) -> Age:
    """`3y` or `18m`. Raises AgeNotValid."""
    found = _AGE.fullmatch(text)
    months = int(found[1]) * _MONTHS_OF[found[2]] if found else 0
    if not AGE_MONTHS_MIN <= months <= AGE_MONTHS_MAX:
        raise AgeNotValid(text)
    return Age(text, months)


def cutoff_day(age: Age, today: date) -> date:
    """The business day before which all of an invoice must lie; a shorter month ends earlier."""
    month = today.year * 12 + today.month - 1 - age.months
    year, month = month // 12, month % 12 + 1
    return date(year, month, min(today.day, calendar.monthrange(year, month)[1]))


class Kept(StrEnum):
    """Why an invoice that was closed before the cutoff stays where it is."""

    MOVED_SINCE = "moved_since"
    MAILED_SINCE = "mailed_since"
    CHANGED_LATELY = "changed_lately"
    LAST_OF_TEMPLATE = "last_of_template"
    UNSOUND = "unsound"


KEPT_WORDS: Final[Mapping[Kept, str]] = {
    Kept.MOVED_SINCE: "have a payment or a refund on or after that day",
    Kept.MAILED_SINCE: "have an e-mail that is newer or waits; its link must lead somewhere",
    Kept.CHANGED_LATELY: f"were changed in the last {UNCHANGED_DAYS_MIN} days, old as they are",
    Kept.LAST_OF_TEMPLATE: "are the last of a recurring invoice, which tells it what was billed",
    Kept.UNSOUND: "do not add up to zero: `accounting doctor` says more",
}


@dataclass(frozen=True, slots=True)
class Cutoff:
    """A day in the business zone, and the instants that follow from it and from the present."""

    day: date
    starts_at: datetime
    unchanged_since: datetime

    @classmethod
    def of(cls, day: date, today: date, zone: ZoneInfo) -> Cutoff:
        unchanged_since = today - timedelta(days=UNCHANGED_DAYS_MIN)
        return cls(day, start_of_day(day, zone), start_of_day(unchanged_since, zone))


@dataclass(frozen=True, slots=True)
class Candidate:
    """What the decision about a closed invoice rests on; `movements` are those of its account."""

    movements: Sequence[Movement]
    updated_at: datetime
    last_mail_at: datetime | None = None
    has_waiting_mail: bool = False
    is_last_of_template: bool = False


def why_kept(candidate: Candidate, cutoff: Cutoff) -> Kept | None:
    """Why a closed invoice must stay; None when it can be archived."""
    if sum((movement.amount for movement in candidate.movements), ZERO) != ZERO:
        return Kept.UNSOUND
    if any(movement.day >= cutoff.day for movement in candidate.movements):
        return Kept.MOVED_SINCE
    if candidate.is_last_of_template:
        return Kept.LAST_OF_TEMPLATE
    is_mail_newer = (
        candidate.last_mail_at is not None and candidate.last_mail_at >= cutoff.starts_at
    )
    if candidate.has_waiting_mail or is_mail_newer:
        return Kept.MAILED_SINCE
    if candidate.updated_at >= cutoff.unchanged_since:
        return Kept.CHANGED_LATELY
    return None


@dataclass(frozen=True, slots=True)
class TemplateFacts:
    """What a template knows of the months that were billed."""

    is_active: bool
    end_date: date | None
    last_generated_date: date | None


def is_needed_by(template: TemplateFacts | None, period: str | None, today: date) -> bool:
    """Whether the invoice of this month keeps its template from billing the month again.

    A later month that was generated does so as well. A deleted template bills nothing any more; one
    that has only ended can be given a later end.
    """
    if template is None or period is None:
        return False
    status = template_status(template.is_active, template.end_date, today)
    if status is TemplateStatus.DELETED:
        return False
    last = template.last_generated_date
    return last is None or period_of(last) <= period
