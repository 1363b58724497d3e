"""Decimal128 of the database as Decimal: the quick way for money, and the driver's own."""

from __future__ import annotations

from decimal import Decimal

import bson
import pytest
from bson import Decimal128
from hypothesis import given
from hypothesis import strategies as st

from accounting.db.client import CODEC_OPTIONS


def read_back(value: Decimal) -> Decimal:
    encoded = bson.encode({"amount": value}, codec_options=CODEC_OPTIONS)
    found: Decimal = bson.decode(encoded, codec_options=CODEC_OPTIONS)["amount"]
    return found


@pytest.mark.parametrize(
    "text",
    [
        *("0.00", "0.01", "1250.00", "9999999999.99", "-0.01", "-0.00", "0", "5", "1E+3", "0.001"),
        *("184467440737095516.15", "184467440737095516.16", "NaN", "Infinity", "-Infinity"),
        "99999999999999999999999999999999.99",
    ],
)
def test_a_decimal_reads_back_as_the_driver_reads_it(text: str) -> None:
    assert str(read_back(Decimal(text))) == str(Decimal128(text).to_decimal())


@given(
    st.decimals(
        allow_nan=False, allow_infinity=False, places=2, min_value=-(10**30), max_value=10**30
    )
)
def test_any_amount_reads_back_to_the_digit(value: Decimal) -> None:
    assert str(read_back(value)) == str(Decimal128(str(value)).to_decimal())
