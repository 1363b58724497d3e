"""`accounting audit verify`: is the trail the one that was recorded (spec section 7)?"""

from __future__ import annotations

import asyncio
import json
import time

import click

from accounting.audit.findings import TrailReport
from accounting.audit.verification import verify_trail
from accounting.bootstrap import open_mongo
from accounting.cli.progress import progress_bars
from accounting.settings import load_settings


@click.group()
def audit() -> None:
    """Check the audit trail; `jobs run seal` makes the daily seals."""


@audit.command(short_help="Find each altered, lost or moved entry.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON, for programs.")
def verify(as_json: bool) -> None:
    """Find every entry that was edited, removed, inserted or moved; exit code 1 if there is one."""
    started = time.monotonic()
    report = asyncio.run(_verify())
    seconds = time.monotonic() - started
    if as_json:
        click.echo(json.dumps({**report.to_json(), "seconds": round(seconds, 3)}, indent=2))
    else:
        _show(report, seconds)
    if not report.is_sound:
        raise click.ClickException(
            f"The audit trail is not the one that was recorded: "
            f"{report.finding_count} finding{'' if report.finding_count == 1 else 's'}."
        )


async def _verify() -> TrailReport:
    settings = load_settings()
    async with open_mongo(settings) as mongo:
        with progress_bars() as show:
            return await verify_trail(
                mongo, on_progress=lambda done, total: show("audit trail", done, total)
            )


def _show(report: TrailReport, seconds: float) -> None:
    for finding in report.findings:
        entry = f" (entry {finding.entry_id})" if finding.entry_id else ""
        click.echo(f"{finding.kind:14}{finding.sentence}{entry}")
    if unshown := report.finding_count - len(report.findings):
        click.echo(f"and {unshown} more findings")
    sealed = f"sealed until {report.sealed_until}" if report.sealed_until else "no day sealed yet"
    click.echo(
        f"{'Verified' if report.is_sound else 'Checked'}: {report.entries} entries in "
        f"{report.chains} chains, {report.seals} seals ({sealed}), in {seconds:.1f} s."
    )
