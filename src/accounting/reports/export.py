"""Invoices as a table for spreadsheets: the columns, and the rows of a list (spec section 5)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any, Final, TypeAlias
from zoneinfo import ZoneInfo

from accounting.clock import business_day
from accounting.invoices.listing import InvoiceFilter, InvoiceSort, walk_invoices
from accounting.invoices.rules import InvoiceStatus, balance_due, is_overdue
from accounting.platform.reader import CustomerSearch, Platform
from accounting.platform.rules import PlatformUser, UserId
from accounting.wording import one_line

CURRENCY: Final = "USD"

Cell: TypeAlias = str | int | Decimal | date | None
Row: TypeAlias = tuple[Cell, ...]


class Kind(Enum):
    """What the cells of a column hold; a cell of any kind may be None, which is nothing at all."""

    TEXT = "text"
    COUNT = "count"
    MONEY = "money"
    DAY = "day"
    FLAG = "flag"


@dataclass(frozen=True, slots=True)
class Column:
    """A column; `width` in characters, where a file can say it."""

    name: str
    kind: Kind
    width: int


# Names as in the API; money in CURRENCY, days in the business zone.
COLUMNS: Final = (
    Column("invoiceNumber", Kind.TEXT, 16),
    Column("status", Kind.TEXT, 12),
    Column("isOverdue", Kind.FLAG, 10),
    Column("customerName", Kind.TEXT, 26),
    Column("customerEmail", Kind.TEXT, 30),
    Column("customerCompany", Kind.TEXT, 28),
    Column("customerId", Kind.TEXT, 27),
    Column("billingPeriod", Kind.TEXT, 13),
    Column("totalMiners", Kind.COUNT, 12),
    Column("unitPrice", Kind.MONEY, 13),
    Column("totalAmount", Kind.MONEY, 15),
    Column("amountPaid", Kind.MONEY, 15),
    Column("balanceDue", Kind.MONEY, 15),
    Column("currency", Kind.TEXT, 9),
    Column("invoiceGeneratedDate", Kind.DAY, 20),
    Column("issuedDate", Kind.DAY, 12),
    Column("dueDate", Kind.DAY, 12),
    Column("paidDate", Kind.DAY, 12),
    Column("cancelledDate", Kind.DAY, 14),
    Column("refundedDate", Kind.DAY, 13),
)
_FIELDS: Final = (
    *("invoiceNumber", "status", "userId", "customer", "billingPeriod", "totalMiners"),
    *("unitPrice", "totalAmount", "amountPaid", "invoiceGeneratedDate", "issuedDate", "dueDate"),
    *("paidDate", "cancelledDate", "refundedDate"),
)


async def export_invoices(
    platform: Platform,
    customers: CustomerSearch,
    wanted: InvoiceFilter,
    zone: ZoneInfo,
    today: date,
    *,
    sort_by: InvoiceSort,
    descending: bool,
) -> AsyncIterator[list[Row]]:
    """The rows of all invoices of a list, in parts that are read when they are asked for.

    The customer is called as on the invoice; on a draft, as the platform calls him now.
    Raises SearchTooWide.
    """
    invoices = await walk_invoices(
        customers, wanted, zone, sort_by=sort_by, descending=descending, fields=_FIELDS
    )
    return _rows(invoices, platform, zone, today)


async def _rows(
    parts: AsyncIterator[list[dict[str, Any]]], platform: Platform, zone: ZoneInfo, today: date
) -> AsyncIterator[list[Row]]:
    async for invoices in parts:
        drafts = {raw["userId"] for raw in invoices if raw["customer"] is None}
        users = await platform.find_users(drafts) if drafts else {}
        yield [_row(raw, users, zone, today) for raw in invoices]


def _row(
    raw: Mapping[str, Any], users: Mapping[UserId, PlatformUser], zone: ZoneInfo, today: date
) -> Row:
    status, due = InvoiceStatus(raw["status"]), raw["dueDate"].date()
    return (
        raw["invoiceNumber"],
        raw["status"],
        is_overdue(status, due, today),
        *_customer(raw, users),
        raw["billingPeriod"],
        raw["totalMiners"],
        raw["unitPrice"],
        raw["totalAmount"],
        raw["amountPaid"],
        balance_due(raw["totalAmount"], raw["amountPaid"]),
        CURRENCY,
        raw["invoiceGeneratedDate"].date(),
        _day(raw["issuedDate"], zone),
        due,
        _day(raw["paidDate"], zone),
        _day(raw["cancelledDate"], zone),
        _day(raw["refundedDate"], zone),
    )


def _customer(raw: Mapping[str, Any], users: Mapping[UserId, PlatformUser]) -> Iterable[Cell]:
    user_id, frozen = raw["userId"], raw["customer"]
    if frozen is not None:
        texts: Sequence[str | None] = (frozen["name"], frozen["email"], frozen["companyName"])
    elif user := users.get(user_id):
        texts = user.name, user.email, user.company_name
    else:
        texts = None, None, None
    return (*map(_line, texts), str(user_id))


def _line(text: str | None) -> str | None:
    # Somebody else's words: a line break in them must not look like another row.
    return text if text is None or text.isprintable() else one_line(text)


def _day(instant: datetime | None, zone: ZoneInfo) -> date | None:
    return None if instant is None else business_day(instant, zone)
