"""`accounting archive`: old, closed invoices go into a folder and out of the database."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from shlex import quote
from typing import Any, Final

import click

from accounting.archiving.documents import Archive, find_unfinished, list_archives
from accounting.archiving.planning import ArchivePlan, plan_archive
from accounting.archiving.rules import (
    KEPT_WORDS,
    Age,
    ArchiveError,
    Cutoff,
    cutoff_day,
    parse_age,
)
from accounting.archiving.service import abandon_archive, archive_invoices, resume_archive
from accounting.archiving.turns import Holder
from accounting.bootstrap import Services, open_services
from accounting.cli.progress import progress_bars
from accounting.clock import business_day
from accounting.settings import load_settings

EARLIER_SHOWN_MAX: Final = 5


class NotConfirmed(ArchiveError):
    """Invoices are removed for those only who name the database that they mean."""

    def __init__(self, database: str, confirmed: str) -> None:
        super().__init__(
            f"Nothing was archived. --confirm names {confirmed!r}, but the database is "
            f"{database!r}."
        )


@click.command("archive", short_help="Move old, closed invoices into a folder; off by default.")
@click.option("--older-than", metavar="AGE", help="Closed so long ago: 3y, or 18m; 1y at least.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, resolve_path=True, exists=True, file_okay=False),
    help="Where the archive's dated folder is made.",
)
@click.option("--confirm", metavar="DATABASE", help="The database's name: yes, archive and remove.")
@click.option("--abandon", is_flag=True, help="Let an interrupted archive be; what is left stays.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON, for programs.")
def archive_command(
    older_than: str | None, out: Path | None, confirm: str | None, abandon: bool, as_json: bool
) -> None:
    """Show which invoices were closed long ago; with --confirm, export and remove them.

    Takes PAID, CANCELLED and REFUNDED invoices that lie wholly before that day, with their
    payments, e-mails and PDFs. The audit trail stays, and what their payments spent stays spent.
    The service may go on running. Killed, run it again: it goes on where it was.
    """
    if abandon:
        if older_than or out or confirm:
            raise click.UsageError("--abandon goes alone.")
        asyncio.run(_abandon())
        return
    if older_than is None:
        raise click.UsageError("Give --older-than, such as 3y.")
    if confirm is not None and out is None:
        raise click.UsageError("--confirm needs --out, where the archive's folder is made.")
    asyncio.run(_archive(parse_age(older_than), out, confirm, as_json=as_json))


async def _archive(age: Age, out: Path | None, confirm: str | None, *, as_json: bool) -> None:
    async with open_services(load_settings()) as services:
        database = services.db.mongo.name
        if out is None or confirm is None:
            plan = await _plan(services, age)
            interrupted, earlier = await find_unfinished(), await list_archives(EARLIER_SHOWN_MAX)
            if as_json:
                _print_json(database, plan, [])
                return
            _show_plan(plan, database)
            _show_archives(interrupted, earlier)
            _show_next(plan, age, out, database)
            return
        if confirm != database:
            raise NotConfirmed(database, confirm)
        made = await _carry_out(services, age, out, as_json=as_json)
        if as_json:
            _print_json(database, None, made)


async def _carry_out(services: Services, age: Age, out: Path, *, as_json: bool) -> list[Archive]:
    """Go on with what was interrupted, then the archive itself; returns what was made."""
    db, zone, holder = services.db, services.terms.zone, Holder()
    made: list[Archive] = []
    if await find_unfinished() is not None:
        click.echo(
            "note      an earlier archive was interrupted and is gone on with; the server may keep "
            "what a killed one held for a minute or two",
            err=True,
        )
    with progress_bars() as show:
        resumed = await resume_archive(db, zone, holder=holder, show=show)
    if resumed is not None:
        made.append(resumed)
        if not as_json:
            click.echo("An earlier archive was interrupted, and is finished now:")
            _show_made(resumed, db.mongo.name)
    plan = await _plan(services, age)
    if not as_json:
        _show_plan(plan, db.mongo.name)
    if not plan.invoice_ids:
        if not as_json:
            click.echo("Nothing to archive.")
        return made
    with progress_bars() as show:
        archive = await archive_invoices(db, zone, plan, age, out, holder=holder, show=show)
    made.append(archive)
    if not as_json:
        _show_made(archive, db.mongo.name)
        if plan.more:
            click.echo(f"next      {plan.more:,} more invoices: run it again")
    return made


async def _plan(services: Services, age: Age) -> ArchivePlan:
    zone = services.terms.zone
    today = business_day(services.db.clock(), zone)
    return await plan_archive(Cutoff.of(cutoff_day(age, today), today, zone), today, zone)


async def _abandon() -> None:
    async with open_services(load_settings()) as services:
        archive = await abandon_archive(services.db, holder=Holder())
    if archive is None:
        click.echo("No archive was interrupted.")
        return
    click.echo(
        f"Let be: the archive in {archive.folder} on {archive.host} had removed "
        f"{archive.removed:,} invoices, which are in that folder only; all others stay."
    )


def _show_plan(plan: ArchivePlan, database: str) -> None:
    last_day = plan.cutoff - timedelta(days=1)
    click.echo(f"Closed invoices of database {database} that end on {last_day} or before:")
    for (status, year), share in sorted(plan.shares.items()):
        click.echo(
            f"archive   {status:10} closed in {year}{share.invoices:>12,} invoices"
            f"{share.amount:>20,} USD"
        )
    for what, count in (
        ("payments", plan.payments),
        ("e-mails", plan.notifications),
        ("PDFs", plan.pdfs),
    ):
        if count:
            click.echo(f"with      {count:>12,} {what}")
    for kept, count in sorted(plan.kept.items()):
        click.echo(f"keep      {count:>12,} {KEPT_WORDS[kept]}")
    others = ", ".join(
        f"{count:,} {status}" for status, count in sorted(plan.others.items()) if count
    )
    click.echo(
        f"keep      {sum(plan.others.values()):>12,} are open or newer{others and f': {others}'}"
    )
    click.echo("keep      the audit trail, numbers and prices, whole")


def _show_archives(interrupted: Archive | None, earlier: list[Archive]) -> None:
    for archive in earlier:
        click.echo(
            f"earlier   {archive.removed:>12,} invoices in {archive.folder} on {archive.host}, "
            f"{archive.finished_at:%Y-%m-%d}"
        )
    if interrupted is not None:
        click.echo(
            f"note      an archive into {interrupted.folder} on {interrupted.host} is at work or "
            f"was interrupted after {interrupted.removed:,} invoices; with --confirm it is "
            "finished first"
        )


def _show_next(plan: ArchivePlan, age: Age, out: Path | None, database: str) -> None:
    if not plan.invoice_ids:
        click.echo("Nothing to archive.")
        return
    if plan.more:
        click.echo(
            f"note      one archive takes {len(plan.invoice_ids):,} invoices; run it again for "
            "the others"
        )
    click.echo("Nothing was changed.")
    click.echo(
        f"next      to do it: accounting archive --older-than {age.text} "
        f"--out {quote(str(out)) if out else 'DIRECTORY'} --confirm {database}"
    )


def _show_made(archive: Archive, database: str) -> None:
    folder = quote(archive.folder)
    exported = archive.exported
    assert exported is not None, "it is finished, so that it was exported"
    click.echo(
        f"Archived {archive.removed:,} invoices of database {database} in {archive.folder}, with "
        f"their payments, e-mails and PDFs ({exported.payments:,}, {exported.notifications:,} and "
        f"{exported.pdfs:,} exported)."
    )
    if archive.left:
        click.echo(f"keep      {archive.left:>12,} were changed meanwhile and stay")
    click.echo(f"sha256    {archive.sha256}  SHA256SUMS")
    click.echo("next      keep that folder safe: its invoices are nowhere else")
    click.echo(f"next      to check it: accounting db restore --check {folder}")
    click.echo(
        "next      to look into it: `accounting db restore` it with ACCOUNTING_MONGODB_DATABASE "
        "set to a new, empty database"
    )


def _print_json(database: str, plan: ArchivePlan | None, made: list[Archive]) -> None:
    result: dict[str, Any] = {"database": database}
    if plan is not None:
        result["plan"] = _plan_to_json(plan)
    result["archives"] = [_archive_to_json(archive) for archive in made]
    click.echo(json.dumps(result, indent=2))


def _plan_to_json(plan: ArchivePlan) -> dict[str, Any]:
    return {
        "cutoff": plan.cutoff.isoformat(),
        "invoices": plan.invoices,
        "payments": plan.payments,
        "notifications": plan.notifications,
        "pdfs": plan.pdfs,
        "more": plan.more,
        "shares": [
            {
                "status": status.value,
                "year": year,
                "invoices": share.invoices,
                "amount": str(share.amount),
            }
            for (status, year), share in sorted(plan.shares.items())
        ],
        "kept": {kept.value: count for kept, count in sorted(plan.kept.items())},
        "others": {status.value: count for status, count in sorted(plan.others.items())},
    }


def _archive_to_json(archive: Archive) -> dict[str, Any]:
    return {
        "folder": archive.folder,
        "host": archive.host,
        "sha256": archive.sha256,
        "cutoff": archive.cutoff.isoformat(),
        "exported": archive.exported.model_dump() if archive.exported else None,
        "removed": archive.removed,
        "left": archive.left,
    }
