"""Demo data of our own: prices, recurring invoices and a year of invoices for the demo platform.

Made by the very services that the API and the workers call, on a clock that is set to each day of
the past year; only what happens is told here. Invoices of the past are issued without e-mail:
nobody was written to, so that the outbox says nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Final

from accounting.actor import Actor, Role
from accounting.audit.documents import AuditHead, AuditLog
from accounting.bootstrap import Services
from accounting.clock import as_stored_day, business_day, instant_at
from accounting.db.client import MongoDatabase
from accounting.db.database import Transaction
from accounting.db.document import BaseDocument
from accounting.dev.demo import A_MONTH, MONTHS, demo_customer_id, demo_id
from accounting.ids import ObjectId
from accounting.invoices.documents import AccountingCounter, Invoice
from accounting.invoices.drafts import NewInvoice, create_invoice
from accounting.invoices.rules import OPEN_STATUSES, InvoiceId, InvoiceStatus
from accounting.invoices.service import cancel_invoice, issue_invoice, mark_overdue
from accounting.invoices.settlement import record_payment, refund_invoice
from accounting.payments.documents import InvoicePayment, PaymentAllocation
from accounting.platform.reader import Platform
from accounting.platform.rules import CostPayment
from accounting.pricing.documents import CustomerPricingConfig
from accounting.pricing.service import create_price
from accounting.recurring.documents import RecurringInvoice
from accounting.recurring.rules import RecurringInvoiceId, period_of, scheduled_date
from accounting.recurring.service import (
    NewTemplate,
    TemplateChanges,
    create_recurring_invoice,
    pause_recurring_invoice,
    update_recurring_invoice,
)
from accounting.runs.documents import AccountingRun
from accounting.simulation.days import SetClock, days_from
from accounting.worker.generation import generate_now
from accounting.worker.hours import GENERATE_AT, OVERDUE_AT

# Holds a document while the books are loaded: as long as it does, they are a part of the year only.
LOADING_COLLECTION: Final = "accounting_demo"
LEDGER_ROWS_MAX: Final = 100
SET_UP_AT: Final = time(0, 5)
OFFICE_OPENS_AT: Final = time(9, 0)
PAYMENTS_ARE_APPLIED_AT: Final = time(14, 0)

_WRITTEN: Final[Sequence[type[BaseDocument]]] = (
    *(Invoice, RecurringInvoice, CustomerPricingConfig, InvoicePayment, PaymentAllocation),
    *(AuditLog, AuditHead, AccountingCounter, AccountingRun),
)


@dataclass(frozen=True)
class _Account:
    """How a demo customer, by his place in the list, is billed; times count back from today."""

    index: int
    day_of_month: int
    price: str | None = None
    own_price: str | None = None
    started_months_ago: int = MONTHS
    ended_months_ago: int | None = None
    is_issued_by_itself: bool = False
    # Until when his payments are applied: never, always, or up to so many months ago.
    paid_until_months_ago: int | None = None


ADA, BEN, CARLA, DMITRI, ELIF, FRANK, TANAKA, GRETA, HUGO, INES, JON, KIM = range(12)
_ACCOUNTS: Final = (
    # Her payments stay free, for whoever tries the API.
    _Account(ADA, 1, "100.00", started_months_ago=3),
    _Account(BEN, 1, "95.00", paid_until_months_ago=0),
    _Account(CARLA, 15, "100.00", paid_until_months_ago=3),
    _Account(DMITRI, 15, "180.00", paid_until_months_ago=0),
    _Account(ELIF, 1, own_price="150.00", is_issued_by_itself=True, paid_until_months_ago=0),
    _Account(FRANK, 1, "100.00", paid_until_months_ago=0),
    _Account(TANAKA, 15, "120.00", is_issued_by_itself=True, paid_until_months_ago=0),
    # No price, no miners: nothing to bill, as a dry run shows.
    _Account(GRETA, 15, started_months_ago=2),
    _Account(HUGO, 1, "90.00", started_months_ago=1),
    _Account(INES, 15, "100.00", paid_until_months_ago=0),
    _Account(KIM, 1, "95.00", ended_months_ago=2, paid_until_months_ago=0),
)


async def load_demo_books(services: Services, clock: SetClock, now: datetime) -> bool:
    """Fill empty books with the year before `now`; whether that was done.

    Not where there are books already, nor beside another platform than the demo one. A load that
    was interrupted is begun anew. `clock` is that of the services' database, which is set up.
    """
    mongo = services.db.mongo
    loading = mongo[LOADING_COLLECTION]
    if await loading.find_one({}) is not None:
        await _clear(mongo)
    elif not await _are_empty(mongo) or not await _is_demo_platform(services.platform):
        return False
    await loading.insert_one({})
    await _Year(services, clock, business_day(now, services.terms.zone)).live_through()
    await loading.drop()
    return True


async def _are_empty(mongo: MongoDatabase) -> bool:
    for document in _WRITTEN:
        name = document.Settings.name  # type: ignore[attr-defined]  # every document of ours has it
        if await mongo[name].find_one({}, {"_id": 1}) is not None:
            return False
    return True


async def _clear(mongo: MongoDatabase) -> None:
    for document in _WRITTEN:
        await mongo[document.Settings.name].delete_many({})  # type: ignore[attr-defined]


async def _is_demo_platform(platform: Platform) -> bool:
    users = [demo_id("users", 1), demo_customer_id(ADA), demo_customer_id(KIM)]
    return len(await platform.find_users(map(ObjectId, users))) == len(users)


class _Year:
    """The year up to yesterday, day by day."""

    def __init__(self, services: Services, clock: SetClock, today: date) -> None:
        self._services = services
        self._clock = clock
        self._admin = Actor(ObjectId(demo_id("users", 1)), Role.ADMIN)
        self._today = today
        self._templates: dict[int, RecurringInvoiceId] = {}
        # What each customer paid on a day, and what is to be applied the day after.
        self._ledger: dict[date, list[CostPayment]] = {}

    async def live_through(self) -> None:
        await self._read_ledger()
        for day in days_from(self._months_ago(MONTHS), self._today - timedelta(days=1)):
            await self._set_up(day)
            await self._run_jobs(day)
            await self._work_in_the_office(day)
            await self._apply_payments(day)
        await self._look_ahead()

    def _months_ago(self, months: int) -> date:
        return self._today - months * A_MONTH

    def _set_clock(self, day: date, at: time) -> None:
        self._clock.now = instant_at(day, at, self._services.terms.zone)

    async def _read_ledger(self) -> None:
        """The payments of those who pay, by the day on which they came in."""
        zone = self._services.terms.zone
        for account in _ACCOUNTS:
            if account.paid_until_months_ago is None:
                continue
            rows = await self._services.platform.list_usable_payments(
                ObjectId(demo_customer_id(account.index)), LEDGER_ROWS_MAX
            )
            for row in rows:
                came_in = business_day(row.created_at, zone) if row.created_at else self._today
                if came_in <= self._months_ago(account.paid_until_months_ago):
                    self._ledger.setdefault(came_in, []).append(row)

    async def _set_up(self, day: date) -> None:
        """Prices and templates of the accounts that start on this day."""
        self._set_clock(day, SET_UP_AT)
        db, platform = self._services.db, self._services.platform
        for account in _ACCOUNTS:
            if day != self._months_ago(account.started_months_ago):
                continue
            customer_id = ObjectId(demo_customer_id(account.index))
            if account.price:
                price = Decimal(account.price)
                await db.run(self._admin, create_price, platform, customer_id, price, day)
            template = NewTemplate(
                customer_id,
                account.day_of_month,
                unit_price=Decimal(account.own_price) if account.own_price else None,
                end_date=self._months_ago(account.ended_months_ago)
                if account.ended_months_ago
                else None,
            )
            zone = self._services.terms.zone
            made = await db.run(self._admin, create_recurring_invoice, platform, zone, template)
            self._templates[account.index] = RecurringInvoiceId(made.id)

    async def _run_jobs(self, day: date) -> None:
        """As the schedule does; on days on which nothing is due, no run is left."""
        if any(account.day_of_month == day.day for account in _ACCOUNTS):
            self._set_clock(day, GENERATE_AT)
            await generate_now(self._services, day)
        self._set_clock(day, OVERDUE_AT)
        await mark_overdue(self._services.db, day)

    async def _work_in_the_office(self, day: date) -> None:
        """What an admin does: issue the drafts of the day, and what happens once in this year."""
        self._set_clock(day, OFFICE_OPENS_AT)
        db = self._services.db
        drafts = await self._drafts_to_issue(day)
        if drafts:
            await db.run(self._admin, _issue_all, self._services, drafts)
        if day == self._months_ago(6):
            # Announced some weeks ahead.
            price, effective_from = Decimal("110.00"), _first_of_next_month(day)
            ben, platform = ObjectId(demo_customer_id(BEN)), self._services.platform
            await db.run(self._admin, create_price, platform, ben, price, effective_from)
        if day == self._months_ago(5):
            await self._refund_the_first_invoice(TANAKA)
        if day == self._months_ago(4):
            zone = self._services.terms.zone
            await db.run(self._admin, pause_recurring_invoice, self._templates[DMITRI], zone)
        if day == self._months_ago(2):
            await self._bill_twice_by_mistake(FRANK)

    async def _drafts_to_issue(self, day: date) -> list[InvoiceId]:
        """Those of this day; the last one of Ines waits for its review."""
        made_today = {"invoiceGeneratedDate": as_stored_day(day), "status": InvoiceStatus.DRAFT}
        drafts = await Invoice.find(made_today).sort("+_id").to_list()
        next_period = period_of(_first_of_next_month(day))
        return [
            InvoiceId(draft.id)
            for draft in drafts
            if draft.user_id != demo_customer_id(INES)
            or scheduled_date(next_period, day.day) < self._today
        ]

    async def _refund_the_first_invoice(self, index: int) -> None:
        paid = {"userId": demo_customer_id(index), "status": InvoiceStatus.PAID}
        first = await Invoice.find(paid).sort("+dueDate").first_or_none()
        assert first is not None, "the first invoice was paid within the first months"
        reason = "The hall had no power for a week"
        await self._services.db.run(self._admin, refund_invoice, InvoiceId(first.id), reason)

    async def _bill_twice_by_mistake(self, index: int) -> None:
        services = self._services
        customer_id = ObjectId(demo_customer_id(index))
        order = NewInvoice(customer_id, total_miners=1, unit_price=Decimal("100.00"))
        draft = await create_invoice(
            services.db, self._admin, services.platform, services.terms, order
        )
        await services.db.run(self._admin, _issue_all, services, [InvoiceId(draft.id)])
        await services.db.run(self._admin, cancel_invoice, InvoiceId(draft.id), "Billed twice")

    async def _apply_payments(self, day: date) -> None:
        """Apply what came in the day before, each payment to its customer's oldest invoices."""
        self._set_clock(day, PAYMENTS_ARE_APPLIED_AT)
        for row in self._ledger.get(day - timedelta(days=1), ()):
            await self._services.db.run(self._admin, _apply_payment, self._services, row)

    async def _look_ahead(self) -> None:
        """What is arranged for the time to come, as of the last of these days."""
        db, platform, zone = self._services.db, self._services.platform, self._services.terms.zone
        for account in _ACCOUNTS:
            if account.is_issued_by_itself:
                changes = TemplateChanges({"auto_issue": True})
                template_id = self._templates[account.index]
                await db.run(self._admin, update_recurring_invoice, template_id, zone, changes)
        price, effective_from = Decimal("105.00"), _first_of_next_month(self._today)
        ines = ObjectId(demo_customer_id(INES))
        await db.run(self._admin, create_price, platform, ines, price, effective_from)


async def _issue_all(tx: Transaction, services: Services, invoice_ids: Sequence[InvoiceId]) -> None:
    for invoice_id in invoice_ids:
        await issue_invoice(tx, services.platform, services.terms, invoice_id, skip_email=True)


async def _apply_payment(tx: Transaction, services: Services, row: CostPayment) -> None:
    """Apply all of a payment, or as much as the customer's open invoices take."""
    left = row.amount
    is_open = {"userId": row.user_id, "status": {"$in": sorted(OPEN_STATUSES)}}
    found = Invoice.find(is_open, session=tx.session).sort("+dueDate", "+_id")
    for invoice in await found.to_list():
        if not left:
            return
        _, payment = await record_payment(tx, services.platform, InvoiceId(invoice.id), row.id)
        left -= payment.amount_paid


def _first_of_next_month(day: date) -> date:
    return (day.replace(day=1) + timedelta(days=32)).replace(day=1)
