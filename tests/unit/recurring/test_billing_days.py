"""On which days runs come does not matter: a run each day bills what one late run does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from accounting.ids import ObjectId, new_id
from accounting.pricing.documents import CustomerPricingConfig
from accounting.recurring.billing import Charge, Facts, Month, decide_all
from accounting.recurring.documents import RecurringInvoice
from accounting.recurring.rules import due_periods, scheduled_date, start_after_pause
from builders import a_customer
from generating import day

CUSTOMER = a_customer()
FIRST_DAY, LAST_DAY = day("2026-01-01"), day("2026-12-31")
YEAR = [FIRST_DAY + timedelta(days=number) for number in range(365)]
SOME_DAY = st.sampled_from(YEAR)

# Period and unit price.
Bill = tuple[str, Decimal]


@dataclass(frozen=True)
class Story:
    """A year of a template; paused on the days first <= day < resumed."""

    template: RecurringInvoice
    facts: Facts
    pauses: Sequence[tuple[date, date]]


@st.composite
def price_windows(draw: st.DrawFn) -> list[CustomerPricingConfig]:
    """Windows that do not overlap, with gaps between some of them."""
    edges = sorted(draw(st.sets(SOME_DAY, max_size=6)))
    has_price = draw(st.lists(st.booleans(), min_size=7, max_size=7))
    return [
        CustomerPricingConfig.model_construct(
            id=new_id(),
            user_id=CUSTOMER.id,
            default_unit_price=Decimal(number + 1),
            effective_from=first,
            effective_to=end,
        )
        for number, (first, end) in enumerate(pairwise([FIRST_DAY, *edges, None]))
        if has_price[number] and first is not None and first != end
    ]


@st.composite
def stories(draw: st.DrawFn) -> Story:
    template = RecurringInvoice.model_construct(
        id=new_id(),
        user_id=CUSTOMER.id,
        day_of_month=draw(st.integers(1, 28)),
        start_date=draw(SOME_DAY),
        end_date=draw(st.none() | SOME_DAY),
        unit_price=draw(st.none() | st.just(Decimal("45.00"))),
    )
    facts = Facts(
        customers={CUSTOMER.id: CUSTOMER},
        active_miners={CUSTOMER.id: draw(st.integers(0, 3))},
        prices={CUSTOMER.id: draw(price_windows())},
    )
    days = sorted(draw(st.sets(SOME_DAY, max_size=4)))
    pauses = list(zip(days[::2], days[1::2], strict=False))
    return Story(template, facts, pauses)


def is_paused(story: Story, today: date) -> bool:
    return any(first <= today < resumed for first, resumed in story.pauses)


def bills_of(story: Story, run_days: Iterable[date]) -> list[Bill]:
    """What runs on these days bill, each going on from where the one before stopped."""
    template, found, wanted = story.template, list[Bill](), set(run_days)
    for today in YEAR:
        if any(today == resumed for _, resumed in story.pauses):
            start_date = start_after_pause(template.start_date, today)
            template = template.model_copy(update={"start_date": start_date})
        if today not in wanted:
            continue
        template = template.model_copy(update={"is_active": not is_paused(story, today)})
        months = [Month(template, due.period) for due in due_periods(template.schedule, today)]
        decisions, schedules = decide_all(months, story.facts, today)
        for month, decision in zip(months, decisions, strict=True):
            if isinstance(decision, Charge):
                found.append((month.period, decision.unit_price))
        schedule = schedules.get(ObjectId(template.id), template.schedule)
        template = template.model_copy(
            update={
                "last_generated_date": schedule.last_generated_date,
                "last_skipped_date": schedule.last_skipped_date,
            }
        )
    return found


def expected_bills(story: Story) -> list[Bill]:
    """By the calendar alone: each month in range, not in a pause, with the price of its date."""
    template, prices = story.template, story.facts.prices[CUSTOMER.id]
    bills = []
    for month in range(1, 13):
        period = f"2026-{month:02d}"
        scheduled = scheduled_date(period, template.day_of_month)
        in_range = template.start_date <= scheduled <= (template.end_date or LAST_DAY)
        price = template.unit_price or next(
            (price.default_unit_price for price in prices if price.window.holds(scheduled)), None
        )
        has_miners = story.facts.active_miners[CUSTOMER.id] > 0
        if in_range and price and has_miners and not is_paused(story, scheduled):
            bills.append((period, price))
    return bills


@settings(max_examples=300, deadline=None)
@given(stories())
def test_a_run_each_day_of_a_year_bills_each_month_once_with_the_price_of_its_date(
    story: Story,
) -> None:
    assert bills_of(story, YEAR) == expected_bills(story)


@settings(max_examples=300, deadline=None)
@given(stories(), st.sets(SOME_DAY, max_size=10))
def test_some_days_of_a_year_bill_the_same_as_each_day(story: Story, days: set[date]) -> None:
    """Also one catch-up run; what was due when a pause began is billed before it or not at all."""
    before_pauses = {first - timedelta(days=1) for first, _ in story.pauses}

    caught_up = bills_of(story, {*days, *before_pauses, LAST_DAY})

    assert caught_up == expected_bills(story)


@given(stories(), st.sets(SOME_DAY, max_size=10))
def test_no_run_bills_a_month_twice_or_in_a_pause(story: Story, days: set[date]) -> None:
    bills = bills_of(story, days)

    assert len({period for period, _ in bills}) == len(bills)
    assert set(bills) <= set(expected_bills(story))
