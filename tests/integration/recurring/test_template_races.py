"""One template, changed by many at once: each change is made once, or refused for what is so."""

from __future__ import annotations

import asyncio

from accounting.audit.rules import EntityType
from accounting.audit.service import history
from accounting.ids import ObjectId
from accounting.recurring.documents import get_recurring_invoice
from accounting.recurring.rules import AlreadyPaused, RecurringInvoiceDeleted
from accounting.recurring.service import delete_recurring_invoice, pause_recurring_invoice
from builders import ADMIN, TERMS, a_customer, a_template
from fakes import FakePlatform, TestDatabase


async def test_ten_pauses_and_ten_deletions_at_once_end_it_once(
    real_db: TestDatabase, platform: FakePlatform
) -> None:
    template_id = ObjectId((await a_template(real_db, platform, a_customer())).id)
    use_cases = [pause_recurring_invoice, delete_recurring_invoice] * 10

    outcomes = await asyncio.gather(
        *(real_db.run(ADMIN, use_case, template_id, TERMS.zone) for use_case in use_cases),
        return_exceptions=True,
    )

    refused = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    done = len(outcomes) - len(refused)
    assert all(isinstance(error, AlreadyPaused | RecurringInvoiceDeleted) for error in refused)
    assert done in (1, 2)  # deleted at once, or paused and then deleted
    stored = await get_recurring_invoice(template_id)
    assert (stored.is_active, stored.version) == (False, 1 + done)
    assert stored.end_date is not None
    trail = await history(EntityType.RECURRING_INVOICE, template_id)
    assert [entry.seq for entry in trail] == list(range(1, done + 2))
