"""The figures of the dashboard on paper: rows that add up, and what they say on a business day.

Amounts in USD. What depends on the day of the question, such as how late an invoice is, is not in
the rows: these keep the due dates, so that nothing has to be counted again when a day is over.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from accounting.invoices.rules import OPEN_STATUSES, InvoiceStatus, is_overdue
from accounting.money import ZERO
from accounting.recurring.rules import TemplateStatus, template_status
from accounting.reports.rules import BUCKETS, bucket_of

COLLECTED_MONTHS: Final = 12
DUE_SOON_DAYS: Final = 7
# Beyond the last bucket of aging one day is as late as another. The rest is for a clock or a
# business zone that is set back.
DAYS_KEPT_APART: Final = 120
_MONTHS_IN_YEAR: Final = 12

K = TypeVar("K")
Numbers: TypeAlias = tuple[Any, ...]


class InvoiceKey(NamedTuple):
    """Invoices of one row: the due date counts as long as they are open."""

    status: InvoiceStatus
    due_date: date | None = None


class TemplateKey(NamedTuple):
    """Templates of one row: what decides their status, and the scheduled date of the next run."""

    is_active: bool
    end_date: date | None
    next_run_date: date | None


@dataclass(frozen=True, slots=True)
class Figures:
    """Sums over some invoices, their live payments and some templates; no row is all zero."""

    # Count, total amount and amount paid.
    invoices: Mapping[InvoiceKey, Numbers] = field(default_factory=dict)
    # The amount that was paid in a business month "YYYY-MM".
    collected: Mapping[str, Numbers] = field(default_factory=dict)
    # The count.
    templates: Mapping[TemplateKey, Numbers] = field(default_factory=dict)

    def plus(self, others: Iterable[Figures]) -> Figures:
        """These and all of the others."""
        return self._combined(others, 1)

    def minus(self, others: Iterable[Figures]) -> Figures:
        """These without the others."""
        return self._combined(others, -1)

    def on(self, today: date) -> Figures:
        """The same for this day and those after it, with fewer rows: long past is long past."""
        oldest = today - timedelta(days=DAYS_KEPT_APART)
        return Figures(
            _added(
                (key._replace(due_date=_not_before(oldest, key.due_date)), numbers)
                for key, numbers in self.invoices.items()
            ),
            self.collected,
            _added(
                (key._replace(end_date=_not_before(oldest, key.end_date)), numbers)
                for key, numbers in self.templates.items()
            ),
        )

    @property
    def documents(self) -> int:
        """How many invoices and templates were counted."""
        counted = (*self.invoices.values(), *self.templates.values())
        return sum(numbers[0] for numbers in counted)

    def _combined(self, others: Iterable[Figures], sign: int) -> Figures:
        listed = list(others)
        return Figures(
            _added(_rows(self.invoices, (other.invoices for other in listed), sign)),
            _added(_rows(self.collected, (other.collected for other in listed), sign)),
            _added(_rows(self.templates, (other.templates for other in listed), sign)),
        )


def _rows(
    own: Mapping[K, Numbers], others: Iterable[Mapping[K, Numbers]], sign: int
) -> Iterable[tuple[K, Numbers]]:
    yield from own.items()
    for other in others:
        for key, numbers in other.items():
            yield key, tuple(sign * number for number in numbers)


def _added(rows: Iterable[tuple[K, Numbers]]) -> dict[K, Numbers]:
    sums: dict[K, Numbers] = {}
    for key, numbers in rows:
        before = sums.get(key)
        sums[key] = tuple(map(sum, zip(before, numbers, strict=True))) if before else numbers
    return {key: numbers for key, numbers in sums.items() if any(numbers)}


def _not_before(oldest: date, day: date | None) -> date | None:
    return day and max(day, oldest)


@dataclass(frozen=True, slots=True)
class StatusSums:
    """The invoices of one status."""

    count: int = 0
    total_amount: Decimal = ZERO
    amount_paid: Decimal = ZERO


@dataclass(frozen=True, slots=True)
class Amounts:
    """So many invoices with so much to be paid."""

    count: int = 0
    amount: Decimal = ZERO


@dataclass(frozen=True, slots=True)
class Dashboard:
    """Where the business stands on a day (spec section 5, `/dashboard`)."""

    by_status: Mapping[InvoiceStatus, StatusSums]
    outstanding: Decimal
    open_invoices: int
    overdue: Amounts
    aging: Mapping[str, Decimal]
    due_soon: Amounts
    # The last COLLECTED_MONTHS months "YYYY-MM" up to this one, the oldest first.
    collected: Mapping[str, Decimal]
    templates: Mapping[TemplateStatus, int]
    next_run_date: date | None


def draw_up_dashboard(figures: Figures, today: date) -> Dashboard:
    """What the figures say on a business day.

    Outstanding is the sum over ISSUED and OVERDUE of total minus paid (spec section 4). Due soon is
    what is not overdue and due from today to the DUE_SOON_DAYS-th day after it, both included.
    """
    owed = [
        (key.status, key.due_date, numbers[0], numbers[1] - numbers[2])
        for key, numbers in figures.invoices.items()
        if key.status in OPEN_STATUSES and key.due_date is not None
    ]
    late = [row for row in owed if is_overdue(row[0], row[1], today)]
    last_soon = today + timedelta(days=DUE_SOON_DAYS)
    soon = [row for row in owed if row[1] <= last_soon and not is_overdue(row[0], row[1], today)]
    aging = dict.fromkeys(BUCKETS, ZERO)
    for _, due, _, amount in owed:
        aging[bucket_of(due, today)] += amount
    templates = dict.fromkeys(TemplateStatus, 0)
    next_runs: list[date] = []
    for key, (count,) in figures.templates.items():
        status = template_status(key.is_active, key.end_date, today)
        templates[status] += count
        if status is TemplateStatus.ACTIVE and key.next_run_date is not None:
            next_runs.append(key.next_run_date)
    return Dashboard(
        by_status=_by_status(figures),
        outstanding=_amounts(owed).amount,
        open_invoices=_amounts(owed).count,
        overdue=_amounts(late),
        aging=aging,
        due_soon=_amounts(soon),
        collected={
            month: figures.collected.get(month, (ZERO,))[0] for month in months_up_to(today)
        },
        templates=templates,
        next_run_date=min(next_runs, default=None),
    )


def _amounts(rows: Iterable[tuple[InvoiceStatus, date, int, Decimal]]) -> Amounts:
    listed = list(rows)
    return Amounts(sum(row[2] for row in listed), sum((row[3] for row in listed), ZERO))


def _by_status(figures: Figures) -> dict[InvoiceStatus, StatusSums]:
    sums = _added((key.status, numbers) for key, numbers in figures.invoices.items())
    return {status: StatusSums(*sums.get(status, ())) for status in InvoiceStatus}


def months_up_to(today: date) -> list[str]:
    """The last COLLECTED_MONTHS months up to that of a business day, the oldest first."""
    last = today.year * _MONTHS_IN_YEAR + today.month - 1
    numbers = range(last - COLLECTED_MONTHS + 1, last + 1)
    return [
        f"{month // _MONTHS_IN_YEAR:04d}-{month % _MONTHS_IN_YEAR + 1:02d}" for month in numbers
    ]
