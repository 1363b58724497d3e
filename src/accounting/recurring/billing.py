"""What one month of a template comes to: an invoice, nothing to bill, or a failure.

Spec section 6. Pure: facts in, decision out, so that a dry run and the run itself cannot differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from typing import Final, TypeAlias

from accounting.errors import Invalid
from accounting.ids import ObjectId
from accounting.invoices.documents import PricingSnapshot
from accounting.money import line_total
from accounting.platform.rules import PlatformUser, UserId
from accounting.pricing.documents import CustomerPricingConfig
from accounting.pricing.rules import PriceSource
from accounting.recurring.documents import RecurringInvoice
from accounting.recurring.rules import Occurrence, Schedule, due_periods

ALREADY_GENERATED_CODE: Final = "already_generated"
NOT_ACTIVE_CODE: Final = "not_active"
NOT_DUE_CODE: Final = "not_due"
CUSTOMER_DELETED_CODE: Final = "customer_deleted"
NO_MINERS_CODE: Final = "no_miners"
NO_PRICE_CODE: Final = "no_price"
EARLIER_PERIOD_OPEN_CODE: Final = "earlier_period_open"
PLAN_CHANGED_CODE: Final = "plan_changed"


@dataclass(frozen=True, slots=True)
class Charge:
    """An invoice is to be made; amounts in USD."""

    customer: PlatformUser
    total_miners: int
    unit_price: Decimal
    total_amount: Decimal
    source: PriceSource
    pricing_config_id: ObjectId | None
    is_issued: bool

    @property
    def pricing(self) -> PricingSnapshot:
        return PricingSnapshot(
            source=self.source,
            pricing_config_id=self.pricing_config_id,
            miner_ids_count=self.total_miners,
        )

    def __str__(self) -> str:
        done = "issue" if self.is_issued else "draft"
        source = f"price {self.pricing_config_id}" if self.pricing_config_id else "the template"
        amounts = f"{self.total_miners} x {self.unit_price} = {self.total_amount}"
        return f"{done} {amounts} by {source}"


@dataclass(frozen=True, slots=True)
class NothingToBill:
    """No invoice, and that is in order; the month stays due until the next one comes."""

    code: str
    reason: str

    def __str__(self) -> str:
        return f"skip {self.code}"


@dataclass(frozen=True, slots=True)
class CannotBill:
    """No invoice, and somebody has to look at it; later months of the template wait."""

    code: str
    reason: str

    def __str__(self) -> str:
        return f"fail {self.code}"


Decision: TypeAlias = Charge | NothingToBill | CannotBill


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known about the customers of some templates, and which invoices exist already."""

    customers: Mapping[UserId, PlatformUser] = field(default_factory=dict)
    active_miners: Mapping[UserId, int] = field(default_factory=dict)
    prices: Mapping[UserId, Sequence[CustomerPricingConfig]] = field(default_factory=dict)
    # Numbers of generated invoices by template and period.
    generated: Mapping[tuple[ObjectId, str], str] = field(default_factory=dict)


def decide(
    template: RecurringInvoice, schedule: Schedule, period: str, facts: Facts, as_of: date
) -> tuple[Decision, Schedule]:
    """What a period of a template comes to on a business day, and where its schedule then stands.

    `schedule` is the template's after its earlier periods of the same batch. A skipped period is
    passed over for good once a later one is due; a failed one holds up the later ones.
    """
    due = due_periods(schedule, as_of)
    occurrence = next((found for found in due if found.period == period), None)
    if number := facts.generated.get((ObjectId(template.id), period)):
        reason = f"Invoice {number} was generated before."
        if due and occurrence == due[0]:
            schedule = _generated(schedule, occurrence)
        return NothingToBill(ALREADY_GENERATED_CODE, reason), schedule
    if not template.is_active:
        return NothingToBill(
            NOT_ACTIVE_CODE, "The recurring invoice is paused or deleted."
        ), schedule
    if occurrence is None:
        return NothingToBill(NOT_DUE_CODE, f"{period} is not due, or no longer."), schedule
    if occurrence != due[0]:
        reason = f"{due[0].period} comes first, and it is still open."
        return CannotBill(EARLIER_PERIOD_OPEN_CODE, reason), schedule
    decision = _bill(template, occurrence.scheduled_date, facts)
    if isinstance(decision, Charge):
        schedule = _generated(schedule, occurrence)
    elif isinstance(decision, NothingToBill) and len(due) > 1:
        schedule = replace(schedule, last_skipped_date=occurrence.scheduled_date)
    return decision, schedule


@dataclass(frozen=True, slots=True)
class Month:
    """One period of a template, and the words of the decision that was agreed on, if any."""

    template: RecurringInvoice
    period: str
    planned: str | None = None

    @property
    def key(self) -> tuple[ObjectId, str]:
        return ObjectId(self.template.id), self.period


def decide_all(
    months: Sequence[Month], facts: Facts, as_of: date
) -> tuple[list[Decision], dict[ObjectId, Schedule]]:
    """What each month comes to, those of one template in order, and where the schedules then stand.

    One that comes to something else than was planned fails, unless its invoice exists already.
    """
    schedules = {ObjectId(month.template.id): month.template.schedule for month in months}
    decisions: list[Decision] = []
    for month in months:
        template_id, period = month.key
        decision, schedule = decide(month.template, schedules[template_id], period, facts, as_of)
        if month.planned not in (None, str(decision)) and month.key not in facts.generated:
            reason = f"Planned was: {month.planned}. Now it would be: {decision}."
            decision, schedule = CannotBill(PLAN_CHANGED_CODE, reason), schedules[template_id]
        decisions.append(decision)
        schedules[template_id] = schedule
    return decisions, schedules


def _generated(schedule: Schedule, occurrence: Occurrence) -> Schedule:
    return replace(schedule, last_generated_date=occurrence.scheduled_date)


def _bill(template: RecurringInvoice, day: date, facts: Facts) -> Decision:
    user_id = template.user_id
    customer = facts.customers.get(user_id)
    if customer is None or not customer.is_customer:
        return NothingToBill(CUSTOMER_DELETED_CODE, f"Customer {user_id} is no longer one.")
    total_miners = facts.active_miners.get(user_id, 0)
    if not total_miners:
        return NothingToBill(NO_MINERS_CODE, f"Customer {user_id} has no active miners.")
    windows = facts.prices.get(user_id, ())
    config = next((price for price in windows if price.window.holds(day)), None)
    if template.unit_price is None and config is None:
        return NothingToBill(NO_PRICE_CODE, f"Customer {user_id} has no price in effect on {day}.")
    if template.unit_price is not None:
        source, unit_price, config_id = PriceSource.TEMPLATE, template.unit_price, None
    else:
        assert config is not None
        source = PriceSource.PRICING_CONFIG
        unit_price, config_id = config.default_unit_price, ObjectId(config.id)
    try:
        total = line_total(total_miners, unit_price)
    except Invalid as error:
        return CannotBill(error.code, error.sentence)
    return Charge(
        customer=customer,
        total_miners=total_miners,
        unit_price=unit_price,
        total_amount=total,
        source=source,
        pricing_config_id=config_id,
        is_issued=template.auto_issue,
    )
