"""Counting the figures of a stretch of ids, from the collections themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from zoneinfo import ZoneInfo

from accounting.clock import business_day
from accounting.db.database import Session
from accounting.db.document import BaseDocument
from accounting.ids import StoredId
from accounting.invoices.documents import Invoice
from accounting.invoices.rules import OPEN_STATUSES, InvoiceStatus
from accounting.money import ZERO
from accounting.payments.documents import InvoicePayment
from accounting.recurring.documents import RecurringInvoice
from accounting.recurring.rules import Schedule, next_run_date, period_of
from accounting.reports.documents import FIRST_ID, Part, PartKind
from accounting.reports.figures import Figures, InvoiceKey, TemplateKey

_COUNTED: Final[dict[PartKind, type[BaseDocument]]] = {
    PartKind.INVOICES: Invoice,
    PartKind.TEMPLATES: RecurringInvoice,
}
_SCHEDULE_FIELDS: Final = (
    *("isActive", "dayOfMonth", "startDate", "endDate"),
    *("lastGeneratedDate", "lastSkippedDate"),
)
_DAY_MILLISECONDS: Final = 86_400_000
# A business month differs from that of UTC at most on the first and the last day of one. Payments
# of other days are put together on the fifteenth: what month that is, no zone doubts. So the server
# needs to know none: its own list of zones is as old as the server.
_DAY_OF_PAYMENT: Final = {
    "$cond": [
        {
            "$or": [
                {"$eq": [{"$dayOfMonth": "$paidDate"}, 1]},
                {"$eq": [{"$dayOfMonth": {"$add": ["$paidDate", _DAY_MILLISECONDS]}}, 1]},
            ]
        },
        "$paidDate",
        {
            "$dateFromParts": {
                "year": {"$year": "$paidDate"},
                "month": {"$month": "$paidDate"},
                "day": 15,
            }
        },
    ]
}


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is counted at once.

    A part is counted again in some milliseconds when one of its documents changes, and a million
    invoices are 2,000 parts. A look of `parts` takes about half a second.
    """

    part_documents: int = 500
    stretch_documents: int = 10_000
    parts: int = 200

    @property
    def part_documents_max(self) -> int:
        """A part that has grown beyond this is cut."""
        return 2 * self.part_documents


SIZES: Final = Sizes()


@dataclass(frozen=True, slots=True)
class Counting:
    """Counts stretches of ids, `first_id <= _id < end`; no end means all that follow."""

    zone: ZoneInfo
    session: Session | None
    sizes: Sizes = SIZES

    async def count_part(
        self, kind: PartKind, first_id: StoredId, end: StoredId | None
    ) -> list[Part]:
        """The part of a stretch, in pieces if it has grown too large."""
        figures = await self.count_figures(kind, first_id, end)
        if figures.documents <= self.sizes.part_documents_max:
            return [Part(kind, first_id, figures)]
        first_ids, _ = await self.find_cuts(kind, first_id, end)
        return await self.count_parts(kind, first_ids, end)

    async def count_parts(
        self, kind: PartKind, first_ids: Sequence[StoredId], end: StoredId | None
    ) -> list[Part]:
        """The parts that begin with these ids, ascending; the last one reaches to `end`."""
        return [
            Part(kind, first_id, await self.count_figures(kind, first_id, next_id))
            for first_id, next_id in zip(first_ids, [*first_ids[1:], end], strict=True)
        ]

    async def find_cuts(
        self, kind: PartKind, first_id: StoredId, end: StoredId | None
    ) -> tuple[list[StoredId], StoredId | None]:
        """Where parts begin in a stretch, and the first id that was not looked at, if any."""
        limit = self.sizes.stretch_documents + 1
        found = (
            _COUNTED[kind]
            .get_motor_collection()
            .find({"_id": _ids(first_id, end)}, {"_id": 1}, session=self.session)
        )
        ids = [raw["_id"] for raw in await found.sort("_id", 1).limit(limit).to_list(limit)]
        beyond = ids.pop() if len(ids) == limit else None
        size = self.sizes.part_documents
        return [first_id, *ids[size::size]], beyond

    async def count_figures(
        self, kind: PartKind, first_id: StoredId, end: StoredId | None
    ) -> Figures:
        """The figures of a stretch; those of payments go with their invoices."""
        ids = _ids(first_id, end)
        if kind is PartKind.TEMPLATES:
            return Figures(templates=await _count_templates(ids, self.session))
        return Figures(
            invoices=await _count_invoices(ids, self.session),
            collected=await _count_collected(ids, self.zone, self.session),
        )


async def count_documents(session: Session | None) -> int:
    """How many invoices and templates there are, one by one."""
    return sum(
        [
            await kind.get_motor_collection().count_documents({}, hint="_id_", session=session)
            for kind in _COUNTED.values()
        ]
    )


async def estimate_documents() -> int:
    """How many invoices and templates there are, as the server keeps the numbers."""
    collections = [kind.get_motor_collection() for kind in _COUNTED.values()]
    return sum([await collection.estimated_document_count() for collection in collections])


async def _count_invoices(
    ids: dict[str, StoredId], session: Session | None
) -> dict[InvoiceKey, tuple[Any, ...]]:
    is_open = {"$in": ["$status", sorted(OPEN_STATUSES)]}
    found = Invoice.get_motor_collection().aggregate(
        [
            {"$match": {"_id": ids}},
            {
                "$group": {
                    "_id": {"status": "$status", "due": {"$cond": [is_open, "$dueDate", None]}},
                    "count": {"$sum": 1},
                    "total": {"$sum": "$totalAmount"},
                    "paid": {"$sum": "$amountPaid"},
                }
            },
        ],
        session=session,
    )
    rows = {}
    async for raw in found:
        status, due = InvoiceStatus(raw["_id"]["status"]), raw["_id"]["due"]
        key = InvoiceKey(status, due.date() if due else None)
        rows[key] = (raw["count"], raw["total"], raw["paid"])
    return rows


async def _count_collected(
    ids: dict[str, StoredId], zone: ZoneInfo, session: Session | None
) -> dict[str, tuple[Any, ...]]:
    found = InvoicePayment.get_motor_collection().aggregate(
        [
            {"$match": {"invoiceId": ids, "refundedDate": None}},
            {"$group": {"_id": _DAY_OF_PAYMENT, "amount": {"$sum": "$amountPaid"}}},
        ],
        session=session,
    )
    rows: dict[str, tuple[Any, ...]] = {}
    async for raw in found:
        month = period_of(business_day(raw["_id"], zone))
        rows[month] = (rows.get(month, (ZERO,))[0] + raw["amount"],)
    return rows


async def _count_templates(
    ids: dict[str, StoredId], session: Session | None
) -> dict[TemplateKey, tuple[Any, ...]]:
    found = RecurringInvoice.get_motor_collection().find(
        {"_id": ids}, dict.fromkeys(_SCHEDULE_FIELDS, 1), session=session
    )
    rows: dict[TemplateKey, tuple[Any, ...]] = {}
    async for raw in found:
        days = {name: day and day.date() for name, day in raw.items() if name.endswith("Date")}
        schedule = Schedule(
            raw["dayOfMonth"],
            days["startDate"],
            days.get("endDate"),
            days.get("lastGeneratedDate"),
            days.get("lastSkippedDate"),
        )
        next_run = next_run_date(schedule) if raw["isActive"] else None
        key = TemplateKey(raw["isActive"], schedule.end_date, next_run)
        rows[key] = (rows.get(key, (0,))[0] + 1,)
    return rows


def _ids(first_id: StoredId, end: StoredId | None) -> dict[str, StoredId]:
    if end is None:
        return {"$gte": first_id}
    return {"$gte": first_id, "$lt": end} if first_id > FIRST_ID else {"$lt": end}
