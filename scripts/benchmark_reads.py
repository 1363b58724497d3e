"""How fast reads are over HTTP on large stores, and whether they stay so while the store grows.

For each size it loads `accounting demo --invoices N` into a database of its own (or takes the one
that is in the data directory already), starts `accounting serve` on it and asks each question for
some seconds with 8 requests under way, each about something else. Beside each size stands the
floor: an answer without database or token, measured in the same run.

    python scripts/benchmark_reads.py [--sizes 10000 --sizes 100000 --sizes 1000000]

Client, server and MongoDB share the processor. A ratio of 3 means three times the floor.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
import httpx
import pymongo
import uvloop
from pymongo.database import Database
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from http_load import Measured, measure
from read_questions import FLOOR, Samples, ask_for_cursors, questions, take_samples

from accounting.actor import Role
from accounting.api.tokens import make_token
from accounting.clock import utc_now
from accounting.dev.bulk.load import LOADING_COLLECTION
from accounting.dev.demo import demo_customer_id, demo_id
from accounting.dev.mongod import start_mongod
from accounting.dev.processes import free_port, start_child, wait_until_ready
from accounting.dev.redis_server import start_redis
from accounting.ids import ObjectId
from service import SECRET, clean_environment, is_answering

TOKEN_SECONDS: Final = 24 * 3_600
CUSTOMERS_OF: Final = 50
WARM_UP_SECONDS: Final = 1.0
P99_MILLISECONDS_MAX: Final = 100.0
GROWTH_MAX: Final = 2.0

Results = dict[str, dict[int, Measured]]


def load(environment: dict[str, str], database: Database[Any], size: int) -> None:
    """Set the database up, and load a size unless it is there already."""
    run(environment, "db", "apply")
    found = database["invoices"].estimated_document_count()
    if found and LOADING_COLLECTION not in database.list_collection_names():
        click.echo(f"{database.name}: {found:,} invoices are there", err=True)
        return
    customers = max(1, size // CUSTOMERS_OF)
    run(environment, "demo", "--invoices", str(size), "--customers", str(customers))


def run(environment: dict[str, str], *arguments: str) -> None:
    """A command as an operator types it."""
    command = [sys.executable, "-m", "accounting", *arguments]
    subprocess.run(command, env=environment, stdout=sys.stderr.buffer, check=True)


def token_of(user_id: ObjectId, role: Role) -> str:
    return make_token(SECRET, user_id, role, utc_now(), TOKEN_SECONDS)


@dataclass(frozen=True, slots=True)
class Asking:
    """How it is asked."""

    concurrency: int
    seconds: float
    only: str

    async def measure(self, url: str, token: str, paths: Iterator[str], seconds: float) -> Measured:
        return await measure(url, token, paths, concurrency=self.concurrency, seconds=seconds)


async def ask_all(url: str, samples: Samples, asking: Asking) -> dict[str, Measured]:
    """Every question about one store; those whose route does not exist are left out."""
    admin = token_of(ObjectId(demo_id("users", 1)), Role.ADMIN)
    customer = token_of(ObjectId(demo_customer_id(0)), Role.CLIENT)
    await ask_for_cursors(url, admin, samples)
    answers: dict[str, Measured] = {}
    for question in [FLOOR, *questions(samples)]:
        if asking.only not in question.name and question is not FLOOR:
            continue
        token = customer if question.is_customer else admin
        paths = question.paths(samples)
        if not await is_there(url, token, next(paths)):
            click.echo(f"{question.name}: there is no such route yet, left out", err=True)
            continue
        await asking.measure(url, token, paths, WARM_UP_SECONDS)
        answers[question.name] = found = await asking.measure(url, token, paths, asking.seconds)
        click.echo(line_of(question.name, found), err=True)
    return answers


async def is_there(url: str, token: str, path: str) -> bool:
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        answer = await client.get(path, headers={"Authorization": f"Bearer {token}"})
    return answer.status_code != httpx.codes.NOT_FOUND


def line_of(name: str, found: Measured) -> str:
    return (
        f"{name:<44} p50 {found.p50:7.1f}  p99 {found.p99:7.1f} ms  {found.requests:6} requests  "
        f"{found.errors} errors {found.first_error}"
    )


def serve_and_ask(
    environment: dict[str, str], folder: Path, database: Database[Any], asking: Asking
) -> dict[str, Measured]:
    """Start the API as an operator does, and ask."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "accounting", "serve", "--port", str(port)]
    with start_child("serve", command, data_dir=folder, env=environment) as server:
        wait_until_ready(server, lambda: is_answering(f"{url}/health/ready"))
        samples = take_samples(database)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(ask_all(url, samples, asking))


def rows_of(results: Results, sizes: Sequence[int]) -> Iterator[list[str]]:
    """A line for each question: p50 and p99 of each size, then what is told of all."""
    for name, by_size in results.items():
        known = [by_size[size] for size in sizes if size in by_size]
        cells = [
            f"{by_size[size].p50:.1f} / {by_size[size].p99:.1f}" if size in by_size else "-"
            for size in sizes
        ]
        last = max(by_size)
        floor = results[FLOOR.name][last].p50
        growth = known[-1].p50 / known[0].p50 if len(known) > 1 else 1.0
        requests, errors = sum(one.requests for one in known), sum(one.errors for one in known)
        yield [
            *(name, *cells, f"{growth:.1f}", f"{known[-1].p50 / floor:.1f}"),
            *(f"{known[-1].per_second:,.0f}", f"{requests:,}", f"{errors}"),
        ]


def show(results: Results, sizes: Sequence[int], markdown: Path | None) -> None:
    heads = [
        *("question", *(f"{size:,}: p50 / p99 ms" for size in sizes), "growth of p50"),
        *("ratio to floor", "per second", "requests", "errors"),
    ]
    lines = list(rows_of(results, sizes))
    table = Table(*heads)
    for cells in lines:
        table.add_row(*cells)
    Console(width=180).print(table)
    if markdown is not None:
        rule = ["---", *["---:"] * (len(heads) - 1)]
        text = "\n".join("| " + " | ".join(cells) + " |" for cells in [heads, rule, *lines])
        markdown.write_text(text + "\n")


def too_slow(results: Results) -> Iterator[str]:
    """What is beyond the limits, one sentence each."""
    for name, by_size in results.items():
        last, first = by_size[max(by_size)], by_size[min(by_size)]
        if errors := sum(one.errors for one in by_size.values()):
            yield f"{name}: {errors} errors"
        if last.p99 > P99_MILLISECONDS_MAX:
            yield f"{name}: p99 is {last.p99:.0f} ms at {max(by_size):,} invoices"
        if last.p50 > GROWTH_MAX * first.p50:
            yield f"{name}: p50 grows from {first.p50:.1f} to {last.p50:.1f} ms"


@click.command(help=(__doc__ or "").split("\n\n    ")[0])
@click.option("--sizes", multiple=True, default=(10_000, 100_000, 1_000_000), type=int)
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep the databases here and take them again; gone at the end otherwise.",
)
@click.option("--mongodb-uri", help="A server that runs already, with these databases.")
@click.option("--concurrency", default=8, show_default=True, type=click.IntRange(1, 256))
@click.option("--seconds", default=5.0, show_default=True, help="For each question and size.")
@click.option("--cache-gigabytes", default=4.0, show_default=True, help="Of our own MongoDB.")
@click.option("--only", default="", help="Questions with this in their name.")
@click.option("--markdown", type=click.Path(dir_okay=False, path_type=Path))
def main(
    sizes: tuple[int, ...],
    data_dir: Path | None,
    mongodb_uri: str | None,
    concurrency: int,
    seconds: float,
    cache_gigabytes: float,
    only: str,
    markdown: Path | None,
) -> None:
    results: Results = {}
    with ExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if mongodb_uri is None:
            mongod = start_mongod(data_dir or logs, cache_gigabytes=cache_gigabytes)
            mongodb_uri = stack.enter_context(mongod).uri
        redis = stack.enter_context(start_redis(logs))
        client = stack.enter_context(
            pymongo.MongoClient[dict[str, Any]](mongodb_uri, tz_aware=True)
        )
        for size in sizes:
            environment = clean_environment(
                MONGODB_URI=mongodb_uri,
                MONGODB_DATABASE=f"accounting_{size}",
                REDIS_URL=redis.uri,
                JWT_SECRET=SECRET,
                # One user asks for everything here.
                RATE_LIMIT="100000000/second",
            )
            database = client[f"accounting_{size}"]
            load(environment, database, size)
            asking = Asking(concurrency, seconds, only)
            for name, found in serve_and_ask(environment, logs, database, asking).items():
                results.setdefault(name, {})[size] = found
    show(results, sizes, markdown)
    for sentence in too_slow(results):
        click.echo(sentence, err=True)


if __name__ == "__main__":
    main()
