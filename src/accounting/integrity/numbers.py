"""Invoice numbers of a day: which are used, which are missing, and why (spec section 3)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final

from accounting.audit.documents import BY_DELETED_NUMBER
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

    def gaps(self, archived: Collection[int] = ()) -> list[int]:
        """The serials that were given out and that no invoice has, the first GAPS_SHOWN_MAX.

        An archived invoice has its number still.
        """
        used = {*self.serials, *archived}
        missing: list[int] = []
        for serial in range(1, max(self.counter, self.last) + 1):
            if serial not in used:
                missing.append(serial)
                if len(missing) == GAPS_SHOWN_MAX:
                    break
        return missing


@dataclass(frozen=True, slots=True)
class Gap:
    """A number that no invoice has, here or archived; deleted ones are told by the trail."""

    number: str
    explanation: str
    is_deleted: bool


@dataclass(slots=True)
class NumbersReport:
    """All numbers that were given out; the first GAPS_SHOWN_MAX gaps are kept.

    `numbers` are those of invoices that are here, `archived` those of archived ones.
    """

    days: int = 0
    numbers: int = 0
    archived: int = 0
    duplicates: list[str] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    is_cut: bool = False

    def to_json(self) -> dict[str, Any]:
        """For programs; names as in the API."""
        return {
            "days": self.days,
            "numbers": self.numbers,
            "archived": self.archived,
            "duplicates": self.duplicates,
            "gaps": [
                {"number": gap.number, "explanation": gap.explanation, "isDeleted": gap.is_deleted}
                for gap in self.gaps
            ],
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
        gone = await find_gone(mongo, day)
        report.archived += len(gone.archived)
        used_again = sorted(gone.archived.intersection(day.serials))
        report.duplicates += [invoice_number(day.day, serial, width) for serial in used_again]
        room = GAPS_SHOWN_MAX - len(report.gaps)
        gaps = explain_gaps(day, gone, width)
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


@dataclass(slots=True)
class Gone:
    """The serials of a day whose invoices are in an archive; who deleted others, and when."""

    archived: set[int] = field(default_factory=set)
    deleted: dict[int, str] = field(default_factory=dict)


async def find_gone(mongo: MongoDatabase, day: NumbersOfDay) -> Gone:
    """What the audit trail tells of the day's invoices that are not here any more."""
    first, last = f"{day.day:%Y%m%d}", f"{day.day:%Y%m%d}:"  # a colon follows every digit
    found = (
        mongo["audit_logs"]
        .find(
            {
                "action": "INVOICE_DELETED",
                "changes.before.invoiceNumber": {"$gte": first, "$lt": last},
            },
            {
                "changes.before.invoiceNumber": 1,
                "changes.after.archive": 1,
                "createdAt": 1,
                "userId": 1,
            },
        )
        .hint(BY_DELETED_NUMBER)
    )
    gone = Gone()
    async for entry in found:
        digits = entry["changes"]["before"]["invoiceNumber"][DATE_DIGITS:]
        if not digits.isdecimal():  # not one that we wrote; `audit verify` names the entry
            continue
        serial = int(digits)
        if "archive" in entry["changes"].get("after", {}):
            gone.archived.add(serial)
        else:
            gone.deleted[serial] = f"deleted on {entry['createdAt']:%Y-%m-%d} by {entry['userId']}"
    return gone


def explain_gaps(day: NumbersOfDay, gone: Gone, width: int) -> list[Gap]:
    """Why each missing number of a day is missing, as far as the audit trail tells.

    A number without an entry was taken for an invoice that was never written: its transaction
    failed, or its worker died. Spec: section 3, "Invoice number".
    """
    return [
        Gap(
            invoice_number(day.day, serial, width),
            gone.deleted.get(serial, "never written: its transaction failed"),
            serial in gone.deleted,
        )
        for serial in day.gaps(gone.archived)
    ]


def _day(key: str, counter: int) -> NumbersOfDay:
    return NumbersOfDay(date.fromisoformat(key), counter)
