"""The stored documents of a large demo: what the services would have left of each bill.

They are made as the driver takes them, without models in between: a million bills have seven
million documents. The tests hold them against the models, and against what the services write.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Final

from bson import ObjectId

from accounting.audit.rules import AuditAction, EntityType
from accounting.clock import as_stored_day
from accounting.dev.bulk.history import Bill, Contract, History, LedgerRow, Price
from accounting.dev.bulk.invoices import InvoiceStory, Origin, ledger_row_id
from accounting.dev.bulk.platform import a_customer
from accounting.dev.bulk.trail import (
    PRICE,
    SYSTEM_ID,
    TEMPLATE,
    Chain,
    Json,
    Rows,
    make_id,
    money,
    text_of,
)
from accounting.dev.demo import demo_customer_id, demo_id

PRICES_SET_AFTER: Final = timedelta(hours=8)


class Books:
    """Makes the documents of a history."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._staff = (demo_id("users", 1), demo_id("users", 2))

    def add_bill(self, rows: Rows, bill: Bill) -> None:
        """Everything about one bill: invoice, payments, ledger rows, e-mails and trail."""
        contract = bill.contract
        origin = Origin(
            staff=self._staff[contract.number % len(self._staff)],
            template_id=self.template_id(contract) if contract.has_template else None,
            price_id=self.price_id(contract.customer, bill.price_start)
            if bill.price_start
            else None,
        )
        InvoiceStory(rows, bill, a_customer(contract.customer), origin).tell()
        for row in bill.ledger:
            self._add_ledger_row(rows, bill.contract, row)

    def add_prices(self, rows: Rows, customer: int) -> None:
        """A customer's prices; each ended when the next one began."""
        for price in self._history.prices(customer):
            at = self._history.start_of(price.start) + timedelta(hours=8)
            price_id = self.price_id(customer, price.start)
            ended_at = self._history.start_of(price.end) + timedelta(hours=8) if price.end else None
            facts = _price_facts(customer, price)
            told = {name: value for name, value in facts.items() if value is not None}
            described = f"Price {text_of(price.cents)} of customer {demo_customer_id(customer)}"
            chain = Chain(rows, EntityType.CUSTOMER_PRICING_CONFIG, price_id)
            after = told | {"effectiveFrom": price.start.isoformat()}
            after.pop("effectiveTo", None)
            chain.add(
                *(AuditAction.PRICING_CONFIG_CREATED, at, self._staff[0]),
                f"{described} from {price.start} on",
                *({}, after),
            )
            if price.end and ended_at:
                chain.add(
                    *(AuditAction.PRICING_CONFIG_UPDATED, ended_at, self._staff[0]),
                    f"{described} ends: another price starts on {price.end}",
                    {"effectiveTo": None},
                    {"effectiveTo": price.end.isoformat()},
                )
            chain.end(at)
            rows.add(
                "customer_pricing_config",
                {
                    "_id": price_id,
                    "userId": demo_customer_id(customer),
                    "defaultUnitPrice": money(price.cents),
                    "effectiveFrom": as_stored_day(price.start),
                    "effectiveTo": as_stored_day(price.end) if price.end else None,
                    "createdBy": self._staff[0],
                    "updatedBy": self._staff[0] if price.end else None,
                    "createdAt": at,
                    "updatedAt": ended_at or at,
                },
            )

    def add_template(self, rows: Rows, contract: Contract) -> None:
        """The template of a contract, which has generated its months up to the last one."""
        history = self._history
        start, at = self._template_start(contract)
        last = history.day_of(len(history.billed) - 1, contract.day_of_month)
        generated_at = history.start_of(last) + timedelta(minutes=11)
        own_price = contract.own_price_cents
        told = {
            "userId": str(demo_customer_id(contract.customer)),
            "dayOfMonth": contract.day_of_month,
            "startDate": start.isoformat(),
            "isActive": True,
            "autoIssue": False,
            "failedRuns": 0,
        }
        if own_price is not None:
            told["unitPrice"] = text_of(own_price)
        described = (
            f"Recurring invoice on day {contract.day_of_month} "
            f"of customer {demo_customer_id(contract.customer)}"
        )
        chain = Chain(rows, EntityType.RECURRING_INVOICE, self.template_id(contract))
        action = AuditAction.RECURRING_INVOICE_CREATED
        chain.add(action, at, self._staff[0], f"{described} created", {}, told)
        # One entry stands for those of all months, which say the same with another date.
        chain.add(
            *(AuditAction.RECURRING_INVOICE_UPDATED, generated_at, SYSTEM_ID),
            f"{described} generated the months up to {last:%Y-%m}",
            {"lastGeneratedDate": None},
            {"lastGeneratedDate": last.isoformat()},
        )
        chain.end(at)
        rows.add(
            "recurring_invoices",
            {
                "_id": self.template_id(contract),
                "userId": demo_customer_id(contract.customer),
                "dayOfMonth": contract.day_of_month,
                "unitPrice": None if own_price is None else money(own_price),
                "startDate": as_stored_day(start),
                "endDate": None,
                "isActive": True,
                "autoIssue": False,
                "lastGeneratedDate": as_stored_day(last),
                "lastSkippedDate": None,
                "failedRuns": 0,
                "lastFailedRunId": None,
                "parkedReason": None,
                "createdBy": self._staff[0],
                "updatedBy": SYSTEM_ID,
                "createdAt": at,
                "updatedAt": generated_at,
                "version": 2,
            },
        )

    def price_id(self, customer: int, start: date) -> ObjectId:
        at = self._history.start_of(start) + timedelta(hours=8)
        return make_id(at, PRICE, customer, start.year - 2000)

    def template_id(self, contract: Contract) -> ObjectId:
        return make_id(self._template_start(contract)[1], TEMPLATE, contract.number)

    def _template_start(self, contract: Contract) -> tuple[date, datetime]:
        first = self._history.day_of(contract.first_month, contract.day_of_month)
        start = first.replace(day=1)
        return start, self._history.start_of(start) + timedelta(hours=8, minutes=5)

    def _add_ledger_row(self, rows: Rows, contract: Contract, row: LedgerRow) -> None:
        row_id = ledger_row_id((row.contract, row.month, row.part), row.at)
        rows.add(
            "cost_payments",
            {
                "_id": row_id,
                "userId": demo_customer_id(contract.customer),
                "amount": row.cents / 100,
                "type": "PAYMENT",
                "consumption": 0.0,
                "narration": "Bank transfer",
                "createdAt": row.at,
                "isDeleted": False,
            },
        )
        rows.add(
            "payment_allocations",
            {
                "_id": row_id,
                "allocated": money(row.allocated_cents),
                "archived": None,
                "updatedAt": row.at + timedelta(hours=1),
                "version": 1,
            },
        )


def _price_facts(customer: int, price: Price) -> Json:
    return {
        "userId": str(demo_customer_id(customer)),
        "defaultUnitPrice": text_of(price.cents),
        "effectiveFrom": price.start.isoformat(),
        "effectiveTo": price.end.isoformat() if price.end else None,
    }
