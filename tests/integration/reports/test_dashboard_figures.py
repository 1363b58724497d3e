"""The stored figures against a slow recount, after whatever can happen to invoices."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo

import pytest

from accounting.actor import SYSTEM
from accounting.clock import business_day
from accounting.errors import Conflict
from accounting.invoices.drafts import DraftChanges, delete_invoice, update_invoice
from accounting.invoices.rules import BillingTerms
from accounting.invoices.service import cancel_invoice, issue_invoice, mark_overdue
from accounting.invoices.settlement import (
    record_payment,
    refund_invoice,
    remove_invoice_payment,
)
from accounting.platform.rules import PlatformUser
from accounting.recurring.service import (
    delete_recurring_invoice,
    pause_recurring_invoice,
    resume_recurring_invoice,
)
from accounting.reports.counting import Sizes
from accounting.reports.dashboard import DashboardReader
from builders import ADMIN, a_cost_payment, a_draft, a_template
from dashboard_books import recounted_figures, shown_figures
from fakes import FakePlatform, SettableClock, TestDatabase
from generating import a_miner_owner, generate_on, services_of

# So that a few dozen invoices are many parts, and a look has often more to do than it may.
SMALL: Final = Sizes(part_documents=3, stretch_documents=8, parts=2)


class Office:
    """Somebody who does what comes to mind; what the rules refuse is not done."""

    def __init__(
        self, db: TestDatabase, platform: FakePlatform, clock: SettableClock, zone: str, seed: int
    ) -> None:
        self.db, self.platform, self.clock = db, platform, clock
        self.dice = random.Random(seed)
        self.terms = BillingTerms(zone=ZoneInfo(zone))
        self.customers = [a_miner_owner(platform) for _ in range(3)]

    async def act(self) -> None:
        acts: list[Callable[[], Awaitable[Any]]] = [
            *[self.create] * 3,
            *[self.issue] * 4,
            *[self.pay] * 4,
            *(self.remove_payment, self.refund, self.cancel, self.delete, self.edit),
            *(self.start_template, self.change_template, self.generate),
            *(self.mark_overdue, self.wait, self.wait),
        ]
        with suppress(Conflict):
            await self.dice.choice(acts)()

    async def create(self) -> None:
        due = self._today + timedelta(days=self.dice.randint(-100, 40))
        await a_draft(
            self.db,
            self.platform,
            self._customer,
            terms=self.terms,
            total_miners=self.dice.randint(1, 9),
            unit_price=Decimal(self.dice.randint(1, 9999)) / 100,
            due_date=self.dice.choice([None, due]),
        )

    async def issue(self) -> None:
        if invoice := await self._one_of("invoices", {"status": "DRAFT"}):
            await self.db.run(ADMIN, issue_invoice, self.platform, self.terms, invoice["_id"])

    async def edit(self) -> None:
        if invoice := await self._one_of("invoices", {"status": "DRAFT"}):
            changes = DraftChanges({"total_miners": self.dice.randint(1, 9)})
            await self.db.run(ADMIN, update_invoice, invoice["_id"], changes)

    async def pay(self) -> None:
        if invoice := await self._one_of("invoices", {"status": {"$in": ["ISSUED", "OVERDUE"]}}):
            owner = self.platform.users[invoice["userId"]]
            owed = invoice["totalAmount"] - invoice["amountPaid"]
            amount = self.dice.choice([owed, max(Decimal("0.01"), (owed / 3).quantize(owed))])
            row = self.platform.add_cost_payment(a_cost_payment(owner, str(amount)))
            await self.db.run(
                ADMIN,
                record_payment,
                self.platform,
                invoice["_id"],
                row.id,
                paid_date=self.dice.choice([None, self._edge_of_a_month()]),
            )

    async def remove_payment(self) -> None:
        if payment := await self._one_of("invoice_payments", {}):
            await self.db.run(ADMIN, remove_invoice_payment, payment["_id"], self.terms.zone)

    async def refund(self) -> None:
        if invoice := await self._one_of("invoices", {"status": "PAID"}):
            await self.db.run(ADMIN, refund_invoice, invoice["_id"], "asked for")

    async def cancel(self) -> None:
        if invoice := await self._one_of("invoices", {"status": {"$in": ["ISSUED", "OVERDUE"]}}):
            await self.db.run(ADMIN, cancel_invoice, invoice["_id"], "asked for")

    async def delete(self) -> None:
        gone = {"status": {"$in": ["DRAFT", "CANCELLED"]}}
        if invoice := await self._one_of("invoices", gone):
            await self.db.run(ADMIN, delete_invoice, invoice["_id"])

    async def start_template(self) -> None:
        start = self._today + timedelta(days=self.dice.randint(-60, 60))
        await a_template(
            self.db,
            self.platform,
            self._customer,
            day_of_month=self.dice.randint(1, 28),
            start_date=start,
            end_date=self.dice.choice([None, start + timedelta(days=self.dice.randint(0, 90))]),
            unit_price=Decimal("20.00"),
            auto_issue=self.dice.random() < 0.5,
        )

    async def change_template(self) -> None:
        if template := await self._one_of("recurring_invoices", {}):
            change, more = self.dice.choice(
                [
                    (pause_recurring_invoice, ()),
                    (resume_recurring_invoice, (self.platform,)),
                    (delete_recurring_invoice, ()),
                ]
            )
            await self.db.run(ADMIN, change, *more, template["_id"], self.terms.zone)

    async def generate(self) -> None:
        services = services_of(self.db, self.platform, self.terms)
        await generate_on(services, self._today, SYSTEM)

    async def mark_overdue(self) -> None:
        await mark_overdue(self.db, self._today)

    async def wait(self) -> None:
        steps = [0.001, 1, 119, 121, 3_600, 86_400, 20 * 86_400]
        self.clock.move(seconds=self.dice.choice(steps))

    def _edge_of_a_month(self) -> datetime:
        month = self._today.replace(day=1) - timedelta(days=self.dice.choice([0, 1, 40, 320, 360]))
        edge = datetime(month.year, month.month, 1, tzinfo=self.terms.zone)
        return edge.astimezone(UTC) + timedelta(milliseconds=self.dice.choice([-1, 0, 1]))

    @property
    def _today(self) -> Any:
        return business_day(self.clock(), self.terms.zone)

    @property
    def _customer(self) -> PlatformUser:
        return self.dice.choice(self.customers)

    async def _one_of(self, collection: str, query: dict[str, Any]) -> dict[str, Any] | None:
        found = await self.db.mongo[collection].find(query).sort("_id", 1).to_list(None)
        return self.dice.choice(found) if found else None


@pytest.mark.parametrize(
    ("seed", "zone"),
    [
        (1, "UTC"),
        (2, "Asia/Kolkata"),
        (3, "Pacific/Kiritimati"),
        (4, "America/St_Johns"),
        (5, "Europe/Oslo"),
        (6, "Pacific/Pago_Pago"),
    ],
)
async def test_figures_are_those_of_a_recount_whatever_is_done(
    real_db: TestDatabase, platform: FakePlatform, clock: SettableClock, seed: int, zone: str
) -> None:
    office = Office(real_db, platform, clock, zone, seed)
    readers = [DashboardReader(SMALL), DashboardReader(SMALL)]
    for _ in range(25):
        await office.create()
    for step in range(120):
        await office.act()
        if office.dice.random() < 0.4:
            reader = office.dice.choice(readers)
            expected = await recounted_figures(real_db, office.terms.zone)
            assert await shown_figures(reader, real_db, office.terms.zone) == expected, (
                f"step {step}"
            )

    expected = await recounted_figures(real_db, office.terms.zone)
    for reader in (*readers, DashboardReader(SMALL)):
        assert await shown_figures(reader, real_db, office.terms.zone) == expected
    statuses = [name for name, sums in expected["byStatus"].items() if sums["count"]]
    assert len(statuses) >= 4, "the sequence did not get far"
    assert await real_db.mongo["accounting_figures_parts"].count_documents({}) >= 8
