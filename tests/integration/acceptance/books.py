"""The rules of spec section 4 once more, in plain Python: what the service has to answer.

Every method is one request: it raises Refused with the status and code that the service has to
answer, or changes the books as the service has to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, Final

ZERO: Final = Decimal("0.00")
AMOUNT_MAX: Final = Decimal("9999999999.99")
DUE_DAYS: Final = 30
SYSTEM: Final = "0" * 24

# The life cycle: what is allowed in which status.
ALLOWED: Final[Mapping[str, frozenset[str]]] = {
    "DRAFT": frozenset({"update", "issue", "delete"}),
    "ISSUED": frozenset({"record-payment", "remove-payment", "cancel"}),
    "OVERDUE": frozenset({"record-payment", "remove-payment", "cancel"}),
    "PAID": frozenset({"remove-payment", "refund"}),
    "CANCELLED": frozenset({"delete"}),
    "REFUNDED": frozenset(),
}
OPEN: Final = ("ISSUED", "OVERDUE")


class Refused(Exception):
    """What the service has to answer instead of doing it."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(f"{status} {code}")
        self.status = status
        self.code = code


@dataclass
class Customer:
    """A user of the platform; `can_be_billed` is false for staff and for deleted ones."""

    id: str
    active_miners: int = 0
    can_be_billed: bool = True


@dataclass
class LedgerRow:
    """A cost payment, in the order in which the platform made them."""

    id: str
    customer_id: str
    amount: Decimal
    refusal: str | None = None  # the code of the answer, when it cannot pay

    @property
    def can_pay(self) -> bool:
        return self.refusal is None


@dataclass
class Link:
    """An amount of a cost payment on an invoice."""

    id: str
    cost_payment_id: str
    amount: Decimal
    is_refunded: bool = False


@dataclass
class Bill:
    """An invoice as it has to be."""

    id: str
    number: str
    customer_id: str
    miners: int
    price: Decimal
    generated: date
    due: date
    period: str | None
    counted: int | None
    created_by: str
    changed_by: str | None = None
    status: str = "DRAFT"
    version: int = 1
    issued: date | None = None
    has_mail: bool = False
    # The cost payments whose application the customer was told of, each once.
    confirmed: list[str] = field(default_factory=list)
    cancel_reason: str | None = None
    refund_reason: str | None = None
    links: list[Link] = field(default_factory=list)

    @property
    def total(self) -> Decimal:
        return self.miners * self.price

    @property
    def paid(self) -> Decimal:
        return sum((link.amount for link in self.links if not link.is_refunded), ZERO)

    @property
    def rest(self) -> Decimal:
        return self.total - self.paid

    def is_overdue(self, today: date) -> bool:
        return self.status == "OVERDUE" or (self.status == "ISSUED" and self.due < today)

    @property
    def mails(self) -> list[str]:
        """The kinds of the e-mails about it, oldest first, without that of a cancellation."""
        return ["INVOICE_ISSUED"] * self.has_mail + ["PAYMENT_RECEIVED"] * len(self.confirmed)

    def change(self, actor: str, status: str | None = None) -> None:
        """Every change is one version."""
        self.status = status or self.status
        self.changed_by = actor
        self.version += 1

    def facts(self, today: date) -> dict[str, Any]:
        """What an admin has to be shown, as far as it does not depend on the instant."""
        return {
            "id": self.id,
            "invoiceNumber": self.number,
            "userId": self.customer_id,
            "totalMiners": self.miners,
            "unitPrice": f"{self.price:.2f}",
            "totalAmount": f"{self.total:.2f}",
            "amountPaid": f"{self.paid:.2f}",
            "balanceDue": f"{self.rest:.2f}",
            "status": self.status,
            "isOverdue": self.is_overdue(today),
            "invoiceGeneratedDate": self.generated.isoformat(),
            "dueDate": self.due.isoformat(),
            "billingPeriod": self.period,
            "cancelReason": self.cancel_reason,
            "refundReason": self.refund_reason,
            "version": self.version,
            "createdBy": self.created_by,
            "updatedBy": self.changed_by,
        }


class Books:
    """All that the service has to know, and what it has to do."""

    def __init__(self, today: date) -> None:
        self.today = today
        self.customers: dict[str, Customer] = {}
        self.ledger: dict[str, LedgerRow] = {}
        self.bills: dict[str, Bill] = {}

    def free(self, row: LedgerRow) -> Decimal:
        """What is left of a cost payment."""
        links = (link for bill in self.bills.values() for link in bill.links)
        used = (x.amount for x in links if x.cost_payment_id == row.id and not x.is_refunded)
        return row.amount - sum(used, ZERO)

    def find_link(self, link_id: str) -> tuple[Bill, Link] | None:
        """A payment with its invoice."""
        found = ((b, link) for b in self.bills.values() for link in b.links if link.id == link_id)
        return next(found, None)

    def price_new(self, customer_id: str, miners: int | None, price: Decimal | None) -> int:
        """How many miners a new draft bills, if it can be made; no customer here has a price."""
        customer = self.customers.get(customer_id)
        if customer is None or not customer.can_be_billed:
            raise Refused(404, "customer_not_found")
        if miners is None and not customer.active_miners:
            raise Refused(400, "no_active_miners")
        if price is None:
            raise Refused(400, "no_price_in_effect")
        counted = customer.active_miners if miners is None else miners
        if counted * price > AMOUNT_MAX:
            raise Refused(400, "amount_too_large")
        return counted

    def update(self, bill_id: str, version: int | None, actor: str, fields: dict[str, Any]) -> Bill:
        """`fields` by the names of Bill."""
        bill = self._check(bill_id, "update", version)
        differing = {name: new for name, new in fields.items() if getattr(bill, name) != new}
        miners = differing.get("miners", bill.miners)
        if differing and miners * differing.get("price", bill.price) > AMOUNT_MAX:
            raise Refused(400, "amount_too_large")
        for name, value in differing.items():
            setattr(bill, name, value)
        if differing:
            bill.change(actor)
        return bill

    def issue(
        self, bill_id: str, version: int | None, actor: str, issued: date, *, skip_email: bool
    ) -> Bill:
        bill = self._check(bill_id, "issue", version)
        if bill.due == bill.generated + timedelta(days=DUE_DAYS):
            bill.due = issued + timedelta(days=DUE_DAYS)
        bill.issued, bill.has_mail = issued, not skip_email
        bill.change(actor, "ISSUED")
        return bill

    def pay(
        self, bill_id: str, version: int | None, row_id: str, asked: Decimal | None
    ) -> tuple[Bill, Decimal]:
        """The invoice and the amount that is to be applied; `link` then applies it."""
        bill = self._check(bill_id, "record-payment", version)
        row = self.ledger.get(row_id)
        if row is None:
            raise Refused(404, "cost_payment_not_found")
        if row.customer_id != bill.customer_id:
            raise Refused(409, "cost_payment_of_another_customer")
        if row.refusal is not None:
            raise Refused(409, row.refusal)
        if any(link.cost_payment_id == row_id for link in bill.links):
            raise Refused(409, "payment_already_applied")
        free = self.free(row)
        amount = min(bill.rest, free) if asked is None else asked
        if amount > bill.rest:
            raise Refused(409, "payment_exceeds_balance")
        if amount > free or amount <= ZERO:
            raise Refused(409, "cost_payment_spent")
        return bill, amount

    def link(self, bill: Bill, actor: str, link: Link) -> None:
        """Apply an amount; the last cent makes the invoice PAID."""
        bill.links.append(link)
        if bill.has_mail and link.cost_payment_id not in bill.confirmed:
            bill.confirmed.append(link.cost_payment_id)
        bill.change(actor, "PAID" if bill.rest == ZERO else None)

    def unlink(self, link_id: str, actor: str) -> Bill:
        found = self.find_link(link_id)
        if found is None:
            raise Refused(404, "payment_not_found")
        bill, link = found
        if link.is_refunded:
            raise Refused(409, "payment_refunded")
        bill.links.remove(link)
        reopened = "OVERDUE" if bill.due < self.today else "ISSUED"
        bill.change(actor, reopened if bill.status == "PAID" else None)
        return bill

    def plan_allocation(self, customer_id: str) -> Iterator[tuple[str, str, Decimal]]:
        """(invoice, cost payment, amount): oldest due first, with the oldest payments first."""
        customer = self.customers.get(customer_id)
        if customer is None or not customer.can_be_billed:
            raise Refused(404, "customer_not_found")
        rows = [x for x in self.ledger.values() if x.customer_id == customer_id and x.can_pay]
        free = {row.id: self.free(row) for row in rows}
        bills = [b for b in self.bills.values() if b.customer_id == customer_id]
        for bill in sorted(bills, key=lambda bill: (bill.due, bill.id)):
            rest, used = bill.rest, {link.cost_payment_id for link in bill.links}
            for row_id in [row.id for row in rows if row.id not in used]:
                amount = min(rest, free[row_id])
                if bill.status in OPEN and amount > ZERO:
                    yield bill.id, row_id, amount
                    rest, free[row_id] = rest - amount, free[row_id] - amount

    def cancel(self, bill_id: str, version: int | None, actor: str, reason: str) -> Bill:
        bill = self._check(bill_id, "cancel", version)
        if bill.paid:
            raise Refused(409, "has_payments")
        bill.cancel_reason = reason
        bill.change(actor, "CANCELLED")
        return bill

    def refund(self, bill_id: str, version: int | None, actor: str, reason: str) -> Bill:
        bill = self._check(bill_id, "refund", version)
        for link in bill.links:
            link.is_refunded = True
        bill.refund_reason = reason
        bill.change(actor, "REFUNDED")
        return bill

    def delete(self, bill_id: str, version: int | None) -> None:
        self._check(bill_id, "delete", version)
        del self.bills[bill_id]

    def mark_overdue(self, today: date) -> list[Bill]:
        past_due = [b for b in self.bills.values() if b.status == "ISSUED" and b.due < today]
        for bill in past_due:
            bill.change(SYSTEM, "OVERDUE")
        return past_due

    def _check(self, bill_id: str, action: str, version: int | None) -> Bill:
        bill = self.bills.get(bill_id)
        if bill is None:
            raise Refused(404, "invoice_not_found")
        if version is not None and version != bill.version:
            raise Refused(412, "stale_version")
        if action not in ALLOWED[bill.status]:
            raise Refused(409, "invalid_transition")
        return bill
