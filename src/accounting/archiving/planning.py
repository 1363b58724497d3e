"""Looking through the closed invoices: which an archive would take, and what would stay."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo

from accounting.archiving.documents import ArchiveCounts
from accounting.archiving.rules import (
    CLOSING_DATE,
    Candidate,
    Cutoff,
    Kept,
    TemplateFacts,
    is_needed_by,
    why_kept,
)
from accounting.clock import business_day
from accounting.db.found import Found
from accounting.ids import ObjectId
from accounting.invoices.documents import Invoice
from accounting.invoices.papers import InvoicePdf
from accounting.invoices.rules import InvoiceStatus
from accounting.money import ZERO, cents
from accounting.notifications.documents import InvoiceNotification
from accounting.notifications.rules import NotificationStatus
from accounting.recurring.documents import RecurringInvoice
from accounting.reports.account import MOVEMENT_FIELDS, find_links, movements_of

# One folder holds so many; the command is run again for the rest. Their ids are kept in memory.
INVOICES_MAX: Final = 200_000
BATCH_INVOICES: Final = 1_000

_FIELDS: Final = (
    *MOVEMENT_FIELDS,
    *("paidDate", "updatedAt", "recurringInvoiceId", "billingPeriod"),
)


@dataclass(slots=True)
class Share:
    """The invoices of one status that were closed in one year, and what they come to in USD."""

    invoices: int = 0
    amount: Decimal = ZERO


@dataclass(slots=True)
class ArchivePlan:
    """What would go, by (status, year of closing), and why others stay.

    The ids are those that the next archive takes, ascending, `most` of them; the figures are about
    all. `others` are the invoices that are open, or were closed later.
    """

    cutoff: date
    most: int = INVOICES_MAX
    shares: dict[tuple[InvoiceStatus, int], Share] = field(default_factory=dict)
    payments: int = 0
    notifications: int = 0
    pdfs: int = 0
    kept: Counter[Kept] = field(default_factory=Counter)
    others: Counter[InvoiceStatus] = field(default_factory=Counter)
    invoice_ids: list[ObjectId] = field(default_factory=list)
    pdf_ids: list[ObjectId] = field(default_factory=list)
    taken: ArchiveCounts = field(default_factory=ArchiveCounts)

    @property
    def invoices(self) -> int:
        return sum(share.invoices for share in self.shares.values())

    @property
    def more(self) -> int:
        """How many are left for the archive after the next one."""
        return self.invoices - len(self.invoice_ids)


async def plan_archive(
    cutoff: Cutoff, today: date, zone: ZoneInfo, *, most: int = INVOICES_MAX
) -> ArchivePlan:
    """What archives of that day would take, the next one `most` of it; reads only."""
    plan = ArchivePlan(cutoff.day, most)
    plan.others = await _count_by_status()
    async for batch in _closed_before(cutoff):
        facts = await _read_facts(batch, today)
        for raw in batch:
            _sort_in(plan, raw, facts, cutoff, zone)
    return plan


@dataclass(frozen=True, slots=True)
class _Mails:
    count: int
    last_at: Any
    is_any_waiting: bool


@dataclass(frozen=True, slots=True)
class _Facts:
    """What is known of a batch of invoices, by their ids."""

    links: Mapping[ObjectId, list[Found]]
    mails: Mapping[ObjectId, _Mails]
    pdfs: Mapping[ObjectId, ObjectId]
    last_of_template: set[ObjectId]


def _sort_in(plan: ArchivePlan, raw: Found, facts: _Facts, cutoff: Cutoff, zone: ZoneInfo) -> None:
    status, links = InvoiceStatus(raw["status"]), facts.links.get(raw["_id"], [])
    plan.others[status] -= 1
    mails = facts.mails.get(raw["_id"])
    kept = why_kept(
        Candidate(
            movements=movements_of(raw, links, zone),
            updated_at=raw["updatedAt"],
            last_mail_at=mails.last_at if mails else None,
            has_waiting_mail=mails.is_any_waiting if mails else False,
            is_last_of_template=raw["_id"] in facts.last_of_template,
        ),
        cutoff,
    )
    if kept is not None:
        plan.kept[kept] += 1
        return
    year = business_day(raw[CLOSING_DATE[status]], zone).year
    share = plan.shares.setdefault((status, year), Share())
    share.invoices += 1
    share.amount += cents(raw["totalAmount"])
    pdf_id = facts.pdfs.get(raw["_id"])
    plan.payments += len(links)
    plan.notifications += mails.count if mails else 0
    plan.pdfs += pdf_id is not None
    if len(plan.invoice_ids) < plan.most:
        plan.invoice_ids.append(raw["_id"])
        plan.pdf_ids += [pdf_id] if pdf_id else []
        plan.taken = ArchiveCounts(
            invoices=plan.invoices,
            payments=plan.payments,
            notifications=plan.notifications,
            pdfs=plan.pdfs,
        )


async def _count_by_status() -> Counter[InvoiceStatus]:
    counted = Invoice.get_motor_collection().aggregate(
        [{"$group": {"_id": "$status", "count": {"$sum": 1}}}]
    )
    return Counter({InvoiceStatus(row["_id"]): row["count"] async for row in counted})


async def _closed_before(cutoff: Cutoff) -> AsyncIterator[list[Found]]:
    """The invoices that were issued and closed before that day, ascending by id."""
    before = {"$lt": cutoff.starts_at}
    closed = [{"status": status.value, name: before} for status, name in CLOSING_DATE.items()]
    found = (
        Invoice.get_motor_collection()
        .find({"issuedDate": before, "$or": closed}, dict.fromkeys(_FIELDS, 1))
        # In the order of the ids, which the export needs, no list has to be sorted in memory.
        .sort("_id", 1)
        .hint("_id_")
    )
    while batch := await found.to_list(BATCH_INVOICES):
        yield batch


async def _read_facts(batch: Iterable[Found], today: date) -> _Facts:
    invoices = {raw["_id"]: raw for raw in batch}
    files = InvoicePdf.get_motor_collection().find(
        {"metadata.invoiceId": {"$in": list(invoices)}}, {"metadata.invoiceId": 1}
    )
    return _Facts(
        links=await find_links(invoices),
        mails=await _find_mails(invoices),
        pdfs={raw["metadata"]["invoiceId"]: raw["_id"] async for raw in files},
        last_of_template=await _find_last_of_templates(invoices, today),
    )


async def _find_mails(invoice_ids: Iterable[ObjectId]) -> dict[ObjectId, _Mails]:
    counted = InvoiceNotification.get_motor_collection().aggregate(
        [
            {"$match": {"invoiceId": {"$in": list(invoice_ids)}}},
            {
                "$group": {
                    "_id": "$invoiceId",
                    "count": {"$sum": 1},
                    "lastAt": {"$max": "$createdAt"},
                    "statuses": {"$addToSet": "$status"},
                }
            },
        ]
    )
    return {
        row["_id"]: _Mails(
            row["count"], row["lastAt"], NotificationStatus.PENDING.value in row["statuses"]
        )
        async for row in counted
    }


async def _find_last_of_templates(invoices: Mapping[ObjectId, Found], today: date) -> set[ObjectId]:
    """Those invoices that keep their template from billing their month again."""
    by_template: defaultdict[ObjectId, list[Found]] = defaultdict(list)
    for raw in invoices.values():
        if raw.get("recurringInvoiceId") is not None:
            by_template[raw["recurringInvoiceId"]].append(raw)
    found = RecurringInvoice.get_motor_collection().find(
        {"_id": {"$in": list(by_template)}}, {"isActive": 1, "endDate": 1, "lastGeneratedDate": 1}
    )
    needed: set[ObjectId] = set()
    async for template in found:
        facts = TemplateFacts(
            is_active=template["isActive"],
            end_date=_day(template.get("endDate")),
            last_generated_date=_day(template.get("lastGeneratedDate")),
        )
        needed |= {
            raw["_id"]
            for raw in by_template[template["_id"]]
            if is_needed_by(facts, raw.get("billingPeriod"), today)
        }
    return needed


def _day(stored: Any) -> date | None:
    day: date | None = stored.date() if stored is not None else None
    return day
