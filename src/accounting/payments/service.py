"""Applying a cost payment to an invoice; the invoice's side of it is in `invoices`."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal

from accounting.db.database import Session, Transaction
from accounting.ids import ObjectId, new_id
from accounting.money import ZERO
from accounting.payments.documents import InvoicePayment, PaymentAllocation
from accounting.payments.rules import PaymentAlreadyApplied, amount_to_apply
from accounting.platform.rules import CostPayment, CostPaymentId


async def apply_payment(
    tx: Transaction,
    cost_payment: CostPayment,
    *,
    invoice_id: ObjectId,
    invoice_number: str,
    balance_due: Decimal,
    asked: Decimal | None,
    paid_date: datetime,
) -> InvoicePayment:
    """Link an amount of a cost payment to an invoice and count it against the cost payment.

    The caller changes the invoice in the same transaction. Spec: section 4, "Allocation".
    Raises CostPaymentUnusable, PaymentAlreadyApplied, CostPaymentSpent, PaymentExceedsBalance.
    """
    cost_payment.check_can_pay()
    if await _is_applied(invoice_id, cost_payment.id, tx.session):
        raise PaymentAlreadyApplied(cost_payment.id, invoice_number)

    guard = await PaymentAllocation.find_one({"_id": cost_payment.id}, session=tx.session)
    allocated = guard.allocated if guard else ZERO
    amount = amount_to_apply(
        asked,
        balance_due=balance_due,
        unallocated=cost_payment.amount - allocated,
        invoice_number=invoice_number,
        cost_payment_id=cost_payment.id,
    )
    await _allocate(tx, cost_payment.id, guard, allocated + amount)
    payment = InvoicePayment(
        id=new_id(),
        invoice_id=invoice_id,
        cost_payment_id=cost_payment.id,
        amount_paid=amount,
        paid_date=paid_date,
        created_by=tx.actor.user_id,
        created_at=tx.now,
    )
    await payment.add(tx)
    return payment


async def list_payments(
    invoice_ids: Iterable[ObjectId], *, session: Session | None = None
) -> list[InvoicePayment]:
    """The payments of these invoices, oldest first."""
    return (
        await InvoicePayment.find({"invoiceId": {"$in": list(invoice_ids)}}, session=session)
        .sort("_id")
        .to_list()
    )


async def _is_applied(
    invoice_id: ObjectId, cost_payment_id: CostPaymentId, session: Session | None
) -> bool:
    link = {"invoiceId": invoice_id, "costPaymentId": cost_payment_id}
    return await InvoicePayment.find_one(link, session=session) is not None


async def _allocate(
    tx: Transaction,
    cost_payment_id: CostPaymentId,
    guard: PaymentAllocation | None,
    allocated: Decimal,
) -> None:
    if guard is None:
        # Two first allocations at once: the second insert is a duplicate key and runs again.
        await PaymentAllocation(id=cost_payment_id, allocated=allocated, updated_at=tx.now).add(tx)
    else:
        await guard.change(
            tx,
            expect={"version": guard.version},
            allocated=allocated,
            updated_at=tx.now,
            version=guard.version + 1,
        )
