"""`accounting simulate --until DATE`: what the daily jobs would do until then."""

from __future__ import annotations

import asyncio
import json
import signal
from collections import Counter
from collections.abc import Coroutine, Iterable, Iterator
from datetime import date, datetime
from typing import Any, Final, TypeVar

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from accounting.bootstrap import open_mongo
from accounting.cli.progress import progress_bars
from accounting.clock import business_day, utc_now
from accounting.db.scratch import drop_left_behind, list_scratch_databases
from accounting.settings import Settings, load_settings
from accounting.simulation.figures import MonthFigures
from accounting.simulation.service import (
    PURPOSE,
    SIMULATED_DAYS_MAX,
    NotBilled,
    Simulation,
    simulate,
)
from accounting.wording import one_line

T = TypeVar("T")

_DAY: Final = click.DateTime(["%Y-%m-%d"])
_STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGHUP)
_COLUMNS_MAX: Final = 500
_NAMES_SHOWN: Final = 5
_HEADINGS: Final = (
    *("Month", "Invoices", "Drafts", "Issued", "Amount", "Invoice\nmails", "Reminders"),
    *("Overdue", "Overdue\namount", "Not\nbilled"),
)


@click.command("simulate", short_help="Run the daily jobs until a day, on a copy.")
@click.option("--until", type=_DAY, metavar="DATE", help="The last day, YYYY-MM-DD.")
@click.option("--from", "since", type=_DAY, metavar="DATE", help="The first day; today otherwise.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON, for programs.")
@click.option(
    "--drop-left-behind", is_flag=True, help="Drop the databases of simulations that were killed."
)
def simulate_command(
    until: datetime | None, since: datetime | None, as_json: bool, drop_left_behind: bool
) -> None:
    """Run every daily job until a day on a copy, and print what each month comes to.

    Nothing of the real database is changed and no e-mail is sent. The copy is a database of its
    own on the same server with the active recurring invoices and prices; it is dropped at the end.
    """
    if (until is None) != drop_left_behind:
        raise click.UsageError("Give either --until DATE or --drop-left-behind.")
    settings = load_settings()
    if until is None:
        _run(_drop_left_behind(settings))
        return
    today = business_day(utc_now(), settings.zone)
    first_day, last_day = since.date() if since else today, until.date()
    _check_days(first_day, last_day, today)
    simulation = _run(_simulate(settings, first_day, last_day))
    if as_json:
        click.echo(json.dumps(_to_json(simulation), indent=2, ensure_ascii=False))
    else:
        _show(simulation)


def _check_days(first_day: date, last_day: date, today: date) -> None:
    if first_day < today:
        raise click.BadParameter(
            f"{first_day} is over; a simulation begins today, {today}, or later.",
            param_hint="--from",
        )
    if last_day < first_day:
        raise click.BadParameter(
            f"{last_day} is before {first_day}, the first simulated day.", param_hint="--until"
        )
    if (last_day - first_day).days >= SIMULATED_DAYS_MAX:
        raise click.BadParameter(
            f"{last_day} is too far: at most {SIMULATED_DAYS_MAX} days are simulated, "
            f"from {first_day} on.",
            param_hint="--until",
        )


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run this to its end; a signal that asks us to stop ends it like Ctrl-C, and cleans up."""
    try:
        return asyncio.run(_stopped_by_signals(work))
    except asyncio.CancelledError:
        raise click.Abort from None


async def _stopped_by_signals(work: Coroutine[Any, Any, T]) -> T:
    task = asyncio.ensure_future(work)
    for number in _STOP_SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    return await task


async def _simulate(settings: Settings, first_day: date, last_day: date) -> Simulation:
    async with open_mongo(settings) as mongo:
        left_behind = [
            scratch.name
            for scratch in await list_scratch_databases(mongo, PURPOSE)
            if not scratch.is_in_use
        ]
        if left_behind:
            click.echo(
                f"Left behind by simulations that were killed: {', '.join(left_behind)}; "
                "`accounting simulate --drop-left-behind` drops them.",
                err=True,
            )
        with progress_bars() as show:

            def on_progress(days: int, of_days: int, invoices: int) -> None:
                show("days", days, of_days)
                show("invoices", invoices, invoices)

            return await simulate(mongo, settings, first_day, last_day, on_progress=on_progress)


async def _drop_left_behind(settings: Settings) -> None:
    async with open_mongo(settings) as mongo:
        dropped = await drop_left_behind(mongo, PURPOSE)
        in_use = await list_scratch_databases(mongo, PURPOSE)
    for what, found in (("dropped", dropped), ("in use ", in_use)):
        for scratch in found:
            click.echo(f"{what}  {scratch.name}, made {scratch.created_at:%Y-%m-%d %H:%M} UTC")
    if not dropped:
        click.echo("Nothing was left behind.")


def _show(simulation: Simulation) -> None:
    days = (simulation.last_day - simulation.first_day).days + 1
    click.echo(
        f"Simulated {simulation.first_day} to {simulation.last_day} ({days} days) with "
        f"{simulation.template_count} active recurring invoices."
    )
    table = _table(simulation)
    # On a narrow terminal a line may go on in the next one, but no amount loses its digits.
    needed = Console(width=_COLUMNS_MAX).measure(table).maximum
    Console(width=needed).print(table)
    for line in (*_notes(simulation), *_reasons(simulation.not_billed)):
        click.echo(line)


def _table(simulation: Simulation) -> Table:
    table = Table(box=SIMPLE_HEAD, show_footer=True, padding=(0, 1, 0, 0))
    for name, total in zip(_HEADINGS, _cells(simulation.total), strict=True):
        table.add_column(name, total, justify="left" if name == "Month" else "right")
    for figures in simulation.months:
        table.add_row(*_cells(figures))
    return table


def _cells(figures: MonthFigures) -> list[str]:
    return [
        figures.month,
        *(f"{figures.invoices:,}", f"{figures.drafts:,}", f"{figures.issued:,}"),
        *(f"{figures.amount:,}", f"{figures.invoice_mails:,}", f"{figures.reminders:,}"),
        *(f"{figures.overdue:,}", f"{figures.overdue_amount:,}", f"{figures.not_billed:,}"),
    ]


def _notes(simulation: Simulation) -> Iterator[str]:
    total = simulation.total
    yield "Nothing was changed and no e-mail was sent. Invoices that exist today are left out."
    if total.drafts:
        yield (
            "A draft stays one: nobody issues it here, so that it is neither e-mailed nor "
            "reminded of nor overdue."
        )
    if total.reminders:
        yield (
            f"Reminders: {total.payment_reminders:,} before the due date, "
            f"{total.overdue_reminders:,} after it."
        )
    if total.overdue:
        yield "Nobody pays here: overdue is what is owed if no payment comes."
    if simulation.parked_count:
        yield (
            f"{simulation.parked_count:,} recurring invoices would be paused, since they fail "
            "again and again."
        )


def _reasons(not_billed: Iterable[NotBilled]) -> Iterator[str]:
    """One line for each reason, the failures first, with the customers who have most of it."""
    by_reason: dict[tuple[bool, str], Counter[str]] = {}
    for month in not_billed:
        by_reason.setdefault((month.is_failure, month.code), Counter())[month.customer_name] += 1
    for (is_failure, code), customers in sorted(
        by_reason.items(), key=lambda found: (not found[0][0], -found[1].total(), found[0][1])
    ):
        shown = [
            f"{one_line(name)} ({count})" for name, count in customers.most_common(_NAMES_SHOWN)
        ]
        more = len(customers) - len(shown)
        others = f" and {more:,} more customers" if more > 0 else ""
        what = "failed " if is_failure else "skipped"
        yield f"{what}  {code}: {customers.total():,} months: {', '.join(shown)}{others}"


def _to_json(simulation: Simulation) -> dict[str, Any]:
    return {
        "from": simulation.first_day.isoformat(),
        "until": simulation.last_day.isoformat(),
        "templates": simulation.template_count,
        "paused": simulation.parked_count,
        "months": [figures.to_json() for figures in simulation.months],
        "total": simulation.total.to_json(),
        "notBilled": [
            {
                "recurringInvoiceId": str(month.template_id),
                "customerId": month.customer_id and str(month.customer_id),
                "customer": month.customer_name,
                "billingPeriod": month.billing_period,
                "code": month.code,
                "reason": month.reason,
                "isFailure": month.is_failure,
            }
            for month in simulation.not_billed
        ],
    }
