"""PDFs of invoices: joins what renders and what is stored, for Celery, the API and e-mails."""

from __future__ import annotations

import logging

from accounting.bootstrap import Services
from accounting.db.files import read_file
from accounting.invoices.documents import Invoice, get_invoice
from accounting.invoices.papers import InvoicePdf, keep_pdf
from accounting.invoices.rules import InvoiceId, InvoiceNotFound

logger = logging.getLogger(__name__)


async def kept_pdf(services: Services, invoice: Invoice) -> InvoicePdf:
    """The stored PDF of an issued invoice, without its content; made now if it was not before.

    Raises InvoiceNotIssued, InvoiceNotFound.
    """
    return await keep_pdf(services.db, services.company, services.terms.zone, invoice)


async def frozen_pdf(services: Services, invoice: Invoice) -> bytes:
    """The PDF of an issued invoice: the same bytes whenever they are asked for.

    Raises InvoiceNotIssued, InvoiceNotFound; StoredFileDamaged, which is for the log alone.
    """
    return await read_file(await kept_pdf(services, invoice))


async def freeze_one(services: Services, invoice_id: InvoiceId) -> InvoicePdf | None:
    """Make and store the PDF of an invoice that was just issued; None when it is gone already."""
    try:
        pdf = await kept_pdf(services, await get_invoice(invoice_id))
    except InvoiceNotFound as error:
        logger.info("no PDF is made: %s", error.sentence)
        return None
    logger.info("%s: %d bytes, SHA-256 %s", pdf.filename, pdf.length, pdf.metadata.sha256)
    return pdf
