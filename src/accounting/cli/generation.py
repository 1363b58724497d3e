"""`accounting jobs run generate`: what is due, its plan as a table, or just what a plan says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import date
from decimal import Decimal
from typing import Final

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from accounting.bootstrap import Services
from accounting.cli.progress import progress_bars
from accounting.clock import business_day
from accounting.platform.rules import PlatformUser, UserId
from accounting.recurring.billing import Charge
from accounting.recurring.comparison import GoneBill
from accounting.recurring.plan import Plan, PlannedMonth
from accounting.runs.documents import AccountingRun
from accounting.runs.parts import list_items
from accounting.runs.rules import ItemStatus
from accounting.wording import one_line
from accounting.worker.generation import generate_now, generate_plan_now, plan_now
from accounting.worker.runs import OnProgress

# As wide as the table needs where the output is no terminal: a file has no edge.
_FILE_COLUMNS: Final = 180
_FAILURES_SHOWN: Final = 20


async def generate(services: Services, as_of: date | None) -> str:
    """Generate every invoice that is due, with a progress bar."""
    today = _today(services, as_of)
    return await _with_progress(
        lambda on_progress: generate_now(services, today, on_progress=on_progress)
    )


def generate_plan(plan_hash: str) -> Callable[[Services, date | None], Awaitable[str]]:
    """The job that carries out a kept plan."""

    async def job(services: Services, as_of: date | None) -> str:
        return await _with_progress(
            lambda on_progress: generate_plan_now(
                services, plan_hash, as_of, on_progress=on_progress
            )
        )

    return job


async def show_plan(services: Services, as_of: date | None) -> str:
    """What would be generated, as a table; returns its sum and how to carry it out."""
    plan, kept = await plan_now(services, _today(services, as_of))
    console = Console()
    if not console.is_terminal:
        console = Console(width=_FILE_COLUMNS)
    if plan.months or plan.gone:
        console.print(_table(plan))
    return (
        f"generate: would make {len(plan.charges)} invoices of {plan.total_amount:,} in all for "
        f"{plan.as_of}{_others(plan)}; nothing was made.\n"
        f"Until {kept.expires_at:%Y-%m-%d %H:%M} UTC this plan can be carried out with: "
        f"accounting jobs run generate --plan-hash {plan.plan_hash}"
    )


def _today(services: Services, as_of: date | None) -> date:
    return as_of or business_day(services.db.clock(), services.terms.zone)


async def _with_progress(work: Callable[[OnProgress], Awaitable[AccountingRun]]) -> str:
    with progress_bars() as show:
        run = await work(lambda run, finished: show("invoices", finished, run.counts.total))
    counts = run.counts
    left = f", {counts.pending} left to other workers" if counts.pending else ""
    summary = (
        f"generate: {counts.done} invoices made for {run.parameters['asOf']}, "
        f"{counts.skipped} skipped, {counts.failed} failed{left} (run {run.id})"
    )
    if not counts.failed and not counts.pending:
        return summary
    click.echo(summary)
    shown, _ = await list_items(run, [ItemStatus.FAILED], page=1, limit=_FAILURES_SHOWN)
    for item in shown:
        click.echo(f"  {item.id} {item.label}: {item.code}: {item.reason}")
    raise click.ClickException(
        f"{counts.failed} items failed and {counts.pending} are not done; "
        f"the run {run.id} has the reasons, `retry-failed` tries them again."
    )


def _others(plan: Plan) -> str:
    codes = Counter(
        line.decision.code for line in plan.months if not isinstance(line.decision, Charge)
    )
    return "".join(f", {count} {code}" for code, count in sorted(codes.items()))


def _table(plan: Plan) -> Table:
    table = Table(title=f"Plan for {plan.as_of}", title_justify="left")
    for name in ("Customer", "Recurring invoice", "Period", "Due on", "Action"):
        table.add_column(name, overflow="fold")
    for name in ("Miners", "Price", "Amount", "Last bill", "Difference"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("Look at", overflow="fold")
    for line in plan.months:
        table.add_row(*_row(line))
    for gone in plan.gone:
        table.add_row(*_gone_row(gone))
    return table


def _row(line: PlannedMonth) -> list[str]:
    cells = [
        _name(line.customer, line.customer_id),
        str(line.template_id),
        line.billing_period,
        str(line.scheduled_date),
    ]
    before = line.previous.total_amount if line.previous else None
    last = f"{before:,}" if before is not None else ""
    if not isinstance(line.decision, Charge):
        action = f"{str(line.decision).split()[0]}: {line.decision.code}"
        return [*cells, action, "", "", "", last, "", _words(line)]
    charge = line.decision
    action = "issue" if charge.is_issued else "draft"
    amounts = [f"{charge.total_miners:,}", f"{charge.unit_price:,}", f"{charge.total_amount:,}"]
    moved = _signed(charge.total_amount - before) if before is not None else ""
    return [*cells, action, *amounts, last, moved, _words(line)]


def _gone_row(gone: GoneBill) -> list[str]:
    name = _name(gone.customer, gone.customer_id)
    last = gone.previous.total_amount
    return [
        *(name, str(gone.template_id), "", "", "gone", "", "", ""),
        *(f"{last:,}", _signed(-last), f"billed for {gone.previous.billing_period}"),
    ]


def _name(customer: PlatformUser | None, customer_id: UserId | None) -> str:
    # A name is no markup, and sends nothing to the terminal.
    return escape(one_line(customer.name)) if customer else str(customer_id or "?")


def _words(line: PlannedMonth) -> str:
    return ", ".join(flag.value.lower().replace("_", " ") for flag in line.flags)


def _signed(amount: Decimal) -> str:
    return f"{amount:+,}" if amount else "0.00"
