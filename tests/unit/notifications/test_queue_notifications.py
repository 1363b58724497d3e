"""Many e-mails queued at once: one row and one job each, after the commit."""

from __future__ import annotations

import pytest

from accounting.db.database import DuplicateValue, Transaction
from accounting.ids import new_id
from accounting.notifications.documents import InvoiceNotification
from accounting.notifications.rules import NotificationStatus, NotificationType
from accounting.notifications.service import DELIVER_JOB, NewNotification, queue_notifications
from builders import ADMIN, NOW
from fakes import JobList, TestDatabase


def a_mail(to: str, cc: tuple[str, ...] = ()) -> NewNotification:
    return NewNotification(NotificationType.INVOICE_ISSUED, new_id(), to, cc, f"issued:{to}")


async def test_each_mail_is_a_pending_row_and_a_job_in_their_order(
    db: TestDatabase, jobs: JobList
) -> None:
    mails = [
        a_mail("ada@example.com", cc=("books@example.com",)),
        a_mail("bo@example.com"),
        a_mail("cy@example.com"),
    ]

    queued = await db.run(ADMIN, queue_notifications, mails)

    assert await InvoiceNotification.find_all().sort("_id").to_list() == queued
    assert [
        NewNotification(
            row.notification_type, row.invoice_id, row.sent_to, tuple(row.cc_emails), row.dedupe_key
        )
        for row in queued
    ] == mails
    assert {(row.status, row.created_at) for row in queued} == {(NotificationStatus.PENDING, NOW)}
    assert len({row.view_token for row in queued}) == 3
    assert [(job.name, job.args) for job in jobs.sent] == [
        (DELIVER_JOB, (str(row.id),)) for row in queued
    ]


async def test_no_mails_are_no_rows_and_no_jobs(db: TestDatabase, jobs: JobList) -> None:
    assert await db.run(ADMIN, queue_notifications, []) == []

    assert (await InvoiceNotification.find_all().count(), jobs.sent) == (0, [])


async def test_one_that_was_queued_before_leaves_none_of_them(
    real_db: TestDatabase, jobs: JobList
) -> None:
    await real_db.run(ADMIN, queue_notifications, [a_mail("ada@example.com")])
    again = [a_mail("bo@example.com"), a_mail("ada@example.com")]

    with pytest.raises(DuplicateValue, match="dedupeKey"):
        await real_db.run(ADMIN, queue_notifications, again)

    assert await InvoiceNotification.find_all().count() == 1
    assert len(jobs.sent) == 1


async def test_a_failure_after_it_sends_nothing(real_db: TestDatabase, jobs: JobList) -> None:
    async def fail(tx: Transaction) -> None:
        await queue_notifications(tx, [a_mail("ada@example.com"), a_mail("bo@example.com")])
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await real_db.run(ADMIN, fail)

    assert (await InvoiceNotification.find_all().count(), jobs.sent) == (0, [])
