"""The link of an invoice to a cost payment (spec: Model 4), and the guard per cost payment."""

from __future__ import annotations

from accounting.db.document import BaseDocument, Indexes, index
from accounting.db.fields import Amount, Instant, Version
from accounting.ids import ObjectId
from accounting.money import ZERO
from accounting.platform.rules import CostPaymentId


class InvoicePayment(BaseDocument):
    """An amount of one cost payment applied to one invoice; live until `refundedDate` is set."""

    invoice_id: ObjectId
    cost_payment_id: CostPaymentId
    amount_paid: Amount
    paid_date: Instant
    refunded_date: Instant | None = None
    created_by: ObjectId | None = None
    created_at: Instant

    class Settings:
        name = "invoice_payments"
        indexes = [
            index("invoiceId"),
            index("costPaymentId"),
            index("invoiceId", "costPaymentId", unique=True),
        ]


class PaymentAllocation(BaseDocument):
    """How much of a cost payment is allocated; `_id` is the cost payment's.

    `allocated` is what its live payments add up to and, with it, `archived`: what was applied to
    invoices that are archived. Their links are gone, and their money must not be spent again.
    Every allocation changes this document, so that two writers of one cost payment meet here, just
    as two writers of one invoice meet at the invoice.
    """

    allocated: Amount = ZERO
    # None as well, in documents that are older than the first archive.
    archived: Amount | None = None
    updated_at: Instant
    version: Version = 1

    class Settings:
        name = "payment_allocations"
        indexes: Indexes = []
