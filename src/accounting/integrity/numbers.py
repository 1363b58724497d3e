"""Invoice numbers of a day: which are used, which are missing, and why (spec section 3)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, dataclass, field
from datetime import date
from typing import Any, Final

from accounting.db.client import MongoDatabase
from accounting.db.found import read_as_found
from accounting.invoices.rules import invoice_number

DATE_DIGITS: Final = 8
# A day whose counter was moved far by hand must not fill the memory.
GAPS_SHOWN_MAX: Final = 10_000


@dataclass(slots=True)
class NumbersOfDay:
    """The serials of one business day, ascending, and where its counter stands."""

    day: date
    counter: int = 0
    serials: list[int] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)

    @property
    def last(self) -> int:
        return max(self.serials, default=0)

    @property
    def gaps(self) -> list[int]:
        """The serials that were given out and that no invoice has, the first GAPS_SHOWN_MAX."""
        used = set(self.serials)
        missing: list[int] = []
        for serial in range(1, max(self.counter, self.last) + 1):
            if serial not in used:
                missing.append(serial)
                if len(missing) == GAPS_SHOWN_MAX:
                    break
        return missing


@dataclass(frozen=True, slots=True)
class Gap:
    """A number that no invoice has; deleted ones are told by the audit trail."""

    number: str
    explanation: str
    is_deleted: bool


@dataclass(slots=True)
class NumbersReport:
    """All numbers that were given out; the first GAPS_SHOWN_MAX gaps are kept."""

    days: int = 0
    numbers: int = 0
    duplicates: list[str] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    is_cut: bool = False

    def to_json(self) -> dict[str, Any]:
        """For programs; names as in the API."""
        return {
            "days": self.days,
            "numbers": self.numbers,
            "duplicates": self.duplicates,
            "gaps": [asdict(gap) for gap in self.gaps],
            "isCut": self.is_cut,
        }


async def audit_all_numbers(
    mongo: MongoDatabase,
    width: int,
    *,
    on_progress: Callable[[int], None] = lambda numbers: None,
) -> NumbersReport:
    """Every number that was given out twice, and why others have no invoice."""
    report = NumbersReport()
    async for day in read_days(mongo):
        report.days += 1
        report.numbers += len(day.serials)
        report.duplicates += day.duplicates
        room = GAPS_SHOWN_MAX - len(report.gaps)
        gaps = await explain_gaps(mongo, day, width) if room else []
        report.gaps += gaps[:room]
        report.is_cut |= len(gaps) >= room
        on_progress(report.numbers)
    return report


async def read_days(mongo: MongoDatabase) -> AsyncIterator[NumbersOfDay]:
    """Every day on which a number was given out, ascending; one day in memory at a time."""
    counters: dict[str, int] = {}
    async for batch in read_as_found(
        mongo, "accounting_counters", {"_id": {"$regex": "^invoiceNumber:"}}, sort=["_id"]
    ):
        counters |= {row["_id"].removeprefix("invoiceNumber:"): row["value"] for row in batch}
    current: NumbersOfDay | None = None
    async for batch in read_as_found(
        mongo, "invoices", {}, sort=["invoiceNumber"], fields=["invoiceNumber"]
    ):
        for row in batch:
            number = row["invoiceNumber"]
            key, serial = number[:DATE_DIGITS], int(number[DATE_DIGITS:])
            if current is None or f"{current.day:%Y%m%d}" != key:
                if current is not None:
                    yield current
                current = _day(key, counters.pop(key, 0))
            if serial in current.serials[-1:]:
                current.duplicates.append(number)
            current.serials.append(serial)
    if current is not None:
        yield current
    for key, counter in sorted(counters.items()):  # days of which no invoice is left
        yield _day(key, counter)


async def explain_gaps(mongo: MongoDatabase, day: NumbersOfDay, width: int) -> list[Gap]:
    """Why each missing number of a day is missing, as far as the audit trail tells.

    A number without an entry was taken for an invoice that was never written: its transaction
    failed, or its worker died. Spec: section 3, "Invoice number".
    """
    missing = {invoice_number(day.day, serial, width) for serial in day.gaps}
    if not missing:
        return []
    deleted: dict[str, str] = {}
    found = mongo["audit_logs"].find(
        {"action": "INVOICE_DELETED", "changes.before.invoiceNumber": {"$in": sorted(missing)}},
        {"changes.before.invoiceNumber": 1, "createdAt": 1, "userId": 1},
    )
    async for entry in found:
        number = entry["changes"]["before"]["invoiceNumber"]
        deleted[number] = f"deleted on {entry['createdAt']:%Y-%m-%d} by {entry['userId']}"
    return [
        Gap(number, deleted.get(number, "never written: its transaction failed"), number in deleted)
        for number in sorted(missing, key=lambda number: (len(number), number))
    ]


def _day(key: str, counter: int) -> NumbersOfDay:
    return NumbersOfDay(date.fromisoformat(key), counter)
