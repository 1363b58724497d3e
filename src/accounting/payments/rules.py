"""How much of a cost payment may go to an invoice (spec section 4, "Allocation")."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TypeAlias

from accounting.errors import Conflict, Invalid, NotFound
from accounting.ids import ObjectId
from accounting.money import ZERO

PaymentId: TypeAlias = ObjectId


class PaymentNotFound(NotFound):
    """No link with this id."""

    def __init__(self, payment_id: PaymentId) -> None:
        super().__init__(f"There is no payment {payment_id}.", paymentId=str(payment_id))


class AllocationMissing(Conflict):
    """A link exists, but its cost payment has no record of it: the store was changed by hand."""

    def __init__(self, cost_payment_id: ObjectId) -> None:
        super().__init__(
            f"The allocations of cost payment {cost_payment_id} do not match its payments.",
            costPaymentId=str(cost_payment_id),
        )


class PaymentRefunded(Conflict):
    """The payment was refunded with its invoice; there is nothing left to remove."""

    def __init__(self, payment_id: PaymentId) -> None:
        super().__init__(
            f"Payment {payment_id} was refunded and can no longer be removed.",
            paymentId=str(payment_id),
        )


class PaymentAlreadyApplied(Conflict):
    """The same cost payment is linked to the same invoice already."""

    def __init__(self, cost_payment_id: ObjectId, invoice_number: str) -> None:
        super().__init__(
            f"Cost payment {cost_payment_id} is already applied to invoice {invoice_number}; "
            "remove that payment first to apply another amount.",
            costPaymentId=str(cost_payment_id),
            invoiceNumber=invoice_number,
        )


class CostPaymentSpent(Conflict):
    """Nothing of the cost payment is left, or less than was asked for."""

    def __init__(self, cost_payment_id: ObjectId, unallocated: Decimal, asked: Decimal) -> None:
        super().__init__(
            f"Only {unallocated} of cost payment {cost_payment_id} is unallocated; "
            f"{asked} cannot be applied.",
            costPaymentId=str(cost_payment_id),
            unallocated=str(unallocated),
        )


class PaymentExceedsBalance(Conflict):
    """More than the invoice still needs."""

    def __init__(self, invoice_number: str, balance_due: Decimal, asked: Decimal) -> None:
        super().__init__(
            f"Invoice {invoice_number} has a balance due of {balance_due}; "
            f"{asked} cannot be applied.",
            invoiceNumber=invoice_number,
            balanceDue=str(balance_due),
        )


class PaymentNotPositive(Invalid):
    """A payment of nothing, or less than nothing."""

    def __init__(self) -> None:
        super().__init__(
            "amountPaid must be above zero.", errors=[("amountPaid", "must be above zero")]
        )


@dataclass(frozen=True, slots=True)
class OpenAmount:
    """What an invoice still needs, or what a cost payment still has."""

    id: ObjectId
    amount: Decimal


def allocate_in_order(
    invoices: Sequence[OpenAmount],
    cost_payments: Sequence[OpenAmount],
    *,
    taken: Container[tuple[ObjectId, ObjectId]] = frozenset(),
) -> list[tuple[ObjectId, ObjectId, Decimal]]:
    """Fill the invoices in order from the cost payments in order: (invoice, cost payment, amount).

    A pair in `taken` is linked already and cannot be linked again; that cost payment then goes to
    the next invoice.
    """
    left = {row.id: row.amount for row in cost_payments}
    plan: list[tuple[ObjectId, ObjectId, Decimal]] = []
    for invoice in invoices:
        needed = invoice.amount
        for row_id, available in left.items():
            amount = min(needed, available)
            if amount <= ZERO or (invoice.id, row_id) in taken:
                continue
            plan.append((invoice.id, row_id, amount))
            left[row_id] = available - amount
            needed -= amount
    return plan


def amount_to_apply(
    asked: Decimal | None,
    *,
    balance_due: Decimal,
    unallocated: Decimal,
    invoice_number: str,
    cost_payment_id: ObjectId,
) -> Decimal:
    """The amount of one allocation: as asked, else the most that both sides allow.

    Raises PaymentExceedsBalance, CostPaymentSpent or PaymentNotPositive.
    """
    if asked is not None and asked <= ZERO:
        raise PaymentNotPositive
    wanted = min(balance_due, unallocated) if asked is None else asked
    if wanted > balance_due:
        raise PaymentExceedsBalance(invoice_number, balance_due, wanted)
    if wanted > unallocated or wanted <= ZERO:
        raise CostPaymentSpent(cost_payment_id, unallocated, wanted if asked else balance_due)
    return wanted
