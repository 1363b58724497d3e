"""The figures as stored: parts that can be counted again one by one, and their sum.

Derived from invoices, payments and templates and from nothing else: dropped, they are made anew.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from enum import StrEnum
from typing import Annotated, Any, Final, TypeAlias

from pydantic import Field

from accounting.clock import as_stored_day
from accounting.db.database import Session
from accounting.db.document import BaseDocument, EmbeddedDocument, Indexes, index
from accounting.db.fields import Count, Day, Instant, Sum
from accounting.ids import ObjectId, StoredId
from accounting.invoices.rules import InvoiceStatus
from accounting.reports.figures import Figures, InvoiceKey, TemplateKey

TOTAL: Final = "total"
FIRST_ID: Final = ObjectId("0" * 24)

Row: TypeAlias = dict[str, Any]


class PartKind(StrEnum):
    """What a part is about."""

    INVOICES = "INVOICES"
    TEMPLATES = "TEMPLATES"


class InvoiceRow(EmbeddedDocument):
    """Invoices of one status and, as long as they are open, one due date."""

    status: InvoiceStatus
    due_date: Day | None
    count: Count
    total_amount: Sum
    amount_paid: Sum


class CollectedRow(EmbeddedDocument):
    """What was paid in a business month and is not refunded."""

    month: Annotated[str, Field(pattern=r"^[0-9]{4}-(0[1-9]|1[0-2])$")]
    amount: Sum


class TemplateRow(EmbeddedDocument):
    """Templates with the same status, end and next run."""

    is_active: bool
    end_date: Day | None
    next_run_date: Day | None
    count: Count


class FiguresDocument(BaseDocument):
    """The rows, as both kinds of documents have them."""

    invoices: list[InvoiceRow]
    collected: list[CollectedRow]
    templates: list[TemplateRow]


class FiguresPart(FiguresDocument):
    """The figures of the invoices, or of the templates, from an id to the one of the next part."""

    kind: PartKind
    first_id: ObjectId

    class Settings:
        name = "accounting_figures_parts"
        indexes = [index("kind", "firstId", unique=True)]


class FiguresTotal(FiguresDocument):
    """The sum of all parts, and how far it reaches.

    It has what every entry of the trail did that was created before `since`, and of those created
    since then `entries` many; None: it is not known how many.
    """

    id: str = TOTAL  # type: ignore[assignment]  # there is one
    # Another one with each change: the guard of every write.
    revision: ObjectId
    # Months are those of the business zone.
    zone: Annotated[str, Field(min_length=1, max_length=100)]
    since: Instant
    entries: Count | None
    # Where the parts end that are there; none: all are.
    invoices_end: ObjectId | None
    templates_end: ObjectId | None

    class Settings:
        name = "accounting_figures"
        indexes: Indexes = []


@dataclass(frozen=True, slots=True)
class State:
    """The stored total as it is worked with."""

    revision: StoredId | None
    zone: str
    since: datetime
    entries: int | None = None
    ends: Mapping[PartKind, StoredId | None] = field(
        default_factory=lambda: dict.fromkeys(PartKind, FIRST_ID)
    )
    figures: Figures = field(default_factory=Figures)

    @property
    def is_whole(self) -> bool:
        """Whether everything was counted, and not only a beginning."""
        return not any(self.ends.values())

    def ending(self, kind: PartKind, end: StoredId | None) -> State:
        """The same, with parts of this kind up to this id."""
        return replace(self, ends={**self.ends, kind: end})


@dataclass(frozen=True, slots=True)
class Part:
    """A part as it is worked with."""

    kind: PartKind
    first_id: StoredId
    figures: Figures


async def find_state(session: Session | None) -> State | None:
    """The stored total; None where nothing was counted yet."""
    raw = await FiguresTotal.get_motor_collection().find_one({"_id": TOTAL}, session=session)
    if raw is None:
        return None
    return State(
        revision=raw["revision"],
        zone=raw["zone"],
        since=raw["since"],
        entries=raw["entries"],
        ends={
            PartKind.INVOICES: raw["invoicesEnd"],
            PartKind.TEMPLATES: raw["templatesEnd"],
        },
        figures=from_rows(raw),
    )


def stored_state(state: State, revision: ObjectId) -> Row:
    """The document of a total, under a new revision."""
    return {
        "_id": TOTAL,
        "revision": revision,
        "zone": state.zone,
        "since": state.since,
        "entries": state.entries,
        "invoicesEnd": state.ends[PartKind.INVOICES],
        "templatesEnd": state.ends[PartKind.TEMPLATES],
        **to_rows(state.figures),
    }


async def find_first_ids(kind: PartKind, session: Session | None) -> list[StoredId]:
    """Where the parts of a kind begin, ascending."""
    found = FiguresPart.get_motor_collection().find(
        {"kind": kind.value}, {"_id": 0, "firstId": 1}, session=session
    )
    return [raw["firstId"] async for raw in found.sort("firstId", 1)]


async def find_parts(
    kind: PartKind, first_ids: Iterable[StoredId], session: Session | None
) -> list[Part]:
    """The parts that begin with these ids."""
    query = {"kind": kind.value, "firstId": {"$in": list(first_ids)}}
    found = FiguresPart.get_motor_collection().find(query, session=session)
    return [Part(kind, raw["firstId"], from_rows(raw)) async for raw in found]


async def find_parts_from(
    kind: PartKind, first_id: StoredId, limit: int, session: Session | None
) -> list[Part]:
    """So many parts from this id on, ascending."""
    query = {"kind": kind.value, "firstId": {"$gte": first_id}}
    found = FiguresPart.get_motor_collection().find(query, session=session)
    parts = found.sort("firstId", 1).limit(limit)
    return [Part(kind, raw["firstId"], from_rows(raw)) async for raw in parts]


async def find_all_parts(session: Session | None) -> AsyncIterator[Part]:
    """Every part of either kind."""
    async for raw in FiguresPart.get_motor_collection().find({}, session=session):
        yield Part(PartKind(raw["kind"]), raw["firstId"], from_rows(raw))


def to_rows(figures: Figures) -> Row:
    """Figures by stored names."""
    return {
        "invoices": [
            {
                "status": key.status.value,
                "dueDate": _stored_day(key.due_date),
                "count": numbers[0],
                "totalAmount": numbers[1],
                "amountPaid": numbers[2],
            }
            for key, numbers in sorted(figures.invoices.items(), key=_by_key)
        ],
        "collected": [
            {"month": month, "amount": amount}
            for month, (amount,) in sorted(figures.collected.items())
        ],
        "templates": [
            {
                "isActive": key.is_active,
                "endDate": _stored_day(key.end_date),
                "nextRunDate": _stored_day(key.next_run_date),
                "count": count,
            }
            for key, (count,) in sorted(figures.templates.items(), key=_by_key)
        ],
    }


def from_rows(raw: Mapping[str, Any]) -> Figures:
    """Figures out of a stored document. Not by its class: there are hundreds of rows."""
    return Figures(
        {
            InvoiceKey(InvoiceStatus(row["status"]), _day(row["dueDate"])): (
                *(row["count"], row["totalAmount"], row["amountPaid"]),
            )
            for row in raw["invoices"]
        },
        {row["month"]: (row["amount"],) for row in raw["collected"]},
        {
            TemplateKey(row["isActive"], _day(row["endDate"]), _day(row["nextRunDate"])): (
                row["count"],
            )
            for row in raw["templates"]
        },
    )


def _by_key(row: tuple[tuple[Any, ...], Any]) -> list[str]:
    return [str(value) for value in row[0]]


def _stored_day(day: date | None) -> datetime | None:
    return None if day is None else as_stored_day(day)


def _day(stored: datetime | None) -> date | None:
    return None if stored is None else stored.date()
