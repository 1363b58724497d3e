"""Valid things by default; a test names only what matters to it."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from accounting.actor import Actor, Role
from accounting.db.database import Database
from accounting.ids import ObjectId, new_id
from accounting.invoices.documents import Invoice
from accounting.invoices.drafts import NewInvoice, create_invoice
from accounting.invoices.rules import BillingTerms
from accounting.invoices.service import issue_invoice
from accounting.platform.rules import CostPayment, PlatformUser
from accounting.pricing.documents import CustomerPricingConfig
from accounting.pricing.service import create_price
from accounting.recurring.documents import RecurringInvoice
from accounting.recurring.service import NewTemplate, create_recurring_invoice
from fakes import FakePlatform

NOW = datetime(2026, 1, 12, 9, 30, tzinfo=UTC)
TODAY = date(2026, 1, 12)
TERMS = BillingTerms(zone=ZoneInfo("UTC"))
ADMIN = Actor(
    user_id=ObjectId("aaaaaaaaaaaaaaaaaaaaaaaa"),
    role=Role.ADMIN,
    ip_address="192.0.2.7",
    user_agent="tests",
    request_id="request-1",
)


def a_customer(**changes: Any) -> PlatformUser:
    facts: dict[str, Any] = {
        "id": new_id(),
        "name": "Ada Holm",
        "email": "ada@example.com",
        "company_name": "Northern Hash Ltd",
        "role": Role.CLIENT,
        "is_deleted": False,
    }
    return PlatformUser(**facts | changes)


def a_cost_payment(customer: PlatformUser, amount: str = "500.00", **changes: Any) -> CostPayment:
    facts: dict[str, Any] = {
        "id": new_id(),
        "user_id": customer.id,
        "amount": Decimal(amount),
        "type": "PAYMENT",
        "narration": None,
        "created_at": NOW,
        "is_deleted": False,
    }
    return CostPayment(**facts | changes)


async def a_draft(
    db: Database, platform: FakePlatform, customer: PlatformUser, **changes: Any
) -> Invoice:
    facts: dict[str, Any] = {"total_miners": 5, "unit_price": Decimal("100.00")}
    terms = changes.pop("terms", TERMS)
    platform.users.setdefault(customer.id, customer)
    order = NewInvoice(customer_id=customer.id, **facts | changes)
    return await create_invoice(db, ADMIN, platform, terms, order)


async def an_issued_invoice(
    db: Database, platform: FakePlatform, customer: PlatformUser, **changes: Any
) -> Invoice:
    draft = await a_draft(db, platform, customer, **changes)
    return await db.run(ADMIN, issue_invoice, platform, TERMS, ObjectId(draft.id))


async def a_price(
    db: Database,
    platform: FakePlatform,
    customer: PlatformUser,
    effective_from: date = date(2026, 1, 1),
    unit_price: str = "50.00",
) -> CustomerPricingConfig:
    platform.users.setdefault(customer.id, customer)
    price = Decimal(unit_price)
    return await db.run(ADMIN, create_price, platform, customer.id, price, effective_from)


async def a_template(
    db: Database, platform: FakePlatform, customer: PlatformUser, **changes: Any
) -> RecurringInvoice:
    facts: dict[str, Any] = {"day_of_month": 5, "start_date": date(2026, 1, 1)}
    platform.users.setdefault(customer.id, customer)
    order = NewTemplate(customer_id=customer.id, **facts | changes)
    return await db.run(ADMIN, create_recurring_invoice, platform, TERMS.zone, order)
