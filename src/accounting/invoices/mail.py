"""E-mails about an invoice, on paper: in which status which is true, to whom, and its facts."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Final
from zoneinfo import ZoneInfo

from accounting.clock import business_day
from accounting.errors import Conflict
from accounting.ids import ObjectId
from accounting.invoices.documents import Invoice
from accounting.invoices.rules import OPEN_STATUSES, InvoiceStatus
from accounting.notifications.contents import InvoiceFacts
from accounting.notifications.message import UndeliverableAddress, parse_mailbox
from accounting.notifications.rules import NotificationType, step_of
from accounting.platform.rules import CostPaymentId, PlatformUser

# In which status an e-mail is true, and so may go out. INVOICE_VIEWED notes what the customer did,
# and nobody is written to about it.
_TRUE_IN: Final[Mapping[NotificationType, frozenset[InvoiceStatus]]] = {
    NotificationType.INVOICE_ISSUED: OPEN_STATUSES | {InvoiceStatus.PAID},
    NotificationType.PAYMENT_REMINDER: OPEN_STATUSES,
    NotificationType.OVERDUE_REMINDER: OPEN_STATUSES,
    NotificationType.PAYMENT_RECEIVED: OPEN_STATUSES | {InvoiceStatus.PAID},
    NotificationType.INVOICE_CANCELLED: frozenset({InvoiceStatus.CANCELLED}),
}
_ENDED: Final[Mapping[InvoiceStatus, str]] = {
    InvoiceStatus.DRAFT: "the invoice is a draft",
    InvoiceStatus.PAID: "the invoice was paid before",
    InvoiceStatus.CANCELLED: "the invoice was cancelled before",
    InvoiceStatus.REFUNDED: "the invoice was refunded before",
}
# What an admin means who asks for an e-mail without saying which.
_FITTING: Final[Mapping[InvoiceStatus, NotificationType]] = {
    InvoiceStatus.ISSUED: NotificationType.INVOICE_ISSUED,
    InvoiceStatus.OVERDUE: NotificationType.INVOICE_ISSUED,
    InvoiceStatus.PAID: NotificationType.PAYMENT_RECEIVED,
    InvoiceStatus.CANCELLED: NotificationType.INVOICE_CANCELLED,
}
PAYMENT_GONE: Final = "the payment was removed or refunded before"


class EmailNotApplicable(Conflict):
    """The state of the invoice makes the e-mail untrue."""

    def __init__(self, invoice: Invoice, kind: NotificationType | None, why: str) -> None:
        allowed = [other for other, statuses in _TRUE_IN.items() if invoice.status in statuses]
        super().__init__(
            f"Invoice {invoice.invoice_number}: {kind or 'an e-mail'} cannot be sent, since {why}.",
            invoiceNumber=invoice.invoice_number,
            invoiceStatus=invoice.status.value,
            allowedTypes=[other.value for other in allowed],
        )


class NoEmailAddress(Conflict):
    """The customer has no address that an e-mail can be sent to."""

    def __init__(self, invoice: Invoice, why: str) -> None:
        super().__init__(
            f"Invoice {invoice.invoice_number}: no e-mail can be sent, since {why}.",
            invoiceNumber=invoice.invoice_number,
        )


def why_withheld(kind: NotificationType, status: InvoiceStatus) -> str | None:
    """Why an e-mail about an invoice in this status must not go out; None when it may."""
    if kind not in _TRUE_IN:
        return f"no e-mail tells of {kind}"
    if status in _TRUE_IN[kind]:
        return None
    return _ENDED.get(status, "the invoice is not cancelled")


def why_not_today(kind: NotificationType, due: date, today: date) -> str | None:
    """Why a reminder is not the right one on this day; None when it is, or is no reminder."""
    is_late = due < today
    if kind is NotificationType.PAYMENT_REMINDER and is_late:
        return "its due date has passed"
    if kind is NotificationType.OVERDUE_REMINDER and not is_late:
        return "the invoice is not overdue"
    return None


def fitting_kind(invoice: Invoice) -> NotificationType:
    """The e-mail that tells of the invoice as it is now.

    Raises EmailNotApplicable for a draft, and for a refunded one, of which no e-mail tells.
    """
    if invoice.status not in _FITTING:
        raise EmailNotApplicable(invoice, None, _ENDED[invoice.status])
    return _FITTING[invoice.status]


def check_applicable(kind: NotificationType, invoice: Invoice, today: date) -> None:
    """Raises EmailNotApplicable when this e-mail about the invoice would not be true today."""
    why = why_withheld(kind, invoice.status) or why_not_today(kind, invoice.due_date, today)
    if why:
        raise EmailNotApplicable(invoice, kind, why)


def address_of(invoice: Invoice, customer: PlatformUser | None) -> str | None:
    """Where e-mails about an invoice go; None when nobody can be written to.

    To the address the customer has now: one that he gave up would not be read. Of a deleted
    customer it is the one to which the invoice was issued.
    """
    if customer is not None and not customer.is_deleted:
        return customer.email or None
    return (invoice.customer and invoice.customer.email) or None


def deliverable_address_of(invoice: Invoice, customer: PlatformUser | None) -> str:
    """Where e-mails go, for who wants to know at once whether they can. Raises NoEmailAddress."""
    address = address_of(invoice, customer)
    if address is None:
        raise NoEmailAddress(invoice, "its customer has no e-mail address")
    try:
        parse_mailbox(address)
    except UndeliverableAddress as error:
        raise NoEmailAddress(invoice, error.sentence.removesuffix(".")) from None
    return address


def payment_step(cost_payment_id: CostPaymentId, again: ObjectId | None = None) -> str:
    """What tells the e-mail about a payment from others about the same invoice, in its dedupeKey.

    By the cost payment and not by its link: removed and applied once more it is the same payment to
    the customer, who is told once. `again` is for one more, since an admin asks for it.
    """
    return f"{cost_payment_id}:{again}" if again else str(cost_payment_id)


def cost_payment_in(dedupe_key: str) -> str:
    """The id of the cost payment that a key with a `payment_step` tells of."""
    return step_of(dedupe_key).partition(":")[0]


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
