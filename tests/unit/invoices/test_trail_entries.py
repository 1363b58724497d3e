"""The entries of invoices in bulk say what those of single ones say."""

from __future__ import annotations

from accounting.audit.rules import AuditAction, EntityType
from accounting.audit.service import history, record_all
from accounting.ids import ObjectId
from accounting.invoices.service import issue_invoice
from accounting.invoices.trail import change_entry
from builders import ADMIN, TERMS, a_customer, a_draft
from fakes import FakePlatform, TestDatabase


async def test_an_entry_made_for_many_reads_like_the_one_of_the_use_case(
    db: TestDatabase, platform: FakePlatform
) -> None:
    draft = await a_draft(db, platform, a_customer(name="Ada Holm"))
    issued = await db.run(ADMIN, issue_invoice, platform, TERMS, ObjectId(draft.id))

    entries = [
        change_entry(AuditAction.INVOICE_CREATED, None, draft, "created"),
        change_entry(AuditAction.INVOICE_ISSUED, draft, issued, "issued to Ada Holm"),
    ]
    await db.run(ADMIN, record_all, entries)

    created, sent, *in_bulk = await history(EntityType.INVOICE, ObjectId(draft.id))
    assert [(one.action, one.description, one.changes) for one in in_bulk] == [
        (one.action, one.description, one.changes) for one in (created, sent)
    ]
    assert in_bulk[1].description == f"Invoice {draft.invoice_number} issued to Ada Holm"


async def test_a_deletion_has_no_after(db: TestDatabase, platform: FakePlatform) -> None:
    draft = await a_draft(db, platform, a_customer())

    entry = change_entry(AuditAction.INVOICE_DELETED, draft, None, "deleted")

    assert entry.entity == (EntityType.INVOICE, draft.id)
    assert (entry.before, entry.after) == (draft.snapshot(), None)
