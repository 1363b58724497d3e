"""How much of a cost payment may go to an invoice (spec section 4, "Allocation")."""

from __future__ import annotations

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
