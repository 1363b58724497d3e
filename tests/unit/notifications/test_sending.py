"""The outbox: claimed once, sent once, tried again, given up."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from email.message import EmailMessage

import pytest

from accounting.audit.rules import AuditAction, EntityType
from accounting.audit.service import history
from accounting.db.client import ConnectionLost
from accounting.invoices.rules import InvoiceNotFound
from accounting.notifications.documents import InvoiceNotification
from accounting.notifications.mailer import (
    OFFER_SECONDS_MAX,
    VERDICT_SECONDS_MAX,
    PermanentFailure,
    RecipientRefused,
    TemporaryFailure,
)
from accounting.notifications.rules import (
    LEASE_SECONDS,
    NotificationStatus,
)
from accounting.notifications.sending import list_due
from builders import NOW
from fakes import FakeMailer, FakePlatform, SettableClock, TestDatabase
from outbox import a_queued_mail, deliver


@pytest.fixture
def mailer() -> FakeMailer:
    return FakeMailer()


async def test_a_mail_is_sent_once(
    db: TestDatabase, platform: FakePlatform, mailer: FakeMailer
) -> None:
    mail = await a_queued_mail(db, platform)

    sent = await deliver(db, mail, mailer)
    again = await deliver(db, mail, mailer)

    assert sent is not None
    assert (sent.status, sent.sent_at, sent.lease_until) == (NotificationStatus.SENT, NOW, None)
    assert again is None
    assert len(mailer.sent) == 1
    trail = await history(EntityType.INVOICE, mail.invoice_id)
    assert trail[-1].action is AuditAction.EMAIL_SENT


async def test_a_mail_held_by_another_worker_is_left_alone_until_its_lease_ends(
    db: TestDatabase, platform: FakePlatform, mailer: FakeMailer, clock: SettableClock
) -> None:
    mail = await a_queued_mail(db, platform)
    collection = InvoiceNotification.get_motor_collection()
    lease_end = NOW + timedelta(seconds=LEASE_SECONDS)
    await collection.update_one({"_id": mail.id}, {"$set": {"leaseUntil": lease_end}})

    assert await list_due(db, limit=10) == []
    assert await deliver(db, mail, mailer) is None
    clock.now = lease_end
    assert await list_due(db, limit=10) == [mail.id]


async def test_a_temporary_failure_is_tried_after_5_10_and_20_minutes_and_then_fails(
    db: TestDatabase, platform: FakePlatform, mailer: FakeMailer, clock: SettableClock
) -> None:
    mail = await a_queued_mail(db, platform)
    mailer.failure = TemporaryFailure("connection refused")

    for minutes in (5, 10, 20):
        waiting = await deliver(db, mail, mailer)
        assert waiting is not None
        assert waiting.status is NotificationStatus.PENDING
        assert waiting.next_retry_at == clock.now + timedelta(minutes=minutes)
        assert waiting.failure_reason == "connection refused"
        clock.move(minutes=minutes, seconds=-1)
        assert await deliver(db, mail, mailer) is None
        clock.move(seconds=1)
        assert await list_due(db, limit=10) == [mail.id]
    failed = await deliver(db, mail, mailer)

    assert failed is not None
    assert (failed.status, failed.retry_count) == (NotificationStatus.FAILED, 3)
    actions = [entry.action for entry in await history(EntityType.INVOICE, mail.invoice_id)]
    assert actions[-4:] == [AuditAction.EMAIL_RETRY] * 3 + [AuditAction.EMAIL_FAILED]
    assert mailer.sent == []


async def test_a_mail_goes_out_once_after_the_server_is_back(
    db: TestDatabase, platform: FakePlatform, mailer: FakeMailer, clock: SettableClock
) -> None:
    mail = await a_queued_mail(db, platform)
    mailer.failure = TemporaryFailure("connection refused")
    await deliver(db, mail, mailer)
    mailer.failure = None
    clock.move(minutes=5)

    sent = await deliver(db, mail, mailer)

    assert sent is not None
    assert (sent.status, sent.retry_count) == (NotificationStatus.SENT, 1)
    assert (sent.failure_reason, sent.next_retry_at) == (None, None)
    assert len(mailer.sent) == 1


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (RecipientRefused("550 no such user"), NotificationStatus.BOUNCED),
        (PermanentFailure("552 too large"), NotificationStatus.FAILED),
    ],
)
async def test_a_final_failure_is_not_tried_again(
    db: TestDatabase,
    platform: FakePlatform,
    mailer: FakeMailer,
    clock: SettableClock,
    failure: Exception,
    status: NotificationStatus,
) -> None:
    mail = await a_queued_mail(db, platform)
    mailer.failure = failure

    failed = await deliver(db, mail, mailer)
    mailer.failure = None
    clock.move(days=1)

    assert failed is not None
    assert failed.status is status
    assert failed.failure_reason == str(failure)
    assert await list_due(db, limit=10) == []
    assert await deliver(db, mail, mailer) is None


async def test_a_database_that_is_away_before_the_content_costs_a_retry(
    db: TestDatabase, platform: FakePlatform, mailer: FakeMailer
) -> None:
    mail = await a_queued_mail(db, platform)
    mailer.failure = ConnectionLost("no primary")

    waiting = await deliver(db, mail, mailer)

    assert waiting is not None
    assert (waiting.status, waiting.retry_count) == (NotificationStatus.PENDING, 1)
    assert waiting.failure_reason == "the database did not answer"


async def test_ten_workers_at_once_send_one_mail(
    real_db: TestDatabase, platform: FakePlatform, mailer: FakeMailer
) -> None:
    mail = await a_queued_mail(real_db, platform)

    outcomes = await asyncio.gather(*(deliver(real_db, mail, mailer) for _ in range(10)))

    assert len(mailer.sent) == 1
    assert sum(outcome is not None for outcome in outcomes) == 1


async def test_a_bug_while_composing_is_tried_like_a_failure_and_not_for_ever(
    db: TestDatabase, platform: FakePlatform, mailer: FakeMailer, clock: SettableClock
) -> None:
    mail = await a_queued_mail(db, platform)
    mailer.failure = ZeroDivisionError()

    for _ in range(4):
        ended = await deliver(db, mail, mailer)
        clock.move(days=1)

    assert ended is not None
    assert ended.status is NotificationStatus.FAILED
    assert ended.failure_reason == "internal error: ZeroDivisionError"


async def test_a_mail_whose_worker_dies_each_time_is_given_up(
    db: TestDatabase, platform: FakePlatform, mailer: FakeMailer, clock: SettableClock
) -> None:
    mail = await a_queued_mail(db, platform)
    mailer.failure = asyncio.CancelledError()  # as when the process ends: nothing is written

    for _ in range(4):
        with pytest.raises(asyncio.CancelledError):
            await deliver(db, mail, mailer)
        clock.move(seconds=LEASE_SECONDS)
    ended = await deliver(db, mail, mailer)

    assert ended is not None
    assert ended.status is NotificationStatus.FAILED
    assert ended.failure_reason == "its worker died again and again"


async def test_a_mail_of_a_vanished_invoice_is_given_up(
    db: TestDatabase, platform: FakePlatform, mailer: FakeMailer
) -> None:
    mail = await a_queued_mail(db, platform)

    async def find_nothing(notification: InvoiceNotification) -> EmailMessage:
        raise InvoiceNotFound(notification.invoice_id)

    ended = await deliver(db, mail, mailer, compose=find_nothing)

    assert ended is not None
    assert ended.status is NotificationStatus.FAILED


async def test_due_by_reaches_later_retries_but_no_lease(
    db: TestDatabase, platform: FakePlatform, mailer: FakeMailer
) -> None:
    mail = await a_queued_mail(db, platform)
    mailer.failure = TemporaryFailure("connection refused")
    await deliver(db, mail, mailer)
    mailer.failure = None
    later = NOW + timedelta(days=1)

    assert await list_due(db, limit=10) == []
    assert await list_due(db, limit=10, due_by=later) == [mail.id]
    rows = InvoiceNotification.get_motor_collection()
    await rows.update_one({"_id": mail.id}, {"$set": {"leaseUntil": NOW + timedelta(seconds=1)}})
    assert await list_due(db, limit=10, due_by=later) == []


def test_a_lease_outlives_the_longest_conversation() -> None:
    assert OFFER_SECONDS_MAX + VERDICT_SECONDS_MAX < LEASE_SECONDS
