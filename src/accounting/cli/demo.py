"""`accounting demo`: demo data for a development database."""

from __future__ import annotations

import asyncio
import time

import click

from accounting.bootstrap import collection_specs, open_services
from accounting.clock import utc_now
from accounting.db.setup import is_set_up
from accounting.errors import Misconfigured
from accounting.settings import Settings, load_settings


@click.command("demo")
def demo_command() -> None:
    """Fill an empty database with demo data: a platform, and a year of prices and invoices.

    Where there is data already, nothing is added to it. No e-mail is sent.
    """
    from accounting.dev.demo import load_demo_platform

    settings = load_settings()
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
