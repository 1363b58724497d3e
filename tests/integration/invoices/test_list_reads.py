"""What a page of a list costs: reads of its rows, and none that only looks what there is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from accounting.db.client import MongoDatabase
from accounting.db.paging import Order, Page, Window, write_cursor
from accounting.db.totals import Totals
from accounting.dev.processes import Server
from accounting.ids import ObjectId, new_id
from accounting.invoices.list_plan import FEW
from accounting.invoices.listing import InvoiceFilter, InvoiceSort, list_invoices
from accounting.invoices.rules import InvoiceStatus
from builders import TERMS, a_customer
from fakes import FakePlatform
from many_invoices import many_invoices
from overheard import Ear, overheard

NUMBER = 6_000
CUSTOMERS = [ObjectId(f"{serial:024x}") for serial in range(1, 151)]
COUNTED_MAX = 200
FIRST, LAST = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)
# Ranges with thousands of invoices, in the order of creation.
RANGES: dict[str, dict[str, Any]] = {
    "due until": {"due_to": date(2024, 3, 1)},
    "issued until": {"issued_to": date(2024, 3, 1)},
    "issued since": {"issued_from": date(2022, 3, 1)},
    "a year of issue": {"issued_from": date(2023, 3, 1), "issued_to": date(2024, 3, 1)},
    "paid, a year of issue": {
        "issued_from": date(2023, 3, 1),
        "issued_to": date(2024, 3, 1),
        "statuses": [InvoiceStatus.PAID],
    },
}


@dataclass
class Reads(Ear):
    """The reads of invoices, by name."""

    names: list[str] = field(default_factory=list)

    def started(self, event: Any) -> None:
        if "invoices" in event.command.values():
            self.names.append(event.command_name)


@pytest.fixture
async def reads(real_mongo: MongoDatabase, mongod: Server) -> AsyncIterator[Reads]:
    reads = Reads()
    async with overheard(real_mongo, mongod, reads, many_invoices(NUMBER, CUSTOMERS)):
        yield reads


@pytest.fixture
async def totals() -> AsyncIterator[Totals]:
    totals = Totals(counted_max=COUNTED_MAX)
    yield totals
    await totals.close()


@pytest.fixture
def platform() -> FakePlatform:
    platform = FakePlatform()
    for customer_id in CUSTOMERS:
        platform.add_user(a_customer(id=customer_id, name="Ada"))
    return platform


async def read(
    platform: FakePlatform, totals: Totals, window: Window, **facts: Any
) -> Page[dict[str, Any]]:
    return await list_invoices(
        platform,
        InvoiceFilter(**facts),
        TERMS.zone,
        sort_by=InvoiceSort.CREATED_AT,
        descending=True,
        window=window,
        totals=totals,
    )


@pytest.mark.parametrize("name", RANGES)
async def test_a_page_of_days_is_one_read_and_the_place_where_it_begins(
    reads: Reads, totals: Totals, platform: FakePlatform, name: str
) -> None:
    first = await read(platform, totals, Window(10, 1), **RANGES[name])
    assert first.total is not None
    assert first.total > COUNTED_MAX
    assert first.next_cursor is not None
    reads.names.clear()

    again = await read(platform, totals, Window(10, 1), **RANGES[name])
    by_number = list(reads.names)
    reads.names.clear()
    window = Window(10, None, first.next_cursor)
    following = await read(platform, totals, window, **RANGES[name])
    by_cursor = list(reads.names)

    assert again == first
    # A few are found and sorted; what is newer than all that was counted may be counted besides.
    begins = first.total > FEW
    assert [each for each in by_number if each == "find"] == ["find"] * (1 + begins)
    assert len(by_number) - by_number.count("find") <= 1
    # Behind a cursor: what has its very instant, and what follows. How few there are is asked.
    assert by_cursor == [*([] if begins else ["aggregate"]), "find", "find"]
    assert not {row["_id"] for row in following.items} & {row["_id"] for row in first.items}


@pytest.mark.parametrize("descending", [True, False], ids=["descending", "ascending"])
@pytest.mark.parametrize("at", [FIRST, LAST], ids=["first", "last"])
async def test_a_cursor_may_name_any_instant(
    reads: Reads, platform: FakePlatform, at: datetime, descending: bool
) -> None:
    order = Order(InvoiceSort.CREATED_AT.value, descending)

    found = await list_invoices(
        platform,
        InvoiceFilter(due_to=date(2024, 3, 1)),
        TERMS.zone,
        sort_by=InvoiceSort.CREATED_AT,
        descending=descending,
        window=Window(10, None, write_cursor(order, at, CUSTOMERS[0])),
    )

    everything_follows = (at == LAST) == descending
    assert len(found.items) == (10 if everything_follows else 0)


async def test_a_search_that_finds_many_customers_is_soon_counted_no_more(
    reads: Reads, totals: Totals, platform: FakePlatform
) -> None:
    async def total() -> int | None:
        return (await read(platform, totals, Window(10, 1), search="ada")).total

    for _ in range(2_000):
        reads.names.clear()
        assert await total() == NUMBER
        if reads.names == ["find"]:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it is still counted")


async def test_few_invoices_of_many_customers_are_counted_each_time(
    reads: Reads, platform: FakePlatform, real_mongo: MongoDatabase
) -> None:
    totals = Totals()
    [one] = many_invoices(1, CUSTOMERS, seed=99)

    async def total() -> int | None:
        return (await read(platform, totals, Window(10, 1), search="ada")).total

    await real_mongo["invoices"].delete_many({"totalAmount": {"$gte": Decimal("1000.00")}})
    before = await total()
    await asyncio.sleep(0.3)
    await real_mongo["invoices"].insert_one(one | {"_id": new_id(), "invoiceNumber": "2030010101"})

    assert before is not None
    assert await total() == before + 1
    await totals.close()
