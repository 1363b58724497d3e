"""Issuing many drafts in one run (spec section 5, `/invoices/bulk-issue`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from accounting.db.database import Session, Transaction
from accounting.invoices.documents import Invoice, get_invoice
from accounting.invoices.rules import (
    BillingTerms,
    InvalidTransition,
    InvoiceId,
    InvoiceStatus,
)
from accounting.invoices.service import issue_invoice
from accounting.platform.reader import Platform
from accounting.runs.documents import AccountingRun
from accounting.runs.rules import (
    BULK_ITEMS_MAX,
    DONE,
    NewItem,
    Outcome,
    RunKind,
    check_item_count,
    skipped,
)
from accounting.runs.service import start_run

ALREADY_ISSUED_CODE: Final = "already_issued"
# What was asked for is so already in these; a cancelled or refunded invoice is a failure.
_WAS_ISSUED: Final = frozenset({InvoiceStatus.ISSUED, InvoiceStatus.OVERDUE, InvoiceStatus.PAID})


async def start_bulk_issue(
    tx: Transaction, invoice_ids: Sequence[InvoiceId], *, skip_email: bool = False
) -> AccountingRun:
    """Queue a run that issues these drafts; which of them exist and are drafts, its items tell.

    Raises Invalid for no ids, or more than BULK_ITEMS_MAX.
    """
    items = await items_of(invoice_ids, session=tx.session)
    return await start_run(tx, RunKind.BULK_ISSUE, items, parameters={"skipEmail": skip_email})


async def issue_item(
    tx: Transaction,
    platform: Platform,
    terms: BillingTerms,
    invoice_id: InvoiceId,
    *,
    skip_email: bool = False,
) -> Outcome:
    """Issue one draft of a run; one that was issued before is skipped, since the wish is fulfilled.

    Raises what `issue_invoice` raises.
    """
    try:
        await issue_invoice(tx, platform, terms, invoice_id, skip_email=skip_email)
    except InvalidTransition:
        invoice = await get_invoice(invoice_id, session=tx.session)
        if invoice.status not in _WAS_ISSUED:
            raise
        sentence = f"Invoice {invoice.invoice_number} was issued before; it is {invoice.status}."
        return skipped(ALREADY_ISSUED_CODE, sentence)
    return DONE


async def items_of(
    invoice_ids: Sequence[InvoiceId], *, session: Session | None = None
) -> list[NewItem]:
    """An item for each of these invoices, whether it exists or not, under its number.

    Raises Invalid for no ids, or more than BULK_ITEMS_MAX.
    """
    found = Invoice.get_motor_collection().find(
        {"_id": {"$in": list(invoice_ids)}}, {"invoiceNumber": 1}, session=session
    )
    numbers = {raw["_id"]: raw["invoiceNumber"] async for raw in found}
    items = [NewItem(invoice_id, numbers.get(invoice_id)) for invoice_id in invoice_ids]
    check_item_count(items, BULK_ITEMS_MAX)
    return items
