"""The use cases of an invoice: create, issue, record a payment (spec section 4)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Final

from accounting.actor import Actor
from accounting.audit.rules import AuditAction, EntityType
from accounting.audit.service import record
from accounting.clock import business_day
from accounting.db.database import Database, DuplicateValue, Transaction
from accounting.ids import new_id
from accounting.invoices.documents import CustomerSnapshot, Invoice, PricingSnapshot, get_invoice
from accounting.invoices.numbers import catch_up_counter, take_numbers
from accounting.invoices.rules import (
    BillingTerms,
    CostPaymentOfAnotherCustomer,
    InvoiceAction,
    InvoiceId,
    InvoiceStatus,
    NoActiveMiners,
    check_allowed,
    due_date,
)
from accounting.money import line_total
from accounting.notifications.rules import NotificationType, dedupe_key
from accounting.notifications.service import queue_notification
from accounting.payments.documents import InvoicePayment
from accounting.payments.service import apply_payment
from accounting.platform.reader import Platform, get_cost_payment, get_customer
from accounting.platform.rules import CostPaymentId, UserId
from accounting.pricing.rules import NoPriceInEffect, PriceSource
from accounting.pricing.service import find_price_in_effect

_NUMBER_ATTEMPTS_MAX: Final = 3


@dataclass(frozen=True, slots=True)
class NewInvoice:
    """What a draft is made from; what is left out is looked up."""

    customer_id: UserId
    total_miners: int | None = None
    unit_price: Decimal | None = None
    due_date: date | None = None
    billing_period: str | None = None
    generated_date: date | None = None


async def create_invoice(
    db: Database, actor: Actor, platform: Platform, terms: BillingTerms, order: NewInvoice
) -> Invoice:
    """Make a draft with the next number of its day.

    Everything that can be refused is looked at before the number is taken, so that a refused
    request leaves no gap. Spec: section 4, "create".
    Raises CustomerNotFound, NoActiveMiners, NoPriceInEffect, AmountTooLarge.
    """
    day = order.generated_date or business_day(db.clock(), terms.zone)
    await get_customer(platform, order.customer_id)
    total_miners, active_miners = await _miners(platform, terms, order)
    unit_price, pricing = await _price(order, day, active_miners)
    total_amount = line_total(total_miners, unit_price)

    for attempt in range(1, _NUMBER_ATTEMPTS_MAX + 1):
        [number] = await take_numbers(day, 1, terms.serial_width)
        content = {
            "invoice_number": number,
            "user_id": order.customer_id,
            "total_miners": total_miners,
            "unit_price": unit_price,
            "total_amount": total_amount,
            "invoice_generated_date": day,
            "due_date": order.due_date or due_date(day, terms.due_days),
            "billing_period": order.billing_period,
            "pricing": pricing,
        }
        try:
            return await db.run(actor, _insert_draft, content)
        except DuplicateValue as error:
            # The counter is behind the invoices, as after a partial restore.
            if error.fields != ("invoiceNumber",) or attempt == _NUMBER_ATTEMPTS_MAX:
                raise
            await catch_up_counter(day)
    raise AssertionError("the loop returns or raises")


async def issue_invoice(
    tx: Transaction,
    platform: Platform,
    terms: BillingTerms,
    invoice_id: InvoiceId,
    *,
    issued_date: datetime | None = None,
    skip_email: bool = False,
) -> Invoice:
    """Make a draft final: freeze the customer and queue the e-mail that carries it.

    Spec: section 4, "issue". Raises InvoiceNotFound, InvalidTransition, CustomerNotFound.
    """
    draft = await get_invoice(invoice_id, session=tx.session)
    check_allowed(InvoiceAction.ISSUE, draft.status, draft.invoice_number)
    customer = await get_customer(platform, draft.user_id)

    issued = await draft.change(
        tx,
        expect={"status": draft.status},
        status=InvoiceStatus.ISSUED,
        issued_date=issued_date or tx.now,
        customer=CustomerSnapshot(
            name=customer.name, email=customer.email, company_name=customer.company_name
        ),
    )
    await _record(tx, AuditAction.INVOICE_ISSUED, draft, issued, f"issued to {customer.name}")
    if customer.email and not skip_email:
        await queue_notification(
            tx,
            NotificationType.INVOICE_ISSUED,
            invoice_id,
            to=customer.email,
            cc=terms.mail_cc,
            dedupe_key=dedupe_key(NotificationType.INVOICE_ISSUED, invoice_id),
        )
    return issued


async def record_payment(
    tx: Transaction,
    platform: Platform,
    invoice_id: InvoiceId,
    cost_payment_id: CostPaymentId,
    *,
    amount: Decimal | None = None,
    paid_date: datetime | None = None,
) -> tuple[Invoice, InvoicePayment]:
    """Apply a cost payment, or a part of it, to an invoice; the last cent makes it PAID.

    Left out, the amount is the most that both sides allow. Spec: section 4, "Allocation".
    Raises InvoiceNotFound, InvalidTransition, CostPaymentNotFound, CostPaymentUnusable,
    CostPaymentOfAnotherCustomer, CostPaymentSpent, PaymentExceedsBalance, PaymentAlreadyApplied.
    """
    invoice = await get_invoice(invoice_id, session=tx.session)
    check_allowed(InvoiceAction.RECORD_PAYMENT, invoice.status, invoice.invoice_number)
    cost_payment = await get_cost_payment(platform, cost_payment_id)
    if cost_payment.user_id != invoice.user_id:
        raise CostPaymentOfAnotherCustomer(cost_payment_id, invoice.invoice_number)

    payment = await apply_payment(
        tx,
        cost_payment,
        invoice_id=invoice_id,
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
    await _record_payment_added(tx, invoice, changed, payment)
    if is_settled:
        await _record(tx, AuditAction.INVOICE_PAID, invoice, changed, "paid in full")
    return changed, payment


async def _insert_draft(tx: Transaction, content: dict[str, object]) -> Invoice:
    draft = Invoice(
        id=new_id(),
        created_by=tx.actor.user_id,
        created_at=tx.now,
        updated_at=tx.now,
        **content,
    )
    await draft.add(tx)
    await _record(tx, AuditAction.INVOICE_CREATED, None, draft, "created")
    return draft


async def _miners(
    platform: Platform, terms: BillingTerms, order: NewInvoice
) -> tuple[int, int | None]:
    """The miners to bill, and how many were counted as active if they had to be counted."""
    if order.total_miners is not None:
        return order.total_miners, None
    active = await platform.count_active_miners(order.customer_id, terms.active_miner_statuses)
    if not active:
        raise NoActiveMiners(order.customer_id)
    return active, active


async def _price(
    order: NewInvoice, day: date, active_miners: int | None
) -> tuple[Decimal, PricingSnapshot]:
    if order.unit_price is not None:
        return order.unit_price, PricingSnapshot(
            source=PriceSource.EXPLICIT, miner_ids_count=active_miners
        )
    config = await find_price_in_effect(order.customer_id, day)
    if config is None:
        raise NoPriceInEffect(order.customer_id, day)
    return config.default_unit_price, PricingSnapshot(
        source=PriceSource.PRICING_CONFIG,
        pricing_config_id=config.id,
        miner_ids_count=active_miners,
    )


async def _record(
    tx: Transaction, action: AuditAction, before: Invoice | None, after: Invoice, what: str
) -> None:
    await record(
        tx,
        action,
        (EntityType.INVOICE, InvoiceId(after.id)),
        f"Invoice {after.invoice_number} {what}",
        before=before.snapshot() if before else None,
        after=after.snapshot(),
    )


async def _record_payment_added(
    tx: Transaction, before: Invoice, after: Invoice, payment: InvoicePayment
) -> None:
    await record(
        tx,
        AuditAction.PAYMENT_ADDED,
        (EntityType.INVOICE, InvoiceId(after.id)),
        f"Payment of {payment.amount_paid} applied to invoice {after.invoice_number}",
        before={"amountPaid": before.amount_paid},
        after={
            "amountPaid": after.amount_paid,
            "paymentId": payment.id,
            "costPaymentId": payment.cost_payment_id,
            "appliedAmount": payment.amount_paid,
        },
    )
