"""E-mails about many invoices in one run: begun by its worker, ended by their own sending."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from accounting.audit.rules import AuditAction, EntityType
from accounting.audit.service import history
from accounting.bootstrap import Services
from accounting.db.database import Job
from accounting.ids import ObjectId, new_id
from accounting.invoices.bulk_mail import start_bulk_send_email, tell_run
from accounting.invoices.documents import Invoice
from accounting.invoices.drafts import delete_invoice
from accounting.invoices.service import cancel_invoice
from accounting.notifications.documents import InvoiceNotification
from accounting.notifications.mailer import (
    OutcomeUnknown,
    PermanentFailure,
    RecipientRefused,
    TemporaryFailure,
)
from accounting.notifications.rules import NotificationStatus, NotificationType
from accounting.notifications.service import DELIVER_JOB
from accounting.optouts.service import UsedLink, opt_out
from accounting.runs.documents import AccountingRun, get_run
from accounting.runs.rules import EXECUTE_JOB, ItemStatus, RunStatus, RunStillRunning
from accounting.runs.service import list_free, list_stalled, retry_failed
from accounting.worker.delivery import deliver_due, deliver_one
from accounting.worker.runs import execute_free_runs, execute_run_slice, tell_waiting_runs
from api_app import settings
from builders import ADMIN, TERMS, a_customer, a_draft
from fakes import FakeMailer, FakePlatform, JobList, SettableClock, TestDatabase
from outbox import an_announced_invoice, mails_about, pay

ISSUED = NotificationType.INVOICE_ISSUED


@pytest.fixture
def services(db: TestDatabase, platform: FakePlatform) -> Services:
    return Services(db, platform, TERMS, settings())


@pytest.fixture
def mailer() -> FakeMailer:
    return FakeMailer()


async def begin(
    services: Services, *invoices: Invoice | ObjectId, kind: NotificationType | None = None
) -> AccountingRun:
    ids = [ObjectId(item.id) if isinstance(item, Invoice) else item for item in invoices]
    run = await services.db.run(ADMIN, start_bulk_send_email, ids, kind=kind)
    await execute_run_slice(services, ObjectId(run.id))
    return await read(run)


async def read(run: AccountingRun) -> AccountingRun:
    return await get_run(ObjectId(run.id))


async def mails_of(run: AccountingRun) -> list[InvoiceNotification]:
    return await InvoiceNotification.find({"runId": run.id}).sort("_id").to_list()


def counts(run: AccountingRun) -> tuple[int, int, int, int]:
    return run.counts.pending, run.counts.done, run.counts.skipped, run.counts.failed


async def test_an_item_ends_when_its_mail_has_ended(
    services: Services, platform: FakePlatform, mailer: FakeMailer, jobs: JobList
) -> None:
    invoices = [await an_announced_invoice(services, platform) for _ in range(3)]
    jobs.sent.clear()

    begun = await begin(services, *invoices)
    mails = await mails_of(begun)
    await deliver_one(services, mailer, ObjectId(mails[0].id))
    await deliver_due(services, mailer)
    ended = await read(begun)

    assert (begun.status, begun.is_followed, counts(begun)) == (
        RunStatus.RUNNING,
        True,
        (3, 0, 0, 0),
    )
    assert [item.result_id for item in begun.items] == [mail.id for mail in mails]
    assert [item.status for item in begun.items] == [ItemStatus.PENDING] * 3
    assert [(job.name, job.args) for job in jobs.sent] == [
        (EXECUTE_JOB, (str(begun.id),)),
        *((DELIVER_JOB, (str(mail.id),)) for mail in mails),
    ]
    assert (ended.status, ended.is_followed, counts(ended)) == (RunStatus.DONE, False, (0, 3, 0, 0))
    assert ended.finished_at is not None
    assert [item.result_id for item in ended.items] == [mail.id for mail in mails]
    assert len(mailer.sent) == 3
    entry = (await history(EntityType.INVOICE, ObjectId(invoices[0].id)))[-2]
    assert (entry.action, entry.user_id) == (AuditAction.INVOICE_SENT_TO_CUSTOMER, ADMIN.user_id)


async def test_progress_is_told_about_once_a_second_and_at_the_end(
    services: Services, platform: FakePlatform, mailer: FakeMailer, clock: SettableClock
) -> None:
    invoices = [await an_announced_invoice(services, platform) for _ in range(4)]
    run = await begin(services, *invoices)
    seen = []

    for seconds, mail in zip((0, 1, 0, 0), await mails_of(run), strict=True):
        clock.move(seconds=seconds)
        await deliver_one(services, mailer, ObjectId(mail.id))
        seen.append(counts(await read(run)))

    assert seen == [(4, 0, 0, 0), (2, 2, 0, 0), (2, 2, 0, 0), (0, 4, 0, 0)]


async def test_what_cannot_be_sent_ends_at_once_and_says_why(
    services: Services, platform: FakePlatform
) -> None:
    unknown = new_id()
    draft = await a_draft(services.db, platform, a_customer())
    silent = await an_announced_invoice(services, platform)
    platform.add_user(replace(platform.users[silent.user_id], email=""))
    good = await an_announced_invoice(services, platform)

    run = await begin(services, unknown, draft, silent, good)

    assert [(item.status, item.code) for item in run.items] == [
        (ItemStatus.FAILED, "invoice_not_found"),
        (ItemStatus.FAILED, "email_not_applicable"),
        (ItemStatus.FAILED, "no_email_address"),
        (ItemStatus.PENDING, None),
    ]
    assert run.items[1].reason == (
        f"Invoice {draft.invoice_number}: an e-mail cannot be sent, since the invoice is a draft."
    )
    assert (run.status, counts(run)) == (RunStatus.RUNNING, (1, 0, 0, 3))


async def test_a_run_of_which_nothing_can_be_sent_is_over(
    services: Services, platform: FakePlatform
) -> None:
    run = await begin(services, new_id(), new_id())

    assert (run.status, run.is_followed, counts(run)) == (RunStatus.DONE, False, (0, 0, 0, 2))


async def test_each_ending_has_its_code(
    services: Services, platform: FakePlatform, clock: SettableClock
) -> None:
    invoices = [await an_announced_invoice(services, platform) for _ in range(5)]
    clock.move(days=40)
    unsubscribed, cancelled = invoices[3:]
    run = await begin(services, *invoices, kind=NotificationType.OVERDUE_REMINDER)
    failures = [RecipientRefused("550 no"), PermanentFailure("554 spam"), OutcomeUnknown("lost")]
    mails = await mails_of(run)
    await services.db.run(ADMIN, cancel_invoice, ObjectId(cancelled.id), "why")
    link = UsedLink(ObjectId(mails[3].id), "", unsubscribed.user_id, ObjectId(unsubscribed.id), "")
    await services.db.run(ADMIN, opt_out, replace(link, sent_to="ada@example.com"))

    for mail, failure in zip(mails, [*failures, None], strict=False):
        mailer = FakeMailer()
        mailer.failure_after = failure
        await deliver_one(services, mailer, ObjectId(mail.id))

    ended = await read(run)
    assert [(item.status, item.code, item.reason) for item in ended.items] == [
        (ItemStatus.FAILED, "email_bounced", "550 no"),
        (ItemStatus.FAILED, "email_failed", "554 spam"),
        (
            ItemStatus.FAILED,
            "email_outcome_unknown",
            "outcome unknown, it may have arrived and is not sent again by itself: lost",
        ),
        (ItemStatus.SKIPPED, "unsubscribed", "the customer wants no reminders"),
        (ItemStatus.FAILED, "email_failed", "the invoice was cancelled before"),
    ]
    assert (ended.status, counts(ended)) == (RunStatus.DONE, (0, 0, 1, 4))


async def test_without_a_type_each_invoice_gets_the_mail_that_fits_it(
    services: Services, platform: FakePlatform, mailer: FakeMailer
) -> None:
    open_one, paid = [await an_announced_invoice(services, platform) for _ in range(2)]
    await pay(services, platform, paid)
    await deliver_due(services, FakeMailer())

    await begin(services, open_one, paid)
    await deliver_due(services, mailer)

    subjects = [mail["Subject"] for mail in mailer.sent]
    assert subjects[0].startswith(f"Invoice {open_one.invoice_number}: USD 500.00 due by")
    assert subjects[1].startswith("Payment of USD 500.00 received")


async def test_failed_mails_are_sent_again_and_sent_ones_are_not(
    services: Services, platform: FakePlatform, mailer: FakeMailer
) -> None:
    sent, bounced = [await an_announced_invoice(services, platform) for _ in range(2)]
    run = await begin(services, sent, bounced)
    first, second = await mails_of(run)
    await deliver_one(services, mailer, ObjectId(first.id))
    mailer.failure_after = RecipientRefused("550 no")
    await deliver_one(services, mailer, ObjectId(second.id))
    mailer.failure_after = None
    platform.add_user(replace(platform.users[bounced.user_id], email="right@example.com"))

    await services.db.run(ADMIN, retry_failed, ObjectId(run.id))
    await execute_run_slice(services, ObjectId(run.id))
    assert counts(await read(run)) == (1, 1, 0, 0)
    await deliver_due(services, mailer)

    ended = await read(run)
    assert (ended.status, counts(ended)) == (RunStatus.DONE, (0, 2, 0, 0))
    assert [mail["To"] for mail in mailer.sent] == ["ada@example.com", "right@example.com"]
    assert [row.id for row in await mails_of(run)] == [first.id, second.id]


async def test_a_mail_that_was_retried_by_hand_meanwhile_is_not_sent_once_more(
    services: Services, platform: FakePlatform, mailer: FakeMailer
) -> None:
    invoice = await an_announced_invoice(services, platform)
    run = await begin(services, invoice)
    mailer.failure_after = RecipientRefused("550 no")
    await deliver_due(services, mailer)
    mailer.failure_after = None
    [row] = await mails_of(run)
    await InvoiceNotification.find({"_id": row.id}).update(
        {"$set": {"status": "PENDING", "nextRetryAt": None}}
    )
    await deliver_due(services, mailer)

    await services.db.run(ADMIN, retry_failed, ObjectId(run.id))
    await execute_run_slice(services, ObjectId(run.id))

    ended = await read(run)
    assert (ended.status, counts(ended)) == (RunStatus.DONE, (0, 1, 0, 0))
    assert len(mailer.sent) == 1


async def test_a_run_that_waits_for_its_mails_is_nothing_to_be_done(
    services: Services, platform: FakePlatform, clock: SettableClock
) -> None:
    run = await begin(services, await an_announced_invoice(services, platform))
    clock.move(days=1)

    assert await list_stalled(services.db, limit=10) == []
    assert await list_free(services.db, limit=10) == []
    assert await execute_run_slice(services, ObjectId(run.id)) is None
    assert await execute_free_runs(services) == []
    with pytest.raises(RunStillRunning):
        await services.db.run(ADMIN, retry_failed, ObjectId(run.id))
    waiting = await read(run)
    assert (waiting.status, waiting.is_followed) == (RunStatus.RUNNING, True)
    assert waiting.fruitless_slices == run.fruitless_slices


async def test_a_retry_that_is_due_later_keeps_the_run_going(
    services: Services, platform: FakePlatform, mailer: FakeMailer, clock: SettableClock
) -> None:
    run = await begin(services, await an_announced_invoice(services, platform))
    mailer.failure = TemporaryFailure("451 greylisted")
    await deliver_due(services, mailer)
    assert counts(await read(run)) == (1, 0, 0, 0)
    mailer.failure = None
    clock.move(minutes=5)

    await deliver_due(services, mailer)

    assert (await read(run)).status is RunStatus.DONE


async def test_the_sweep_tells_what_a_killed_worker_did_not(
    services: Services, platform: FakePlatform
) -> None:
    """The mail was noted as sent, and then its worker died before it told the run."""
    run = await begin(services, await an_announced_invoice(services, platform))
    await InvoiceNotification.find({"runId": run.id}).update(
        {"$set": {"status": NotificationStatus.SENT}}
    )

    await tell_waiting_runs(services)

    ended = await read(run)
    assert (ended.status, counts(ended)) == (RunStatus.DONE, (0, 1, 0, 0))
    assert await tell_run(services.db, ObjectId(run.id), at_once=True) is None


async def test_mails_that_end_before_the_run_waits_are_not_missed(
    services: Services, platform: FakePlatform, mailer: FakeMailer
) -> None:
    """Workers may be quicker than the one that queues: the run is told by whoever comes last."""
    invoices = [await an_announced_invoice(services, platform) for _ in range(2)]
    ids = [ObjectId(invoice.id) for invoice in invoices]
    run = await services.db.run(ADMIN, start_bulk_send_email, ids)

    class Quick(JobList):
        async def __call__(self, jobs: list[Job]) -> None:
            for job in jobs:
                if job.name == DELIVER_JOB:
                    await deliver_one(services, mailer, ObjectId(job.args[0]))

    services.db.enqueue = Quick()
    ended = await execute_run_slice(services, ObjectId(run.id))

    assert ended is not None
    assert (ended.status, counts(ended)) == (RunStatus.DONE, (0, 2, 0, 0))


async def test_an_invoice_that_is_deleted_with_its_mail_does_not_hold_up_the_run(
    services: Services, platform: FakePlatform
) -> None:
    invoice = await an_announced_invoice(services, platform)
    await services.db.run(ADMIN, cancel_invoice, ObjectId(invoice.id), "why")
    run = await begin(services, invoice)
    await services.db.run(ADMIN, delete_invoice, ObjectId(invoice.id))

    await tell_waiting_runs(services)

    ended = await read(run)
    assert (ended.status, ended.items[0].code) == (RunStatus.DONE, "invoice_deleted")
    assert await mails_about(invoice) == []


async def test_many_who_tell_at_once_count_each_result_once(
    real_db: TestDatabase, platform: FakePlatform
) -> None:
    services = Services(real_db, platform, TERMS, settings())
    invoices = [await an_announced_invoice(services, platform) for _ in range(5)]
    run = await begin(services, *invoices)
    sent = {"$set": {"status": NotificationStatus.SENT}}
    await InvoiceNotification.find({"runId": run.id}).update(sent)

    told = (tell_run(services.db, ObjectId(run.id), at_once=True) for _ in range(8))
    await asyncio.gather(*told)

    ended = await read(run)
    assert (ended.status, counts(ended)) == (RunStatus.DONE, (0, 5, 0, 0))
