"""The building blocks of bodies: camelCase, unknown fields refused, money as strings."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, Final, TypeAlias
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
)
from pydantic.alias_generators import to_camel

from accounting.clock import instant_to_json
from accounting.db.fields import BILLING_PERIOD_PATTERN
from accounting.errors import Invalid
from accounting.ids import ObjectId, StoredId
from accounting.money import AMOUNT_MAX, CENT, UNIT_PRICE_MAX, cents

# Wide enough for every invoice, narrow enough that adding days or a time zone cannot overflow.
DAY_MIN: Final = date(2000, 1, 1)
DAY_MAX: Final = date(2999, 12, 31)
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


class BodyIn(BaseModel):
    """A request body."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=False, extra="forbid", frozen=True
    )


class BodyOut(BaseModel):
    """A response body; built from documents by attribute."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, from_attributes=True, frozen=True
    )


def parse_id(field: str, text: str) -> ObjectId:
    """An id from 24 hex digits. Raises Invalid naming the field."""
    if not ObjectId.is_valid(text):
        raise Invalid(f"{field} {text!r} is not an id.", errors=[(field, "must be 24 hex digits")])
    return ObjectId(text)


def to_instant(value: datetime | None, zone: ZoneInfo) -> datetime | None:
    """An instant in UTC; one without an offset, or a bare date, is meant in the business zone."""
    if value is None:
        return None
    return (value if value.tzinfo else value.replace(tzinfo=zone)).astimezone(UTC)


def check_day(field: str, day: date | None) -> date | None:
    """A day of a query that is in range. Raises Invalid naming the field."""
    if day is not None and not DAY_MIN <= day <= DAY_MAX:
        rule = f"must be between {DAY_MIN} and {DAY_MAX}"
        raise Invalid(f"{field} {rule}.", errors=[(field, rule)])
    return day


def check_amount(field: str, amount: Decimal | None) -> Decimal | None:
    """An amount of a query that money can have. Raises Invalid naming the field."""
    if amount is None:
        return None
    if not amount.is_finite() or abs(amount) > AMOUNT_MAX or amount != cents(amount):
        rule = f"must be an amount of at most {AMOUNT_MAX} with at most two decimals"
        raise Invalid(f"{field} {rule}.", errors=[(field, rule)])
    return cents(amount)


def _written_as_day(value: object) -> object:
    # Pydantic would take numbers, also in quotes, for seconds since 1970.
    if not isinstance(value, str) or not _DAY.fullmatch(value):
        raise ValueError("must be a day as YYYY-MM-DD")
    return value


def _written_as_instant(value: object) -> object:
    if not isinstance(value, str) or not _DAY.match(value):
        raise ValueError("must be an ISO 8601 instant or a day as YYYY-MM-DD")
    return value


def _only_whole(value: object) -> object:
    # Litestar asks Pydantic for lax validation, which would take "5" and true for numbers.
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError("must be a whole number")
    return value


def _storable(value: str) -> str:
    # The database takes NUL in no string that it may be asked to match.
    if "\x00" in value:
        raise ValueError("must not contain NUL characters")
    return value


def _in_years(value: date) -> date:
    if not DAY_MIN.year <= value.year <= DAY_MAX.year:
        raise ValueError(f"must be between {DAY_MIN} and {DAY_MAX}")
    return value


def _money_text(value: object) -> object:
    return f"{value:.2f}" if isinstance(value, Decimal) else value


def to_day(value: date) -> date:
    """A day that may be stored as its midnight."""
    return value.date() if isinstance(value, datetime) else value


def _day_text(value: object) -> object:
    return to_day(value).isoformat() if isinstance(value, date) else value


def _instant_text(value: object) -> object:
    return instant_to_json(value) if isinstance(value, datetime) else value


def _id_text(value: object) -> object:
    return str(value) if isinstance(value, StoredId) else value


JsonObject: TypeAlias = dict[str, Any]


def text_schema(**more: Any) -> JsonObject:
    """For the document alone. Not `json_schema_extra`: Litestar writes into that, for all users."""
    return {"type": "string", **more}


def _money_schema(most: Decimal, example: str) -> JsonObject:
    # Whatever has this form is accepted; numbers are as well, but nobody should send money so.
    more_digits = len(str(int(most))) - 1
    whole = rf"[1-9][0-9]{{0,{more_digits}}}(\.[0-9]{{1,2}})?"
    pattern = rf"^({whole}|0\.([1-9][0-9]?|0[1-9]))$"
    return text_schema(pattern=pattern, examples=[example])


# The days between DAY_MIN and DAY_MAX.
_DAY_PATTERN: Final = "2[0-9]{3}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
_HOUR_PATTERN: Final = "([01][0-9]|2[0-3])"
_TIME_PATTERN: Final = rf"{_HOUR_PATTERN}(:[0-5][0-9]){{2}}(\.[0-9]{{1,6}})?"
_OFFSET_PATTERN: Final = rf"(Z|[+-]{_HOUR_PATTERN}:[0-5][0-9])"
DAY_SCHEMA: Final = text_schema(format="date", pattern=f"^{_DAY_PATTERN}$", examples=["2026-02-11"])
_INSTANT_SCHEMA: Final[JsonObject] = {
    "anyOf": [
        text_schema(
            format="date-time", pattern=f"^{_DAY_PATTERN}T{_TIME_PATTERN}{_OFFSET_PATTERN}$"
        ),
        DAY_SCHEMA,
    ],
    "examples": ["2026-01-12T09:30:00Z"],
}


# What comes in.
ID_SCHEMA: Final = text_schema(pattern="^[0-9a-fA-F]{24}$", examples=["66f0c0ffee00000000000101"])
IdIn: TypeAlias = Annotated[str, Field(pattern=ID_SCHEMA["pattern"]), WithJsonSchema(ID_SCHEMA)]
UnitPriceIn: TypeAlias = Annotated[
    Decimal,
    Field(ge=CENT, le=UNIT_PRICE_MAX, max_digits=10, decimal_places=2),
    AfterValidator(cents),
    WithJsonSchema(_money_schema(UNIT_PRICE_MAX, "100.00")),
]
AmountIn: TypeAlias = Annotated[
    Decimal,
    Field(ge=CENT, le=AMOUNT_MAX, max_digits=12, decimal_places=2),
    AfterValidator(cents),
    WithJsonSchema(_money_schema(AMOUNT_MAX, "250.00")),
]
ONLY_WHOLE: Final = BeforeValidator(_only_whole)  # after the limits: else the schema loses them
DayIn: TypeAlias = Annotated[
    date,
    BeforeValidator(_written_as_day),
    AfterValidator(_in_years),
    WithJsonSchema(DAY_SCHEMA),
]
InstantIn: TypeAlias = Annotated[
    datetime,
    BeforeValidator(_written_as_instant),
    AfterValidator(_in_years),
    WithJsonSchema(_INSTANT_SCHEMA),
]
ReasonIn: TypeAlias = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=2_000),
    AfterValidator(_storable),
    WithJsonSchema(
        text_schema(
            pattern=r"^[^\x00]*[^\x00\s][^\x00]*$",
            maxLength=2_000,
            examples=["Wrong number of miners."],
        )
    ),
]
PeriodIn: TypeAlias = Annotated[str, Field(pattern=BILLING_PERIOD_PATTERN, examples=["2026-01"])]

# What goes out: text, made from the stored value.
IdOut: TypeAlias = Annotated[
    str,
    BeforeValidator(_id_text),
    Field(pattern=r"^[0-9a-f]{24}$", examples=["66f0c0ffee00000000000101"]),
]
MoneyOut: TypeAlias = Annotated[
    str,
    BeforeValidator(_money_text),
    Field(pattern=r"^-?[0-9]+\.[0-9]{2}$", examples=["1250.00"]),
]
DayOut: TypeAlias = Annotated[
    str, BeforeValidator(_day_text), WithJsonSchema(text_schema(format="date"))
]
InstantOut: TypeAlias = Annotated[
    str, BeforeValidator(_instant_text), WithJsonSchema(text_schema(format="date-time"))
]
NumberOut: TypeAlias = Annotated[
    str, WithJsonSchema(text_schema(pattern="^[0-9]{9,20}$", examples=["2026011201"]))
]
PeriodOut: TypeAlias = Annotated[
    str, WithJsonSchema(text_schema(pattern=BILLING_PERIOD_PATTERN, examples=["2026-01"]))
]
NameOut: TypeAlias = Annotated[str, Field(examples=["Ada Holm"])]
CompanyOut: TypeAlias = Annotated[str, Field(examples=["Northern Hash Ltd"])]
EmailOut: TypeAlias = Annotated[str, Field(examples=["ada@example.com"])]
CountOut: TypeAlias = Annotated[int, Field(ge=0)]
# For what is most often not there, so that an example tells one story.
NULL_EXAMPLE: Final = Field(examples=[None])
CursorOut: TypeAlias = Annotated[
    str | None, Field(description="Leads on; null at the end."), NULL_EXAMPLE
]


class SortDirection(StrEnum):
    """The order of a list."""

    ASCENDING = "asc"
    DESCENDING = "desc"


class Pagination(BodyOut):
    """Where a page stands in its list; with a cursor nothing is counted and only `limit` is set."""

    page: Annotated[int | None, Field(examples=[1])]
    limit: Annotated[int, Field(examples=[10])]
    total: Annotated[int | None, Field(examples=[1])]
    pages: Annotated[int | None, Field(examples=[1])]


def pagination(page: int | None, limit: int, total: int | None) -> Pagination:
    """The numbers of a page; an empty list has no pages."""
    pages = None if total is None else -(-total // limit)
    return Pagination(page=page, limit=limit, total=total, pages=pages)
