"""Prices on paper: where an invoice's price came from, and windows that never overlap.

Spec: section 3, "Pricing", and Model 3. Days are in the business zone; a window is half-open,
`effective_from <= day < effective_to`, or open: without an end.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from typing import TypeAlias

from accounting.errors import Conflict, Invalid, NotFound
from accounting.ids import ObjectId

PricingConfigId: TypeAlias = ObjectId

_DAY = timedelta(days=1)


class PriceSource(StrEnum):
    """Where the unit price of an invoice came from."""

    EXPLICIT = "EXPLICIT"
    TEMPLATE = "TEMPLATE"
    PRICING_CONFIG = "PRICING_CONFIG"


class NoPriceInEffect(Invalid):
    """No price was given and the customer has none on that day."""

    def __init__(self, customer_id: ObjectId, day: date) -> None:
        super().__init__(
            f"Customer {customer_id} has no price in effect on {day}; give unitPrice.",
            errors=[("unitPrice", f"is required: the customer has no price in effect on {day}")],
        )


@dataclass(frozen=True, slots=True)
class PriceWindow:
    """The days on which one row of the price list is in effect."""

    config_id: PricingConfigId
    effective_from: date
    effective_to: date | None

    def holds(self, day: date) -> bool:
        """Whether the price is in effect on the day."""
        is_over = self.effective_to is not None and day >= self.effective_to
        return self.effective_from <= day and not is_over

    @property
    def next_start_min(self) -> date:
        """The first day on which a later price may start; an open window ends where it starts."""
        return self.effective_to or self.effective_from + _DAY

    def __str__(self) -> str:
        until = f"until before {self.effective_to}" if self.effective_to else "without an end"
        return f"{self.config_id} (from {self.effective_from} {until})"


class PricingConfigNotFound(NotFound):
    """The price list has no such row."""

    def __init__(self, config_id: PricingConfigId) -> None:
        super().__init__(f"There is no pricing config {config_id}.", pricingConfigId=str(config_id))


class CustomerHasNoPrice(NotFound):
    """The customer exists, and no row of his price list is in effect on that day."""

    def __init__(self, customer_id: ObjectId, day: date) -> None:
        super().__init__(
            f"Customer {customer_id} has no price in effect on {day}.",
            customerId=str(customer_id),
            on=day.isoformat(),
        )


class PricesOverlap(Conflict):
    """The new price would start in, at or before a window that exists; history is not edited."""

    def __init__(self, existing: PriceWindow, effective_from: date) -> None:
        super().__init__(
            f"A price from {effective_from} on would overlap pricing config {existing}; "
            f"a new price can start on {existing.next_start_min} or later.",
            conflictingId=str(existing.config_id),
            effectiveFrom=existing.effective_from.isoformat(),
            effectiveTo=existing.effective_to and existing.effective_to.isoformat(),
        )


class PriceAlreadyEnds(Conflict):
    """Only an open window can be ended; the end of another is history."""

    def __init__(self, window: PriceWindow) -> None:
        super().__init__(
            f"Pricing config {window} has its end already; only a price without one can be "
            "archived.",
            pricingConfigId=str(window.config_id),
            effectiveTo=window.effective_to and window.effective_to.isoformat(),
        )


class PriceNeverInEffect(Conflict):
    """The end would be on or before the first day, and the row would say nothing."""

    def __init__(self, window: PriceWindow, effective_to: date) -> None:
        super().__init__(
            f"Pricing config {window} would never be in effect if it ended on {effective_to}; "
            f"give an effectiveTo of {window.next_start_min} or later.",
            pricingConfigId=str(window.config_id),
            effectiveFrom=window.effective_from.isoformat(),
            effectiveTo=effective_to.isoformat(),
        )


class PriceEndsInThePast(Invalid):
    """Days that are over may have been billed; their price stays."""

    def __init__(self, effective_to: date, today: date) -> None:
        rule = f"must be {today} (today) or later"
        super().__init__(
            f"A price cannot end on {effective_to}: effectiveTo {rule}.",
            errors=[("effectiveTo", rule)],
        )


def check_no_overlap(last: PriceWindow | None, effective_from: date) -> None:
    """Whether a new price may follow the customer's last one; a gap between them is allowed.

    The last window alone decides: windows do not overlap, so that no earlier one ends later.
    Raises PricesOverlap naming it.
    """
    if last is not None and effective_from < last.next_start_min:
        raise PricesOverlap(last, effective_from)


def end_of_window(window: PriceWindow, asked: date | None, today: date) -> date:
    """The day on which an open window ends when it is archived: the first day without the price.

    Today unless another day from today on was asked for.
    Raises PriceAlreadyEnds, PriceEndsInThePast, PriceNeverInEffect.
    """
    if window.effective_to is not None:
        raise PriceAlreadyEnds(window)
    effective_to = asked or today
    if effective_to < today:
        raise PriceEndsInThePast(effective_to, today)
    if effective_to <= window.effective_from:
        raise PriceNeverInEffect(window, effective_to)
    return effective_to
