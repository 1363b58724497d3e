"""The storm breaker: so many e-mails to one address in a business day, the rest tomorrow."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from accounting.audit.rules import AuditAction, EntityType
from accounting.audit.service import history
from accounting.ids import ObjectId, new_id
from accounting.notifications.documents import InvoiceNotification, get_notification
from accounting.notifications.rules import DAILY_MAILS_MAX, PUT_OFF_REASON, NotificationStatus
from builders import NOW
from fakes import FakeMailer, FakePlatform, SettableClock, TestDatabase
from outbox import a_queued_mail, deliver

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture
def mailer() -> FakeMailer:
    return FakeMailer()


async def pretend_sent(mail: InvoiceNotification, instants: Sequence[datetime | None]) -> None:
    """Other e-mails to its address whose content went out then."""
    rows = [
        mail.model_copy(
            update={
                "id": new_id(),
                "dedupe_key": str(new_id()),
                "view_token": f"a token of this test {new_id()}",
                "status": NotificationStatus.SENT if at else NotificationStatus.BOUNCED,
                "handed_over_at": at,
            }
        )
        for at in instants
    ]
    if rows:
        await InvoiceNotification.insert_many(rows)


async def test_beyond_the_daily_cap_a_mail_waits_for_the_next_business_day(
    db: TestDatabase, platform: FakePlatform, mailer: FakeMailer, clock: SettableClock
) -> None:
    clock.now = datetime(2026, 1, 12, 23, 30, tzinfo=UTC)  # the 13th in Berlin since half an hour
    mail, last_allowed = [await a_queued_mail(db, platform) for _ in range(2)]
    yesterday = datetime(2026, 1, 12, 22, 59, 59, tzinfo=UTC)
    await pretend_sent(mail, [yesterday, *[clock.now] * (DAILY_MAILS_MAX - 1)])

    sent = await deliver(db, last_allowed, mailer, zone=BERLIN)
    waiting = await deliver(db, mail, mailer, zone=BERLIN)

    assert sent is not None
    assert sent.status is NotificationStatus.SENT
    assert waiting is not None
    assert (waiting.status, waiting.retry_count) == (NotificationStatus.PENDING, 0)
    assert waiting.failure_reason == PUT_OFF_REASON
    midnight = datetime(2026, 1, 13, 23, 0, tzinfo=UTC)
    assert (waiting.next_retry_at, waiting.lease_until) == (midnight, None)
    assert len(mailer.sent) == 1
    entry = (await history(EntityType.INVOICE, mail.invoice_id))[-1]
    assert entry.action is AuditAction.EMAIL_RETRY
    assert entry.description == f"E-mail INVOICE_ISSUED not sent yet: {PUT_OFF_REASON}"
    clock.now = midnight
    ended = await deliver(db, mail, mailer, zone=BERLIN)
    assert ended is not None
    assert ended.status is NotificationStatus.SENT


async def test_a_mail_that_is_put_off_again_on_the_same_day_leaves_one_entry(
    db: TestDatabase, platform: FakePlatform, mailer: FakeMailer
) -> None:
    mail = await a_queued_mail(db, platform)
    await pretend_sent(mail, [NOW] * DAILY_MAILS_MAX)

    for _ in range(3):
        await deliver(db, mail, mailer, due_by=NOW + timedelta(days=7))

    actions = [entry.action for entry in await history(EntityType.INVOICE, mail.invoice_id)]
    assert actions.count(AuditAction.EMAIL_RETRY) == 1
    assert (await get_notification(ObjectId(mail.id))).lease_until is None


async def test_refused_mails_and_those_to_others_do_not_count_towards_the_cap(
    db: TestDatabase, platform: FakePlatform, mailer: FakeMailer
) -> None:
    mail = await a_queued_mail(db, platform)
    other = mail.model_copy(update={"sent_to": "someone.else@example.com"})
    await pretend_sent(other, [NOW] * DAILY_MAILS_MAX)
    await pretend_sent(mail, [None] * DAILY_MAILS_MAX)

    sent = await deliver(db, mail, mailer)

    assert sent is not None
    assert sent.status is NotificationStatus.SENT
