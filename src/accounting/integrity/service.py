"""Examining the whole store, and repairing what can be (spec section 6, "integrity")."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, TypeAlias

from accounting.actor import Actor
from accounting.db.database import Database, Transaction
from accounting.ids import new_id
from accounting.integrity.figures import check_figures
from accounting.integrity.findings import Finding, FindingKind
from accounting.integrity.payments import check_invoices, check_payments
from accounting.integrity.records import (
    check_months,
    check_numbers,
    check_prices,
    check_queues,
    check_trail,
)
from accounting.invoices.rules import BillingTerms
from accounting.platform.reader import Platform
from accounting.runs.documents import AccountingRun, RunCounts, RunItem
from accounting.runs.rules import ItemStatus, RunKind, RunStatus

FINDINGS_KEPT_MAX: Final = 1_000

Check: TypeAlias = AsyncIterator[Finding | int]
# The name of a check, and how many documents it has looked at.
OnProgress: TypeAlias = Callable[[str, int], None]


@dataclass(slots=True)
class StoreReport:
    """What was looked at and what was found; the first FINDINGS_KEPT_MAX findings are kept."""

    looked_at: Counter[str] = field(default_factory=Counter)
    counts: Counter[FindingKind] = field(default_factory=Counter)
    found_by: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)

    @property
    def finding_count(self) -> int:
        return self.counts.total()

    @property
    def is_sound(self) -> bool:
        return not self.finding_count

    def to_json(self) -> dict[str, Any]:
        """For programs; names as in the API."""
        return {
            "lookedAt": dict(self.looked_at),
            "findingCount": self.finding_count,
            "counts": {kind.value: count for kind, count in sorted(self.counts.items())},
            "findings": [finding.to_json() for finding in self.findings],
        }


async def examine_store(
    db: Database,
    platform: Platform,
    terms: BillingTerms,
    *,
    on_progress: OnProgress = lambda name, done: None,
) -> StoreReport:
    """Look at everything that must be true of the store; changes nothing, memory is bounded.

    Safe while the service is writing: what is compared is read at one moment.
    """
    mongo = db.mongo
    checks: dict[str, Check] = {
        "invoices": check_invoices(mongo, terms.zone),
        "payments": check_payments(mongo, platform),
        "numbers": check_numbers(mongo),
        "billed months": check_months(mongo),
        "prices": check_prices(mongo),
        "figures": check_figures(db, terms.zone),
        "queues": check_queues(mongo, db.clock()),
        "audit trail": check_trail(mongo),
    }
    report = StoreReport(looked_at=Counter(dict.fromkeys(checks, 0)))
    for name, check in checks.items():
        async for found in check:
            if isinstance(found, int):
                report.looked_at[name] += found
                on_progress(name, report.looked_at[name])
                continue
            report.counts[found.kind] += 1
            report.found_by[name] += 1
            if len(report.findings) < FINDINGS_KEPT_MAX:
                report.findings.append(found)
    return report


async def repair_findings(
    db: Database,
    actor: Actor,
    findings: Iterable[Finding],
    *,
    on_done: Callable[[Finding], None] = lambda finding: None,
) -> int:
    """Put right each finding that has a repair, each in its own transaction; returns how many."""
    repaired = 0
    for finding in findings:
        if finding.repair is not None:
            await db.run(actor, finding.repair.mend)
            repaired += 1
            on_done(finding)
    return repaired


async def record_examination(tx: Transaction, report: StoreReport, began_at: datetime) -> None:
    """Keep what an examination found as a run that is over: an item per check.

    So people see it at `/runs`, and the metrics read the last one.
    """
    items = [
        RunItem(
            id=new_id(),
            label=name,
            status=ItemStatus.DONE,
            code="findings" if report.found_by[name] else "sound",
            reason=f"{looked_at} looked at, {report.found_by[name]} findings.",
            at=tx.now,
        )
        for name, looked_at in report.looked_at.items()
    ]
    run = AccountingRun.new(
        tx,
        RunKind.INTEGRITY,
        parameters={"findings": {kind.value: count for kind, count in report.counts.items()}},
        status=RunStatus.DONE,
        started_at=began_at,
        finished_at=tx.now,
    )
    run.items, run.counts = items, RunCounts(total=len(items), done=len(items))
    await run.add(tx)


async def find_last_examination() -> AccountingRun | None:
    """The run in which the store was examined last, whoever asked for it."""
    found = AccountingRun.find({"kind": RunKind.INTEGRITY})
    return await found.sort("-createdAt", "-_id").first_or_none()
