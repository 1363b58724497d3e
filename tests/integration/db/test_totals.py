"""Totals that are too many to be counted each time: right, fresh enough, and asked for once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pymongo.errors import OperationFailure

from accounting.audit.documents import AuditLog
from accounting.audit.listing import AuditFilter, list_entries
from accounting.audit.rules import AuditAction, EntityType
from accounting.db.client import MongoDatabase
from accounting.db.paging import Window
from accounting.db.totals import REMEMBERED_SECONDS, RENEWED_SECONDS, Asked, Totals
from accounting.dev.processes import Server
from accounting.ids import ObjectId, new_id
from accounting.invoices.documents import Invoice
from accounting.invoices.listing import InvoiceFilter, InvoiceSort, list_invoices
from accounting.invoices.rules import InvoiceStatus
from fakes import FakePlatform, Stopwatch
from many_invoices import many_invoices
from overheard import Ear, overheard

UTC_ZONE, NEW_YORK = ZoneInfo("UTC"), ZoneInfo("America/New_York")
NUMBER = 3_000
CUSTOMERS = [ObjectId(f"{serial:024x}") for serial in range(1, 31)]
NOW = datetime(2026, 2, 1, 12, tzinfo=UTC)
FILTERS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "a status": {"statuses": [InvoiceStatus.PAID]},
    "statuses": {"statuses": [InvoiceStatus.CANCELLED, InvoiceStatus.REFUNDED]},
    "overdue": {"overdue_on": date(2026, 1, 1)},
    "billingPeriod": {"billing_period": "2023-05"},
    "startDate": {"issued_from": date(2021, 6, 11)},
    "startDate and endDate": {"issued_from": date(2022, 5, 3), "issued_to": date(2023, 2, 11)},
    "endDate": {"issued_to": date(2025, 10, 1)},
    "endDate to come": {"issued_to": date(2031, 10, 1)},
    "startDate to come": {"issued_from": date(2030, 10, 1)},
    "dueFrom and dueTo": {"due_from": date(2022, 5, 1), "due_to": date(2024, 5, 31)},
    "dueTo": {"due_to": date(2024, 5, 31)},
    "minAmount": {"amount_min": Decimal("100.37")},
    "minAmount and maxAmount": {"amount_min": Decimal("1.00"), "amount_max": Decimal("5000.25")},
    "an amount": {"amount_min": Decimal("1000.00"), "amount_max": Decimal("1000.00")},
    "status and endDate": {"statuses": [InvoiceStatus.PAID], "issued_to": date(2025, 10, 1)},
    "two ranges": {"issued_to": date(2025, 10, 1), "amount_min": Decimal(500)},
    "a customer": {"customer_id": CUSTOMERS[2]},
    "a customer and a range": {"customer_id": CUSTOMERS[2], "issued_from": date(2022, 1, 1)},
    "q, a number": {"search": "2023"},
}


class Counted(Ear):
    """How many counts were sent."""

    number = 0

    def started(self, event: Any) -> None:
        self.number += event.command_name == "aggregate"


@pytest.fixture
def watch() -> Stopwatch:
    return Stopwatch(0.0)


@pytest.fixture
async def totals(watch: Stopwatch) -> AsyncIterator[Totals]:
    """Totals that add up from pieces whatever is more than 20."""
    totals = Totals(clock=lambda: NOW, counted_max=20, monotonic=watch)
    yield totals
    await totals.close()


@pytest.fixture
async def counted(mongod: Server, real_mongo: MongoDatabase) -> AsyncIterator[Counted]:
    """Thousands of invoices, and what is counted of them from here on."""
    counted = Counted()
    async with overheard(real_mongo, mongod, counted, many_invoices(NUMBER, CUSTOMERS)):
        yield counted


async def total_of(totals: Totals | None, zone: ZoneInfo = UTC_ZONE, **facts: Any) -> int | None:
    page = await list_invoices(
        FakePlatform(),
        InvoiceFilter(**facts),
        zone,
        sort_by=InvoiceSort.CREATED_AT,
        descending=True,
        window=Window(1),
        totals=totals,
    )
    return page.total


async def until_nothing_is_counted(counted: Counted) -> None:
    number = -1
    while number != counted.number:
        number = counted.number
        await asyncio.sleep(0.3)


async def add_an_invoice(issued: datetime) -> None:
    [invoice] = many_invoices(1, CUSTOMERS, seed=99)
    invoice |= {"_id": new_id(), "invoiceNumber": "2030010101", "issuedDate": issued}
    await Invoice.get_motor_collection().insert_one(invoice)


def an_entry(at: datetime, seq: int = 1) -> dict[str, Any]:
    return {
        "_id": new_id(),
        "action": "INVOICE_CREATED",
        "entityType": "Invoice",
        "entityId": new_id(),
        "userId": CUSTOMERS[0],
        "changes": None,
        "description": "created",
        "ipAddress": None,
        "userAgent": None,
        "requestId": None,
        "createdAt": at,
        "seq": seq,
        "prevHash": "0" * 64,
        "hash": "1" * 64,
    }


@pytest.mark.usefixtures("counted")
@pytest.mark.parametrize("zone", [UTC_ZONE, NEW_YORK], ids=str)
async def test_every_total_is_what_counting_says(totals: Totals, zone: ZoneInfo) -> None:
    for name, facts in FILTERS.items():
        expected = await total_of(None, zone, **facts)
        assert await total_of(totals, zone, **facts) == expected, name
        assert await total_of(totals, zone, **facts) == expected, f"{name}, remembered"


@pytest.mark.usefixtures("counted")
async def test_few_rows_are_counted_each_time(totals: Totals) -> None:
    facts = {"issued_from": date(2030, 1, 1)}
    before = await total_of(totals, **facts)

    await add_an_invoice(datetime(2030, 1, 1, 9, tzinfo=UTC))

    assert (before, await total_of(totals, **facts)) == (0, 1)


@pytest.mark.usefixtures("counted")
async def test_a_total_of_many_rows_is_at_most_a_minute_old(
    totals: Totals, watch: Stopwatch
) -> None:
    facts = {"issued_from": date(2022, 1, 1)}
    before = await total_of(totals, **facts)
    assert before is not None

    await add_an_invoice(datetime(2023, 5, 5, 9, tzinfo=UTC))

    watch.seconds = REMEMBERED_SECONDS - 0.1
    assert await total_of(totals, **facts) == before
    watch.seconds = REMEMBERED_SECONDS
    assert await total_of(totals, **facts) == before + 1


async def test_what_is_asked_for_often_is_counted_again_before_it_is_forgotten(
    counted: Counted, totals: Totals, watch: Stopwatch
) -> None:
    facts = {"issued_from": date(2022, 1, 1)}
    before = await total_of(totals, **facts)
    assert before is not None
    await add_an_invoice(datetime(2023, 5, 5, 9, tzinfo=UTC))

    watch.seconds = RENEWED_SECONDS
    while_it_is_counted = await total_of(totals, **facts)
    await until_nothing_is_counted(counted)
    watch.seconds = REMEMBERED_SECONDS + 1
    sent = counted.number

    assert (while_it_is_counted, await total_of(totals, **facts)) == (before, before + 1)
    # What may be newer, whether it is many, and how the list is read, but none of 50 pieces.
    assert counted.number - sent <= 12


@pytest.mark.usefixtures("counted")
async def test_what_is_newer_than_all_else_is_counted_at_once(totals: Totals) -> None:
    facts = {"issued_from": date(2022, 1, 1)}
    before = await total_of(totals, **facts)
    assert before is not None

    await add_an_invoice(datetime(2026, 3, 1, 9, tzinfo=UTC))

    assert await total_of(totals, **facts) == before + 1


async def test_another_range_is_added_up_from_the_same_pieces(
    counted: Counted, totals: Totals
) -> None:
    await total_of(totals, issued_from=date(2021, 3, 1))
    of_the_first = counted.number
    await total_of(totals, issued_from=date(2021, 5, 30))
    of_another = counted.number - of_the_first

    assert of_the_first > 50, "a piece a month"
    # Two days of May, what may be newer, and how the list is read.
    assert of_another <= 8


async def test_pieces_that_many_wait_for_are_counted_once(counted: Counted, totals: Totals) -> None:
    asked = [total_of(totals, issued_from=date(2021, 3, 1)) for _ in range(8)]
    found = await asyncio.gather(*asked)

    assert len(set(found)) == 1
    # Whether it is many, what may be newer, and how the list is read, each asks for himself.
    assert counted.number < 60 + 6 * 8


@pytest.mark.usefixtures("counted")
async def test_a_count_that_failed_is_not_remembered(totals: Totals) -> None:
    rows = Invoice.get_motor_collection()
    asked = Asked(Invoice, {"totalMiners": {"$gt": 0}}, "miners_1", None, {})
    with pytest.raises(OperationFailure):
        await totals.count(asked)

    await rows.create_index("totalMiners", name="miners_1")
    found = await totals.count(asked)
    await rows.drop_index("miners_1")

    assert found == NUMBER


async def test_the_trail_is_counted_exactly_and_its_past_once(
    counted: Counted, totals: Totals, watch: Stopwatch
) -> None:
    entries = AuditLog.get_motor_collection()
    hours = range(1, 2_000)
    await entries.insert_many([an_entry(NOW - timedelta(hours=hour)) for hour in hours])
    wanted = AuditFilter(actions=[AuditAction.INVOICE_CREATED], entity_type=EntityType.INVOICE)

    async def total() -> int | None:
        return (await list_entries(wanted, UTC_ZONE, Window(1), totals=totals)).total

    before, sent = await total(), counted.number
    watch.seconds = 100 * REMEMBERED_SECONDS
    await entries.insert_one(an_entry(NOW - timedelta(seconds=30)))
    after = await total()

    assert (before, after) == (1_999, 2_000)
    # The last hours, and what may be newer.
    assert counted.number - sent <= 4
