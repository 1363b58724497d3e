"""The invoice as stored (spec: Model 1 and section 3)."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Final

from pydantic import Field

from accounting.db.database import Session
from accounting.db.document import (
    BaseDocument,
    EmbeddedDocument,
    Indexes,
    VersionedDocument,
    index,
)
from accounting.db.fields import (
    Amount,
    BillingPeriod,
    Count,
    Day,
    Instant,
    Name,
    Text,
    UnitPrice,
)
from accounting.ids import ANY_ID, ObjectId
from accounting.invoices.rules import (
    TOTAL_MINERS_MAX,
    InvoiceId,
    InvoiceNotFound,
    InvoiceStatus,
    balance_due,
)
from accounting.money import ZERO
from accounting.platform.rules import UserId
from accounting.pricing.rules import PriceSource


class CustomerSnapshot(EmbeddedDocument):
    """The customer as he was called when the invoice was issued."""

    name: Name
    email: Annotated[str, Field(max_length=320)]
    company_name: Name | None = None


class PricingSnapshot(EmbeddedDocument):
    """Why the amount is what it is: where the price came from, how many miners were active."""

    source: PriceSource
    pricing_config_id: ObjectId | None = None
    miner_ids_count: Count | None = None


# What a list can be ordered by; `listing.InvoiceSort` are the same names.
LIST_ORDERS: Final = (
    "createdAt",
    "invoiceNumber",
    "totalAmount",
    "status",
    "dueDate",
    "issuedDate",
    "paidDate",
)


def _list_indexes(first: str) -> Indexes:
    # The id decides between equal values; numbers are unique and need none.
    keys = [(first, name) for name in LIST_ORDERS if name not in (first, "invoiceNumber")]
    with_id = [index(*pair, "_id") for pair in keys]
    by_itself = [index("status", "_id")] if first == "status" else []
    return [index(first, "invoiceNumber"), *with_id, *by_itself]


class Invoice(VersionedDocument):
    """A bill for hosting to the customer `userId`. Money in USD, days in the business zone."""

    invoice_number: Annotated[str, Field(pattern=r"^[0-9]{9,20}$")]
    user_id: UserId
    total_miners: Annotated[int, Field(ge=1, le=TOTAL_MINERS_MAX)]
    unit_price: UnitPrice
    total_amount: Amount
    amount_paid: Amount = ZERO
    status: InvoiceStatus = InvoiceStatus.DRAFT
    invoice_generated_date: Day
    issued_date: Instant | None = None
    # In UTC: what lists by `issuedDate` in another order find it by.
    issued_day: Day | None = None
    due_date: Day
    paid_date: Instant | None = None
    billing_period: BillingPeriod | None = None
    recurring_invoice_id: ObjectId | None = None
    customer: CustomerSnapshot | None = None
    pricing: PricingSnapshot | None = None
    cancelled_date: Instant | None = None
    cancel_reason: Text | None = None
    refunded_date: Instant | None = None
    refund_reason: Text | None = None

    not_audited: ClassVar[frozenset[str]] = VersionedDocument.not_audited | {"issued_day"}

    class Settings:
        name = "invoices"
        # What no range of one field can say; the last judge of allocations.
        rules: ClassVar[dict[str, Any]] = {
            "$expr": {"$lte": ["$amountPaid", "$totalAmount"]},
        }
        indexes = [
            index("userId"),
            index("status"),
            index("dueDate"),
            index("createdAt"),
            # The seed's plain index on the number too: a unique one serves every look-up.
            index("invoiceNumber", unique=True),
            # Lists, see `list_plan`: whose, of which month or in which status, then the order.
            *_list_indexes("userId"),
            *_list_indexes("billingPeriod"),
            *_list_indexes("status"),
            index("issuedDate", "createdAt", "_id"),
            index("issuedDay", "createdAt", "_id"),
            index("invoiceGeneratedDate", "createdAt", "_id"),
            index("dueDate", "createdAt", "_id"),
            index("totalAmount", "createdAt", "_id"),
            # The last judge of generation: one invoice of a template and month.
            index(
                "recurringInvoiceId",
                "billingPeriod",
                unique=True,
                only_if={"recurringInvoiceId": ANY_ID},
            ),
        ]

    @property
    def balance_due(self) -> Decimal:
        return balance_due(self.total_amount, self.amount_paid)


class AccountingCounter(BaseDocument):
    """The last serial given out of a sequence, such as the invoice numbers of one day."""

    id: str  # type: ignore[assignment]  # a name instead of an ObjectId
    value: Annotated[int, Field(ge=0)]

    class Settings:
        name = "accounting_counters"
        indexes: Indexes = []


async def find_invoices(
    invoice_ids: Iterable[InvoiceId], *, session: Session | None = None
) -> dict[InvoiceId, Invoice]:
    """Those of these invoices that exist, by id."""
    found = Invoice.find({"_id": {"$in": list(invoice_ids)}}, session=session)
    return {InvoiceId(invoice.id): invoice async for invoice in found}


async def list_invoice_ids(
    customer_id: UserId, *, session: Session | None = None
) -> list[InvoiceId]:
    """All invoices of a customer, drafts as well."""
    invoices = Invoice.get_motor_collection()
    found = invoices.find({"userId": customer_id}, {"_id": 1}, session=session)
    return [InvoiceId(raw["_id"]) async for raw in found]


async def get_invoice(invoice_id: InvoiceId, *, session: Session | None = None) -> Invoice:
    """Raises InvoiceNotFound."""
    invoice = await Invoice.find_one({"_id": invoice_id}, session=session)
    if invoice is None:
        raise InvoiceNotFound(invoice_id)
    return invoice
