"""`accounting db backup`, `restore` and `rollback` (spec section 8)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from shlex import quote
from typing import Final

import click

from accounting import __version__
from accounting.bootstrap import collection_specs, open_mongo
from accounting.cli.progress import progress_bars
from accounting.clock import utc_now
from accounting.db.backup.folder import Backup, BackupManifest, SavedCollection, open_backup
from accounting.db.backup.restoring import Restored
from accounting.db.backup.restoring import restore as restore_backup
from accounting.db.backup.rollback import (
    RollbackPlan,
    drop_unfinished_restore,
    plan_rollback,
    require_confirmed,
    roll_back,
)
from accounting.db.backup.saving import back_up
from accounting.db.manifest import META
from accounting.platform.rules import PLATFORM_COLLECTIONS, TOKEN_BLACKLIST
from accounting.settings import load_settings

# What our documents refer to; the platform's other collections are not ours to keep copies of.
SAVED_PLATFORM_COLLECTIONS: Final = ("users", "cost_payments", "miners")
RECENTLY_SECONDS: Final = 600
_NEVER_OURS: Final = (*PLATFORM_COLLECTIONS, TOKEN_BLACKLIST)

_NEW_DIRECTORY: Final = click.Path(path_type=Path, resolve_path=True)
_DIRECTORY: Final = click.Path(path_type=Path, resolve_path=True, exists=True, file_okay=False)
_without_snapshot = click.option(
    "--without-snapshot",
    is_flag=True,
    help="Read each collection as it is then, not all at one moment: stop the service first.",
)


@click.command(short_help="Save our collections as of one moment.")
@click.option("--out", type=_NEW_DIRECTORY, required=True, help="The directory to make.")
@click.option(
    "--platform",
    is_flag=True,
    help="Also the platform's users (with password hashes), cost_payments and miners.",
)
@_without_snapshot
def backup(out: Path, platform: bool, without_snapshot: bool) -> None:
    """Save our collections as they are at one moment, for `restore` or `mongorestore --gzip`.

    The service may go on running. The directory appears when all of it is written; only this
    user of the system may read it.
    """
    if platform:
        click.echo(
            "warning   this backup will hold the platform's users with their password hashes: "
            "guard it like the database itself",
            err=True,
        )
    names = [*_our_names(), *(SAVED_PLATFORM_COLLECTIONS if platform else ())]

    async def work() -> BackupManifest:
        async with open_mongo(load_settings()) as mongo:
            with progress_bars() as show:
                return await back_up(
                    mongo,
                    names,
                    out,
                    now=utc_now(),
                    is_of_one_moment=not without_snapshot,
                    on_progress=lambda done, total: show("documents saved", done, total),
                )

    manifest = asyncio.run(work())
    _show_counts("saved", manifest.collections)
    _show_saved(manifest, out)
    folder = quote(str(out))
    click.echo(f"next      to check it: cd {folder} && sha256sum --check --quiet SHA256SUMS")
    click.echo(f"next      to bring it back: accounting db restore {folder}")


@click.command(short_help="Make our collections again from a backup.")
@click.argument("directory", type=_DIRECTORY)
@click.option(
    "--platform",
    is_flag=True,
    help="Also make the platform's collections that are in it; refused where a platform is.",
)
@click.option("--check", is_flag=True, help="Only check the backup; no database is needed.")
def restore(directory: Path, platform: bool, check: bool) -> None:
    """Check a backup, and make its collections in the configured database.

    Nothing that exists is replaced or added to: one of its collections there, and nothing is done.
    Killed, it leaves no half collection under its name; run it again.
    """
    with progress_bars() as show:
        opened = open_backup(
            directory, on_progress=lambda done, total: show("documents checked", done, total)
        )
    _show_checked(opened)
    if check:
        return

    async def work() -> tuple[Restored, str]:
        async with open_mongo(load_settings()) as mongo:
            with progress_bars() as show:
                restored = await restore_backup(
                    mongo,
                    opened,
                    platform_names=_NEVER_OURS,
                    with_platform=platform,
                    on_progress=lambda done, total: show("documents restored", done, total),
                )
            return restored, mongo.name

    restored, database = asyncio.run(work())
    _show_counts("made", restored.collections)
    if restored.left_out:
        click.echo(f"left out  {', '.join(restored.left_out)}, as --platform was not given")
    click.echo(
        f"Restored {_counted(restored.collections)} in database {database}, with the indexes and "
        "options that they had."
    )
    click.echo("next      `accounting db verify`, `accounting audit verify`, `accounting doctor`")


@click.command(short_help="Back up what we made, then drop it.")
@click.option(
    "--confirm", metavar="DATABASE", help="The database's name: yes, drop its documents as well."
)
@click.option(
    "--out",
    type=_DIRECTORY,
    default=".",
    help="Where the backup's dated directory is made; here, unless given.",
)
@_without_snapshot
def rollback(confirm: str | None, out: Path, without_snapshot: bool) -> None:
    """Back up the collections that accounting has made and drop them; nothing else is touched.

    Stop the API, the workers and beat first. Killed, it can be run again and finishes.
    """
    asyncio.run(_roll_back(confirm, out, is_of_one_moment=not without_snapshot))


async def _roll_back(confirm: str | None, out: Path, *, is_of_one_moment: bool) -> None:
    now = utc_now()
    async with open_mongo(load_settings()) as mongo:
        plan = await plan_rollback(mongo, our_names=_our_names(), platform_names=_NEVER_OURS)
        _show_plan(plan, mongo.name, now)
        if plan.collections:
            click.echo(f"note      a backup of all that is dropped is made first, in {out}")
        require_confirmed(mongo, plan, confirm)
        if left_behind := await drop_unfinished_restore(mongo):
            click.echo(f"dropped   {left_behind} collections that a killed restore had loaded")
        if not plan.collections:
            click.echo(f"Nothing to do: accounting has nothing in database {mongo.name}.")
            return
        target = out / f"accounting-{mongo.name}-{now:%Y%m%dT%H%M%S}{now.microsecond // 1000:03}Z"
        with progress_bars() as show:
            manifest = await roll_back(
                mongo,
                plan,
                target,
                now=now,
                is_of_one_moment=is_of_one_moment,
                on_progress=lambda done, total: show("documents saved", done, total),
            )
        _show_saved(manifest, target)
    click.echo(
        f"Rolled back: dropped {len(plan.collections)} collections of database {mongo.name}; "
        "nothing else in it was touched."
    )
    click.echo(f"next      to bring them back: accounting db restore {quote(str(target))}")


def _our_names() -> list[str]:
    # The record of what is ours comes first; a restore counts on it.
    return [META, *(spec.name for spec in collection_specs())]


def _show_saved(manifest: BackupManifest, out: Path) -> None:
    moment = (
        f"as it was at {_time(manifest.made_at)}"
        if manifest.is_of_one_moment
        else "each collection as it was when it was read: whole if nothing was written meanwhile"
    )
    click.echo(
        f"Saved {_counted(manifest.collections)} of database {manifest.database} in {out}, "
        f"{moment}."
    )


def _show_checked(opened: Backup) -> None:
    manifest = opened.manifest
    click.echo(
        f"Checked {_counted(manifest.collections)}, every file as it was written: database "
        f"{manifest.database} on MongoDB {manifest.server_version}, saved at "
        f"{_time(manifest.made_at)} by accounting {manifest.made_by}."
    )
    if not manifest.is_of_one_moment:
        click.echo("note      it was saved --without-snapshot: not all of it is of one moment")
    if manifest.made_by != __version__:
        click.echo(f"note      this is accounting {__version__}: run `db plan` and `apply` on it")


def _show_counts(what: str, collections: Sequence[SavedCollection]) -> None:
    for collection in collections:
        click.echo(f"{what:10}{collection.name:26}{collection.documents:>12,} documents")


def _show_plan(plan: RollbackPlan, database: str, now: datetime) -> None:
    for name in plan.gone:
        click.echo(f"gone      {name:26}dropped before")
    for found in plan.collections:
        click.echo(f"drop      {found.name:26}{found.documents:>12,} documents")
    for name in plan.adopted:
        click.echo(f"keep      {name:26}was there before accounting, which only took it into use")
    for name in plan.unknown:
        click.echo(
            f"keep      {name:26}is not the one that accounting made; look at it, and drop it "
            "yourself if nobody needs it"
        )
    newest = plan.newest_document_at
    if newest is None:
        return
    click.echo(f"note      the newest of them was written at {_time(newest)}")
    if (now - newest).total_seconds() < RECENTLY_SECONDS:
        click.echo(
            f"warning   that is just now: is the service still running on {database}? Stop the "
            "API, the workers and beat first; what it writes after the backup would be lost",
            err=True,
        )


def _time(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M:%S} UTC"


def _counted(collections: Sequence[SavedCollection]) -> str:
    documents = sum(collection.documents for collection in collections)
    size = sum(collection.size_bytes for collection in collections)
    return f"{len(collections)} collections, {documents:,} documents, {size / 1e6:,.1f} MB of BSON"
