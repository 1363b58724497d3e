"""`accounting doctor` and `accounting numbers audit`: is the whole store sound (spec section 9)?"""

from __future__ import annotations

import asyncio
import json

import click

from accounting.actor import SYSTEM
from accounting.bootstrap import Services, open_mongo, open_services
from accounting.cli.progress import progress_bars
from accounting.integrity.findings import Finding
from accounting.integrity.numbers import NumbersReport, audit_all_numbers
from accounting.integrity.service import StoreReport, repair_findings
from accounting.settings import load_settings
from accounting.worker.integrity import examine_now


@click.command(short_help="Look for everything that must not be.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON, for programs.")
@click.option("--repair", is_flag=True, help="Show what can be put right, ask, and do it.")
@click.option("--yes", is_flag=True, help="With --repair: do not ask.")
def doctor(as_json: bool, repair: bool, yes: bool) -> None:
    """Look for everything that must not be; exit code 1 when something is found and left.

    Nothing is changed without --repair; each repair is one transaction with an audit entry.
    """
    if as_json and repair and not yes:
        raise click.UsageError("--repair asks, and --json cannot: add --yes.")
    report = asyncio.run(_examine(as_json=as_json, repair=repair, yes=yes))
    if as_json:
        click.echo(json.dumps(report.to_json(), indent=2))
    if not report.is_sound:
        raise click.ClickException(f"The store is not sound: {report.finding_count} findings.")


async def _examine(*, as_json: bool, repair: bool, yes: bool) -> StoreReport:
    async with open_services(load_settings()) as services:
        report = await _with_progress(services)
        if not as_json:
            _show(report)
        to_repair = [finding for finding in report.findings if finding.repair is not None]
        if not repair or not to_repair:
            return report
        if not as_json:
            _show_repairs(to_repair)
        if not yes and not click.confirm(f"Make these {len(to_repair)} repairs?"):
            return report
        repaired = await repair_findings(services.db, SYSTEM, to_repair)
        again = await _with_progress(services)
        if not as_json:
            click.echo(f"{repaired} repairs made. Looked again:")
            _show(again)
        return again


async def _with_progress(services: Services) -> StoreReport:
    with progress_bars() as show:
        return await examine_now(services, on_progress=lambda name, done: show(name, done, done))


def _show(report: StoreReport) -> None:
    for finding in report.findings:
        mark = "can be repaired" if finding.repair else "a person has to decide"
        click.echo(f"{finding.kind.value:20} {finding.sentence} [{mark}]")
    if unshown := report.finding_count - len(report.findings):
        click.echo(f"and {unshown} more findings")
    looked_at = ", ".join(f"{count} {name}" for name, count in report.looked_at.items())
    result = "Sound" if report.is_sound else f"{report.finding_count} findings"
    click.echo(f"{result}. Looked at: {looked_at}.")
    if any(finding.repair for finding in report.findings):
        click.echo("`accounting doctor --repair` shows and makes the repairs.")


def _show_repairs(findings: list[Finding]) -> None:
    click.echo("To be repaired:")
    for finding in findings:
        assert finding.repair is not None
        click.echo(f"  {finding.repair.words}")


@click.group()
def numbers() -> None:
    """Invoice numbers: none twice, and every gap explained."""


@numbers.command("audit", short_help="Numbers given out twice; why others are missing.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON, for programs.")
def audit_numbers(as_json: bool) -> None:
    """List numbers that were given out twice, and why others have no invoice.

    Exit code 1 when a number exists twice.
    """
    report = asyncio.run(_audit_numbers())
    if as_json:
        click.echo(json.dumps(report.to_json(), indent=2))
    else:
        _show_numbers(report)
    if report.duplicates:
        raise click.ClickException(f"{len(report.duplicates)} numbers exist more than once.")


async def _audit_numbers() -> NumbersReport:
    settings = load_settings()
    async with open_mongo(settings) as mongo:
        with progress_bars() as show:
            return await audit_all_numbers(
                mongo,
                settings.serial_width,
                on_progress=lambda done: show("numbers", done, done),
            )


def _show_numbers(report: NumbersReport) -> None:
    for number in report.duplicates:
        click.echo(f"twice    {number}")
    for gap in report.gaps:
        click.echo(f"missing  {gap.number}  {gap.explanation}")
    deleted = sum(gap.is_deleted for gap in report.gaps)
    more = ", the first of them shown" if report.is_cut else ""
    archived = f" and {report.archived} archived ones" if report.archived else ""
    click.echo(
        f"{report.numbers} numbers{archived} on {report.days} days: "
        f"{len(report.duplicates)} twice, {len(report.gaps)} missing{more} ({deleted} deleted, "
        f"{len(report.gaps) - deleted} never written)."
    )
