"""What is true of an invoice on paper: life cycle, number, totals (spec section 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Final, TypeAlias
from zoneinfo import ZoneInfo

from accounting.errors import Conflict, Invalid, NotFound
from accounting.ids import ObjectId

InvoiceId: TypeAlias = ObjectId

TOTAL_MINERS_MAX: Final = 1_000_000


class InvoiceStatus(StrEnum):
    """Where an invoice stands; REFUNDED and CANCELLED are final."""

    DRAFT = "DRAFT"
    ISSUED = "ISSUED"
    OVERDUE = "OVERDUE"
    PAID = "PAID"
    CANCELLED = "CANCELLED"
    REFUNDED = "REFUNDED"


class InvoiceAction(StrEnum):
    """What can be done with an invoice, in the words of the API."""

    UPDATE = "update"
    ISSUE = "issue"
    RECORD_PAYMENT = "record-payment"
    REMOVE_PAYMENT = "remove-payment"
    CANCEL = "cancel"
    REFUND = "refund"
    DELETE = "delete"


# The one definition of an open invoice: what counts as outstanding.
OPEN_STATUSES: Final = frozenset({InvoiceStatus.ISSUED, InvoiceStatus.OVERDUE})

# The life cycle as one table: from which states each action is allowed.
ALLOWED_FROM: Final[Mapping[InvoiceAction, frozenset[InvoiceStatus]]] = {
    InvoiceAction.UPDATE: frozenset({InvoiceStatus.DRAFT}),
    InvoiceAction.ISSUE: frozenset({InvoiceStatus.DRAFT}),
    InvoiceAction.RECORD_PAYMENT: OPEN_STATUSES,
    InvoiceAction.REMOVE_PAYMENT: OPEN_STATUSES | {InvoiceStatus.PAID},
    InvoiceAction.CANCEL: OPEN_STATUSES,
    InvoiceAction.REFUND: frozenset({InvoiceStatus.PAID}),
    InvoiceAction.DELETE: frozenset({InvoiceStatus.DRAFT, InvoiceStatus.CANCELLED}),
}


class InvoiceNotFound(NotFound):
    """No invoice with this id, or not one that this actor may see."""

    def __init__(self, invoice_id: InvoiceId) -> None:
        super().__init__(f"There is no invoice {invoice_id}.", invoiceId=str(invoice_id))


class InvalidTransition(Conflict):
    """The invoice's status does not allow the action."""

    def __init__(self, invoice_number: str, status: InvoiceStatus, action: InvoiceAction) -> None:
        allowed = allowed_actions(status)
        allowed_words = ", ".join(allowed) if allowed else "nothing more"
        super().__init__(
            f"Invoice {invoice_number} is {status}: {action} is not allowed; "
            f"allowed now: {allowed_words}.",
            invoiceNumber=invoice_number,
            invoiceStatus=status.value,
            allowedActions=list(allowed),
        )


class HasPayments(Conflict):
    """An invoice with payments cannot be cancelled; they would pay for nothing."""

    def __init__(self, invoice_number: str, amount_paid: Decimal) -> None:
        super().__init__(
            f"Invoice {invoice_number} has payments of {amount_paid}; remove them to cancel it.",
            invoiceNumber=invoice_number,
            amountPaid=str(amount_paid),
        )


class CostPaymentOfAnotherCustomer(Conflict):
    """A payment of one customer cannot settle the invoice of another."""

    def __init__(self, cost_payment_id: ObjectId, invoice_number: str) -> None:
        super().__init__(
            f"Cost payment {cost_payment_id} belongs to another customer than "
            f"invoice {invoice_number}.",
            costPaymentId=str(cost_payment_id),
            invoiceNumber=invoice_number,
        )


class BillingPeriodFixed(Conflict):
    """The month of a generated invoice says which month of its template is billed."""

    def __init__(self, invoice_number: str, billing_period: str | None) -> None:
        super().__init__(
            f"Invoice {invoice_number} was generated for {billing_period} from a recurring "
            "invoice; its billingPeriod cannot change.",
            invoiceNumber=invoice_number,
            billingPeriod=billing_period,
        )


class NoActiveMiners(Invalid):
    """The number of miners was left out and the customer has none that is active."""

    def __init__(self, customer_id: ObjectId) -> None:
        super().__init__(
            f"Customer {customer_id} has no active miners; give totalMiners.",
            errors=[("totalMiners", "is required: the customer has no active miners")],
        )


@dataclass(frozen=True, slots=True)
class BillingTerms:
    """The operator's choices that decide numbers, due dates and miner counts (from settings)."""

    zone: ZoneInfo
    due_days: int = 30
    serial_width: int = 2
    active_miner_statuses: Sequence[str] = ("AUTO", "ACTIVE")
    mail_cc: Sequence[str] = ()


def check_allowed(action: InvoiceAction, status: InvoiceStatus, invoice_number: str) -> None:
    """Raises InvalidTransition unless the life cycle allows the action in this status."""
    if status not in ALLOWED_FROM[action]:
        raise InvalidTransition(invoice_number, status, action)


def allowed_actions(status: InvoiceStatus) -> list[InvoiceAction]:
    """What can be done with an invoice in this status."""
    return [action for action, statuses in ALLOWED_FROM.items() if status in statuses]


def invoice_number(day: date, serial: int, width: int) -> str:
    """`YYYYMMDDSR`: the business day and its serial of at least `width` digits; it grows."""
    return f"{day:%Y%m%d}{serial:0{width}d}"


def due_date(generated: date, due_days: int) -> date:
    """The last day to pay."""
    return generated + timedelta(days=due_days)


def day_of_issue(issued: datetime) -> date:
    """The day in UTC under which an issued invoice is found, whatever the business zone is."""
    return issued.astimezone(UTC).date()


def due_date_at_issue(due: date, *, generated: date, issued: date, due_days: int) -> date:
    """A due date that was the draft's default starts anew at the day of issue; a given one stays.

    Else a draft that waited for its issue would be due earlier than promised, or at once.
    """
    is_default = due == due_date(generated, due_days)
    return due_date(issued, due_days) if is_default else due


def balance_due(total_amount: Decimal, amount_paid: Decimal) -> Decimal:
    """What is still to be paid, in cents."""
    return total_amount - amount_paid


def is_overdue(status: InvoiceStatus, due: date, today: date) -> bool:
    """Whether the last day to pay has passed unpaid, also before the daily job has said so."""
    return status is InvoiceStatus.OVERDUE or (status is InvoiceStatus.ISSUED and due < today)
