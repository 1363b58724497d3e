"""What a month of a template comes to: values in, values out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from accounting.actor import Role
from accounting.ids import ObjectId, new_id
from accounting.platform.rules import PlatformUser
from accounting.pricing.documents import CustomerPricingConfig
from accounting.pricing.rules import PriceSource
from accounting.recurring.billing import (
    CannotBill,
    Charge,
    Decision,
    Facts,
    Month,
    NothingToBill,
    decide,
    decide_all,
)
from accounting.recurring.documents import RecurringInvoice
from accounting.runs.rules import PLANNED_LENGTH_MAX
from builders import a_customer
from generating import day

CUSTOMER = a_customer()
TEMPLATE_ID = ObjectId("66f0c0ffee00000000000201")
AS_OF = day("2026-03-20")
JAN, FEB, MAR = "2026-01", "2026-02", "2026-03"
PRICE = Decimal("50.00")


def a_template(**changes: Any) -> RecurringInvoice:
    """On the 5th of each month, without an own price, since January."""
    facts: dict[str, Any] = {
        "id": TEMPLATE_ID,
        "user_id": CUSTOMER.id,
        "day_of_month": 5,
        "start_date": day("2026-01-01"),
    }
    return RecurringInvoice.model_construct(**facts | changes)


def a_price(first: str, end: str | None = None, price: Decimal = PRICE) -> CustomerPricingConfig:
    return CustomerPricingConfig.model_construct(
        id=new_id(),
        user_id=CUSTOMER.id,
        default_unit_price=price,
        effective_from=day(first),
        effective_to=day(end) if end else None,
    )


ALWAYS = a_price("2020-01-01")


def facts_with(
    *prices: CustomerPricingConfig,
    miners: int = 3,
    customer: PlatformUser | None = CUSTOMER,
    generated: Sequence[str] = (),
) -> Facts:
    return Facts(
        customers={customer.id: customer} if customer else {},
        active_miners={CUSTOMER.id: miners} if miners else {},
        prices={CUSTOMER.id: list(prices)},
        generated={(TEMPLATE_ID, period): "2026030501" for period in generated},
    )


def decided(template: RecurringInvoice, period: str, facts: Facts, as_of: date = AS_OF) -> Decision:
    decision, _ = decide(template, template.schedule, period, facts, as_of)
    return decision


def codes(
    template: RecurringInvoice, facts: Facts, periods: Sequence[str] = (JAN, FEB, MAR)
) -> tuple[list[str], date | None, date | None]:
    """What became of each month, and where the schedule then stands."""
    months = [Month(template, period) for period in periods]
    decisions, schedules = decide_all(months, facts, AS_OF)
    schedule = schedules[TEMPLATE_ID]
    words = ["billed" if isinstance(found, Charge) else found.code for found in decisions]
    return words, schedule.last_generated_date, schedule.last_skipped_date


def test_the_template_s_own_price_wins_over_the_price_list() -> None:
    charge = decided(a_template(unit_price=Decimal("45.50")), JAN, facts_with(ALWAYS))

    assert charge == Charge(
        customer=CUSTOMER,
        total_miners=3,
        unit_price=Decimal("45.50"),
        total_amount=Decimal("136.50"),
        source=PriceSource.TEMPLATE,
        pricing_config_id=None,
        is_issued=False,
    )
    assert charge.pricing.model_dump() == {
        "source": PriceSource.TEMPLATE,
        "pricing_config_id": None,
        "miner_ids_count": 3,
    }


def test_without_an_own_price_it_is_the_price_in_effect() -> None:
    charge = decided(a_template(auto_issue=True), JAN, facts_with(ALWAYS))

    assert isinstance(charge, Charge)
    assert (charge.unit_price, charge.total_amount) == (PRICE, Decimal("150.00"))
    assert (charge.source, charge.pricing_config_id) == (PriceSource.PRICING_CONFIG, ALWAYS.id)
    assert charge.is_issued


@pytest.mark.parametrize(
    ("first", "end", "has_price"),
    [
        ("2026-02-05", None, True),  # starts on the scheduled date
        ("2026-02-06", None, False),  # the day after, though it is in effect on the day of the run
        ("2026-01-01", "2026-02-05", False),  # the end is no longer in it
        ("2026-01-01", "2026-02-06", True),
        ("2026-02-05", "2026-02-06", True),  # a window of just that day
        ("2026-01-01", "2026-01-31", False),
    ],
)
def test_the_price_is_that_of_the_scheduled_date_whenever_the_run_comes(
    first: str, end: str | None, has_price: bool
) -> None:
    template = a_template(start_date=day("2026-02-01"))
    price = a_price(first, end)

    for as_of in (day("2026-02-05"), AS_OF):
        decision = decided(template, FEB, facts_with(price), as_of)
        if has_price:
            assert isinstance(decision, Charge)
            assert decision.pricing_config_id == price.id
        else:
            assert isinstance(decision, NothingToBill)
            assert decision.code == "no_price"
            assert "2026-02-05" in decision.reason


def test_each_month_of_a_catch_up_has_the_price_of_its_own_date() -> None:
    prices = [
        a_price("2025-12-01", "2026-01-06", Decimal("10.00")),
        a_price("2026-02-01", "2026-03-05", Decimal("20.00")),
        a_price("2026-03-05", None, Decimal("30.00")),
    ]
    months = [Month(a_template(), period) for period in (JAN, FEB, MAR)]

    decisions, _ = decide_all(months, facts_with(*prices), AS_OF)

    found = [decision.unit_price for decision in decisions if isinstance(decision, Charge)]
    assert found == [Decimal("10.00"), Decimal("20.00"), Decimal("30.00")]


@pytest.mark.parametrize(
    ("facts", "code"),
    [
        (facts_with(), "no_price"),
        (facts_with(ALWAYS, miners=0), "no_miners"),
        (facts_with(miners=0), "no_miners"),
        (facts_with(ALWAYS, customer=None), "customer_deleted"),
        (facts_with(ALWAYS, customer=replace(CUSTOMER, is_deleted=True)), "customer_deleted"),
        (facts_with(ALWAYS, customer=replace(CUSTOMER, role=Role.ADMIN)), "customer_deleted"),
        (facts_with(customer=None, miners=0), "customer_deleted"),
    ],
)
def test_where_there_is_nothing_to_bill_it_says_why(facts: Facts, code: str) -> None:
    decision = decided(a_template(), JAN, facts)

    assert isinstance(decision, NothingToBill)
    assert decision.code == code
    assert str(decision) == f"skip {code}"
    assert decision.reason.endswith(".")


def test_a_price_of_its_own_needs_no_price_list() -> None:
    template = a_template(unit_price=PRICE)

    assert isinstance(decided(template, JAN, facts_with()), Charge)
    assert isinstance(decided(template, JAN, Facts(facts_with().customers)), NothingToBill)


@pytest.mark.parametrize(
    ("miners", "price", "fits"),
    [
        (100, Decimal("99999999.99"), True),
        (101, Decimal("99999999.99"), False),
        (999_999_999_999, Decimal("0.01"), True),  # the last cent
        (1_000_000_000_000, Decimal("0.01"), False),
    ],
)
def test_an_amount_that_is_too_large_fails(miners: int, price: Decimal, fits: bool) -> None:
    decision = decided(a_template(unit_price=price), JAN, facts_with(miners=miners))

    assert isinstance(decision, Charge) is fits
    if not fits:
        assert isinstance(decision, CannotBill)
        assert decision.code == "amount_too_large"


@pytest.mark.parametrize(
    ("template", "period", "as_of", "code"),
    [
        (a_template(is_active=False), JAN, AS_OF, "not_active"),
        (a_template(), MAR, day("2026-03-04"), "not_due"),
        (a_template(), "2025-12", AS_OF, "not_due"),  # before its start
        (a_template(start_date=day("2026-01-06")), JAN, AS_OF, "not_due"),
        (a_template(end_date=day("2026-03-04")), MAR, AS_OF, "not_due"),
        (a_template(last_generated_date=day("2026-01-05")), JAN, AS_OF, "not_due"),
        (a_template(last_skipped_date=day("2026-01-05")), JAN, AS_OF, "not_due"),
        (a_template(last_generated_date=day("2026-01-28")), JAN, AS_OF, "not_due"),
    ],
)
def test_a_month_that_is_not_to_be_billed_any_more_is_left_alone(
    template: RecurringInvoice, period: str, as_of: date, code: str
) -> None:
    decision, schedule = decide(template, template.schedule, period, facts_with(ALWAYS), as_of)

    assert isinstance(decision, NothingToBill)
    assert decision.code == code
    assert schedule == template.schedule


def test_a_month_with_an_invoice_is_never_billed_again_and_counts_as_done() -> None:
    """As after a restore, where the invoices are newer than the templates."""
    words, generated, _ = codes(a_template(), facts_with(ALWAYS, generated=[JAN, FEB]))

    assert words == ["already_generated", "already_generated", "billed"]
    assert generated == day("2026-03-05")
    paused = a_template(is_active=False)
    assert codes(paused, facts_with(ALWAYS, generated=[JAN]), [JAN])[0] == ["already_generated"]


def test_an_invoice_of_a_later_month_does_not_hide_an_earlier_one_that_failed() -> None:
    template = a_template(unit_price=Decimal("99999999.99"))

    words, generated, _ = codes(template, facts_with(miners=101, generated=[FEB]), [JAN, FEB])

    assert words == ["amount_too_large", "already_generated"]
    assert generated is None, "January is still due"


def test_months_in_order_move_the_schedule_to_the_last() -> None:
    assert codes(a_template(), facts_with(ALWAYS)) == (["billed"] * 3, day("2026-03-05"), None)


def test_a_skipped_month_stays_due_until_the_next_one_comes() -> None:
    template, nothing = a_template(), facts_with()

    assert codes(template, nothing) == (["no_price"] * 3, None, day("2026-02-05"))
    only_march = a_template(last_generated_date=day("2026-02-05"))
    assert codes(only_march, nothing, [MAR]) == (["no_price"], day("2026-02-05"), None)


def test_a_month_after_a_skipped_one_is_billed() -> None:
    words, generated, skipped = codes(a_template(), facts_with(a_price("2026-02-01")))

    assert words == ["no_price", "billed", "billed"]
    assert (generated, skipped) == (day("2026-03-05"), day("2026-01-05"))


def test_a_failed_month_holds_up_the_later_ones() -> None:
    prices = [
        a_price("2026-01-01", "2026-02-01"),
        a_price("2026-02-01", "2026-03-01", Decimal("99999999.99")),
        a_price("2026-03-01"),
    ]

    words, generated, skipped = codes(a_template(), facts_with(*prices, miners=101))

    assert words == ["billed", "amount_too_large", "earlier_period_open"]
    assert (generated, skipped) == (day("2026-01-05"), None)


def test_templates_do_not_hold_up_each_other() -> None:
    failing = a_template(unit_price=Decimal("99999999.99"))
    fine = a_template(id=new_id(), unit_price=PRICE)
    months = [Month(template, period) for template in (failing, fine) for period in (JAN, FEB)]

    decisions, schedules = decide_all(months, facts_with(miners=101), AS_OF)

    assert [str(decision).split()[0] for decision in decisions] == ["fail", "fail"] + ["draft"] * 2
    assert schedules[TEMPLATE_ID] == failing.schedule
    assert schedules[ObjectId(fine.id)].last_generated_date == day("2026-02-05")


@pytest.mark.parametrize(
    ("template", "facts", "words"),
    [
        (a_template(unit_price=PRICE), facts_with(), "draft 3 x 50.00 = 150.00 by the template"),
        (a_template(auto_issue=True, unit_price=PRICE), facts_with(), "issue 3 x 50.00 = 150.00"),
        (a_template(), facts_with(ALWAYS), f"draft 3 x 50.00 = 150.00 by price {ALWAYS.id}"),
        (a_template(), facts_with(), "skip no_price"),
        (a_template(unit_price=Decimal("99999999.99")), facts_with(miners=101), "fail amount_too"),
    ],
    ids=["own price", "issued", "price list", "no price", "too much"],
)
def test_a_decision_in_words_says_all_that_is_agreed_on(
    template: RecurringInvoice, facts: Facts, words: str
) -> None:
    assert str(decided(template, JAN, facts)).startswith(words)


def test_the_longest_words_of_a_decision_fit_into_an_item() -> None:
    longest = replace(
        decided(a_template(auto_issue=True), JAN, facts_with(ALWAYS)),
        total_miners=1_000_000,
        unit_price=Decimal("99999999.99"),
        total_amount=Decimal("9999999999.99"),
    )

    assert len(str(longest)) <= PLANNED_LENGTH_MAX


def test_what_is_not_what_was_planned_fails_and_moves_nothing() -> None:
    template, facts = a_template(), facts_with(ALWAYS)
    as_planned = str(decided(template, JAN, facts))
    months = [Month(template, JAN, "draft 2 x 50.00 = 100.00"), Month(template, FEB, as_planned)]

    decisions, schedules = decide_all(months, facts, AS_OF)

    assert [getattr(decision, "code", None) for decision in decisions] == ["plan_changed"] * 2
    assert all(isinstance(decision, CannotBill) for decision in decisions)
    assert f"Now it would be: {as_planned}." in decisions[0].reason  # type: ignore[union-attr]
    assert schedules[TEMPLATE_ID] == template.schedule


def test_what_is_as_planned_is_done() -> None:
    template, facts = a_template(), facts_with(ALWAYS)
    as_planned = str(decided(template, JAN, facts))

    decisions, _ = decide_all([Month(template, JAN, as_planned)], facts, AS_OF)

    assert isinstance(decisions[0], Charge)


def test_a_planned_month_whose_invoice_exists_is_done_whatever_was_planned() -> None:
    months = [Month(a_template(), JAN, "draft 3 x 50.00 = 150.00")]

    decisions, _ = decide_all(months, facts_with(generated=[JAN]), AS_OF)

    assert [str(decision) for decision in decisions] == ["skip already_generated"]
