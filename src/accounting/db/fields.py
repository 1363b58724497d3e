"""How values are stored: one annotated type per kind of value, with its limits.

The limits are read twice: by Pydantic when a document is made, and by `schema` for the validator in
the database, so that both refuse the same things.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Annotated, Any, Final, TypeAlias, cast

from bson import Decimal128
from pydantic import AfterValidator, BeforeValidator, Field

from accounting.clock import to_milliseconds
from accounting.money import AMOUNT_MAX, CENT, UNIT_PRICE_MAX, ZERO, cents


def _from_decimal128(value: object) -> object:
    # The codec of the real client does this already; the in-memory one of unit tests has no codec.
    return value.to_decimal() if isinstance(value, Decimal128) else value


def to_decimal(value: Any) -> Decimal:
    """An amount as it was read, by whichever client."""
    return cast(Decimal, _from_decimal128(value))


def _to_date(value: object) -> object:
    return value.date() if isinstance(value, datetime) else value


def _to_utc(value: datetime) -> datetime:
    aware = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    return to_milliseconds(aware)


BILLING_PERIOD_PATTERN: Final = r"^2[0-9]{3}-(0[1-9]|1[0-2])$"

# `cents` last: two places always, so that 1E+2 and 100.00 are the same text in every document.
UnitPrice: TypeAlias = Annotated[
    Decimal,
    BeforeValidator(_from_decimal128),
    Field(ge=CENT, le=UNIT_PRICE_MAX, decimal_places=2),
    AfterValidator(cents),
]
Amount: TypeAlias = Annotated[
    Decimal,
    BeforeValidator(_from_decimal128),
    Field(ge=ZERO, le=AMOUNT_MAX, decimal_places=2),
    AfterValidator(cents),
]
# Of any number of amounts.
Sum: TypeAlias = Annotated[
    Decimal,
    BeforeValidator(_from_decimal128),
    Field(ge=ZERO, decimal_places=2),
    AfterValidator(cents),
]
Day: TypeAlias = Annotated[date, BeforeValidator(_to_date)]
Instant: TypeAlias = Annotated[datetime, AfterValidator(_to_utc)]
BillingPeriod: TypeAlias = Annotated[str, Field(pattern=BILLING_PERIOD_PATTERN)]
Sha256Hex: TypeAlias = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count: TypeAlias = Annotated[int, Field(ge=0, le=2_147_483_647)]
Version: TypeAlias = Annotated[int, Field(ge=1)]
Name: TypeAlias = Annotated[str, Field(min_length=1, max_length=200)]
Email: TypeAlias = Annotated[str, Field(min_length=1, max_length=320)]
Text: TypeAlias = Annotated[str, Field(max_length=2_000)]
