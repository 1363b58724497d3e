"""Applying a cost payment to an invoice; the invoice's side of it is in `invoices`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal

from accounting.db.database import Session, Transaction
from accounting.ids import ObjectId, new_id
from accounting.money import ZERO
from accounting.payments.documents import InvoicePayment, PaymentAllocation
from accounting.payments.rules import (
    AllocationMissing,
    PaymentAlreadyApplied,
    PaymentId,
    PaymentNotFound,
    PaymentRefunded,
    amount_to_apply,
)
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


async def remove_payment(tx: Transaction, payment: InvoicePayment) -> None:
    """Delete a link and give its amount back; the caller changes the invoice."""
    await payment.remove(tx, expect={"refundedDate": None})
    await _free(tx, payment)


async def refund_payment(tx: Transaction, payment: InvoicePayment) -> InvoicePayment:
    """Mark a link refunded and give its amount back; it stays as history of its invoice."""
    refunded = await payment.change(tx, expect={"refundedDate": None}, refunded_date=tx.now)
    await _free(tx, payment)
    return refunded


async def delete_payments(tx: Transaction, invoice_id: ObjectId) -> None:
    """Delete the links of an invoice that is deleted itself; none of them is live."""
    await InvoicePayment.find({"invoiceId": invoice_id}, session=tx.session).delete(
        session=tx.session
    )


async def archive_payments(tx: Transaction, payments: Sequence[InvoicePayment]) -> None:
    """Delete links whose invoices are archived; what the live ones applied stays spent for ever.

    Raises AllocationMissing.
    """
    applied: defaultdict[ObjectId, Decimal] = defaultdict(lambda: ZERO)
    for payment in payments:
        if payment.refunded_date is None:
            applied[payment.cost_payment_id] += payment.amount_paid
    found = PaymentAllocation.find({"_id": {"$in": list(applied)}}, session=tx.session)
    guards = {guard.id: guard async for guard in found}
    changes = []
    for cost_payment_id, amount in applied.items():
        guard = guards.get(cost_payment_id)
        archived = amount + (guard.archived or ZERO) if guard else ZERO
        if guard is None or archived > guard.allocated:
            raise AllocationMissing(cost_payment_id)
        fields = {"archived": archived, "updated_at": tx.now, "version": guard.version + 1}
        changes.append((guard, fields))
    await PaymentAllocation.change_many(tx, changes)
    ids = [payment.id for payment in payments]
    await InvoicePayment.find({"_id": {"$in": ids}}, session=tx.session).delete(session=tx.session)


async def get_payment(payment_id: PaymentId, *, session: Session | None = None) -> InvoicePayment:
    """Raises PaymentNotFound."""
    payment = await InvoicePayment.find_one({"_id": payment_id}, session=session)
    if payment is None:
        raise PaymentNotFound(payment_id)
    return payment


async def get_live_payment(
    payment_id: PaymentId, *, session: Session | None = None
) -> InvoicePayment:
    """A payment that still counts. Raises PaymentNotFound, PaymentRefunded."""
    payment = await get_payment(payment_id, session=session)
    if payment.refunded_date is not None:
        raise PaymentRefunded(payment_id)
    return payment


async def list_allocated(
    cost_payment_ids: Iterable[CostPaymentId], *, session: Session | None = None
) -> dict[CostPaymentId, Decimal]:
    """How much of each of these cost payments is allocated; none of it where it is not named."""
    guards = PaymentAllocation.find({"_id": {"$in": list(cost_payment_ids)}}, session=session)
    return {CostPaymentId(guard.id): guard.allocated async for guard in guards}


async def hold_allocations(tx: Transaction, cost_payment_ids: Iterable[CostPaymentId]) -> None:
    """Keep what is known of these cost payments for a transaction that will apply many of them."""
    await PaymentAllocation.hold(tx, cost_payment_ids)


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


async def _free(tx: Transaction, payment: InvoicePayment) -> None:
    guard = await PaymentAllocation.find_one({"_id": payment.cost_payment_id}, session=tx.session)
    if guard is None:
        raise AllocationMissing(payment.cost_payment_id)
    await _allocate(tx, payment.cost_payment_id, guard, guard.allocated - payment.amount_paid)


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
