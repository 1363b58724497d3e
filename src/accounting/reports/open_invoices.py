"""What a customer owes right now, invoice by invoice."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from accounting.db.database import Session
from accounting.invoices.documents import Invoice
from accounting.invoices.rules import OPEN_STATUSES, InvoiceId, is_overdue
from accounting.money import ZERO
from accounting.platform.rules import UserId


@dataclass(frozen=True, slots=True)
class OpenInvoice:
    """An issued invoice that is neither paid nor ended, as it stands on a business day."""

    id: InvoiceId
    invoice_number: str
    balance_due: Decimal
    due_on: date
    is_overdue: bool


async def list_open_invoices(
    customer_id: UserId, today: date, *, session: Session | None = None
) -> list[OpenInvoice]:
    """All of a customer's open invoices, the one that was due first before the others.

    Spec: section 4, "Outstanding".
    """
    found = Invoice.find(
        {"userId": customer_id, "status": {"$in": sorted(OPEN_STATUSES)}}, session=session
    )
    return [
        OpenInvoice(
            id=InvoiceId(invoice.id),
            invoice_number=invoice.invoice_number,
            balance_due=invoice.balance_due,
            due_on=invoice.due_date,
            is_overdue=is_overdue(invoice.status, invoice.due_date, today),
        )
        async for invoice in found.sort("dueDate", "invoiceNumber")
    ]


def outstanding_of(invoices: Iterable[OpenInvoice]) -> Decimal:
    """What is left to pay of these invoices."""
    return sum((invoice.balance_due for invoice in invoices), ZERO)


def overdue_of(invoices: Iterable[OpenInvoice]) -> Decimal:
    """What of it is past its due date."""
    return outstanding_of(invoice for invoice in invoices if invoice.is_overdue)
