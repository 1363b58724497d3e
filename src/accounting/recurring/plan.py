"""A dry run: what a generation would do, what differs from the last bill, and running just that.

Spec section 5, `POST /recurring-invoices/run`, and section 6. A plan is kept for a day, as a run
that nobody has started; its hash names it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Final

from accounting.actor import Actor
from accounting.db.database import Database, Session, Transaction
from accounting.errors import Conflict, Invalid
from accounting.ids import ObjectId
from accounting.invoices.rules import BillingTerms
from accounting.platform.reader import Platform
from accounting.platform.rules import PlatformUser, UserId
from accounting.recurring.billing import CannotBill, Charge, Decision, Month, decide_all
from accounting.recurring.comparison import (
    Bill,
    GoneBill,
    PlanFlag,
    find_gone,
    find_last_bills,
    flags_of,
)
from accounting.recurring.documents import RecurringInvoice, scan_started
from accounting.recurring.facts import read_facts
from accounting.recurring.generation import as_of_day, parameters_of
from accounting.recurring.rules import due_periods, period_of, scheduled_date
from accounting.runs.documents import AccountingRun
from accounting.runs.parts import find_plan, list_items, start_plan, store_plan
from accounting.runs.rules import PART_ITEMS, NewItem, NewPart, RunKind, RunStatus

CHANGES_SHOWN_MAX: Final = 100
UNREADABLE_CODE: Final = "unreadable"


@dataclass(frozen=True, slots=True)
class PlannedMonth:
    """One line of a plan; `previous` is the bill of the template before this one."""

    template_id: ObjectId
    customer_id: UserId | None
    customer: PlatformUser | None
    billing_period: str
    scheduled_date: date
    decision: Decision
    previous: Bill | None
    flags: tuple[PlanFlag, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a generation on a business day would do, in the order in which it would."""

    as_of: date
    months: Sequence[PlannedMonth]
    gone: Sequence[GoneBill]

    @property
    def charges(self) -> list[Charge]:
        return [line.decision for line in self.months if isinstance(line.decision, Charge)]

    @property
    def total_amount(self) -> Decimal:
        """The sum of the invoices that would be made, in USD."""
        return sum((charge.total_amount for charge in self.charges), Decimal("0.00"))

    @property
    def plan_hash(self) -> str:
        """SHA-256 over the day and every decision: equal hashes, equal invoices."""
        digest = hashlib.sha256(self.as_of.isoformat().encode())
        for line in self.months:
            digest.update(f"\n{line.template_id} {line.billing_period} {line.decision}".encode())
        return digest.hexdigest()


class PlanNotFound(Conflict):
    """A plan is kept for a day."""

    def __init__(self, plan_hash: str) -> None:
        super().__init__(
            "There is no such plan, or no longer: make a new one with dryRun.", planHash=plan_hash
        )


class PlanAlreadyStarted(Conflict):
    """A plan is carried out once."""

    def __init__(self, plan_hash: str, run_id: ObjectId) -> None:
        super().__init__(
            f"This plan was started before, as run {run_id}.",
            planHash=plan_hash,
            runId=str(run_id),
        )


class PlanForAnotherDay(Invalid):
    """The day is part of the plan."""

    def __init__(self, planned_for: date, asked: date) -> None:
        rule = f"must be {planned_for}, the day of the plan, or left out"
        super().__init__(
            f"The plan is for {planned_for}, not for {asked}.", errors=[("asOf", rule)]
        )


class PlanChanged(Conflict):
    """What would be done now is not what was planned; nothing was done."""

    def __init__(self, plan_hash: str, changes: Sequence[Mapping[str, str | None]]) -> None:
        super().__init__(
            f"{len(changes)} of the planned invoices would be different now; nothing was started. "
            "Look at the changes and make a new plan.",
            planHash=plan_hash,
            changeCount=len(changes),
            changes=list(changes[:CHANGES_SHOWN_MAX]),
        )


async def make_plan(platform: Platform, terms: BillingTerms, as_of: date) -> Plan:
    """What a generation on this business day would do now. Changes nothing."""
    months: list[PlannedMonth] = []
    async for page in scan_started(as_of):
        for template_id, template in page:
            if template is None:
                months.append(_unreadable(template_id, as_of))
        readable = [template for _, template in page if template is not None]
        months += await _plan_page(platform, terms, readable, as_of)
    months.sort(key=lambda line: (line.template_id, line.billing_period))
    return Plan(as_of, months, await find_gone(platform, as_of))


async def save_plan(tx: Transaction, plan: Plan) -> AccountingRun:
    """Keep a plan for a day, so that it can be carried out by its hash."""
    items = [
        NewItem(line.template_id, line.billing_period, str(line.decision)) for line in plan.months
    ]
    return await store_plan(
        tx,
        RunKind.GENERATE,
        _parts(items),
        plan_hash=plan.plan_hash,
        parameters=parameters_of(plan.as_of),
    )


async def get_plan_to_start(
    plan_hash: str, now: datetime, as_of: date | None = None, *, session: Session | None = None
) -> AccountingRun:
    """The kept plan of this hash. Raises PlanNotFound, PlanAlreadyStarted, PlanForAnotherDay."""
    kept = await find_plan(RunKind.GENERATE, plan_hash, now, session=session)
    if kept is None:
        raise PlanNotFound(plan_hash)
    if kept.status is not RunStatus.PLANNED:
        raise PlanAlreadyStarted(plan_hash, kept.run_id)
    if as_of is not None and as_of != as_of_day(kept):
        raise PlanForAnotherDay(as_of_day(kept), as_of)
    return kept


async def start_planned(tx: Transaction, plan_hash: str, now: Plan) -> AccountingRun:
    """Carry out a kept plan if it is still what would be done; each item holds it to that again.

    `now` is the plan made anew for the same day. Raises PlanNotFound, PlanAlreadyStarted, also when
    that happened meanwhile; PlanChanged, saying what is different.
    """
    kept = await get_plan_to_start(plan_hash, tx.now, session=tx.session)
    if plan_hash != now.plan_hash:
        raise PlanChanged(plan_hash, await _differences(kept, now))
    return await start_plan(tx, kept)


async def run_plan(
    db: Database,
    actor: Actor,
    platform: Platform,
    terms: BillingTerms,
    plan_hash: str,
    as_of: date | None = None,
) -> AccountingRun:
    """Queue the kept plan of this hash, in the name of the actor.

    Raises PlanNotFound, PlanAlreadyStarted, PlanForAnotherDay, PlanChanged.
    """
    kept = await get_plan_to_start(plan_hash, db.clock(), as_of)
    now = await make_plan(platform, terms, as_of_day(kept))
    return await db.run(actor, start_planned, plan_hash, now)


def _parts(items: Sequence[NewItem]) -> Iterable[NewPart]:
    """The items in parts, those of one template together: they depend on each other."""
    part: list[NewItem] = []
    for item in items:
        if len(part) >= PART_ITEMS and part[-1].id != item.id:
            yield NewPart(part)
            part = []
        part.append(item)
    if part:
        yield NewPart(part)


async def _differences(kept: AccountingRun, now: Plan) -> list[dict[str, str | None]]:
    items, _ = await list_items(kept, (), page=1, limit=max(kept.counts.total, 1))
    planned = {(item.id, item.label or ""): item.planned for item in items}
    current = {(line.template_id, line.billing_period): str(line.decision) for line in now.months}
    return [
        {
            "recurringInvoiceId": str(template_id),
            "billingPeriod": period,
            "planned": planned.get((template_id, period)),
            "now": current.get((template_id, period)),
        }
        for template_id, period in dict.fromkeys([*planned, *current])
        if planned.get((template_id, period)) != current.get((template_id, period))
    ]


def _unreadable(template_id: ObjectId, as_of: date) -> PlannedMonth:
    reason = f"Recurring invoice {template_id} holds values that cannot be read."
    decision = CannotBill(UNREADABLE_CODE, reason)
    return PlannedMonth(template_id, None, None, period_of(as_of), as_of, decision, None, ())


async def _plan_page(
    platform: Platform, terms: BillingTerms, templates: Sequence[RecurringInvoice], as_of: date
) -> list[PlannedMonth]:
    months = [
        Month(template, occurrence.period)
        for template in templates
        for occurrence in due_periods(template.schedule, as_of)
    ]
    facts = await read_facts(platform, terms, months)
    decisions, _ = decide_all(months, facts, as_of)
    bills = await find_last_bills(
        {ObjectId(month.template.id): month.template for month in months}.values()
    )
    lines = []
    for month, decision in zip(months, decisions, strict=True):
        template_id, period = month.key
        customer = facts.customers.get(month.template.user_id)
        previous = bills.get(template_id)
        lines.append(
            PlannedMonth(
                template_id=template_id,
                customer_id=month.template.user_id,
                customer=customer,
                billing_period=period,
                scheduled_date=scheduled_date(period, month.template.day_of_month),
                decision=decision,
                previous=previous,
                flags=tuple(flags_of(decision, customer, previous)),
            )
        )
        if isinstance(decision, Charge):
            bills[template_id] = Bill(
                period, decision.total_miners, decision.unit_price, decision.total_amount
            )
    return lines
