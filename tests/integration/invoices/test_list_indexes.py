"""Every documented filter and order of a list is served by an index.

What is judged are the commands that the service really sends: they are recorded on the way to the
server, and the server explains each.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from bson.codec_options import DatetimeConversion

from accounting.db.client import CODEC_OPTIONS, MongoDatabase
from accounting.db.paging import Window
from accounting.dev.processes import Server
from accounting.ids import ObjectId
from accounting.invoices.documents import LIST_ORDERS, Invoice
from accounting.invoices.listing import InvoiceFilter, InvoiceSort, list_invoices
from accounting.invoices.rules import InvoiceStatus
from builders import TERMS, a_customer
from fakes import FakePlatform
from many_invoices import many_invoices
from overheard import Ear, overheard

# The bounds of an index go beyond the years that Python knows.
FOUND = CODEC_OPTIONS.with_options(datetime_conversion=DatetimeConversion.DATETIME_AUTO)
NUMBER = 5_000
LIMIT = 5
CUSTOMERS = [ObjectId(f"{serial:024x}") for serial in range(1, 41)]
CUSTOMER = CUSTOMERS[3]

# Equality, and what can be merged from equalities: read in order, whatever the order.
IN_ORDER: dict[str, dict[str, Any]] = {
    "nothing": {},
    "customerId": {"customer_id": CUSTOMER},
    "billingPeriod": {"billing_period": "2023-05"},
    "one status": {"statuses": [InvoiceStatus.OVERDUE]},
    "statuses": {"statuses": [InvoiceStatus.PAID, InvoiceStatus.DRAFT]},
    "overdue": {"overdue_on": date(2025, 12, 20)},
    "q, a customer": {"search": "ada"},
    "statuses that exclude each other": {
        "statuses": [InvoiceStatus.PAID],
        "overdue_on": date(2025, 12, 20),
    },
    "q, nobody": {"search": "nobody of this name"},
    "customerId and status": {"customer_id": CUSTOMER, "statuses": [InvoiceStatus.PAID]},
    "customerId and due": {"customer_id": CUSTOMER, "due_from": date(2024, 1, 1)},
}
# One field narrows and another one orders: rows are found by an index, and may have to be sorted.
IN_RANGES: dict[str, dict[str, Any]] = {
    "startDate and endDate": {"issued_from": date(2022, 5, 1), "issued_to": date(2022, 5, 31)},
    "endDate, most rows": {"issued_to": date(2025, 10, 1)},
    "startDate, most rows": {"issued_from": date(2021, 6, 1)},
    "dueFrom and dueTo": {"due_from": date(2022, 5, 1), "due_to": date(2022, 5, 31)},
    "dueFrom": {"due_from": date(2025, 12, 1)},
    "minAmount and maxAmount": {"amount_min": Decimal(500), "amount_max": Decimal(600)},
    "minAmount": {"amount_min": Decimal(100)},
    "q, a number": {"search": "202305"},
    "status and dueTo": {"statuses": [InvoiceStatus.ISSUED], "due_to": date(2025, 12, 31)},
}
# The order that each of them is read in without sorting.
OWN_ORDER = {
    "startDate and endDate": {"issuedDate"},
    "endDate, most rows": {"issuedDate"},
    "startDate, most rows": {"issuedDate"},
    "dueFrom and dueTo": {"dueDate", "createdAt"},
    "dueFrom": {"dueDate"},
    "minAmount and maxAmount": {"totalAmount"},
    "minAmount": {"totalAmount"},
    "q, a number": {"invoiceNumber"},
    "status and dueTo": {"dueDate"},
}


class Recorder(Ear):
    """Keeps the reads that are sent to the invoices."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    def started(self, event: Any) -> None:
        if event.command_name in ("find", "aggregate") and "invoices" in event.command.values():
            kept = {"find", "aggregate", "filter", "sort", "hint", "limit", "skip", "pipeline"}
            command = {name: event.command[name] for name in event.command if name in kept}
            self.sent.append(command | ({"cursor": {}} if "aggregate" in command else {}))


class Lists:
    """Lists of invoices whose commands are explained."""

    def __init__(self, mongo: MongoDatabase, recorder: Recorder) -> None:
        self.mongo = mongo
        self.recorder = recorder
        self.platform = FakePlatform()
        for customer_id in CUSTOMERS[:3]:
            self.platform.add_user(a_customer(id=customer_id, name="Ada"))
        self.platform.add_user(a_customer(id=CUSTOMER, name="Bob", email="b@example.com"))

    async def plans(self, window: Window, sort: InvoiceSort, descending: bool, **facts: Any) -> Any:
        """The server's plans for all that this list sends, and the cursor that leads on."""
        self.recorder.sent.clear()
        found = await list_invoices(
            self.platform,
            InvoiceFilter(**facts),
            TERMS.zone,
            sort_by=sort,
            descending=descending,
            window=window,
        )
        plans = [await self._explain(command) for command in list(self.recorder.sent)]
        return plans, found.next_cursor

    async def _explain(self, command: dict[str, Any]) -> Any:
        return await self.mongo.command(
            "explain", command, verbosity="executionStats", codec_options=FOUND
        )


@pytest.fixture
async def lists(real_mongo: MongoDatabase, mongod: Server) -> AsyncIterator[Lists]:
    recorder = Recorder()
    rows = many_invoices(NUMBER, CUSTOMERS)
    async with overheard(real_mongo, mongod, recorder, rows) as mongo:
        yield Lists(mongo, recorder)


def stages(plan: Any) -> Iterator[str]:
    """The names of all stages, however deep."""
    if isinstance(plan, dict):
        if isinstance(plan.get("stage"), str):
            yield plan["stage"]
        for name, part in plan.items():
            if name != "rejectedPlans":
                yield from stages(part)
    elif isinstance(plan, list):
        for part in plan:
            yield from stages(part)


def has_sort(plan: Any) -> bool:
    return "SORT" in set(stages(plan))


@pytest.mark.parametrize("descending", [True, False], ids=["descending", "ascending"])
@pytest.mark.parametrize("is_customer", [False, True], ids=["admin", "customer"])
async def test_no_list_walks_through_all_invoices_or_sorts_what_an_index_has_in_order(
    lists: Lists, is_customer: bool, descending: bool
) -> None:
    whose = {"customer_id": CUSTOMER, "hides_drafts": True} if is_customer else {}
    wrong: list[str] = []
    judged = 0
    for name, facts in (IN_ORDER | IN_RANGES).items():
        for sort in InvoiceSort:
            must_not_sort = is_customer or name in IN_ORDER or sort in OWN_ORDER[name]
            wanted = facts | whose
            first, _ = await lists.plans(Window(LIMIT, 1), sort, descending, **wanted)
            start, cursor = await lists.plans(Window(LIMIT, None), sort, descending, **wanted)
            later = []
            if cursor:
                window = Window(LIMIT, None, cursor)
                later, cursor = await lists.plans(window, sort, descending, **wanted)
            for plan in [*first, *start, *later]:
                judged += 1
                if "COLLSCAN" in set(stages(plan)):
                    wrong.append(f"{name} by {sort}: walks through the collection")
                if must_not_sort and has_sort(plan):
                    wrong.append(f"{name} by {sort}: sorts")

    assert wrong == []
    assert judged > 400


async def test_what_is_sorted_is_no_more_than_what_the_filter_finds(lists: Lists) -> None:
    sorted_lists = 0
    for name, facts in IN_RANGES.items():
        for sort in InvoiceSort:
            plans, _ = await lists.plans(Window(LIMIT, None), sort, True, **facts)
            [stats] = [plan["executionStats"] for plan in plans if has_sort(plan)] or [None]
            if stats is None:
                continue
            sorted_lists += 1
            page = await list_invoices(
                lists.platform,
                InvoiceFilter(**facts),
                TERMS.zone,
                sort_by=sort,
                descending=True,
                window=Window(LIMIT, 1),
            )
            assert page.total is not None
            # A scan of several stretches looks at a key or two more for each of them.
            assert stats["totalKeysExamined"] <= page.total + 20, f"{name} by {sort}"

    assert sorted_lists > 20


def test_there_are_indexes_for_every_order() -> None:
    assert set(LIST_ORDERS) == set(InvoiceSort)


def test_the_indexes_of_the_data_model_are_there() -> None:
    names = {index.document["name"] for index in Invoice.Settings.indexes}

    assert {"userId_1", "status_1", "dueDate_1", "createdAt_1", "invoiceNumber_1"} <= names
