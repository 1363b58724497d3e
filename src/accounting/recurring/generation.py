"""Generating invoices from templates: exactly one per template and billing period (spec section 6).

Whatever crashes, is repeated or overlaps: each batch is one transaction with the invoices, where
the schedules then stand, the entries, the e-mails and the results of the run. It reads the
templates again, so that what another run has done meanwhile is skipped; the unique index over
template and period has the last word.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final, TypeAlias

from accounting.audit.rules import AuditAction
from accounting.audit.service import record_all
from accounting.db.database import Transaction
from accounting.ids import ObjectId
from accounting.invoices.documents import Invoice
from accounting.invoices.generated import GeneratedInvoice, create_generated_invoices
from accounting.invoices.numbers import take_free_numbers
from accounting.invoices.rules import BillingTerms
from accounting.platform.reader import Platform
from accounting.recurring.billing import CannotBill, Charge, Decision, Month, decide_all
from accounting.recurring.documents import RecurringInvoice, get_templates, scan_started
from accounting.recurring.facts import read_facts
from accounting.recurring.parking import count_failure
from accounting.recurring.rules import Schedule, due_periods, period_of
from accounting.recurring.trail import template_entry
from accounting.runs.documents import AccountingRun, RunItem, find_going
from accounting.runs.parts import start_in_parts
from accounting.runs.rules import (
    PART_ITEMS,
    NewItem,
    NewPart,
    Outcome,
    RunKind,
    failed,
    made,
    skipped,
)
from accounting.runs.service import Work

GENERATED_CODE: Final = "generated"
# Large enough that a commit costs little per invoice, small enough that a transaction takes a
# fraction of a second.
BATCH_INVOICES: Final = 100

# A piece of work: a template and a period of it.
ItemKey: TypeAlias = tuple[ObjectId, str]


@dataclass(slots=True)
class NumberReserve:
    """The numbers of a slice of a run: a batch that is tried again keeps those it had."""

    width: int
    _kept: dict[ItemKey, str] = field(default_factory=dict)

    async def take(self, day: date, keys: Sequence[ItemKey]) -> list[str]:
        """A number of the business day for each key, in one block for those that have none."""
        new = [key for key in keys if key not in self._kept]
        if new:
            numbers = await take_free_numbers(day, len(new), self.width)
            self._kept |= zip(new, numbers, strict=True)
        return [self._kept[key] for key in keys]


async def start_generation(tx: Transaction, as_of: date) -> AccountingRun:
    """Queue a run that generates every invoice due on a business day; its workers find the work.

    Where a run for the same day by the same actor is not over yet, that one is returned.
    """
    going = await find_going(
        RunKind.GENERATE, tx.actor.user_id, parameters_of(as_of), session=tx.session
    )
    return going or await start_in_parts(tx, RunKind.GENERATE, parameters=parameters_of(as_of))


def parameters_of(as_of: date) -> dict[str, Any]:
    """What a run keeps of what it was asked for."""
    return {"asOf": as_of.isoformat()}


def as_of_day(run: AccountingRun) -> date:
    """The business day that a run generates for."""
    return date.fromisoformat(run.parameters["asOf"])


def generation_work(platform: Platform, terms: BillingTerms) -> Work:
    """What a run of generation does."""
    numbers = NumberReserve(terms.serial_width)

    async def act(tx: Transaction, run: AccountingRun, items: Sequence[RunItem]) -> list[Outcome]:
        return await generate(tx, platform, terms, numbers, run, items)

    return Work(
        act,
        batch_items=BATCH_INVOICES,
        slice_items=PART_ITEMS,
        on_failed=count_failure,
        find_parts=find_due_parts,
    )


async def find_due_parts(run: AccountingRun) -> AsyncIterator[NewPart]:
    """The due periods of all active templates, some hundred at a time, those of one together.

    A template that cannot be read is an item as well, which fails and so is seen.
    """
    as_of, items = as_of_day(run), list[NewItem]()
    looked_through = run.looked_through
    async for page in scan_started(as_of, looked_through=looked_through):
        for template_id, template in page:
            items += [NewItem(template_id, period) for period in _due(template, as_of)]
            looked_through = template_id
            if len(items) >= PART_ITEMS:
                yield NewPart(items, looked_through)
                items = []
    if items:
        yield NewPart(items, looked_through)


def _due(template: RecurringInvoice | None, as_of: date) -> list[str]:
    if template is None:
        return [period_of(as_of)]
    return [occurrence.period for occurrence in due_periods(template.schedule, as_of)]


async def generate(
    tx: Transaction,
    platform: Platform,
    terms: BillingTerms,
    numbers: NumberReserve,
    run: AccountingRun,
    items: Sequence[RunItem],
) -> list[Outcome]:
    """Generate the invoices of some items of a run, and say what became of each.

    The invoices bear the run's business day; they stay drafts unless the template issues them.
    Raises RecurringInvoiceNotFound.
    """
    as_of = as_of_day(run)
    templates = await get_templates((item.id for item in items), session=tx.session)
    months = [Month(templates[item.id], item.label or "", item.planned) for item in items]
    facts = await read_facts(platform, terms, months, session=tx.session)
    decisions, schedules = decide_all(months, facts, as_of)

    charges = {
        month.key: decision
        for month, decision in zip(months, decisions, strict=True)
        if isinstance(decision, Charge)
    }
    taken = dict(zip(charges, await numbers.take(as_of, list(charges)), strict=True))
    wanted = [_invoice(key, taken[key], charge) for key, charge in charges.items()]
    invoices = await create_generated_invoices(tx, terms, as_of, wanted)
    made_of = dict(zip(charges, invoices, strict=True))
    await _advance(tx, templates, schedules, made_of)
    return [
        _outcome(decision, made_of.get(month.key))
        for month, decision in zip(months, decisions, strict=True)
    ]


def _invoice(key: ItemKey, number: str, charge: Charge) -> GeneratedInvoice:
    template_id, period = key
    return GeneratedInvoice(
        invoice_number=number,
        customer=charge.customer,
        recurring_invoice_id=template_id,
        billing_period=period,
        total_miners=charge.total_miners,
        unit_price=charge.unit_price,
        total_amount=charge.total_amount,
        pricing=charge.pricing,
        is_issued=charge.is_issued,
    )


async def _advance(
    tx: Transaction,
    templates: Mapping[ObjectId, RecurringInvoice],
    schedules: Mapping[ObjectId, Schedule],
    made_of: Mapping[ItemKey, Invoice],
) -> None:
    """Move the templates on whose schedules moved; a success ends a row of failures."""
    numbers: dict[ObjectId, list[str]] = {}
    for (template_id, _), invoice in made_of.items():
        numbers.setdefault(template_id, []).append(invoice.invoice_number)
    changes = []
    for template_id, template in templates.items():
        schedule = schedules[template_id]
        if schedule == template.schedule:
            continue
        moved: dict[str, object] = {
            "last_generated_date": schedule.last_generated_date,
            "last_skipped_date": schedule.last_skipped_date,
        }
        if template_id in numbers and template.failed_runs:
            moved |= {"failed_runs": 0, "last_failed_run_id": None}
        changes.append((template, moved))
    advanced = await RecurringInvoice.change_many(tx, changes)
    entries = [
        template_entry(
            AuditAction.RECURRING_INVOICE_UPDATED,
            before,
            after,
            _what(numbers.get(ObjectId(after.id), ())),
        )
        for (before, _), after in zip(changes, advanced, strict=True)
    ]
    await record_all(tx, entries)


def _what(numbers: Sequence[str]) -> str:
    return f"generated {', '.join(numbers)}" if numbers else "passed over a month"


def _outcome(decision: Decision, invoice: Invoice | None) -> Outcome:
    if invoice is not None:
        reason = f"Invoice {invoice.invoice_number} of {invoice.total_amount}."
        return made(GENERATED_CODE, reason, ObjectId(invoice.id))
    assert not isinstance(decision, Charge)
    end = failed if isinstance(decision, CannotBill) else skipped
    return end(decision.code, decision.reason)
