"""Lists in pages on the real server: nothing twice, nothing lost, nothing believed unchecked."""

from __future__ import annotations

import asyncio
import itertools
import random
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any

import bson
import pytest

from accounting.db.client import CODEC_OPTIONS, MongoDatabase
from accounting.db.paging import (
    CURSOR_CHARACTERS_MAX,
    CursorNotValid,
    Order,
    Reading,
    Window,
    list_page,
    to_window,
    walk,
)
from accounting.errors import Invalid
from accounting.ids import ObjectId, new_id
from accounting.invoices.documents import Invoice
from many_invoices import many_invoices

CUSTOMERS = [ObjectId(f"{serial:024x}") for serial in range(1, 6)]
NUMBER = 400
ORDERS = [
    Order(field, is_descending, is_unique=field == "invoiceNumber")
    # Many equal values, null, Decimal128, days, instants, text, the id itself.
    for field in (
        "status",
        "paidDate",
        "totalAmount",
        "dueDate",
        "createdAt",
        "invoiceNumber",
        "_id",
    )
    for is_descending in (True, False)
]
by_order = pytest.mark.parametrize(
    "order", ORDERS, ids=lambda order: f"{order.field}-{'desc' if order.is_descending else 'asc'}"
)


@pytest.fixture
async def invoices(real_mongo: MongoDatabase) -> list[dict[str, Any]]:
    rows = list(many_invoices(NUMBER, CUSTOMERS))
    # Insertion order and the order of ids are not the same.
    random.Random(3).shuffle(rows)
    await real_mongo["invoices"].insert_many(rows)
    return rows


async def walk_by_cursor(order: Order, limit: int = 7) -> AsyncIterator[Invoice]:
    cursor: str | None = ""
    while cursor is not None:
        page = await list_page(Invoice, {}, order, Window(limit, None, cursor))
        assert (page.number, page.total) == (None, None)
        assert len(page.items) == limit or page.next_cursor is None
        for invoice in page.items:
            yield invoice
        cursor = page.next_cursor


def sort_value(row: dict[str, Any], order: Order) -> tuple[Any, ...]:
    value = row[order.field]
    return (value is not None, value if value is not None else 0, row["_id"])


@by_order
async def test_a_walk_by_cursor_meets_every_row_once_and_in_order(
    invoices: list[dict[str, Any]], order: Order
) -> None:
    met = [invoice.id async for invoice in walk_by_cursor(order)]

    expected = sorted(invoices, key=lambda row: sort_value(row, order), reverse=order.is_descending)
    assert met == [row["_id"] for row in expected]


@by_order
async def test_rows_that_come_and_go_meanwhile_shift_nothing(
    invoices: list[dict[str, Any]], real_mongo: MongoDatabase, order: Order
) -> None:
    collection, dice = real_mongo["invoices"], random.Random(5)
    passing = [row["_id"] for row in invoices[:50]]
    staying = {row["_id"] for row in invoices[50:]}
    others = [
        row | {"_id": new_id(), "invoiceNumber": f"9{row['invoiceNumber']}"}
        for row in many_invoices(300, CUSTOMERS, seed=11)
    ]
    dice.shuffle(others)

    async def write() -> None:
        for row in others:
            await collection.insert_one(row)
            if passing and dice.random() < 0.3:
                await collection.delete_one({"_id": passing.pop()})

    writing = asyncio.create_task(write())
    met = []
    async for invoice in walk_by_cursor(order, limit=5):
        met.append(invoice.id)
        await asyncio.sleep(0)
    await writing

    assert len(met) == len(set(met))
    assert staying <= set(met)


@by_order
@pytest.mark.parametrize("at_once", [7, NUMBER, NUMBER + 1])
async def test_a_whole_list_is_walked_in_parts_and_in_order(
    invoices: list[dict[str, Any]], order: Order, at_once: int
) -> None:
    query, fields = {"userId": {"$in": CUSTOMERS[:4]}}, ("invoiceNumber",)
    parts = [
        part async for part in walk(Invoice, Reading(query), order, fields=fields, at_once=at_once)
    ]

    wanted = [row for row in invoices if row["userId"] in CUSTOMERS[:4]]
    expected = sorted(wanted, key=lambda row: sort_value(row, order), reverse=order.is_descending)
    met = [row for part in parts for row in part]
    assert [row["_id"] for row in met] == [row["_id"] for row in expected]
    assert met[0].keys() == {"_id", "invoiceNumber", order.field}
    assert all(0 < len(part) <= at_once for part in parts)


async def test_decimals_are_ordered_as_numbers(invoices: list[dict[str, Any]]) -> None:
    amounts = [
        invoice.total_amount async for invoice in walk_by_cursor(Order("totalAmount", False))
    ]

    assert all(before <= after for before, after in pairwise(amounts))
    assert min(amounts) < Decimal(1000) < max(amounts)  # as texts "1000" comes before "999"


async def test_pages_by_number_are_counted_and_lead_on_by_cursor(
    invoices: list[dict[str, Any]],
) -> None:
    order, query = Order("createdAt"), {"userId": CUSTOMERS[0]}
    first = await list_page(Invoice, query, order, Window(10, 1))
    second = await list_page(Invoice, query, order, Window(10, 2))
    after_first = await list_page(Invoice, query, order, Window(10, None, first.next_cursor or ""))
    beyond = await list_page(Invoice, query, order, Window(10, 999_999))

    number = sum(row["userId"] == CUSTOMERS[0] for row in invoices)
    assert (first.total, second.total, beyond.total) == (number, number, number)
    assert second.number == 2
    assert [row.id for row in second.items] == [row.id for row in after_first.items]
    assert (beyond.items, beyond.next_cursor) == ([], None)


async def test_the_last_page_ends_the_walk_also_when_it_is_full(
    invoices: list[dict[str, Any]],
) -> None:
    order = Order("createdAt")
    half = await list_page(Invoice, {}, order, Window(NUMBER // 2, None))
    rest = await list_page(Invoice, {}, order, Window(NUMBER // 2, None, half.next_cursor or ""))

    assert half.next_cursor is not None
    assert (len(rest.items), rest.next_cursor) == (NUMBER // 2, None)


def test_a_page_and_a_cursor_exclude_each_other() -> None:
    assert to_window(None, 10, None) == Window(10, 1)
    assert to_window(3, 10, None) == Window(10, 3)
    assert to_window(None, 10, "") == Window(10, None, "")
    with pytest.raises(Invalid) as refused:
        to_window(1, 10, "")
    assert refused.value.errors == (("cursor", "cannot be given together with page"),)


def a_cursor(**changes: Any) -> str:
    content = {
        "field": "createdAt",
        "descending": True,
        "value": datetime(2024, 1, 1, tzinfo=UTC),
        "id": bson.ObjectId(),
    }
    encoded = bson.encode(content | changes, codec_options=CODEC_OPTIONS)
    return urlsafe_b64encode(encoded).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        "AAAA",
        "ünïcode",
        "%00",
        "eyJmaWVsZCI6ICJjcmVhdGVkQXQifQ",
        "A" * (CURSOR_CHARACTERS_MAX + 1),
        a_cursor(field="totalAmount"),
        a_cursor(field={"$gt": ""}),
        a_cursor(descending=False),
        a_cursor(descending="true"),
        a_cursor(value=None),  # every invoice has been created
        a_cursor(value="2024-01-01"),
        a_cursor(value=5),
        a_cursor(value={"$gt": ""}),
        a_cursor(value=[datetime(2024, 1, 1, tzinfo=UTC)]),
        a_cursor(value=bson.Regex(".*")),
        a_cursor(id="66f0c0ffee00000000000101"),
        a_cursor(id={"$ne": None}),
        a_cursor(id=None),
        a_cursor(more=1),
    ],
    ids=(f"cursor {number}" for number in itertools.count(1)),
)
async def test_a_cursor_that_this_list_did_not_give_out_is_refused(
    real_mongo: MongoDatabase, cursor: str
) -> None:
    with pytest.raises(CursorNotValid) as refused:
        await list_page(Invoice, {}, Order("createdAt"), Window(10, None, cursor))

    assert [field for field, _ in refused.value.errors] == ["cursor"]


async def test_a_status_that_does_not_exist_is_no_cursor(real_mongo: MongoDatabase) -> None:
    window = Window(10, None, a_cursor(field="status", value="LOST"))

    with pytest.raises(CursorNotValid):
        await list_page(Invoice, {}, Order("status"), window)


async def test_bytes_changed_by_chance_never_are_a_server_error(
    real_mongo: MongoDatabase,
) -> None:
    dice = random.Random(9)
    original = urlsafe_b64decode(a_cursor() + "==")
    refused = 0
    for _ in range(1_500):
        changed = bytearray(original)
        for _ in range(dice.randint(1, 4)):
            changed[dice.randrange(len(changed))] = dice.randrange(256)
        cursor = urlsafe_b64encode(bytes(changed)).decode()
        try:
            await list_page(Invoice, {}, Order("createdAt"), Window(10, None, cursor))
        except CursorNotValid:
            refused += 1

    assert refused > 500
