"""Invoices on paper: a PDF is made once and the same bytes are served ever after (spec section 6).

Made by a job right after the issue; by whoever needs it first, where that job was lost. So no sweep
has to look for invoices without one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from accounting import __version__
from accounting.actor import SYSTEM
from accounting.audit.documents import AuditLog
from accounting.audit.rules import AuditAction
from accounting.clock import business_day
from accounting.db.database import Database, Session, Transaction
from accounting.db.document import index
from accounting.db.fields import Text
from accounting.db.files import (
    CHUNK_INDEXES,
    FILE_INDEXES,
    FileMetadata,
    StoredChunk,
    StoredFile,
    delete_file,
    delete_orphaned_chunks,
    store_file,
)
from accounting.errors import Conflict
from accounting.ids import ObjectId
from accounting.invoices.documents import Invoice, get_invoice
from accounting.invoices.rules import InvoiceId, InvoiceNotFound, InvoiceStatus
from accounting.money import ZERO
from accounting.printing.company import Company
from accounting.printing.invoice import PrintedInvoice, Stamp, render_invoice_in_thread
from accounting.printing.typesetting import RENDERER

FREEZE_JOB: Final = "papers.freeze"
_STORE_ATTEMPTS_MAX: Final = 3
# What is tidied up daily is this young; a week's outage of the job is made up for.
TIDY_BACK_DAYS: Final = 8
_TIDY_BATCH_INVOICES: Final = 1_000
# No upload takes a thousandth of it.
UPLOAD_HOURS_MAX: Final = 1


class InvoiceNotIssued(Conflict):
    """A draft can still change, so that it has no PDF."""

    def __init__(self, invoice_number: str) -> None:
        super().__init__(
            f"Invoice {invoice_number} is a draft; it has a PDF once it is issued.",
            invoiceNumber=invoice_number,
        )


class PdfMetadata(FileMetadata):
    """Whose PDF it is, and what made it."""

    invoice_id: ObjectId
    renderer: Text


class InvoicePdf(StoredFile):
    """The PDF of an invoice, as it was at its issue; never changed."""

    metadata: PdfMetadata

    class Settings:
        name = "invoice_pdfs.files"
        # The second one is the last judge of who made it: one PDF of an invoice.
        indexes = [*FILE_INDEXES, index("metadata.invoiceId", unique=True)]


class InvoicePdfChunk(StoredChunk):
    """A part of such a PDF; most have one."""

    class Settings:
        name = "invoice_pdfs.chunks"
        indexes = CHUNK_INDEXES


async def keep_pdf(db: Database, company: Company, zone: ZoneInfo, invoice: Invoice) -> InvoicePdf:
    """The stored PDF of an issued invoice; made and stored now if it was not before.

    Renders in this process, which must not fork after that (see `printing.typesetting`).
    Raises InvoiceNotIssued for a draft, InvoiceNotFound when the invoice is deleted meanwhile.
    """
    if invoice.status is InvoiceStatus.DRAFT:
        raise InvoiceNotIssued(invoice.invoice_number)
    kept = await _find_pdf(InvoiceId(invoice.id))
    return kept or await _freeze(db, company, zone, invoice)


def facts_at_issue(invoice: Invoice, zone: ZoneInfo) -> PrintedInvoice:
    """An issued invoice as it was then, whatever has happened to it since: nothing was paid.

    All that is printed was fixed at the issue, so that it is the same whenever it is asked for.
    """
    return replace(facts_now(invoice, zone), status=Stamp.ISSUED, amount_paid=ZERO)


def facts_now(invoice: Invoice, zone: ZoneInfo) -> PrintedInvoice:
    """An issued invoice as it stands, in the words of its paper; days in the business zone."""
    customer = invoice.customer
    return PrintedInvoice(
        invoice_number=invoice.invoice_number,
        status=Stamp(invoice.status),
        customer_name=customer.name if customer else "",
        customer_email=customer.email if customer else "",
        company_name=customer.company_name if customer else None,
        total_miners=invoice.total_miners,
        unit_price=invoice.unit_price,
        total_amount=invoice.total_amount,
        amount_paid=invoice.amount_paid,
        issued_on=business_day(invoice.issued_date or invoice.created_at, zone),
        due_on=invoice.due_date,
        billing_period=invoice.billing_period,
    )


async def delete_pdf(tx: Transaction, invoice_id: InvoiceId) -> None:
    """Delete the PDF of an invoice that is deleted itself; most of those have none."""
    pdf = await _find_pdf(invoice_id, session=tx.session)
    if pdf is not None:
        await delete_file(tx, InvoicePdfChunk, pdf)


async def delete_pdfs(tx: Transaction, pdf_ids: Sequence[ObjectId]) -> None:
    """Delete these PDFs, of invoices that go as well; only those that the caller has seen."""
    files = {"files_id": {"$in": list(pdf_ids)}}
    await InvoicePdfChunk.find(files, session=tx.session).delete(session=tx.session)
    pdfs = InvoicePdf.find({"_id": {"$in": list(pdf_ids)}}, session=tx.session)
    await pdfs.delete(session=tx.session)


async def tidy_papers(db: Database) -> int:
    """The daily job: delete what no invoice needs; returns of how many PDFs it was.

    Chunks of uploads whose process was killed, and PDFs that were made at the very moment when
    their invoice was deleted. None of them can be served.
    """
    now = db.clock()
    since = now - timedelta(days=TIDY_BACK_DAYS)
    until = now - timedelta(hours=UPLOAD_HOURS_MAX)
    tidied = await delete_orphaned_chunks(InvoicePdf, InvoicePdfChunk, since=since, until=until)
    async for invoice_id in _left_behind(since):
        await db.run(SYSTEM, delete_pdf, invoice_id)
        tidied += 1
    return tidied


async def _find_pdf(invoice_id: InvoiceId, *, session: Session | None = None) -> InvoicePdf | None:
    pdf: InvoicePdf | None = await InvoicePdf.find_one(
        {"metadata.invoiceId": invoice_id}, session=session
    )
    return pdf


async def _freeze(db: Database, company: Company, zone: ZoneInfo, invoice: Invoice) -> InvoicePdf:
    invoice_id = InvoiceId(invoice.id)
    filename = f"invoice-{invoice.invoice_number}.pdf"
    content = await render_invoice_in_thread(facts_at_issue(invoice, zone), company)
    metadata = {"invoiceId": invoice_id, "renderer": f"{RENDERER}, accounting {__version__}"}
    # Whoever comes second may not see the first one's file at once: reads show what a majority of
    # the servers has. After another try they do, since every write waits for such a majority.
    for _ in range(_STORE_ATTEMPTS_MAX):
        await store_file(InvoicePdf, filename, content, metadata)
        kept = await _find_pdf(invoice_id)
        if kept is not None:
            await _check_not_deleted(db, invoice_id)
            return kept
    raise AssertionError(f"{filename} is neither there nor can it be stored")


async def _check_not_deleted(db: Database, invoice_id: InvoiceId) -> None:
    """Raises InvoiceNotFound: an invoice that was deleted before could not take its PDF along."""
    try:
        await get_invoice(invoice_id)
    except InvoiceNotFound:
        await db.run(SYSTEM, delete_pdf, invoice_id)
        raise


async def _left_behind(since: datetime) -> AsyncIterator[InvoiceId]:
    """The invoices that were deleted since then, as the trail tells, and still have a PDF."""
    deleted = AuditLog.get_motor_collection().find(
        {"action": AuditAction.INVOICE_DELETED, "createdAt": {"$gte": since}}, {"entityId": 1}
    )
    # An archive deletes very many at once.
    while entries := await deleted.to_list(_TIDY_BATCH_INVOICES):
        ids = [entry["entityId"] for entry in entries]
        pdfs = InvoicePdf.find({"metadata.invoiceId": {"$in": ids}})
        async for pdf in pdfs:
            yield pdf.metadata.invoice_id
