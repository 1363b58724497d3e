"""Every gap in the invoice numbers is explained, and a number is never there twice."""

from __future__ import annotations

from datetime import date

from bson import ObjectId

from accounting.db.client import MongoDatabase
from accounting.integrity.numbers import audit_all_numbers
from accounting.invoices.drafts import delete_invoice
from accounting.invoices.numbers import take_numbers
from builders import ADMIN, a_customer, a_draft
from fakes import FakePlatform, TestDatabase


async def test_gaps_are_explained(
    real_db: TestDatabase, real_mongo: MongoDatabase, platform: FakePlatform
) -> None:
    customer = a_customer()
    drafts = [await a_draft(real_db, platform, customer) for _ in range(3)]
    await take_numbers(date(2026, 1, 12), 1, 2)
    await a_draft(real_db, platform, customer)
    await take_numbers(date(2026, 1, 14), 2, 2)
    await real_db.run(ADMIN, delete_invoice, ObjectId(drafts[1].id))

    report = await audit_all_numbers(real_mongo, 2)

    assert (report.days, report.numbers, report.duplicates) == (2, 3, [])
    explained = {gap.number: (gap.is_deleted, gap.explanation) for gap in report.gaps}
    assert explained == {
        "2026011202": (True, f"deleted on 2026-01-12 by {ADMIN.user_id}"),
        "2026011204": (False, "never written: its transaction failed"),
        "2026011401": (False, "never written: its transaction failed"),
        "2026011402": (False, "never written: its transaction failed"),
    }
