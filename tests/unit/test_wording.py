from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from accounting.wording import long_day, long_month, one_line, signed_usd, usd


@pytest.mark.parametrize(
    ("amount", "written"),
    [
        ("0", "USD 0.00"),
        ("0.005", "USD 0.01"),
        ("999.99", "USD 999.99"),
        ("1000", "USD 1,000.00"),
        ("9999999999.99", "USD 9,999,999,999.99"),
        ("1E+2", "USD 100.00"),
    ],
)
def test_money_has_its_currency_separators_and_two_places(amount: str, written: str) -> None:
    assert usd(Decimal(amount)) == written


def test_what_takes_away_has_a_minus_sign_before_its_currency() -> None:
    assert signed_usd(Decimal("-1250.5")) == "\N{MINUS SIGN} USD 1,250.50"
    assert signed_usd(Decimal("1250.50")) == "USD 1,250.50"
    assert signed_usd(Decimal("-0.00")) == "USD 0.00"


def test_days_and_months_are_written_out() -> None:
    assert long_day(date(2026, 2, 5)) == "5 February 2026"
    assert long_day(date(2026, 12, 31)) == "31 December 2026"
    assert long_month("2026-02") == "February 2026"


def test_a_name_stays_in_one_line() -> None:
    assert one_line(" a\r\n\tb\x1b[0m\u2029c\ud800 ") == "a b [0m c"
    assert one_line("Zoë 山田") == "Zoë 山田"
