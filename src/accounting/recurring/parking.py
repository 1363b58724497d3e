"""What follows when a template fails again and again: it is paused, and says why."""

from __future__ import annotations

from typing import Final

from accounting.audit.rules import AuditAction
from accounting.audit.service import record_all
from accounting.db.database import Transaction
from accounting.recurring.billing import EARLIER_PERIOD_OPEN_CODE, PLAN_CHANGED_CODE
from accounting.recurring.documents import get_recurring_invoice
from accounting.recurring.rules import FAILED_RUNS_MAX, RecurringInvoiceId
from accounting.recurring.trail import template_entry
from accounting.runs.documents import AccountingRun, RunItem
from accounting.runs.rules import Outcome

# Neither says anything about the template: one follows from another failure, the other from a plan.
_NOT_COUNTED: Final = frozenset({EARLIER_PERIOD_OPEN_CODE, PLAN_CHANGED_CODE})


async def count_failure(
    tx: Transaction, run: AccountingRun, item: RunItem, outcome: Outcome
) -> None:
    """Count the runs in which a template failed since its last invoice; the third pauses it.

    However many of its months fail in a run, and however often they are tried in it, a run counts
    once. Raises RecurringInvoiceNotFound.
    """
    whole = run.part_of or run.id
    template = await get_recurring_invoice(RecurringInvoiceId(item.id), session=tx.session)
    last = template.last_failed_run_id
    # An older run than the last one was counted in its time, and is only tried again.
    is_counted = last is not None and last >= whole
    if is_counted or outcome.code in _NOT_COUNTED or not template.is_active:
        return
    failed_runs = template.failed_runs + 1
    changes: dict[str, object] = {"failed_runs": failed_runs, "last_failed_run_id": whole}
    action = AuditAction.RECURRING_INVOICE_UPDATED
    what = f"could not be generated for {item.label} ({failed_runs} of {FAILED_RUNS_MAX})"
    if failed_runs >= FAILED_RUNS_MAX:
        reason = f"Failed in {failed_runs} runs, the last time for {item.label}: {outcome.reason}"
        changes |= {"is_active": False, "parked_reason": reason}
        action, what = AuditAction.RECURRING_INVOICE_PAUSED, f"paused: failed in {failed_runs} runs"
    changed = await template.change(tx, expect=None, **changes)
    entry = template_entry(action, template, changed, f"{what}: {outcome.reason}")
    await record_all(tx, [entry])
