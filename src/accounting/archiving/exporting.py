"""The folder of an archive: in the layout of a backup, so that `db restore` reads it as well.

Every file is in ascending order of the invoices' ids, so that all of an invoice can be read back
together, however many there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from accounting.archiving.planning import BATCH_INVOICES, ArchivePlan
from accounting.db.backup.folder import Backup, BackupManifest
from accounting.db.backup.progress import OnProgress, show_nothing
from accounting.db.backup.saving import Selected, back_up_selected
from accounting.db.client import MongoDatabase
from accounting.db.document import BaseDocument
from accounting.db.raw import decode_raw, field_of
from accounting.ids import ObjectId
from accounting.invoices.documents import Invoice
from accounting.invoices.papers import InvoicePdf, InvoicePdfChunk
from accounting.invoices.rules import InvoiceId
from accounting.notifications.documents import InvoiceNotification
from accounting.payments.documents import InvoicePayment

# What goes with an invoice, and where each says whose it is. The PDFs' chunks go with them: they
# never change, and say only of which file they are.
OWNER: Final[Mapping[type[BaseDocument], str]] = {
    Invoice: "_id",
    InvoicePayment: "invoiceId",
    InvoiceNotification: "invoiceId",
    InvoicePdf: "metadata.invoiceId",
}
# A chunk is some 30 kB, and what the server sends at once is held in memory.
_BATCH_PDFS: Final = 500


@dataclass(frozen=True, slots=True)
class SavedInvoice:
    """An invoice in an archive: the bytes of each of its documents, by their class."""

    id: InvoiceId
    documents: Mapping[type[BaseDocument], frozenset[bytes]]


async def export(
    mongo: MongoDatabase,
    plan: ArchivePlan,
    target: Path,
    *,
    now: datetime,
    on_progress: OnProgress = show_nothing,
) -> BackupManifest:
    """Write all that the plan takes into a new folder. Raises what `back_up` raises."""
    counts = plan.taken
    of_invoices = {
        Invoice: counts.invoices,
        InvoicePayment: counts.payments,
        InvoiceNotification: counts.notifications,
    }
    selected = [
        Selected(
            kind.get_collection_name(),
            _among(OWNER[kind], plan.invoice_ids, BATCH_INVOICES),
            documents,
            _order(OWNER[kind]),
        )
        for kind, documents in of_invoices.items()
    ]
    # By their own ids: one that is made just now would come without its chunks.
    pdfs = [
        Selected(
            InvoicePdf.get_collection_name(),
            _among("_id", plan.pdf_ids, BATCH_INVOICES),
            counts.pdfs,
            _order(OWNER[InvoicePdf]),
        ),
        Selected(
            InvoicePdfChunk.get_collection_name(),
            _among("files_id", plan.pdf_ids, _BATCH_PDFS),
            counts.pdfs,
            ("files_id", "n"),
        ),
    ]
    return await back_up_selected(
        mongo, [*selected, *pdfs], target, now=now, on_progress=on_progress
    )


def read_back(backup: Backup, *, after: ObjectId | None = None) -> Iterator[SavedInvoice]:
    """The invoices of a checked archive, ascending by id, from the one after `after` on.

    Raises BackupDamaged.
    """
    belongings = {
        kind: _Reader(_rows(backup, kind, path))
        for kind, path in OWNER.items()
        if kind is not Invoice
    }
    for invoice_id, raw in _rows(backup, Invoice, OWNER[Invoice]):
        documents = {kind: reader.take(invoice_id) for kind, reader in belongings.items()}
        if after is None or invoice_id > after:
            yield SavedInvoice(InvoiceId(invoice_id), {Invoice: frozenset([raw]), **documents})


class _Reader:
    """Documents in the order of their invoices, taken invoice by invoice."""

    def __init__(self, rows: Iterator[tuple[ObjectId, bytes]]) -> None:
        self._rows = rows
        self._next = next(rows, None)

    def take(self, invoice_id: ObjectId) -> frozenset[bytes]:
        taken: list[bytes] = []
        while self._next is not None and self._next[0] <= invoice_id:
            if self._next[0] == invoice_id:
                taken.append(self._next[1])
            self._next = next(self._rows, None)
        return frozenset(taken)


def _rows(backup: Backup, kind: type[BaseDocument], owner: str) -> Iterator[tuple[ObjectId, bytes]]:
    for batch in backup.batches(kind.get_collection_name()):
        for raw in batch:
            yield field_of(decode_raw(raw), owner), raw


def _among(name: str, ids: Sequence[ObjectId], size: int) -> list[Mapping[str, object]]:
    return [{name: {"$in": ids[first : first + size]}} for first in range(0, len(ids), size)]


def _order(owner: str) -> tuple[str, ...]:
    return (owner,) if owner == "_id" else (owner, "_id")
