"""Numbers, billed months, prices, e-mails and runs: is each what it must be?"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import date, datetime
from functools import partial
from typing import Final

from accounting.audit.rules import EntityType
from accounting.audit.verification import verify_trail
from accounting.clock import after
from accounting.db.client import MongoDatabase
from accounting.db.found import Found, read_as_found
from accounting.ids import ANY_ID, ObjectId
from accounting.integrity.findings import Finding, FindingKind, Repair
from accounting.integrity.numbers import read_days
from accounting.integrity.repairs import mend_counter, mend_schedule
from accounting.notifications.rules import NotificationStatus
from accounting.recurring.rules import period_of
from accounting.runs.rules import RunStatus

# The sweep comes each minute: what waits for an hour waits for a worker that is not there.
STUCK_AFTER_SECONDS: Final = 3_600
STUCK_SHOWN_MAX: Final = 20


async def check_numbers(mongo: MongoDatabase) -> AsyncIterator[Finding | int]:
    """Each day's numbers: none twice, and the counter past all of them."""
    async for day in read_days(mongo):
        for number in day.duplicates:
            sentence = f"The number {number} was given to more than one invoice."
            yield Finding(FindingKind.NUMBER_DUPLICATE, "Invoice", number, sentence)
        if day.counter < day.last:
            sentence = f"The counter of {day.day} is at {day.counter}; {day.last} is in use."
            repair = Repair(
                f"move the counter of {day.day} to {day.last}",
                partial(mend_counter, day=day.day),
            )
            kind = FindingKind.COUNTER_BEHIND
            yield Finding(kind, "AccountingCounter", day.day.isoformat(), sentence, repair)
        yield len(day.serials)


async def check_months(mongo: MongoDatabase) -> AsyncIterator[Finding | int]:
    """One invoice of a template and month, and each template knows its last one."""
    before: Found = {}
    last: dict[ObjectId, str] = {}
    async for batch in read_as_found(
        mongo,
        "invoices",
        {"recurringInvoiceId": ANY_ID},
        sort=["recurringInvoiceId", "billingPeriod"],
        fields=["recurringInvoiceId", "billingPeriod", "invoiceNumber"],
    ):
        for invoice in batch:
            template_id, period = invoice["recurringInvoiceId"], invoice["billingPeriod"]
            if (before.get("recurringInvoiceId"), before.get("billingPeriod")) == (
                *(template_id, period),
            ):
                sentence = (
                    f"Invoices {before['invoiceNumber']} and {invoice['invoiceNumber']} both bill "
                    f"{period} of recurring invoice {template_id}."
                )
                kind = FindingKind.PERIOD_DUPLICATE
                yield Finding(kind, EntityType.INVOICE.value, str(invoice["_id"]), sentence)
            last[template_id] = period or ""
            before = invoice
        done = {key: last[key] for key in last if key != before["recurringInvoiceId"]}
        for finding in await _schedules_behind(mongo, done):
            yield finding
        for key in done:
            del last[key]
        yield len(batch)
    for finding in await _schedules_behind(mongo, last):
        yield finding


async def _schedules_behind(mongo: MongoDatabase, last: Mapping[ObjectId, str]) -> list[Finding]:
    templates = mongo["recurring_invoices"].find(
        {"_id": {"$in": list(last)}}, {"lastGeneratedDate": 1}
    )
    behind: list[Finding] = []
    async for template in templates:
        period, known = last[template["_id"]], template.get("lastGeneratedDate")
        known_period = period_of(known) if isinstance(known, date) else ""
        if not period or known_period >= period:
            continue
        sentence = (
            f"Recurring invoice {template['_id']} was generated for {period}, "
            f"and knows of {known_period or 'nothing'}."
        )
        repair = Repair(
            f"let recurring invoice {template['_id']} know that {period} was generated",
            partial(mend_schedule, template_id=ObjectId(template["_id"]), period=period),
        )
        entity = (EntityType.RECURRING_INVOICE.value, str(template["_id"]))
        behind.append(Finding(FindingKind.SCHEDULE_BEHIND, *entity, sentence, repair))
    return behind


async def check_prices(mongo: MongoDatabase) -> AsyncIterator[Finding | int]:
    """Windows of one customer follow each other; history is never edited, so a person decides."""
    before: Found = {}
    async for batch in read_as_found(
        mongo,
        "customer_pricing_config",
        {},
        sort=["userId", "effectiveFrom"],
        fields=["userId", "effectiveFrom", "effectiveTo"],
    ):
        for price in batch:
            end = before.get("effectiveTo")
            is_same = before and before["userId"] == price["userId"]
            if is_same and (end is None or end > price["effectiveFrom"]):
                sentence = (
                    f"Prices {before['_id']} and {price['_id']} of customer {price['userId']} "
                    f"are both in effect on {price['effectiveFrom']:%Y-%m-%d}."
                )
                entity = (EntityType.CUSTOMER_PRICING_CONFIG.value, str(price["_id"]))
                yield Finding(FindingKind.PRICES_OVERLAP, *entity, sentence)
            before = price
        yield len(batch)


async def check_queues(mongo: MongoDatabase, now: datetime) -> AsyncIterator[Finding | int]:
    """E-mails and runs that wait for workers; the first STUCK_SHOWN_MAX of each are named."""
    since = after(now, seconds=-STUCK_AFTER_SECONDS)
    free = {"leaseUntil": {"$not": {"$gt": since}}}
    mails = {
        "status": NotificationStatus.PENDING.value,
        "createdAt": {"$lte": since},
        "nextRetryAt": {"$not": {"$gt": since}},
        **free,
    }
    async for mail in (
        mongo["invoice_notifications"].find(mails, {"sentTo": 1}).limit(STUCK_SHOWN_MAX)
    ):
        sentence = f"The e-mail {mail['_id']} to {mail['sentTo']} has been due for an hour."
        yield Finding(FindingKind.OUTBOX_STUCK, "InvoiceNotification", str(mail["_id"]), sentence)
    runs = {
        "status": {"$in": [RunStatus.QUEUED.value, RunStatus.RUNNING.value]},
        "progressAt": {"$lte": since},
    }
    async for run in mongo["accounting_runs"].find(runs, {"kind": 1}).limit(STUCK_SHOWN_MAX):
        sentence = f"The run {run['_id']} ({run['kind']}) has not moved for an hour."
        yield Finding(FindingKind.RUN_STUCK, "AccountingRun", str(run["_id"]), sentence)


async def check_trail(mongo: MongoDatabase) -> AsyncIterator[Finding | int]:
    """The audit trail, as `accounting audit verify` reads it; nothing can mend it."""
    report = await verify_trail(mongo)
    for found in report.findings:
        yield Finding(
            FindingKind.AUDIT_TRAIL,
            found.entity_type or "AuditLog",
            found.entity_id or found.entry_id or "",
            found.sentence,
        )
    yield report.entries
