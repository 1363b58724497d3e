"""How fast the main writes and reads are, as ratios to a floor measured in the same run.

The floor is one bare insert of a document of the same size with the same write concern: what the
server itself allows. A ratio of 8 means that a use case costs as much as 8 bare inserts. Ratios
compare between machines and days; the plain figures do not.

    python scripts/benchmark.py [--operations 400] [--concurrency 8]
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from accounting.bootstrap import bind_documents, collection_specs
from accounting.clock import utc_now
from accounting.db.client import open_client, open_database
from accounting.db.database import Database
from accounting.db.setup import apply_changes
from accounting.dev.mongod import start_mongod
from accounting.ids import ObjectId, new_id
from accounting.invoices.documents import get_invoice
from accounting.invoices.service import issue_invoice
from accounting.invoices.settlement import record_payment
from builders import ADMIN, TERMS, a_cost_payment, a_customer, a_draft
from fakes import FakePlatform

Work = Callable[[int], Awaitable[object]]


async def rate(work: Work, operations: int, concurrency: int) -> float:
    """Operations per second with so many under way at once."""
    numbers = iter(range(operations))

    async def client() -> None:
        for number in numbers:
            await work(number)

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(concurrency)))
    return operations / (time.perf_counter() - started)


async def measure(uri: str, operations: int, concurrency: int) -> dict[str, float]:
    """The rate of each kind of work, the floor first."""
    client = open_client(uri)
    mongo = open_database(client, "benchmark")
    await apply_changes(mongo, collection_specs())
    await bind_documents(mongo)
    db, platform = Database(mongo), FakePlatform()
    customer = platform.add_user(a_customer())
    sample = await a_draft(db, platform, customer)
    floor_document = (await mongo["invoices"].find_one({"_id": sample.id})) or {}
    drafts: list[ObjectId] = []

    async def bare_insert(_: int) -> None:
        await mongo["floor"].insert_one(floor_document | {"_id": new_id()})

    async def create(_: int) -> None:
        drafts.append(ObjectId((await a_draft(db, platform, customer)).id))

    async def issue(number: int) -> None:
        await db.run(ADMIN, issue_invoice, platform, TERMS, drafts[number])

    async def pay(number: int) -> None:
        row = a_cost_payment(customer)
        row = platform.add_cost_payment(
            replace(row, amount=Decimal("500.00"), created_at=utc_now())
        )
        await db.run(ADMIN, record_payment, platform, drafts[number], row.id)

    async def read(number: int) -> None:
        await get_invoice(drafts[number])

    works = {
        "bare insert (floor)": bare_insert,
        "create a draft": create,
        "issue": issue,
        "pay in full": pay,
        "read": read,
    }
    rates = {name: await rate(work, operations, concurrency) for name, work in works.items()}
    client.close()
    return rates


@click.command(help=(__doc__ or "").split("\n\n    ")[0])
@click.option("--operations", default=400, show_default=True, type=click.IntRange(1, 100_000))
@click.option("--concurrency", default=8, show_default=True, type=click.IntRange(1, 64))
def main(operations: int, concurrency: int) -> None:
    with tempfile.TemporaryDirectory() as folder, start_mongod(Path(folder)) as mongod:
        rates = asyncio.run(measure(mongod.uri, operations, concurrency))
    floor = next(iter(rates.values()))
    table = Table("operation", "per second", "ratio to the floor")
    for name, per_second in rates.items():
        table.add_row(name, f"{per_second:,.0f}", f"{floor / per_second:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
