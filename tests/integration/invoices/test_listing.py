"""Lists on the real server: filters, Decimal128 order, pages."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

from accounting.db.paging import Window
from accounting.invoices.listing import InvoiceFilter, InvoiceSort, list_invoices
from accounting.invoices.rules import InvoiceStatus
from builders import NOW, TERMS, TODAY, a_customer, a_draft, an_issued_invoice
from fakes import FakePlatform, SettableClock, TestDatabase


async def test_filters_narrow_and_pages_follow_each_other(
    real_db: TestDatabase, platform: FakePlatform, clock: SettableClock
) -> None:
    ada, bob = a_customer(), a_customer(name="Bob")
    for days in range(5):
        clock.now = NOW + timedelta(days=days)
        await a_draft(real_db, platform, ada, total_miners=days + 1)
    await an_issued_invoice(real_db, platform, bob, due_date=TODAY)

    async def numbers(page: int = 1, limit: int = 10, **facts: Any) -> tuple[list[str], int]:
        found = await list_invoices(
            platform,
            InvoiceFilter(**facts),
            TERMS.zone,
            sort_by=InvoiceSort.TOTAL_AMOUNT,
            descending=False,
            window=Window(limit, page),
        )
        assert found.total is not None
        return [invoice["invoiceNumber"] for invoice in found.items], found.total

    assert await numbers(customer_id=ada.id, limit=2) == (["2026011201", "2026011301"], 5)
    assert await numbers(customer_id=ada.id, limit=2, page=3) == (["2026011601"], 5)
    assert await numbers(statuses=[InvoiceStatus.ISSUED]) == (["2026011602"], 1)
    assert await numbers(overdue_on=TODAY + timedelta(days=1)) == (["2026011602"], 1)
    assert await numbers(overdue_on=TODAY) == ([], 0)
    assert await numbers(amount_min=Decimal("400.00"), amount_max=Decimal("400.00")) == (
        ["2026011501"],
        1,
    )
    issued_day = TODAY + timedelta(days=4)
    assert (await numbers(issued_from=issued_day, issued_to=issued_day))[1] == 1
    assert (await numbers(issued_from=issued_day + timedelta(days=1)))[1] == 0
    assert (await numbers(due_from=TODAY, due_to=TODAY))[1] == 1
    assert (await numbers(hides_drafts=True))[1] == 1
