"""Time: the only module that reads the machine's clock (spec section 3, "Time")."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The present instant in UTC, cut to milliseconds, which is what MongoDB keeps."""
    return to_milliseconds(datetime.now(UTC))


def to_milliseconds(instant: datetime) -> datetime:
    """Cut an instant to whole milliseconds, so that it reads back equal from the database."""
    return instant.replace(microsecond=instant.microsecond // 1000 * 1000)


def business_day(instant: datetime, zone: ZoneInfo) -> date:
    """The calendar day of an instant in the business time zone."""
    return instant.astimezone(zone).date()


def instant_at(day: date, at: time, zone: ZoneInfo) -> datetime:
    """A time of a business day, in UTC."""
    return datetime.combine(day, at, tzinfo=zone).astimezone(UTC)


def start_of_day(day: date, zone: ZoneInfo) -> datetime:
    """The first instant of a business day, in UTC."""
    return instant_at(day, time.min, zone)


def as_stored_day(day: date) -> datetime:
    """How a calendar day is kept in MongoDB: midnight UTC of that date."""
    return datetime.combine(day, time.min, tzinfo=UTC)


def after(instant: datetime, *, seconds: float) -> datetime:
    """The instant so many seconds later."""
    return instant + timedelta(seconds=seconds)


def instant_to_json(value: datetime) -> str:
    """ISO 8601 in UTC with milliseconds and `Z`."""
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
