"""Lists in order of creation, narrowed by other times: complete and in order, however read.

The rows are those that the shortcuts could stumble over: invoices that were issued years before
they were made, due years later, and many that were made at the same instant.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from accounting.clock import as_stored_day, start_of_day
from accounting.db.client import MongoDatabase
from accounting.db.paging import Window
from accounting.ids import ObjectId
from accounting.invoices.listing import InvoiceFilter, InvoiceSort, list_invoices
from accounting.invoices.rules import InvoiceStatus
from fakes import FakePlatform
from many_invoices import many_invoices

NUMBER = 6_000
CUSTOMERS = [ObjectId(f"{serial:024x}") for serial in range(1, 41)]
ZONE = ZoneInfo("America/New_York")
TODAY = date(2025, 12, 20)
Row = dict[str, Any]


def issued(first: date | None, last: date | None) -> Callable[[Row], bool]:
    low = start_of_day(first, ZONE) if first else datetime.min.replace(tzinfo=UTC)
    end = start_of_day(last + timedelta(days=1), ZONE) if last else datetime.max.replace(tzinfo=UTC)
    return lambda row: row["issuedDate"] is not None and low <= row["issuedDate"] < end


def due(first: date | None, last: date | None) -> Callable[[Row], bool]:
    return lambda row: (first or date.min) <= row["dueDate"].date() <= (last or date.max)


MAY, JUNE, LATER = date(2022, 5, 1), date(2022, 6, 1), date(2024, 10, 1)
# What is asked for, and what it means.
FILTERS: dict[str, tuple[dict[str, Any], Callable[[Row], bool]]] = {
    "a month of issue": ({"issued_from": MAY, "issued_to": JUNE}, issued(MAY, JUNE)),
    "years of issue": ({"issued_from": MAY, "issued_to": LATER}, issued(MAY, LATER)),
    "issued since": ({"issued_from": MAY}, issued(MAY, None)),
    "issued until": ({"issued_to": LATER}, issued(None, LATER)),
    "a month of dueDate": ({"due_from": MAY, "due_to": JUNE}, due(MAY, JUNE)),
    "years of dueDate": ({"due_from": MAY, "due_to": LATER}, due(MAY, LATER)),
    "due since": ({"due_from": MAY}, due(MAY, None)),
    "due until": ({"due_to": LATER}, due(None, LATER)),
    "paid, years of issue": (
        {"issued_to": LATER, "statuses": [InvoiceStatus.PAID]},
        lambda row: issued(None, LATER)(row) and row["status"] == "PAID",
    ),
    "cancelled, a year of issue": (
        {"issued_from": MAY, "issued_to": LATER, "statuses": [InvoiceStatus.CANCELLED]},
        lambda row: issued(MAY, LATER)(row) and row["status"] == "CANCELLED",
    ),
    "issued and due": (
        {"issued_to": LATER, "due_from": MAY},
        lambda row: issued(None, LATER)(row) and due(MAY, None)(row),
    ),
    "numbers of years": ({"search": "202"}, lambda row: True),
    "numbers of a year": ({"search": "2023"}, lambda row: row["invoiceNumber"].startswith("2023")),
    "numbers of a month": (
        {"search": "202305"},
        lambda row: row["invoiceNumber"].startswith("202305"),
    ),
    "overdue": (
        {"overdue_on": TODAY},
        lambda row: (
            row["status"] == "OVERDUE"
            or (row["status"] == "ISSUED" and row["dueDate"] < as_stored_day(TODAY))
        ),
    ),
}


def strange_rows() -> list[Row]:
    dice = random.Random(5)
    rows = list(many_invoices(NUMBER, CUSTOMERS))
    for position, row in enumerate(rows):
        if position % 300 < 150:  # a whole run of invoices has one instant
            row["createdAt"] = rows[position - position % 300]["createdAt"]
        if position % 40 == 0 and row["issuedDate"]:
            row["issuedDate"] += timedelta(days=dice.randint(-900, 900))
            row["issuedDay"] = as_stored_day(row["issuedDate"].date())
        if position % 45 == 0:
            row["dueDate"] += timedelta(days=dice.randint(0, 900))
    dice.shuffle(rows)
    return rows


@pytest.fixture
async def rows(real_mongo: MongoDatabase) -> list[Row]:
    rows = strange_rows()
    await real_mongo["invoices"].insert_many(rows, ordered=False)
    return rows


async def read(facts: dict[str, Any], descending: bool, window: Window) -> Any:
    return await list_invoices(
        FakePlatform(),
        InvoiceFilter(**facts),
        ZONE,
        sort_by=InvoiceSort.CREATED_AT,
        descending=descending,
        window=window,
    )


@pytest.mark.parametrize("descending", [True, False], ids=["descending", "ascending"])
async def test_cursors_lead_through_all_rows_in_order(rows: list[Row], descending: bool) -> None:
    for name, (facts, is_wanted) in FILTERS.items():
        wanted = sorted(
            ((row["createdAt"], row["_id"]) for row in rows if is_wanted(row)), reverse=descending
        )
        found: list[Any] = []
        cursor: str | None = ""
        while cursor is not None:
            page = await read(facts, descending, Window(97, None, cursor))
            found += [(item["createdAt"], item["_id"]) for item in page.items]
            cursor = page.next_cursor

        assert len(wanted) > 10, name
        assert found == wanted, name


@pytest.mark.parametrize("descending", [True, False], ids=["descending", "ascending"])
async def test_pages_are_parts_of_the_whole(rows: list[Row], descending: bool) -> None:
    for name, (facts, is_wanted) in FILTERS.items():
        wanted = sorted(
            ((row["createdAt"], row["_id"]) for row in rows if is_wanted(row)), reverse=descending
        )
        for number in (1, 2, 7, len(wanted) // 10, len(wanted) // 10 + 1):
            page = await read(facts, descending, Window(10, number))
            found = [(item["createdAt"], item["_id"]) for item in page.items]

            assert found == wanted[(number - 1) * 10 : number * 10], f"{name}, page {number}"
            assert page.total == len(wanted), name


async def test_overdue_ones_are_the_same_before_and_after_they_are_marked(
    rows: list[Row], real_mongo: MongoDatabase
) -> None:
    late = {"status": "ISSUED", "dueDate": {"$lt": as_stored_day(TODAY)}}
    before = await read({"overdue_on": TODAY}, True, Window(100, 1))

    marked = await real_mongo["invoices"].update_many(late, {"$set": {"status": "OVERDUE"}})
    after = await read({"overdue_on": TODAY}, True, Window(100, 1))

    assert marked.modified_count > 0
    assert [item["_id"] for item in after.items] == [item["_id"] for item in before.items]
    assert after.total == before.total
