"""Payments of invoices: apply, remove, refund, and settle oldest first (spec section 4)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final
from zoneinfo import ZoneInfo

from accounting.audit.rules import AuditAction
from accounting.clock import business_day
from accounting.db.database import Session, Transaction
from accounting.invoices.documents import Invoice, get_invoice, list_invoice_ids
from accounting.invoices.mailing import confirm_payments
from accounting.invoices.rules import (
    OPEN_STATUSES,
    CostPaymentOfAnotherCustomer,
    InvoiceAction,
    InvoiceId,
    InvoiceStatus,
    check_allowed,
    is_overdue,
)
from accounting.invoices.trail import record_change, record_payment_change
from accounting.money import ZERO
from accounting.payments.documents import InvoicePayment
from accounting.payments.rules import OpenAmount, PaymentId, allocate_in_order
from accounting.payments.service import (
    apply_payment,
    get_live_payment,
    hold_allocations,
    list_allocated,
    list_payments,
    refund_payment,
    remove_payment,
)
from accounting.platform.reader import Platform, get_cost_payment, get_customer
from accounting.platform.rules import CostPayment, CostPaymentId, UserId

# One transaction does it all, so there is a most: a customer pays a year of invoices in one call.
ALLOCATE_INVOICES_MAX: Final = 200
ALLOCATE_COST_PAYMENTS_MAX: Final = 1_000


@dataclass(frozen=True, slots=True)
class Allocation:
    """One payment made by `allocate_payments`, with the invoice as it is after it."""

    invoice: Invoice
    payment: InvoicePayment


async def record_payment(
    tx: Transaction,
    platform: Platform,
    invoice_id: InvoiceId,
    cost_payment_id: CostPaymentId,
    *,
    amount: Decimal | None = None,
    paid_date: datetime | None = None,
    expected_version: int | None = None,
) -> tuple[Invoice, InvoicePayment]:
    """Apply a cost payment, or a part of it, to an invoice; the last cent makes it PAID.

    Left out, the amount is the most that both sides allow. The customer is told, see
    `confirm_payments`. Spec: section 4, "Allocation".
    Raises InvoiceNotFound, StaleVersion, InvalidTransition, CostPaymentNotFound,
    CostPaymentUnusable, CostPaymentOfAnotherCustomer, CostPaymentSpent, PaymentExceedsBalance,
    PaymentAlreadyApplied.
    """
    invoice = await get_invoice(invoice_id, session=tx.session)
    invoice.check_version(expected_version)
    check_allowed(InvoiceAction.RECORD_PAYMENT, invoice.status, invoice.invoice_number)
    cost_payment = await get_cost_payment(platform, cost_payment_id)
    if cost_payment.user_id != invoice.user_id:
        raise CostPaymentOfAnotherCustomer(cost_payment_id, invoice.invoice_number)
    applied = await _apply(tx, invoice, cost_payment, amount=amount, paid_date=paid_date)
    await confirm_payments(tx, platform, [applied])
    return applied


async def remove_invoice_payment(
    tx: Transaction, payment_id: PaymentId, zone: ZoneInfo
) -> tuple[Invoice, InvoicePayment]:
    """Unlink a payment and free its cost payment; a PAID invoice is open again.

    Spec: section 4, "an allocation is removed".
    Raises PaymentNotFound, PaymentRefunded, InvalidTransition.
    """
    payment = await get_live_payment(payment_id, session=tx.session)
    invoice = await get_invoice(payment.invoice_id, session=tx.session)
    check_allowed(InvoiceAction.REMOVE_PAYMENT, invoice.status, invoice.invoice_number)

    await remove_payment(tx, payment)
    changes: dict[str, object] = {"amount_paid": invoice.amount_paid - payment.amount_paid}
    is_reopened = invoice.status is InvoiceStatus.PAID
    if is_reopened:
        today = business_day(tx.now, zone)
        past_due = is_overdue(InvoiceStatus.ISSUED, invoice.due_date, today)
        status = InvoiceStatus.OVERDUE if past_due else InvoiceStatus.ISSUED
        changes |= {"status": status, "paid_date": None}
    changed = await invoice.change(tx, expect={"status": invoice.status}, **changes)
    paid = (invoice.amount_paid, changed.amount_paid)
    action = AuditAction.PAYMENT_REMOVED
    await record_payment_change(tx, action, paid, invoice, payment, "removed from")
    if is_reopened:
        await record_change(tx, AuditAction.INVOICE_REOPENED, invoice, changed, "reopened")
    return changed, payment


async def refund_invoice(
    tx: Transaction, invoice_id: InvoiceId, reason: str, *, expected_version: int | None = None
) -> Invoice:
    """End a paid invoice; its payments are marked refunded and their cost payments free again.

    Spec: section 4, "refund". Raises InvoiceNotFound, StaleVersion, InvalidTransition.
    """
    invoice = await get_invoice(invoice_id, session=tx.session)
    invoice.check_version(expected_version)
    check_allowed(InvoiceAction.REFUND, invoice.status, invoice.invoice_number)

    paid = invoice.amount_paid
    for payment in await list_payments([invoice_id], session=tx.session):
        await refund_payment(tx, payment)
        left = paid - payment.amount_paid
        action = AuditAction.PAYMENT_REFUNDED
        await record_payment_change(tx, action, (paid, left), invoice, payment, "refunded from")
        paid = left
    refunded = await invoice.change(
        tx,
        expect={"status": invoice.status},
        status=InvoiceStatus.REFUNDED,
        amount_paid=paid,
        refunded_date=tx.now,
        refund_reason=reason,
    )
    what = f"refunded: {reason}"
    await record_change(tx, AuditAction.INVOICE_REFUNDED, invoice, refunded, what)
    return refunded


async def allocate_payments(
    tx: Transaction, platform: Platform, customer_id: UserId
) -> list[Allocation]:
    """Settle the customer's open invoices, oldest due first, with all his free payments.

    Oldest payments first as well. At most ALLOCATE_INVOICES_MAX invoices in one call; a further
    call goes on. Spec: section 4, "Allocation". Raises CustomerNotFound.
    """
    await get_customer(platform, customer_id)
    invoices = await _list_open(customer_id, tx.session)
    cost_payments = {
        row.id: row
        for row in await platform.list_usable_payments(customer_id, ALLOCATE_COST_PAYMENTS_MAX)
    }
    allocated = await list_allocated(cost_payments, session=tx.session)
    links = await list_payments(invoices, session=tx.session)
    plan = allocate_in_order(
        [OpenAmount(invoice_id, invoice.balance_due) for invoice_id, invoice in invoices.items()],
        [
            OpenAmount(row_id, row.amount - allocated.get(row_id, ZERO))
            for row_id, row in cost_payments.items()
        ],
        taken={(link.invoice_id, link.cost_payment_id) for link in links},
    )
    await Invoice.hold(tx, {invoice_id for invoice_id, _, _ in plan})
    await hold_allocations(tx, {cost_payment_id for _, cost_payment_id, _ in plan})
    made: list[Allocation] = []
    for invoice_id, cost_payment_id, amount in plan:
        changed, payment = await _apply(
            tx, invoices[invoice_id], cost_payments[cost_payment_id], amount=amount
        )
        invoices[invoice_id] = changed
        made.append(Allocation(changed, payment))
    await confirm_payments(tx, platform, [(each.invoice, each.payment) for each in made])
    return made


async def payments_of_customer(customer_id: UserId) -> dict[str, object]:
    """The filter that finds the payments of a customer's invoices."""
    return {"invoiceId": {"$in": await list_invoice_ids(customer_id)}}


async def _list_open(customer_id: UserId, session: Session | None) -> dict[InvoiceId, Invoice]:
    found = Invoice.find(
        {"userId": customer_id, "status": {"$in": sorted(OPEN_STATUSES)}}, session=session
    )
    oldest_due = await found.sort("+dueDate", "+_id").limit(ALLOCATE_INVOICES_MAX).to_list()
    return {InvoiceId(invoice.id): invoice for invoice in oldest_due}


async def _apply(
    tx: Transaction,
    invoice: Invoice,
    cost_payment: CostPayment,
    *,
    amount: Decimal | None,
    paid_date: datetime | None = None,
) -> tuple[Invoice, InvoicePayment]:
    payment = await apply_payment(
        tx,
        cost_payment,
        invoice_id=InvoiceId(invoice.id),
        invoice_number=invoice.invoice_number,
        balance_due=invoice.balance_due,
        asked=amount,
        paid_date=paid_date or tx.now,
    )
    changes: dict[str, object] = {"amount_paid": invoice.amount_paid + payment.amount_paid}
    is_settled = payment.amount_paid == invoice.balance_due
    if is_settled:
        changes |= {"status": InvoiceStatus.PAID, "paid_date": payment.paid_date}
    changed = await invoice.change(tx, expect={"status": invoice.status}, **changes)
    paid = (invoice.amount_paid, changed.amount_paid)
    await record_payment_change(tx, AuditAction.PAYMENT_ADDED, paid, invoice, payment, "applied to")
    if is_settled:
        await record_change(tx, AuditAction.INVOICE_PAID, invoice, changed, "paid in full")
    return changed, payment
