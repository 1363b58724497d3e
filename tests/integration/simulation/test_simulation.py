"""A simulation is what real runs on those days would do, and touches nothing that is real."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from accounting.bootstrap import Services, billing_terms, bind_documents
from accounting.ids import ObjectId, new_id
from accounting.invoices.reminders import queue_reminders
from accounting.invoices.service import mark_overdue
from accounting.optouts.documents import MailOptout
from accounting.platform.reader import MongoPlatform
from accounting.recurring.documents import RecurringInvoice
from accounting.recurring.service import pause_recurring_invoice
from accounting.settings import Settings
from accounting.simulation.figures import MonthFigures
from accounting.simulation.service import Simulation, simulate
from accounting.worker.generation import generate_now
from api_app import settings
from builders import ADMIN, NOW, TERMS, TODAY, a_customer, a_price, a_template
from fakes import FakePlatform, SettableClock, TestDatabase

# With a change of the clocks in between.
CONFIGURED = settings(timezone="America/New_York")
# Due soon, so that few days have to be simulated.
DUE_SOON = settings(timezone="America/New_York", due_days=5)
ZONE = ZoneInfo("America/New_York")
HALF_A_YEAR_LATER = date(2026, 7, 11)


@dataclass
class Host:
    """The platform's collections on the real server, with the same users for the builders."""

    db: TestDatabase
    platform: FakePlatform

    async def template(
        self,
        name: str,
        *,
        price: str | None = "50.00",
        miners: int = 2,
        email: str = "ada@example.com",
        **terms: Any,
    ) -> RecurringInvoice:
        """A template of a new customer with a price and miners."""
        customer = self.platform.add_user(a_customer(name=name, email=email))
        user = {"name": name, "email": email, "companyName": None, "role": "CLIENT"}
        await self.db.mongo["users"].insert_one({"_id": customer.id, "password": "secret", **user})
        for _ in range(miners):
            await self.db.mongo["miners"].insert_one({"userId": customer.id, "status": "AUTO"})
        if price is not None:
            await a_price(self.db, self.platform, customer, unit_price=price)
        return await a_template(self.db, self.platform, customer, **terms)

    async def templates_of_every_kind(self) -> None:
        changing = await self.template("Ada", auto_issue=True, day_of_month=28)
        ada = self.platform.users[changing.user_id]
        await a_price(self.db, self.platform, ada, date(2026, 3, 28), "70.00")
        own = Decimal("10.01")
        await self.template("Draft", price=None, unit_price=own, miners=3, day_of_month=1)
        await self.template("Late", auto_issue=True, start_date=date(2025, 11, 3), day_of_month=3)
        ends = date(2026, 3, 20)
        await self.template("Ends", auto_issue=True, day_of_month=20, end_date=ends)
        starts = date(2026, 4, 6)
        await self.template("Starts", auto_issue=True, day_of_month=5, start_date=starts)
        await self.template("Priceless", price=None)
        await self.template("Idle", miners=0, auto_issue=True)
        await self.template("Too much", price="99999999.99", miners=101, auto_issue=True)
        await self.template("No address", auto_issue=True, day_of_month=9, email="")
        paused = await self.template("Paused", auto_issue=True)
        await self.db.run(ADMIN, pause_recurring_invoice, ObjectId(paused.id), TERMS.zone)
        silent = await self.template("Silent", auto_issue=True, day_of_month=9)
        optout = {"notification_id": new_id(), "sent_to": "ada@example.com", "created_at": NOW}
        await MailOptout(id=silent.user_id, **optout).insert()

    async def simulate(
        self, first_day: date, last_day: date, configured: Settings = DUE_SOON
    ) -> Simulation:
        """The simulation, and the documents bound to the real database again."""
        simulation = await simulate(self.db.mongo, configured, first_day, last_day)
        await bind_documents(self.db.mongo)
        return simulation

    async def fingerprints(self) -> dict[str, str]:
        hashes = await self.db.mongo.command("dbHash")
        return dict(hashes["collections"])


@pytest.fixture
def host(real_db: TestDatabase, platform: FakePlatform) -> Host:
    return Host(real_db, platform)


async def run_for_real(host: Host, clock: SettableClock, first_day: date, last_day: date) -> None:
    """Each day's jobs on the real database, at their hours."""
    terms = billing_terms(CONFIGURED)
    services = Services(host.db, MongoPlatform(host.db.mongo), terms, CONFIGURED)
    day = first_day
    while day <= last_day:
        clock.now = datetime.combine(day, time(0, 10), ZONE)
        await generate_now(services, day)
        clock.now = datetime.combine(day, time(0, 20), ZONE)
        await mark_overdue(host.db, day)
        clock.now = datetime.combine(day, time(8, 0), ZONE)
        await queue_reminders(host.db, services.platform, terms, day)
        day += timedelta(days=1)


async def months_of_the_books(host: Host) -> dict[str, dict[str, Any]]:
    """What the stored invoices and e-mails come to, month by month."""
    months: dict[str, dict[str, Any]] = {}

    def count(month: str, name: str, value: Any = 1) -> None:
        figures = months.setdefault(month, Counter())
        figures[name] += value

    async for invoice in host.db.mongo["invoices"].find():
        made_in = f"{invoice['createdAt'].astimezone(ZONE):%Y-%m}"
        count(made_in, "drafts" if invoice["status"] == "DRAFT" else "issued")
        count(made_in, "amount", invoice["totalAmount"])
        if invoice["status"] == "OVERDUE":
            overdue_since = f"{invoice['dueDate'] + timedelta(days=1):%Y-%m}"
            count(overdue_since, "overdue")
            count(overdue_since, "overdue_amount", invoice["totalAmount"])
    names = {
        "INVOICE_ISSUED": "invoice_mails",
        "PAYMENT_REMINDER": "payment_reminders",
        "OVERDUE_REMINDER": "overdue_reminders",
    }
    async for mail in host.db.mongo["invoice_notifications"].find({"status": "PENDING"}):
        count(f"{mail['createdAt'].astimezone(ZONE):%Y-%m}", names[mail["notificationType"]])
    return months


@pytest.mark.timeout(240)
async def test_half_a_year_is_what_real_runs_on_those_days_make(
    host: Host, clock: SettableClock
) -> None:
    await host.templates_of_every_kind()

    simulation = await host.simulate(TODAY, HALF_A_YEAR_LATER, CONFIGURED)
    await run_for_real(host, clock, TODAY, HALF_A_YEAR_LATER)

    real = await months_of_the_books(host)
    assert [figures.month for figures in simulation.months] == [
        *("2026-01", "2026-02", "2026-03", "2026-04", "2026-05", "2026-06", "2026-07")
    ]
    assert real == {
        figures.month: {
            name: value
            for name in MonthFigures.__dataclass_fields__
            if name not in ("month", "not_billed") and (value := getattr(figures, name))
        }
        for figures in simulation.months
    }
    assert simulation.total.issued > 20
    assert simulation.total.drafts > 4
    assert min(figures.overdue for figures in simulation.months[2:]) > 0


async def test_nothing_real_is_changed_and_nothing_is_left_behind(host: Host) -> None:
    await host.templates_of_every_kind()
    before = await host.fingerprints()
    databases = await host.db.mongo.client.list_database_names()

    simulation = await host.simulate(TODAY, date(2026, 1, 30))

    assert simulation.total.overdue > 0
    assert await host.fingerprints() == before
    assert await host.db.mongo.client.list_database_names() == databases


async def test_one_invoice_is_reminded_of_at_each_step(host: Host) -> None:
    # Due on 20 January, so that the steps are on 17, 21 and 27 January and on 3 February.
    await host.template("Ada", auto_issue=True, day_of_month=15, end_date=date(2026, 1, 31))

    simulation = await host.simulate(TODAY, date(2026, 2, 4))

    assert simulation.months == [
        MonthFigures(
            "2026-01",
            issued=1,
            amount=Decimal("100.00"),
            invoice_mails=1,
            payment_reminders=1,
            overdue_reminders=2,
            overdue=1,
            overdue_amount=Decimal("100.00"),
        ),
        MonthFigures("2026-02", overdue_reminders=1),
    ]


@pytest.mark.parametrize(
    ("last_day", "overdue", "reminders"),
    [
        (14, 0, 0),
        (15, 0, 0),
        (16, 0, 0),
        (17, 0, 1),
        (20, 0, 1),
        (21, 1, 2),
        (26, 1, 2),
        (27, 1, 3),
    ],
)
async def test_the_last_day_counts(host: Host, last_day: int, overdue: int, reminders: int) -> None:
    await host.template("Ada", auto_issue=True, day_of_month=15)

    simulation = await host.simulate(date(2026, 1, 14), date(2026, 1, last_day))

    total = simulation.total
    is_billed = last_day >= 15
    assert (total.issued, total.overdue, total.reminders) == (is_billed, overdue, reminders)


async def test_drafts_are_neither_sent_nor_reminded_of_nor_overdue(host: Host) -> None:
    await host.template("Ada", day_of_month=15)

    simulation = await host.simulate(TODAY, date(2026, 1, 25))

    assert simulation.total == MonthFigures("total", drafts=1, amount=Decimal("100.00"))


async def test_what_was_not_billed_is_told_once_with_its_reason(host: Host) -> None:
    await host.template("Priceless", price=None, day_of_month=20)
    await host.template("Idle", miners=0, day_of_month=20, start_date=date(2026, 2, 1))

    simulation = await host.simulate(date(2026, 1, 18), date(2026, 2, 22))

    assert [
        (month.customer_name, month.billing_period, month.code, month.is_failure)
        for month in simulation.not_billed
    ] == [
        ("Priceless", "2026-01", "no_price", False),
        ("Priceless", "2026-02", "no_price", False),
        ("Idle", "2026-02", "no_miners", False),
    ]
    assert [figures.not_billed for figures in simulation.months] == [1, 2]
    assert simulation.template_count == 2


async def test_a_template_that_fails_again_and_again_would_be_paused(host: Host) -> None:
    await host.template("Too much", price="99999999.99", miners=101, day_of_month=13)

    simulation = await host.simulate(TODAY, date(2026, 1, 17))

    [month] = simulation.not_billed
    assert (month.billing_period, month.code, month.is_failure) == (
        *("2026-01", "amount_too_large", True),
    )
    assert simulation.parked_count == 1


async def test_a_month_that_was_billed_before_is_not_billed_again(
    host: Host, clock: SettableClock
) -> None:
    await host.template("Ada", auto_issue=True, day_of_month=5)
    await run_for_real(host, clock, TODAY, TODAY)
    assert await host.db.mongo["invoices"].count_documents({}) == 1

    simulation = await host.simulate(TODAY, date(2026, 2, 5))

    assert [figures.issued for figures in simulation.months] == [0, 1]


async def test_without_templates_there_is_nothing_to_bill(host: Host) -> None:
    simulation = await host.simulate(TODAY, TODAY)

    assert simulation.months == [MonthFigures("2026-01")]
    assert simulation.template_count == 0


async def test_a_template_that_cannot_be_read_is_told_and_hides_no_other(host: Host) -> None:
    broken = await host.template("Broken", day_of_month=15)
    await host.template("Ada", day_of_month=15)
    await host.db.mongo.command(
        "update",
        "recurring_invoices",
        updates=[{"q": {"_id": broken.id}, "u": {"$set": {"dayOfMonth": 31}}}],
        bypassDocumentValidation=True,
    )

    simulation = await host.simulate(TODAY, date(2026, 1, 15))

    assert simulation.total.drafts == 1
    assert {month.customer_name for month in simulation.not_billed} == {"Broken"}
    assert all(month.is_failure for month in simulation.not_billed)


async def test_progress_tells_days_and_invoices(host: Host) -> None:
    await host.template("Ada", day_of_month=13)
    told: list[tuple[int, int, int]] = []

    await simulate(
        host.db.mongo,
        CONFIGURED,
        TODAY,
        date(2026, 1, 14),
        on_progress=lambda days, of_days, invoices: told.append((days, of_days, invoices)),
    )
    await bind_documents(host.db.mongo)

    assert told == [(1, 3, 0), (2, 3, 1), (3, 3, 1)]


async def test_a_failure_leaves_no_database_behind(host: Host) -> None:
    await host.template("Ada", day_of_month=13)
    databases = await host.db.mongo.client.list_database_names()

    def fail(days: int, of_days: int, invoices: int) -> None:
        raise RuntimeError("somebody stumbled")

    with pytest.raises(RuntimeError, match="stumbled"):
        await simulate(host.db.mongo, CONFIGURED, TODAY, TODAY, on_progress=fail)
    await bind_documents(host.db.mongo)

    assert await host.db.mongo.client.list_database_names() == databases
