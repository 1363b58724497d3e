"""The mark before the content goes out: whatever dies when, nothing is sent twice or lost."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from email.message import EmailMessage

import pytest

from accounting.audit.documents import AuditHead
from accounting.audit.rules import AuditAction, EntityType
from accounting.audit.service import history
from accounting.db.document import DocumentChanged
from accounting.ids import ObjectId
from accounting.notifications.documents import InvoiceNotification, get_notification
from accounting.notifications.mailer import OutcomeUnknown, PermanentFailure, TemporaryFailure
from accounting.notifications.rules import (
    DIED_AFTER_HANDOVER,
    LEASE_SECONDS,
    NotificationStatus,
    outcome_unknown,
)
from accounting.notifications.sending import list_due
from builders import NOW
from fakes import FakeMailer, FakePlatform, SettableClock, TestDatabase
from outbox import a_queued_mail, compose, deliver


@pytest.fixture
def mailer() -> FakeMailer:
    return FakeMailer()


@pytest.mark.parametrize(
    ("refusal", "status"),
    [
        (TemporaryFailure("452 disk full"), NotificationStatus.PENDING),
        (PermanentFailure("554 spam"), NotificationStatus.FAILED),
    ],
)
async def test_what_the_server_refuses_after_the_content_has_not_gone_out(
    db: TestDatabase,
    platform: FakePlatform,
    mailer: FakeMailer,
    refusal: Exception,
    status: NotificationStatus,
) -> None:
    mail = await a_queued_mail(db, platform)
    mailer.failure_after = refusal

    ended = await deliver(db, mail, mailer)

    assert ended is not None
    assert (ended.status, ended.failure_reason) == (status, str(refusal))
    assert (ended.handed_over_at, ended.may_have_arrived) == (None, False)


async def test_silence_after_the_content_ends_as_unknown_and_is_not_sent_again(
    db: TestDatabase, platform: FakePlatform, mailer: FakeMailer, clock: SettableClock
) -> None:
    mail = await a_queued_mail(db, platform)
    mailer.failure_after = OutcomeUnknown("Connection lost.")

    ended = await deliver(db, mail, mailer)
    mailer.failure_after = None
    clock.move(days=1)

    assert ended is not None
    assert (ended.status, ended.handed_over_at) == (NotificationStatus.FAILED, NOW)
    assert ended.failure_reason == (
        "outcome unknown, it may have arrived and is not sent again by itself: Connection lost."
    )
    assert ended.state.is_outcome_unknown
    entry = (await history(EntityType.INVOICE, mail.invoice_id))[-1]
    assert entry.action is AuditAction.EMAIL_FAILED
    assert entry.description == f"E-mail INVOICE_ISSUED {ended.failure_reason}"
    assert await list_due(db, limit=10) == []
    assert await deliver(db, mail, mailer) is None
    assert mailer.sent == []


async def test_a_worker_that_dies_before_the_handover_loses_nothing(
    db: TestDatabase, platform: FakePlatform, mailer: FakeMailer, clock: SettableClock
) -> None:
    mail = await a_queued_mail(db, platform)
    mailer.failure = asyncio.CancelledError()  # as when the process ends: nothing is written
    with pytest.raises(asyncio.CancelledError):
        await deliver(db, mail, mailer)
    mailer.failure = None

    clock.move(seconds=LEASE_SECONDS)
    sent = await deliver(db, mail, mailer)

    assert sent is not None
    assert sent.status is NotificationStatus.SENT
    assert len(mailer.sent) == 1


async def test_a_worker_that_dies_after_the_handover_sends_nothing_twice(
    db: TestDatabase, platform: FakePlatform, mailer: FakeMailer, clock: SettableClock
) -> None:
    mail = await a_queued_mail(db, platform)
    mailer.failure_after = asyncio.CancelledError()
    with pytest.raises(asyncio.CancelledError):
        await deliver(db, mail, mailer)
    mailer.failure_after = None

    clock.move(seconds=LEASE_SECONDS - 1)
    assert await deliver(db, mail, mailer) is None
    clock.move(seconds=1)
    assert await list_due(db, limit=10) == [mail.id]
    ended = await deliver(db, mail, mailer)

    assert ended is not None
    assert (ended.status, ended.handed_over_at) == (NotificationStatus.FAILED, NOW)
    assert ended.failure_reason == outcome_unknown(DIED_AFTER_HANDOVER)
    assert (ended.lease_until, ended.retry_count) == (None, 0)
    actions = [entry.action for entry in await history(EntityType.INVOICE, mail.invoice_id)]
    assert actions[-1] is AuditAction.EMAIL_FAILED
    assert mailer.sent == []
    clock.move(days=1)
    assert await deliver(db, mail, mailer) is None


@pytest.mark.parametrize(
    "meanwhile",
    [
        {"leaseUntil": NOW + timedelta(hours=1)},
        {"status": "FAILED", "leaseUntil": None},
    ],
    ids=["taken by another worker", "withdrawn"],
)
async def test_a_worker_that_has_lost_its_hold_sends_nothing_and_writes_nothing(
    db: TestDatabase, platform: FakePlatform, mailer: FakeMailer, meanwhile: dict[str, object]
) -> None:
    mail = await a_queued_mail(db, platform)
    rows = InvoiceNotification.get_motor_collection()

    async def compose_slowly(notification: InvoiceNotification) -> EmailMessage:
        await rows.update_one({"_id": mail.id}, {"$set": meanwhile})
        return await compose(notification)

    with pytest.raises(DocumentChanged):
        await deliver(db, mail, mailer, compose=compose_slowly)

    assert mailer.sent == []
    stored = await get_notification(ObjectId(mail.id))
    assert stored.lease_until == meanwhile["leaseUntil"]
    assert stored.handed_over_at is None


async def test_the_mark_renews_the_lease_for_the_verdict(
    db: TestDatabase, platform: FakePlatform, mailer: FakeMailer, clock: SettableClock
) -> None:
    mail = await a_queued_mail(db, platform)
    mailer.failure_after = asyncio.CancelledError()

    async def compose_slowly(notification: InvoiceNotification) -> EmailMessage:
        clock.move(seconds=LEASE_SECONDS - 1)
        return await compose(notification)

    with pytest.raises(asyncio.CancelledError):
        await deliver(db, mail, mailer, compose=compose_slowly)

    held = await get_notification(ObjectId(mail.id))
    assert held.handed_over_at == clock.now
    assert held.lease_until == clock.now + timedelta(seconds=LEASE_SECONDS)


async def test_what_was_sent_is_noted_also_when_others_are_in_the_way_for_long(
    real_db: TestDatabase, platform: FakePlatform, mailer: FakeMailer
) -> None:
    mail = await a_queued_mail(real_db, platform)
    real_db.patience_seconds = 0.1

    async with await real_db.mongo.client.start_session() as session:
        session.start_transaction()
        heads = AuditHead.get_motor_collection()
        await heads.update_one({"entityId": mail.invoice_id}, {"$inc": {"seq": 1}}, session=session)
        delivering = asyncio.create_task(deliver(real_db, mail, mailer))
        await asyncio.sleep(0.5)  # several times the patience of a transaction
        assert (await get_notification(ObjectId(mail.id))).status is NotificationStatus.PENDING
        await session.abort_transaction()
        sent = await delivering

    assert sent is not None
    assert sent.status is NotificationStatus.SENT
    assert len(mailer.sent) == 1
