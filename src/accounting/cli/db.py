"""`accounting db …`: the setup that replaces migrations (spec section 8)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

import click

from accounting.access.needs import SETUP
from accounting.access.review import require_rights
from accounting.bootstrap import collection_specs, open_mongo
from accounting.cli.access import check, roles
from accounting.cli.backup import backup, restore, rollback
from accounting.cli.progress import ShowProgress, progress_bars
from accounting.cli.setup_output import (
    MOMENT,
    plan_as_json,
    show_announcement,
    show_done,
    show_obstacles,
    show_plan,
    show_references,
    show_verdict,
)
from accounting.db.client import MongoDatabase, check_server
from accounting.db.comparison import Change
from accounting.db.obstacles import DuplicatesCame, SetupObstructed
from accounting.db.planning import Choices, SetupPlan, Watcher, plan_setup
from accounting.db.privileges import read_rights
from accounting.db.reference import (
    Reference,
    Verdict,
    Watched,
    read_reference,
    record_reference,
    verify_reference,
)
from accounting.db.setup import apply_changes
from accounting.platform.rules import PLATFORM_COLLECTIONS, SECRET_FIELDS
from accounting.settings import load_settings

T = TypeVar("T")
Command = Callable[..., Any]

CHANGES_NEEDED: Final = 2
PLATFORM: Final = Watched(PLATFORM_COLLECTIONS, SECRET_FIELDS)


@click.group()
def db() -> None:
    """Set up and check our collections."""


for command in (check, roles, backup, restore, rollback):
    db.add_command(command)


def _choices(command: Command) -> Command:
    adopt = click.option(
        "--adopt",
        metavar="NAME",
        multiple=True,
        help="Use this collection although accounting has not made it; rollback never drops it.",
    )
    keep_refused = click.option(
        "--keep-refused",
        is_flag=True,
        help="Go on although the new rules refuse existing documents, which stay as they are.",
    )
    return adopt(keep_refused(command))


@db.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@_choices
def plan(as_json: bool, adopt: tuple[str, ...], keep_refused: bool) -> None:
    """Show what `apply` would do, and what stands in its way. Changes nothing.

    Exit code 0 when there is nothing to do, 2 when there is.
    """
    choices = Choices(frozenset(adopt), keep_refused)

    async def look(mongo: MongoDatabase) -> tuple[SetupPlan, str]:
        server = await check_server(mongo)
        return await plan_setup(mongo, collection_specs(), choices, Watcher(on_step=_tell)), server

    found, server = _with_mongo(look)
    if as_json:
        click.echo(plan_as_json(found))
    else:
        click.echo(f"database  {found.database}, {server}")
        show_plan(found)
        _show_next_of_plan(found)
    if found.needed or found.blocking:
        raise click.exceptions.Exit(CHANGES_NEEDED)


@db.command(short_help="Create what is missing, correct what differs.")
@_choices
@click.option(
    "--record-platform",
    is_flag=True,
    help="Record how the platform's collections are now, in the place of the last time.",
)
def apply(adopt: tuple[str, ...], keep_refused: bool, record_platform: bool) -> None:
    """Create what is missing and correct what differs; safe to run again, also at once.

    Before the first change it records fingerprints of the platform's collections, which `verify`
    compares. Killed, it can be run again and finishes.
    """
    started = time.monotonic()
    choices = Choices(frozenset(adopt), keep_refused)
    try:
        applied = asyncio.run(_apply(choices, record_platform=record_platform))
    except SetupObstructed as error:
        show_obstacles(error.obstacles)
        raise
    except DuplicatesCame as error:
        show_obstacles([error.obstacle])
        raise
    show_done(applied.changes)
    show_references(applied.recorded)
    if not applied.changes:
        click.echo("Nothing to do: all was in place.")
        return
    click.echo(
        f"{len(applied.changes)} changes made in {time.monotonic() - started:.1f} s; no document "
        "was changed, and nothing of the platform."
    )
    click.echo("next      accounting db verify")
    click.echo("next      accounting db check, as the user of the service; then start it")


@db.command(short_help="Fail if ours or the platform's have changed.")
@click.option("--strict", is_flag=True, help="Fail also when documents of the platform changed.")
@click.option("--definitions-only", is_flag=True, help="Do not read the platform's documents.")
def verify(strict: bool, definitions_only: bool) -> None:
    """Fail when something of ours is missing or different, or a definition of the platform changed.

    Also tells whether the platform's documents are still those that were recorded by `apply`. A
    platform that is in use changes them itself, so that this fails with --strict only.
    """

    async def look(mongo: MongoDatabase) -> tuple[SetupPlan, list[Verdict]]:
        found = await plan_setup(mongo, collection_specs(), watcher=Watcher(on_step=_tell))
        with progress_bars() as show:
            verdicts = await verify_reference(
                mongo,
                PLATFORM,
                with_content=not definitions_only,
                on_progress=partial(_show_reading, show),
            )
        return found, verdicts

    found, verdicts = _with_mongo(look)
    show_plan(found)
    for verdict in verdicts:
        show_verdict(verdict)
    if wrong := _what_is_wrong(found, verdicts, is_strict=strict):
        raise click.ClickException("; ".join(wrong))
    click.echo(
        "Verified: what is ours is as this version needs it, and the platform's definitions are "
        "as they were recorded."
    )


@dataclass(frozen=True, slots=True)
class _Applied:
    """What an `apply` has done, and of which collections it took the fingerprints."""

    changes: Sequence[Change]
    recorded: Sequence[Reference]


async def _apply(choices: Choices, *, record_platform: bool) -> _Applied:
    settings = load_settings()
    async with open_mongo(settings) as mongo:
        require_rights(await read_rights(mongo), SETUP, mongo.name, is_least_required=False)
        click.echo(f"database  {mongo.name}, {await check_server(mongo)}")
        recorded: set[str] = set()
        with progress_bars() as show:

            async def record(names: Iterable[str]) -> None:
                watched = Watched(tuple(names), PLATFORM.without)
                await record_reference(mongo, watched, on_progress=partial(_show_reading, show))
                recorded.update(watched.names)

            async def before_changes(is_resumed: bool) -> None:
                await record(
                    PLATFORM.names
                    if record_platform
                    else await _names_to_record(mongo, is_resumed=is_resumed)
                )

            changes = await apply_changes(
                mongo,
                collection_specs(),
                choices=choices,
                watcher=Watcher(on_plan=show_announcement, on_progress=show, on_step=_tell),
                before_changes=before_changes,
            )
            if not changes:
                known = () if record_platform else await read_reference(mongo)
                await record(name for name in PLATFORM.names if name not in known)
        references = await read_reference(mongo)
    return _Applied(changes, [found for found in references.values() if found.name in recorded])


async def _names_to_record(mongo: MongoDatabase, *, is_resumed: bool) -> list[str]:
    """All of the platform's, but for references that say more than new ones would.

    That of an interrupted apply is older than its changes, and one that differs from what is there
    now is evidence that nobody may have seen yet.
    """
    verdicts = await verify_reference(mongo, PLATFORM, with_content=False)
    for verdict in verdicts:
        if verdict.definition_changes and verdict.reference:
            show_verdict(verdict)
            recorded_at = f"{verdict.reference.recorded_at:{MOMENT}}"
            click.echo(
                f"kept      {verdict.name:20}its record of {recorded_at}, as it differs; "
                "--record-platform takes it as it is now"
            )
    return [
        verdict.name
        for verdict in verdicts
        if verdict.reference is None or not (verdict.definition_changes or is_resumed)
    ]


def _what_is_wrong(found: SetupPlan, verdicts: Sequence[Verdict], *, is_strict: bool) -> list[str]:
    wrong = []
    if found.needed or found.blocking:
        wrong.append(
            f"{len(found.needed)} differences from what this version needs; run `accounting db "
            "apply`"
        )
    if changed := [verdict.name for verdict in verdicts if verdict.definition_changes]:
        wrong.append(
            f"definitions of the platform's {', '.join(changed)} are not as they were recorded; if "
            "the platform has changed them itself, `accounting db apply --record-platform` takes "
            "them as they are now"
        )
    if unknown := [verdict.name for verdict in verdicts if verdict.reference is None]:
        wrong.append(f"never recorded, and so not compared: {', '.join(unknown)}")
    touched = [
        verdict.name for verdict in verdicts if verdict.content and not verdict.content.is_kept
    ]
    if touched and is_strict:
        wrong.append(f"documents of the platform's {', '.join(touched)} are not as recorded")
    return wrong


def _show_next_of_plan(found: SetupPlan) -> None:
    if found.blocking:
        click.echo(
            f"stop      {len(found.blocking)} obstacles, marked with !; apply changes nothing "
            "before they are gone"
        )
    elif found.needed:
        click.echo(
            f"to do     {len(found.needed)} changes; no document is touched, and nothing of the "
            "platform"
        )
        click.echo("next      accounting db apply")
    else:
        click.echo("Nothing to do: every collection, validator and index is in place.")


def _show_reading(show: ShowProgress, name: str, done: int, total: int) -> None:
    show(f"reading the platform's {name}", done, total)


def _tell(step: str) -> None:
    click.echo(f"now       {step}", err=True)


def _with_mongo(work: Callable[[MongoDatabase], Awaitable[T]]) -> T:
    settings = load_settings()

    async def run() -> T:
        async with open_mongo(settings) as mongo:
            return await work(mongo)

    return asyncio.run(run())
