"""Writing a large demo into an empty database that is set up.

Like `dev/demo.py` this writes to platform collections, which the service itself never does, and
only where everything is empty. Several processes write, each its own months. The indexes are
dropped before and built after, which takes half of the time that keeping them does; the validators
stay, and judge every document.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any, Final

from pymongo import ASCENDING, MongoClient, WriteConcern
from pymongo.database import Database

from accounting.db.client import MongoDatabase
from accounting.db.indexing import build_indexes
from accounting.db.schema import CollectionSpec
from accounting.db.setup import apply_changes, is_set_up
from accounting.dev.bulk.documents import Books
from accounting.dev.bulk.history import DAYS_OF_MONTH, MONTHS, BulkOrder, History
from accounting.dev.bulk.platform import miners, users
from accounting.dev.bulk.trail import Document, Rows
from accounting.errors import Misconfigured
from accounting.platform.rules import PLATFORM_COLLECTIONS

# Holds a document while data are loaded: as long as it does, they are a part of them only.
LOADING_COLLECTION: Final = "accounting_demo_bulk"
BATCH_DOCUMENTS: Final = 1_000
# Bills of so many days are a piece of work, and prices and templates of so many contracts.
PART_DAYS: Final = 7
PART_CONTRACTS: Final = 2_000
PROCESSES_MAX: Final = 8

_OF_PLATFORM: Final = ("users", "cost_payments", "miners")
_OF_OURS: Final = (
    *("invoices", "invoice_payments", "payment_allocations", "invoice_notifications"),
    *("customer_pricing_config", "recurring_invoices", "accounting_counters"),
    *("audit_logs", "audit_heads"),
)

# The name of a step, how much of it is done, and how much it is.
OnProgress = Callable[[str, int, int], None]


class NotEmpty(Misconfigured):
    """A large demo is loaded beside nothing else."""

    def __init__(self, database_name: str, collection: str) -> None:
        super().__init__(
            f"The database {database_name} has data already, in {collection}; a large demo is "
            "loaded into an empty one that is set up. Nothing was added."
        )


async def load_bulk(
    mongo: MongoDatabase,
    specs: Sequence[CollectionSpec],
    uri: str,
    order: BulkOrder,
    *,
    on_progress: OnProgress = lambda name, done, total: None,
) -> None:
    """Fill the database with the history of an order; one that was interrupted is begun anew.

    Raises Misconfigured where it is not set up, NotEmpty.
    """
    if await mongo[LOADING_COLLECTION].find_one({}) is not None:
        await _clear(mongo, specs)
    elif not await is_set_up(mongo, specs):
        raise Misconfigured("The database is not set up; run `accounting db apply` first.")
    await _require_empty(mongo)
    await mongo[LOADING_COLLECTION].insert_one({})
    for name in _OF_OURS:
        await mongo[name].drop_indexes()
    await _write_all(uri, mongo.name, order, on_progress)
    await _build_all_indexes(mongo, specs, on_progress)
    await mongo[LOADING_COLLECTION].drop()


async def _clear(mongo: MongoDatabase, specs: Sequence[CollectionSpec]) -> None:
    """Everything was empty when that load began, so all that is there now is its own."""
    for name in (*_OF_PLATFORM, *_OF_OURS):
        await mongo[name].drop()
    await apply_changes(mongo, specs)


async def _require_empty(mongo: MongoDatabase) -> None:
    for name in (*PLATFORM_COLLECTIONS, *_OF_OURS):
        if await mongo[name].find_one({}, {"_id": 1}) is not None:
            raise NotEmpty(mongo.name, name)


async def _write_all(uri: str, name: str, order: BulkOrder, on_progress: OnProgress) -> None:
    contracts = len(History(order).contracts)
    works: list[Callable[[], int]] = [_write_platform]
    works += [
        partial(_write_arrangements, first)
        for first in range(0, max(contracts, order.customers), PART_CONTRACTS)
    ]
    works += [
        partial(_write_month, month, first)
        for month in range(MONTHS)
        for first in range(0, DAYS_OF_MONTH, PART_DAYS)
    ]
    pool = ProcessPoolExecutor(
        min(PROCESSES_MAX, os.cpu_count() or 1),
        # A fork would share the sockets of our own client.
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_begin,
        initargs=(uri, name, order, os.getpid()),
    )
    done = 0
    try:
        loop = asyncio.get_running_loop()
        for finished in asyncio.as_completed([loop.run_in_executor(pool, work) for work in works]):
            done += await finished
            on_progress("invoices", done, order.invoices)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


async def _build_all_indexes(
    mongo: MongoDatabase, specs: Sequence[CollectionSpec], on_progress: OnProgress
) -> None:
    """The very ones that were dropped, and those of the platform.

    Not by `apply_changes`: without an index it looks for duplicates first, and for minutes.
    """
    for spec in specs:
        if spec.name in _OF_OURS and spec.indexes:
            show = partial(on_progress, f"indexes of {spec.name}")
            await build_indexes(mongo, spec.name, spec.indexes, show)
            documents = await mongo[spec.name].estimated_document_count()
            show(documents, documents)
    await mongo["users"].create_index([("email", ASCENDING)], unique=True)
    # A platform of this size finds a customer's payments and miners by an index.
    await mongo["cost_payments"].create_index([("userId", ASCENDING)])
    await mongo["miners"].create_index([("userId", ASCENDING)])


class _Writer:
    """A process that writes parts of a history."""

    def __init__(self, database: Database[Document], order: BulkOrder, parent: int) -> None:
        self.history = History(order)
        self.books = Books(self.history)
        self._database = database
        self._parent = parent

    def flush(self, rows: Rows, *, least: int = 1) -> None:
        """Write the documents of each collection that has so many."""
        for name, documents in rows.of.items():
            if len(documents) >= least:
                self.write(name, documents)
                documents.clear()

    def write(self, name: str, documents: Sequence[Document]) -> None:
        if os.getppid() != self._parent:
            # Whoever started this is gone, and what he begins anew must not meet with ours.
            raise SystemExit(1)
        self._database[name].insert_many(documents, ordered=False)


# What a process works with, from its start to its end.
_writers: list[_Writer] = []


def _begin(uri: str, name: str, order: BulkOrder, parent: int) -> None:
    client: MongoClient[dict[str, Any]] = MongoClient(uri)
    # Nobody depends on these documents before all of them are there.
    database = client.get_database(name, write_concern=WriteConcern(w=1))
    _writers.append(_Writer(database, order, parent))


def _write_platform() -> int:
    [writer] = _writers
    rows = Rows()
    for collection, documents in (
        ("users", users(writer.history)),
        ("miners", miners(writer.history)),
    ):
        for document in documents:
            rows.add(collection, document)
            if len(rows.of[collection]) == BATCH_DOCUMENTS:
                writer.flush(rows)
    writer.flush(rows)
    return 0


def _write_arrangements(first: int) -> int:
    """The prices of some customers, and the templates of the contracts with the same numbers."""
    [writer] = _writers
    rows = Rows()
    for number in range(first, first + PART_CONTRACTS):
        if number < writer.history.order.customers:
            writer.books.add_prices(rows, number)
        if number < len(writer.history.contracts):
            contract = writer.history.contracts[number]
            if contract.has_template:
                writer.books.add_template(rows, contract)
        writer.flush(rows, least=BATCH_DOCUMENTS)
    writer.flush(rows)
    return 0


def _write_month(month: int, first_day: int) -> int:
    """The bills of some days of a month; returns how many."""
    [writer] = _writers
    rows, written = Rows(), 0
    for day, contracts in list(writer.history.days_of(month))[first_day : first_day + PART_DAYS]:
        for serial, number in enumerate(contracts, start=1):
            contract = writer.history.contracts[number]
            writer.books.add_bill(rows, writer.history.bill(contract, month, serial))
            writer.flush(rows, least=BATCH_DOCUMENTS)
        if contracts:
            counter = {"_id": f"invoiceNumber:{day:%Y%m%d}", "value": len(contracts)}
            rows.add("accounting_counters", counter)
            written += len(contracts)
    writer.flush(rows)
    return written
