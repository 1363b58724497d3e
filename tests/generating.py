"""Generation of invoices for tests: customers with miners, runs on a day, what they left."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

from accounting.actor import SYSTEM, Actor
from accounting.bootstrap import Services
from accounting.ids import ObjectId
from accounting.invoices.documents import Invoice
from accounting.invoices.rules import BillingTerms
from accounting.platform.rules import PlatformUser
from accounting.recurring.generation import start_generation
from accounting.runs.documents import AccountingRun, RunItem, get_run
from accounting.runs.parts import list_items, with_progress
from accounting.runs.rules import ItemStatus, RunId
from accounting.worker.runs import execute_to_the_end
from api_app import settings
from builders import TERMS, a_customer
from fakes import FakePlatform, TestDatabase


def day(text: str) -> date:
    return date.fromisoformat(text)


def services_of(db: TestDatabase, platform: FakePlatform, terms: BillingTerms = TERMS) -> Services:
    return Services(db=db, platform=platform, terms=terms, settings=settings())


def a_miner_owner(platform: FakePlatform, miners: int = 3, **facts: Any) -> PlatformUser:
    """A customer with so many active miners."""
    customer = platform.add_user(a_customer(**facts))
    platform.miner_statuses[customer.id] = ["ACTIVE"] * miners
    return customer


async def generate_on(services: Services, as_of: date, actor: Actor = SYSTEM) -> AccountingRun:
    """A run for a business day, from its start to its end; as it then stands."""
    run = await services.db.run(actor, start_generation, as_of)
    return await execute_to_the_end(services, run.run_id)


async def items_of(
    run: AccountingRun, *statuses: ItemStatus, page: int = 1, limit: int = 10_000
) -> list[RunItem]:
    [run] = await with_progress([await get_run(RunId(run.id))])
    items, _ = await list_items(run, statuses, page=page, limit=limit)
    return items


async def results_of(run: AccountingRun) -> list[tuple[str | None, ItemStatus, str | None]]:
    """Period, status and code of each item."""
    return [(item.label, item.status, item.code) for item in await items_of(run)]


async def generated_invoices(template_id: object = None) -> list[Invoice]:
    """Of one template or of all, by template and period."""
    query = {"recurringInvoiceId": template_id or {"$ne": None}}
    found: list[Invoice] = await Invoice.find(query).to_list()
    return sorted(found, key=lambda invoice: (invoice.recurring_invoice_id, invoice.billing_period))


def periods_of(invoices: Sequence[Invoice]) -> list[str | None]:
    return [invoice.billing_period for invoice in invoices]


def id_of(document: Any) -> ObjectId:
    return ObjectId(document.id)
