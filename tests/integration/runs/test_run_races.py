"""What memory cannot show of runs: messages that come twice, workers that meet, rollback."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from accounting.audit.documents import AuditLog
from accounting.bootstrap import Services
from accounting.clock import after
from accounting.db.database import Transaction
from accounting.db.document import DocumentChanged
from accounting.ids import ObjectId, new_id
from accounting.invoices.bulk import issue_item, start_bulk_issue
from accounting.invoices.documents import Invoice, get_invoice
from accounting.invoices.rules import InvoiceStatus
from accounting.notifications.documents import InvoiceNotification
from accounting.runs.documents import AccountingRun, RunItem, get_run
from accounting.runs.rules import LEASE_SECONDS, Outcome, RunKind, RunStatus, RunTakenOver
from accounting.runs.service import Work, claim_run, execute_slice, retry_failed
from accounting.worker.runs import execute_run_slice, works
from api_app import settings
from builders import ADMIN, TERMS, a_customer, a_draft
from fakes import FakePlatform, SettableClock, TestDatabase

INVOICES = 90


@pytest.fixture
def services(real_db: TestDatabase, platform: FakePlatform) -> Services:
    return Services(db=real_db, platform=platform, terms=TERMS, settings=settings())


async def a_bulk_run(services: Services, platform: FakePlatform, count: int) -> AccountingRun:
    drafts = [await a_draft(services.db, platform, a_customer()) for _ in range(count)]
    return await services.db.run(ADMIN, start_bulk_issue, [ObjectId(item.id) for item in drafts])


async def assert_issued_once(run: AccountingRun) -> None:
    ended = await get_run(ObjectId(run.id))
    total = ended.counts.total
    assert (ended.status, ended.counts.done) == (RunStatus.DONE, total)
    assert await Invoice.find({"status": "ISSUED"}).count() == total
    assert await AuditLog.find({"action": "INVOICE_ISSUED"}).count() == total
    assert await InvoiceNotification.find_all().count() == total


async def test_a_message_that_comes_five_times_at_once_has_its_effect_once(
    services: Services, platform: FakePlatform
) -> None:
    run = await a_bulk_run(services, platform, INVOICES)

    slices = await asyncio.gather(
        *(execute_run_slice(services, ObjectId(run.id)) for _ in range(5))
    )

    assert sum(done is not None for done in slices) == 1
    await assert_issued_once(run)


async def test_workers_that_each_believe_to_hold_the_run_issue_each_invoice_once(
    services: Services, platform: FakePlatform, clock: SettableClock
) -> None:
    run = await a_bulk_run(services, platform, INVOICES)
    issue = works(services)[RunKind.BULK_ISSUE].act

    slow_items = {item.id for item in run.items[::30]}

    async def slow(
        tx: Transaction, run: AccountingRun, items: Sequence[RunItem]
    ) -> Sequence[Outcome]:
        late = slow_items & {item.id for item in items}
        if late:  # the first time, its lease is over before it is done
            slow_items.difference_update(late)
            clock.now = after(clock.now, seconds=LEASE_SECONDS)
            await asyncio.sleep(0.01)
        return await issue(tx, run, items)

    async def work_until_done() -> None:
        while (await get_run(ObjectId(run.id))).status is not RunStatus.DONE:
            await execute_slice(services.db, ObjectId(run.id), {RunKind.BULK_ISSUE: Work(slow)})

    await asyncio.gather(*(work_until_done() for _ in range(4)))

    await assert_issued_once(run)


async def test_without_its_result_an_item_has_no_effect(
    services: Services, platform: FakePlatform
) -> None:
    run = await a_bulk_run(services, platform, 1)
    invoice_id = run.items[0].id

    async def issue_under_a_lost_lease(tx: Transaction) -> None:
        outcome = await issue_item(tx, platform, TERMS, invoice_id)
        await run.record_outcomes(tx, {0: outcome}, lease_id=new_id())

    with pytest.raises(RunTakenOver):
        await services.db.run(ADMIN, issue_under_a_lost_lease)

    assert (await get_invoice(invoice_id)).status is InvoiceStatus.DRAFT
    assert await AuditLog.find({"action": "INVOICE_ISSUED"}).count() == 0
    assert await InvoiceNotification.find_all().count() == 0


async def test_of_many_workers_one_gets_the_run(services: Services, platform: FakePlatform) -> None:
    run = await a_bulk_run(services, platform, 1)

    claims = await asyncio.gather(
        *(services.db.run(ADMIN, claim_run, ObjectId(run.id)) for _ in range(10))
    )

    assert sum(claim is not None for claim in claims) == 1


async def test_of_two_who_try_the_failures_again_one_is_refused(
    services: Services, platform: FakePlatform
) -> None:
    run = await services.db.run(ADMIN, start_bulk_issue, [new_id(), new_id()])
    await execute_run_slice(services, ObjectId(run.id))

    outcomes = await asyncio.gather(
        *(services.db.run(ADMIN, retry_failed, ObjectId(run.id)) for _ in range(2)),
        return_exceptions=True,
    )

    refused = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    assert len(refused) == 1
    assert not isinstance(refused[0], DocumentChanged), "the second look says what is so"
    queued = await get_run(ObjectId(run.id))
    assert (queued.status, queued.counts.pending) == (RunStatus.QUEUED, 2)
