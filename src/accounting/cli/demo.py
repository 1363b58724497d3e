"""`accounting demo`: demo data for a development database."""

from __future__ import annotations

import asyncio
import time
from typing import Final

import click

from accounting.bootstrap import billing_terms, collection_specs, open_mongo, open_services
from accounting.cli.progress import progress_bars
from accounting.clock import utc_now
from accounting.db.setup import is_set_up
from accounting.errors import Misconfigured
from accounting.settings import Settings, load_settings

INVOICES_PER_CUSTOMER: Final = 50
INVOICES_MAX: Final = 20_000_000


@click.command("demo")
@click.option(
    "--invoices",
    type=click.IntRange(1, INVOICES_MAX),
    help="Load so many invoices of five years instead of the small demo.",
)
@click.option(
    "--customers",
    type=click.IntRange(1, INVOICES_MAX),
    help=f"Their customers; one for {INVOICES_PER_CUSTOMER} invoices unless given.",
)
@click.option("--seed", type=int, help="The same seed gives the same invoices on the same day.")
def demo_command(invoices: int | None, customers: int | None, seed: int | None) -> None:
    """Fill an empty database with demo data: a platform, and a year of prices and invoices.

    Where there is data already, nothing is added to it. No e-mail is sent.
    """
    settings = load_settings()
    if invoices is None:
        if customers is not None or seed is not None:
            raise click.UsageError("--customers and --seed belong to --invoices.")
        _load_small(settings)
    else:
        customers = customers or max(1, invoices // INVOICES_PER_CUSTOMER)
        asyncio.run(_load_bulk(settings, invoices, customers, seed or 0))


def _load_small(settings: Settings) -> None:
    from accounting.dev.demo import load_demo_platform

    started = time.monotonic()
    load_demo_platform(settings.mongodb_uri.get_secret_value(), settings.database_name)
    if asyncio.run(_load_books(settings)):
        click.echo(f"demo: a year of invoices was made in {time.monotonic() - started:.1f} s")
    else:
        click.echo(f"demo: nothing was added, since {settings.database_name} has data already")


async def _load_books(settings: Settings) -> bool:
    from accounting.dev.demo_books import load_demo_books
    from accounting.simulation.days import SetClock

    now = utc_now()
    clock = SetClock(now)
    async with open_services(settings, clock=clock) as services:
        if not await is_set_up(services.db.mongo, collection_specs()):
            raise Misconfigured("The database is not set up; run `accounting db apply` first.")
        return await load_demo_books(services, clock, now)


async def _load_bulk(settings: Settings, invoices: int, customers: int, seed: int) -> None:
    from accounting.dev.bulk.history import BulkOrder
    from accounting.dev.bulk.load import load_bulk
    from accounting.dev.demo import demo_customer_id, demo_id

    started, terms = time.monotonic(), billing_terms(settings)
    order = BulkOrder(
        *(invoices, customers, seed, utc_now(), terms.zone, terms.due_days, terms.serial_width)
    )
    uri = settings.mongodb_uri.get_secret_value()
    async with open_mongo(settings) as mongo:
        with progress_bars() as show:
            await load_bulk(mongo, collection_specs(), uri, order, on_progress=show)
        entries = await mongo["audit_logs"].estimated_document_count()
    click.echo(
        f"demo: {invoices:,} invoices of {customers:,} customers, with {entries:,} audit entries, "
        f"were made in {time.monotonic() - started:.0f} s"
    )
    click.echo(f"admin     {demo_id('users', 1)}")
    click.echo(f"customer  {demo_customer_id(0)}")
