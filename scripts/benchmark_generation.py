"""Speed and memory of `accounting jobs run generate`, and what the server itself allows.

Each size runs in a database of its own, by the command as an operator types it: one template, one
customer with three active miners and one month that is due each. The floors are bare `insert_many`
of the very documents that were written, on the same server in the same run: of the invoices alone,
and of everything, with the changes of the templates as one bulk write; first without, then with our
validators and indexes. A ratio of 4 means that generation takes four times as long.

    python scripts/benchmark_generation.py [--templates 1000 --templates 10000] [--issued 50]

The miners have an index over `userId` unless `--no-miners-index` says that the platform has none.
"""

from __future__ import annotations

import asyncio
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import click
from pymongo import MongoClient, UpdateOne
from pymongo.database import Database
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from accounting.bootstrap import collection_specs
from accounting.db.client import CODEC_OPTIONS, open_client, open_database
from accounting.db.setup import apply_changes
from accounting.dev.mongod import start_mongod
from integration.acceptance.billing_world import Customer, Price, Template, World
from service import clean_environment

AS_OF: Final = date(2026, 1, 12)
LAST_MONTH: Final = date(2025, 12, 5)
PRICE: Final = Price(Decimal("100.00"), date(2025, 1, 1))
POLL_SECONDS: Final = 0.02
# Everything that a run writes; templates are changed, and counted by themselves.
WRITTEN: Final = (
    "invoices",
    "audit_logs",
    "audit_heads",
    "invoice_notifications",
    "accounting_runs",
)

Books = Database[dict[str, Any]]


@dataclass(frozen=True)
class Usage:
    """What a command took: seconds on the clock and of the processor, megabytes at its peak."""

    seconds: float
    cpu_seconds: float
    megabytes: float


@dataclass(frozen=True)
class Result:
    """Of one size: what was written, and the seconds of the run and of each floor."""

    invoices: int
    documents: int
    run_seconds: float
    command: Usage
    floors: dict[str, float]


def a_world(count: int, issued_percent: int) -> World:
    """So many templates with one due month each."""
    return World(
        AS_OF,
        [
            Template(
                customer=Customer(prices=(Price(PRICE.unit_price, PRICE.first),)),
                day_of_month=LAST_MONTH.day,
                start=PRICE.first,
                last_generated=LAST_MONTH,
                auto_issue=number % 100 < issued_percent,
            )
            for number in range(count)
        ],
    )


def run_command(uri: str, name: str) -> Usage:
    """Run the command as an operator does."""
    environment = clean_environment(MONGODB_URI=uri, MONGODB_DATABASE=name)
    command = [sys.executable, "-m", "accounting", "jobs", "run", "generate"]
    started, cpu_before, peak = time.perf_counter(), cpu_of_children(), 0.0
    command += ["--as-of", AS_OF.isoformat()]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            peak = max(peak, peak_megabytes(process.pid))
            time.sleep(POLL_SECONDS)
    if process.returncode:
        raise click.ClickException(f"generate ended with {process.returncode}")
    return Usage(time.perf_counter() - started, cpu_of_children() - cpu_before, peak)


def cpu_of_children() -> float:
    """The processor time of the commands that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def peak_megabytes(pid: int) -> float:
    """The most memory that a process had so far; 0 for one that has just ended."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


def apply_setup(uri: str, name: str) -> None:
    async def apply() -> None:
        client = open_client(uri)
        await apply_changes(open_database(client, name), collection_specs())
        client.close()

    asyncio.run(apply())


def measure(
    client: MongoClient[dict[str, Any]], uri: str, count: int, issued: int, *, has_index: bool
) -> Result:
    """Generate once, and write the same documents again as plainly as can be."""
    name = f"generation_{count}"
    apply_setup(uri, name)
    books = client[name].with_options(codec_options=CODEC_OPTIONS)
    a_world(count, issued).store(books)
    if has_index:
        books["miners"].create_index("userId")
    templates = list(books["recurring_invoices"].find())
    command = run_command(uri, name)
    [run] = books["accounting_runs"].find({"partOf": None})
    written = {collection: list(books[collection].find()) for collection in WRITTEN}
    if len(written["invoices"]) != count:
        raise click.ClickException(f"{len(written['invoices'])} invoices instead of {count}")
    changes = [
        UpdateOne({"_id": row["_id"], "version": 1}, {"$set": row})
        for row in books["recurring_invoices"].find()
    ]
    floors = {}
    for kind, is_set_up in (("bare", False), ("indexed", True)):
        for what, collections in (("invoices", WRITTEN[:1]), ("everything", WRITTEN)):
            floor = f"{name}_{kind}_{what}"
            if is_set_up:
                apply_setup(uri, floor)
            plain = client[floor].with_options(codec_options=CODEC_OPTIONS)
            plain["recurring_invoices"].insert_many(templates)
            rows = {collection: written[collection] for collection in collections}
            updates = changes if what == "everything" else []
            floors[f"{what}, {kind}"] = write_plainly(plain, rows, updates)
            client.drop_database(floor)
    return Result(
        invoices=count,
        documents=sum(map(len, written.values())) + len(changes),
        run_seconds=(run["finishedAt"] - run["createdAt"]).total_seconds(),
        command=command,
        floors=floors,
    )


def write_plainly(
    plain: Books, rows: dict[str, list[dict[str, Any]]], updates: list[UpdateOne]
) -> float:
    """The seconds that these inserts and updates take, confirmed by a majority."""
    started = time.perf_counter()
    for collection, documents in rows.items():
        if documents:
            plain[collection].insert_many(documents)
    if updates:
        plain["recurring_invoices"].bulk_write(updates)
    return time.perf_counter() - started


def lines(result: Result) -> Iterator[tuple[str, str]]:
    """What is shown of a size."""
    rate = result.invoices / result.run_seconds
    yield "invoices per second, the run", f"{rate:,.0f}"
    yield "invoices per second, the command", f"{result.invoices / result.command.seconds:,.0f}"
    cpu = result.command.cpu_seconds / result.invoices * 1_000
    yield "CPU milliseconds per invoice, the command", f"{cpu:.2f}"
    yield "documents per second, the run", f"{result.documents / result.run_seconds:,.0f}"
    yield "peak of resident memory, MB", f"{result.command.megabytes:.0f}"
    for name, seconds in result.floors.items():
        yield f"ratio to insert_many of {name}", f"{result.run_seconds / seconds:.1f}"


@click.command(help=(__doc__ or "").split("\n\n    ")[0])
@click.option("--templates", multiple=True, default=(1_000, 10_000), type=click.IntRange(1))
@click.option("--issued", default=0, show_default=True, help="Percent that is issued at once.")
@click.option("--miners-index/--no-miners-index", default=True, show_default=True)
def main(templates: tuple[int, ...], issued: int, miners_index: bool) -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        start_mongod(Path(folder)) as mongod,
        MongoClient[dict[str, Any]](mongod.uri, tz_aware=True) as client,
    ):
        results = [
            measure(client, mongod.uri, count, issued, has_index=miners_index)
            for count in templates
        ]
    table = Table("templates", *(f"{result.invoices:,}" for result in results))
    for cells in zip(*map(lines, results), strict=True):
        table.add_row(cells[0][0], *(value for _, value in cells))
    Console().print(table)


if __name__ == "__main__":
    main()
