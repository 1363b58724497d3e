"""Removing what is in the archive's folder: some invoices with all that is theirs at a time.

Only what is stored still exactly as it was saved, byte by byte, and may go by the rules; both are
looked at in the transaction that removes it. Whoever changes an invoice, or adds something to it,
changes the invoice or its chain in the trail, so that he and this transaction collide; whoever
comes second sees what the first did.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from zoneinfo import ZoneInfo

from accounting.archiving.documents import Archive
from accounting.archiving.exporting import OWNER, SavedInvoice
from accounting.archiving.rules import Candidate, Cutoff, why_kept
from accounting.archiving.turns import Holder, get_held
from accounting.audit.rules import AuditAction, EntityType
from accounting.audit.service import NewEntry, record_all
from accounting.clock import after, business_day
from accounting.db.database import Session, Transaction
from accounting.db.document import BaseDocument
from accounting.db.found import Found
from accounting.db.raw import decode_raw, field_of, find_raw
from accounting.ids import ObjectId
from accounting.invoices.documents import Invoice
from accounting.invoices.papers import InvoicePdf, delete_pdfs
from accounting.invoices.rules import InvoiceId
from accounting.notifications.documents import InvoiceNotification
from accounting.notifications.rules import NotificationStatus
from accounting.notifications.service import delete_notifications
from accounting.payments.documents import InvoicePayment
from accounting.payments.service import archive_payments
from accounting.platform.rules import UserId
from accounting.reports.account import movements_of
from accounting.reports.archived import note_archived
from accounting.reports.rules import Movement


@dataclass(frozen=True, slots=True)
class _Stored:
    """An invoice and all that is its own, as the transaction sees it."""

    documents: Mapping[type[BaseDocument], frozenset[bytes]]

    def found(self, kind: type[BaseDocument]) -> list[Found]:
        return [decode_raw(raw) for raw in self.documents[kind]]

    def movements(self, zone: ZoneInfo) -> list[Movement]:
        [invoice] = self.found(Invoice)
        return movements_of(invoice, self.found(InvoicePayment), zone)


async def remove_saved(
    tx: Transaction,
    archive_id: ObjectId,
    holder: Holder,
    saved: Sequence[SavedInvoice],
    zone: ZoneInfo,
) -> Archive:
    """Remove those of these invoices that nobody has touched meanwhile; returns the archive.

    With their payments, e-mails and PDFs. What their payments spent stays spent, their customers'
    statements know from when on they can begin, and each invoice's chain ends with an entry.
    Raises ArchiveTakenOver; AllocationMissing where a payment has no guard.
    """
    archive = await get_held(tx, archive_id, holder)
    cutoff = Cutoff.of(archive.cutoff, business_day(archive.started_at, zone), zone)
    stored = await _read_stored([invoice.id for invoice in saved], tx.session)
    unchanged = [
        stored[invoice.id]
        for invoice in saved
        if invoice.id in stored
        and stored[invoice.id].documents == invoice.documents
        # It may have been changed after the plan and before the export.
        and why_kept(_candidate(stored[invoice.id], zone), cutoff) is None
    ]
    invoices = [Invoice.model_validate(one.found(Invoice)[0]) for one in unchanged]
    await _remove(tx, unchanged, invoices)
    await _note_customers(tx, unchanged, zone)
    await record_all(tx, [_entry(archive, invoice) for invoice in invoices])
    return await archive.change(
        tx,
        expect={"holder": holder.name, "lastInvoiceId": archive.last_invoice_id},
        removed=archive.removed + len(unchanged),
        left=archive.left + len(saved) - len(unchanged),
        last_invoice_id=saved[-1].id,
        lease_until=after(tx.now, seconds=holder.lease_seconds),
    )


def _candidate(one: _Stored, zone: ZoneInfo) -> Candidate:
    """Without its template: that has not unlearned what was billed."""
    [invoice] = one.found(Invoice)
    mails = one.found(InvoiceNotification)
    return Candidate(
        movements=one.movements(zone),
        updated_at=invoice["updatedAt"],
        last_mail_at=max((mail["createdAt"] for mail in mails), default=None),
        has_waiting_mail=any(mail["status"] == NotificationStatus.PENDING for mail in mails),
    )


async def _read_stored(
    ids: Sequence[InvoiceId], session: Session | None
) -> dict[InvoiceId, _Stored]:
    """Those that still exist."""
    documents: defaultdict[InvoiceId, defaultdict[type[BaseDocument], set[bytes]]] = defaultdict(
        lambda: defaultdict(set)
    )
    for kind, owner in OWNER.items():
        for raw in await find_raw(kind, {owner: {"$in": list(ids)}}, session=session):
            documents[field_of(decode_raw(raw), owner)][kind].add(raw)
    return {
        invoice_id: _Stored({kind: frozenset(own[kind]) for kind in OWNER})
        for invoice_id, own in documents.items()
        if own[Invoice]
    }


async def _remove(
    tx: Transaction, unchanged: Iterable[_Stored], invoices: Sequence[Invoice]
) -> None:
    if not invoices:
        return
    links = [
        InvoicePayment.model_validate(raw) for one in unchanged for raw in one.found(InvoicePayment)
    ]
    pdf_ids = [raw["_id"] for one in unchanged for raw in one.found(InvoicePdf)]
    ids = [InvoiceId(invoice.id) for invoice in invoices]
    await Invoice.find({"_id": {"$in": ids}}, session=tx.session).delete(session=tx.session)
    await archive_payments(tx, links)
    await delete_notifications(tx, *ids)
    await delete_pdfs(tx, pdf_ids)


async def _note_customers(tx: Transaction, unchanged: Iterable[_Stored], zone: ZoneInfo) -> None:
    ends: dict[UserId, date] = {}
    counts: Counter[UserId] = Counter()
    for one in unchanged:
        [invoice] = one.found(Invoice)
        day_after = max(movement.day for movement in one.movements(zone)) + timedelta(days=1)
        customer_id = UserId(invoice["userId"])
        ends[customer_id] = max(ends.get(customer_id, day_after), day_after)
        counts[customer_id] += 1
    await note_archived(tx, ends, counts)


def _entry(archive: Archive, invoice: Invoice) -> NewEntry:
    name = archive.folder.rpartition("/")[2]
    return NewEntry(
        AuditAction.INVOICE_DELETED,
        (EntityType.INVOICE, InvoiceId(invoice.id)),
        f"Invoice {invoice.invoice_number} archived in {name}",
        before=invoice.snapshot(),
        after={"archive": name, "archiveSha256": archive.sha256},
    )
