"""An invoice in the words of its e-mails."""

from __future__ import annotations

from zoneinfo import ZoneInfo

from accounting.clock import business_day
from accounting.invoices.documents import Invoice
from accounting.notifications.contents import InvoiceFacts


def invoice_facts(invoice: Invoice, zone: ZoneInfo) -> InvoiceFacts:
    """What the customer reads about an issued invoice; days in the business zone."""
    customer = invoice.customer
    return InvoiceFacts(
        invoice_number=invoice.invoice_number,
        customer_name=customer.name if customer else "",
        company_name=customer.company_name if customer else None,
        total_miners=invoice.total_miners,
        unit_price=invoice.unit_price,
        total_amount=invoice.total_amount,
        amount_paid=invoice.amount_paid,
        issued_on=business_day(invoice.issued_date or invoice.created_at, zone),
        due_on=invoice.due_date,
        billing_period=invoice.billing_period,
    )
