"""The entries that a change of a template leaves in the audit trail."""

from __future__ import annotations

from accounting.audit.rules import AuditAction, EntityType
from accounting.audit.service import NewEntry
from accounting.recurring.documents import RecurringInvoice
from accounting.recurring.rules import RecurringInvoiceId


def template_entry(
    action: AuditAction, before: RecurringInvoice | None, after: RecurringInvoice, what: str
) -> NewEntry:
    """An entry with the fields that differ; a creation has no `before`."""
    return NewEntry(
        action,
        (EntityType.RECURRING_INVOICE, RecurringInvoiceId(after.id)),
        f"Recurring invoice on day {after.day_of_month} of customer {after.user_id} {what}",
        before=before.snapshot() if before else None,
        after=after.snapshot(),
    )
