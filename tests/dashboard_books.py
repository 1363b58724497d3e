"""The dashboard once more, slowly: added up in plain Python from the raw collections."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

from accounting.api.dashboard import view_dashboard
from accounting.bootstrap import bind_documents
from accounting.db.client import open_client, open_database
from accounting.db.database import Database
from accounting.reports.counting import Sizes
from accounting.reports.dashboard import DashboardReader

ZERO: Final = Decimal("0.00")
STATUSES: Final = ("DRAFT", "ISSUED", "OVERDUE", "PAID", "CANCELLED", "REFUNDED")
AGING: Final = (("current", 0), ("1-30", 30), ("31-60", 60), ("61-90", 90), ("90+", 10**6))

Row = dict[str, Any]


async def read_books(mongo: Any) -> tuple[list[Row], list[Row], list[Row]]:
    """Invoices, payments and templates as they lie there; nobody may be writing."""
    names = ("invoices", "invoice_payments", "recurring_invoices")
    invoices, payments, templates = [await mongo[name].find().to_list(None) for name in names]
    return invoices, payments, templates


def add_up(
    invoices: list[Row], payments: list[Row], templates: list[Row], now: datetime, zone: ZoneInfo
) -> Row:
    """What the API must answer, without `asOf` and the newest invoices."""
    today = now.astimezone(zone).date()
    by_status = {name: {"count": 0, "totalAmount": ZERO, "amountPaid": ZERO} for name in STATUSES}
    aging = {name: ZERO for name, _ in AGING}
    overdue, soon, open_invoices = [0, ZERO], [0, ZERO], 0
    for invoice in invoices:
        sums = by_status[invoice["status"]]
        sums["count"] += 1
        sums["totalAmount"] += invoice["totalAmount"]
        sums["amountPaid"] += invoice["amountPaid"]
        if invoice["status"] not in ("ISSUED", "OVERDUE"):
            continue
        owed, due = invoice["totalAmount"] - invoice["amountPaid"], invoice["dueDate"].date()
        days_late = (today - due).days
        open_invoices += 1
        aging[next(name for name, end in AGING if days_late <= end)] += owed
        is_late = invoice["status"] == "OVERDUE" or days_late > 0
        group = overdue if is_late else soon if -days_late <= 7 else [0, ZERO]
        group[0] += 1
        group[1] += owed
    return {
        "byStatus": {name: _texts(sums) for name, sums in by_status.items()},
        "outstanding": f"{sum(aging.values(), ZERO):.2f}",
        "openInvoices": open_invoices,
        "overdue": {"count": overdue[0], "amount": f"{overdue[1]:.2f}"},
        "aging": _texts(aging),
        "dueNext7Days": {"count": soon[0], "amount": f"{soon[1]:.2f}"},
        "collectedPerMonth": _collected(payments, today, zone),
        "templates": _templates(templates, today),
    }


def _texts(sums: Row) -> Row:
    return {
        name: f"{value:.2f}" if isinstance(value, Decimal) else value
        for name, value in sums.items()
    }


def _collected(payments: list[Row], today: date, zone: ZoneInfo) -> list[Row]:
    sums: dict[str, Decimal] = defaultdict(lambda: ZERO)
    for payment in payments:
        if payment.get("refundedDate") is None:
            sums[f"{payment['paidDate'].astimezone(zone):%Y-%m}"] += payment["amountPaid"]
    months = [f"{today:%Y-%m}"]
    first = today.replace(day=1)
    for _ in range(11):
        first = (first - timedelta(days=1)).replace(day=1)
        months.insert(0, f"{first:%Y-%m}")
    return [{"month": month, "amount": f"{sums[month]:.2f}"} for month in months]


def _templates(templates: list[Row], today: date) -> Row:
    counts = {"active": 0, "paused": 0, "ended": 0, "deleted": 0}
    next_runs = []
    for template in templates:
        end = template["endDate"] and template["endDate"].date()
        if template["isActive"]:
            state = "ended" if end and end < today else "active"
        else:
            state = "deleted" if end and end <= today else "paused"
        counts[state] += 1
        if state == "active" and (day := _next_run(template, end)):
            next_runs.append(day)
    return {**counts, "nextRunDate": min(next_runs).isoformat() if next_runs else None}


def _next_run(template: Row, end: date | None) -> date | None:
    day, start = template["dayOfMonth"], template["startDate"].date()
    done = [template.get(name) for name in ("lastGeneratedDate", "lastSkippedDate")]
    last = max((f"{value:%Y-%m}" for value in done if value), default="")
    candidate = start.replace(day=1)
    while f"{candidate:%Y-%m}" <= last or candidate.replace(day=day) < start:
        candidate = (candidate + timedelta(days=32)).replace(day=1)
    scheduled = candidate.replace(day=day)
    return None if end and scheduled > end else scheduled


async def shown_figures(reader: DashboardReader, db: Database, zone: ZoneInfo) -> Row:
    """What the API would answer, but for the moment and the newest invoices."""
    view = view_dashboard(await reader.read(db, zone), [])
    shown = view.model_dump(mode="json", by_alias=True)
    return {name: shown[name] for name in shown.keys() - {"asOf", "today", "recentInvoices"}}


async def recounted_figures(db: Database, zone: ZoneInfo) -> Row:
    """The same from the raw collections; nobody may be writing."""
    return add_up(*await read_books(db.mongo), db.clock(), zone)


def refresh_work(uri: str, database: str, _: Path) -> None:
    """A process that does nothing but bring the figures up to date, in very small steps."""

    async def work() -> None:
        client = open_client(uri)
        mongo = open_database(client, database)
        await bind_documents(mongo)
        sizes = Sizes(part_documents=5, stretch_documents=25, parts=5)
        await DashboardReader(sizes).refresh(Database(mongo), ZoneInfo("UTC"), seconds=60)
        client.close()

    asyncio.run(work())
