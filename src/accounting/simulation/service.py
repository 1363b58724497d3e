"""The simulation: what the daily jobs would do until a day, on a scratch database (issue 4).

Copied are the active recurring invoices with their customers' prices and wish to get no reminders,
and nothing else of the books: what is shown follows from these templates alone. Customers and
miners are read from the platform as in a real run, so that nothing here could write to a collection
of the platform's. The real database is only read: the documents are bound to the scratch database.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from typing import Any, Final

from accounting.bootstrap import (
    Services,
    billing_terms,
    bind_documents,
    check_mail_addresses,
    collection_specs,
)
from accounting.clock import start_of_day
from accounting.db.client import MongoDatabase
from accounting.db.database import Database
from accounting.db.scratch import scratch_database
from accounting.db.setup import apply_changes
from accounting.ids import ObjectId
from accounting.optouts.documents import MailOptout
from accounting.platform.reader import MongoPlatform, Platform
from accounting.pricing.documents import CustomerPricingConfig
from accounting.recurring.documents import RecurringInvoice
from accounting.recurring.facts import find_generated
from accounting.recurring.rules import period_of
from accounting.runs.documents import AccountingRun
from accounting.runs.parts import list_items
from accounting.runs.rules import ItemStatus
from accounting.settings import Settings
from accounting.simulation.days import SetClock, days_from, run_daily_jobs
from accounting.simulation.figures import MonthFigures, read_month, total_of

PURPOSE: Final = "simulation"
SIMULATED_DAYS_MAX: Final = 3_660  # ten years
COPY_BATCH_DOCUMENTS: Final = 1_000

# The number of simulated days, how many there are, and how many invoices were made so far.
OnProgress = Callable[[int, int, int], None]


@dataclass(frozen=True, slots=True)
class NotBilled:
    """A month of a template without an invoice at the end, and why, as the last run said it."""

    template_id: ObjectId
    customer_id: ObjectId | None
    customer_name: str
    billing_period: str
    code: str
    reason: str
    is_failure: bool
    # The first month "YYYY-MM" in which a run came to it.
    seen_in: str


@dataclass(frozen=True, slots=True)
class Simulation:
    """What would happen from the first to the last day, both included."""

    first_day: date
    last_day: date
    template_count: int
    parked_count: int
    months: list[MonthFigures]
    not_billed: list[NotBilled]

    @property
    def total(self) -> MonthFigures:
        return total_of(self.months)


async def simulate(
    mongo: MongoDatabase,
    settings: Settings,
    first_day: date,
    last_day: date,
    *,
    on_progress: OnProgress = lambda days, of_days, invoices: None,
) -> Simulation:
    """Run the jobs of every business day from the first to the last in a copy, and sum them up.

    Nobody issues a draft and nobody pays in it. Leaves the documents bound to the scratch database,
    which is gone then: bind them anew for other work. Raises MayNotMakeDatabase, Misconfigured.
    """
    check_mail_addresses(settings)
    async with scratch_database(mongo, PURPOSE) as scratch:
        await apply_changes(scratch, collection_specs())
        await bind_documents(scratch)
        owners = await _copy_templates(mongo, scratch)
        terms = billing_terms(settings)
        clock = SetClock(start_of_day(first_day, terms.zone))
        services = Services(
            db=Database(scratch, clock=clock),
            platform=MongoPlatform(mongo),
            terms=terms,
            settings=settings,
        )
        days = list(days_from(first_day, last_day))
        seen = _Seen(owners)
        invoices = 0
        for number, day in enumerate(days, start=1):
            run = await run_daily_jobs(services, clock, day)
            await seen.look_at(run, day)
            invoices += run.counts.done
            on_progress(number, len(days), invoices)
        not_billed = await seen.not_billed(services.platform)
        skips = Counter(month.seen_in for month in not_billed)
        return Simulation(
            first_day,
            last_day,
            template_count=len(owners),
            parked_count=await _count_parked(),
            months=[
                await read_month(first, last, terms.zone, not_billed=skips[period_of(first)])
                for first, last in _months(days)
            ],
            not_billed=not_billed,
        )


class _Seen:
    """What the runs have skipped or failed in; each day again, until the month is over."""

    def __init__(self, owners: Mapping[ObjectId, ObjectId | None]) -> None:
        self._owners = owners
        # By template and period: the month in which it was seen first, how it ended, and why.
        self._found: dict[tuple[ObjectId, str], tuple[str, ItemStatus, str, str]] = {}

    async def look_at(self, run: AccountingRun, day: date) -> None:
        """Note what this run of that day has not billed."""
        count = run.counts.skipped + run.counts.failed
        if not count:
            return
        statuses = (ItemStatus.SKIPPED, ItemStatus.FAILED)
        items, _ = await list_items(run, statuses, page=1, limit=count)
        for item in items:
            key = (item.id, item.label or "")
            first_seen = self._found[key][0] if key in self._found else period_of(day)
            self._found[key] = (first_seen, item.status, item.code or "", item.reason or "")

    async def not_billed(self, platform: Platform) -> list[NotBilled]:
        """What no later run has billed either, the oldest first."""
        generated = await find_generated(
            {template_id for template_id, _ in self._found}, {period for _, period in self._found}
        )
        left = {key: found for key, found in self._found.items() if key not in generated}
        owners = {template_id: self._owners.get(template_id) for template_id, _ in left}
        customers = await platform.find_users(owner for owner in owners.values() if owner)
        names: dict[ObjectId | None, str] = {
            user_id: customer.name for user_id, customer in customers.items()
        }
        return [
            NotBilled(
                template_id=template_id,
                customer_id=owners[template_id],
                customer_name=names.get(owners[template_id], str(owners[template_id])),
                billing_period=period,
                code=code,
                reason=reason,
                is_failure=status is ItemStatus.FAILED,
                seen_in=seen_in,
            )
            for (template_id, period), (seen_in, status, code, reason) in sorted(
                left.items(), key=lambda entry: (entry[0][1], entry[0][0])
            )
        ]


async def _copy_templates(
    mongo: MongoDatabase, scratch: MongoDatabase
) -> dict[ObjectId, ObjectId | None]:
    """Copy the active templates as they are, and what is kept of their customers; their owners."""
    owners: dict[ObjectId, ObjectId | None] = {}
    templates = RecurringInvoice.Settings.name
    async for batch in _copy(mongo, scratch, templates, {"isActive": True}):
        owners |= {raw["_id"]: raw.get("userId") for raw in batch}
    user_ids = list({owner for owner in owners.values() if owner is not None})
    for at in range(0, len(user_ids), COPY_BATCH_DOCUMENTS):
        these = {"$in": user_ids[at : at + COPY_BATCH_DOCUMENTS]}
        for name, of_these in (
            (CustomerPricingConfig.Settings.name, {"userId": these}),
            (MailOptout.Settings.name, {"_id": these}),
        ):
            async for _ in _copy(mongo, scratch, name, of_these):
                pass
    return owners


async def _copy(
    mongo: MongoDatabase, scratch: MongoDatabase, name: str, query: dict[str, Any]
) -> AsyncIterator[list[dict[str, Any]]]:
    """Copy the documents of a collection of ours, a batch at a time."""
    found = mongo[name].find(query).batch_size(COPY_BATCH_DOCUMENTS)
    while batch := await found.to_list(COPY_BATCH_DOCUMENTS):
        # One that the validator refuses fails in a real run as well, and is to be told of.
        await scratch[name].insert_many(batch, bypass_document_validation=True)
        yield batch


async def _count_parked() -> int:
    """How many templates were paused since they failed again and again."""
    return await RecurringInvoice.find({"isActive": False, "parkedReason": {"$ne": None}}).count()


def _months(days: list[date]) -> Iterator[tuple[date, date]]:
    """The first and the last of these days in each month."""
    for _, of_month in groupby(days, key=period_of):
        first, *rest = of_month
        yield first, rest[-1] if rest else first
