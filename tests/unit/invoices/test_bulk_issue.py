"""Issuing many drafts in one run, in memory and on the real server."""

from __future__ import annotations

from typing import Any

from accounting.audit.rules import AuditAction, EntityType
from accounting.audit.service import history
from accounting.bootstrap import Services
from accounting.db.database import Job
from accounting.ids import ObjectId, new_id
from accounting.invoices.bulk import start_bulk_issue
from accounting.invoices.documents import Invoice, get_invoice
from accounting.invoices.rules import InvoiceStatus
from accounting.invoices.service import cancel_invoice
from accounting.notifications.documents import InvoiceNotification
from accounting.notifications.service import DELIVER_JOB
from accounting.runs.documents import AccountingRun, get_run
from accounting.runs.rules import ItemStatus, RunStatus
from accounting.worker.runs import execute_free_runs, execute_run_slice
from api_app import settings
from builders import ADMIN, TERMS, a_customer, a_draft, an_issued_invoice
from fakes import FakePlatform, JobList, TestDatabase


def services_of(db: TestDatabase, platform: FakePlatform) -> Services:
    return Services(db=db, platform=platform, terms=TERMS, settings=settings())


async def bulk_issue(
    db: TestDatabase, platform: FakePlatform, *invoices: Invoice | ObjectId, **choices: Any
) -> AccountingRun:
    ids = [ObjectId(item.id) if isinstance(item, Invoice) else item for item in invoices]
    run = await db.run(ADMIN, start_bulk_issue, ids, **choices)
    await execute_run_slice(services_of(db, platform), ObjectId(run.id))
    return await get_run(ObjectId(run.id))


async def test_drafts_are_issued_and_mailed_in_the_name_of_the_admin(
    db: TestDatabase, platform: FakePlatform, jobs: JobList
) -> None:
    drafts = [await a_draft(db, platform, a_customer()) for _ in range(3)]

    run = await bulk_issue(db, platform, *drafts)

    assert (run.status, run.counts.done) == (RunStatus.DONE, 3)
    assert [item.label for item in run.items] == [draft.invoice_number for draft in drafts]
    for draft in drafts:
        invoice_id = ObjectId(draft.id)
        assert (await get_invoice(invoice_id)).status is InvoiceStatus.ISSUED
        entry = (await history(EntityType.INVOICE, invoice_id))[-1]
        assert entry.action is AuditAction.INVOICE_ISSUED
        assert (entry.user_id, entry.ip_address) == (ADMIN.user_id, ADMIN.ip_address)
        assert (entry.user_agent, entry.request_id) == (ADMIN.user_agent, ADMIN.request_id)
        [mail] = await InvoiceNotification.find({"invoiceId": invoice_id}).to_list()
        assert Job(DELIVER_JOB, (str(mail.id),)) in jobs.sent


async def test_the_e_mail_can_be_left_out(db: TestDatabase, platform: FakePlatform) -> None:
    draft = await a_draft(db, platform, a_customer())

    run = await bulk_issue(db, platform, draft, skip_email=True)

    assert run.counts.done == 1
    assert await InvoiceNotification.find_all().count() == 0


async def test_an_issued_invoice_is_skipped_and_stays_as_it_is(
    db: TestDatabase, platform: FakePlatform
) -> None:
    issued = await an_issued_invoice(db, platform, a_customer())

    run = await bulk_issue(db, platform, issued)

    [item] = run.items
    assert (item.status, item.code) == (ItemStatus.SKIPPED, "already_issued")
    assert item.reason == f"Invoice {issued.invoice_number} was issued before; it is ISSUED."
    assert await get_invoice(ObjectId(issued.id)) == issued


async def test_what_cannot_be_issued_fails_with_its_own_code(
    db: TestDatabase, platform: FakePlatform
) -> None:
    cancelled = await an_issued_invoice(db, platform, a_customer())
    await db.run(ADMIN, cancel_invoice, ObjectId(cancelled.id), "by mistake")
    gone = a_customer()
    orphan = await a_draft(db, platform, gone)
    del platform.users[gone.id]
    draft = await a_draft(db, platform, a_customer())
    unknown = new_id()

    run = await bulk_issue(db, platform, cancelled, unknown, orphan, draft)

    assert (run.status, run.counts.failed, run.counts.done) == (RunStatus.DONE, 3, 1)
    assert [item.code for item in run.items] == [
        "invalid_transition",
        "invoice_not_found",
        "customer_not_found",
        None,
    ]
    assert run.items[1].label is None
    assert run.items[1].reason == f"There is no invoice {unknown}."


async def test_without_celery_every_unfinished_run_is_done(
    db: TestDatabase, platform: FakePlatform
) -> None:
    drafts = [await a_draft(db, platform, a_customer()) for _ in range(3)]
    ids = [ObjectId(draft.id) for draft in drafts]
    runs = [await db.run(ADMIN, start_bulk_issue, part) for part in (ids[:2], ids[2:])]
    shown: list[tuple[object, int]] = []

    services = services_of(db, platform)
    ended = await execute_free_runs(
        services, on_progress=lambda run, finished: shown.append((run.id, finished))
    )

    assert [run.id for run in ended] == [run.id for run in runs]
    assert all(run.status is RunStatus.DONE for run in ended)
    first, second = (run.id for run in runs)
    assert shown == [(first, 0), (first, 1), (first, 2), (second, 0), (second, 1)]
    assert await execute_free_runs(services) == []
