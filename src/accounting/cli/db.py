"""`accounting db …`: the setup that replaces migrations (spec section 8)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

import click

from accounting.bootstrap import collection_specs, open_mongo
from accounting.cli.access import check, roles
from accounting.db.client import MongoDatabase
from accounting.db.setup import Change, apply_changes, plan_changes
from accounting.settings import load_settings

T = TypeVar("T")

CHANGES_NEEDED: Final = 2


@click.group()
def db() -> None:
    """Set up and check our collections; the platform's are never touched."""


for command in (check, roles):
    db.add_command(command)


@db.command()
def plan() -> None:
    """Show what `apply` would do. Exit code 2 when there is something to do."""
    changes = _with_mongo(lambda mongo: plan_changes(mongo, collection_specs()))
    _show(changes)
    if any(change.is_needed for change in changes):
        click.echo("Run `accounting db apply` to make these changes; no document is touched.")
        raise click.exceptions.Exit(CHANGES_NEEDED)
    click.echo("Nothing to do: every collection, validator and index is in place.")


@db.command()
def apply() -> None:
    """Create what is missing and correct what differs; safe to run again, also at once."""

    def show(change: Change) -> None:
        click.echo(f"done  {change}")

    done = _with_mongo(lambda mongo: apply_changes(mongo, collection_specs(), on_done=show))
    click.echo(f"{len(done)} changes made." if done else "Nothing to do: all was in place.")


@db.command()
def verify() -> None:
    """Fail when a collection, validator or index is missing or different."""
    changes = _with_mongo(lambda mongo: plan_changes(mongo, collection_specs()))
    _show(changes)
    drift = [change for change in changes if change.is_needed]
    if drift:
        raise click.ClickException(
            f"{len(drift)} differences from what this version needs; run `accounting db apply`."
        )
    click.echo("Verified: every collection, validator and index is as this version needs it.")


def _with_mongo(work: Callable[[MongoDatabase], Awaitable[T]]) -> T:
    settings = load_settings()

    async def run() -> T:
        async with open_mongo(settings) as mongo:
            return await work(mongo)

    return asyncio.run(run())


def _show(changes: Sequence[Change]) -> None:
    for change in changes:
        click.echo(f"{'need' if change.is_needed else 'note'}  {change}")
