"""Queuing statements: on which invoice they hang, when they are refused, one at a time."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from accounting.audit.rules import AuditAction, EntityType
from accounting.audit.service import history
from accounting.bootstrap import Services
from accounting.ids import ObjectId, new_id
from accounting.invoices.documents import Invoice
from accounting.invoices.mail import NoEmailAddress
from accounting.invoices.service import cancel_invoice
from accounting.invoices.settlement import allocate_payments
from accounting.notifications.documents import InvoiceNotification
from accounting.notifications.mailer import RecipientRefused
from accounting.notifications.rules import (
    EmailNotFailed,
    NotificationStatus,
    NotificationType,
    StatementTone,
)
from accounting.notifications.service import DELIVER_JOB
from accounting.platform.rules import CustomerNotFound, PlatformUser
from accounting.reports.mailing import (
    SAME_WISH_SECONDS,
    NothingOverdue,
    NothingToState,
    StatementQueued,
    retry_mail,
)
from accounting.worker.delivery import deliver_due
from api_app import settings
from builders import ADMIN, NOW, TERMS, a_cost_payment, a_customer, a_draft, an_issued_invoice
from fakes import FakeMailer, FakePlatform, JobList, SettableClock, TestDatabase
from statements import open_invoices, send, statements_of

FRIENDLY, FIRM, FINAL = StatementTone
# The raw sums of a statement that is written are of a kind that memory does not give.
ON_THE_SERVER = pytest.mark.parametrize("backend", ["mongod"], indirect=True)


@pytest.fixture
def services(db: TestDatabase, platform: FakePlatform) -> Services:
    return Services(db, platform, replace(TERMS, mail_cc=("books@example.com",)), settings())


@pytest.fixture
def customer(platform: FakePlatform) -> PlatformUser:
    return platform.add_user(a_customer())


@pytest.fixture
async def owed(services: Services, platform: FakePlatform, customer: PlatformUser) -> list[Invoice]:
    return await open_invoices(services, platform, customer)


async def settle(services: Services, platform: FakePlatform, customer: PlatformUser) -> None:
    """Pays everything, and lets the confirmations go out."""
    platform.add_cost_payment(a_cost_payment(customer, "1500.00"))
    await services.db.run(ADMIN, allocate_payments, platform, customer.id)
    await deliver_due(services, FakeMailer())


async def bounce(services: Services) -> None:
    mailer = FakeMailer()
    mailer.failure = RecipientRefused("550 5.1.1 no such user")
    await deliver_due(services, mailer)


async def retry(services: Services, row: InvoiceNotification) -> InvoiceNotification:
    use_case = (retry_mail, services.platform, services.terms, ObjectId(row.id))
    return await services.db.run(ADMIN, *use_case)


@pytest.mark.parametrize("tone", StatementTone)
async def test_it_hangs_on_the_invoice_that_was_due_first(
    services: Services,
    customer: PlatformUser,
    owed: list[Invoice],
    jobs: JobList,
    tone: StatementTone,
) -> None:
    jobs.sent.clear()

    queued = await send(services, customer, tone)

    [row] = await statements_of(owed)
    assert row.id == queued.id
    assert (row.invoice_id, row.statement_tone) == (owed[0].id, tone)
    is_friendly = tone is FRIENDLY
    kind = NotificationType.PAYMENT_REMINDER if is_friendly else NotificationType.OVERDUE_REMINDER
    assert (row.notification_type, row.status) == (kind, NotificationStatus.PENDING)
    assert (row.sent_to, row.cc_emails) == ("ada@example.com", ["books@example.com"])
    assert row.created_at == NOW
    assert [(job.name, job.args) for job in jobs.sent] == [(DELIVER_JOB, (str(row.id),))]


@ON_THE_SERVER
async def test_the_trail_says_that_it_was_a_statement_and_who_asked(
    services: Services, customer: PlatformUser, owed: list[Invoice]
) -> None:
    row = await send(services, customer, FIRM)
    await deliver_due(services, FakeMailer())

    queued, sent = (await history(EntityType.INVOICE, ObjectId(owed[0].id)))[-2:]
    assert queued.action is AuditAction.INVOICE_SENT_TO_CUSTOMER
    assert queued.user_id == ADMIN.user_id
    number = owed[0].invoice_number
    what = "OVERDUE_REMINDER (FIRM statement)"
    assert queued.description == f"Invoice {number}: {what} queued to ada@example.com"
    assert queued.changes is not None
    assert queued.changes["after"] == {
        "notificationId": str(row.id),
        "notificationType": "OVERDUE_REMINDER",
        "statementTone": "FIRM",
        "sentTo": "ada@example.com",
    }
    assert sent.action is AuditAction.EMAIL_SENT
    assert sent.description == f"E-mail {what} sent to ada@example.com"


async def test_of_a_settled_account_it_hangs_on_the_last_invoice_and_is_friendly_only(
    services: Services,
    platform: FakePlatform,
    customer: PlatformUser,
    owed: list[Invoice],
    clock: SettableClock,
) -> None:
    await settle(services, platform, customer)
    clock.move(days=1)
    last = await an_issued_invoice(services.db, platform, customer)
    await services.db.run(ADMIN, cancel_invoice, ObjectId(last.id), "typed twice")
    await a_draft(services.db, platform, customer)

    for tone in (FIRM, FINAL):
        with pytest.raises(NothingOverdue):
            await send(services, customer, tone)
    await send(services, customer)

    [row] = await statements_of([*owed, last])
    assert row.invoice_id == last.id


async def test_who_was_never_issued_an_invoice_has_nothing_to_be_told(
    services: Services, platform: FakePlatform, customer: PlatformUser
) -> None:
    draft = await a_draft(services.db, platform, customer)

    with pytest.raises(NothingToState):
        await send(services, customer)

    assert await statements_of([draft]) == []


@pytest.mark.parametrize("tone", [FIRM, FINAL])
async def test_what_is_only_open_is_not_asked_for_firmly(
    services: Services,
    platform: FakePlatform,
    customer: PlatformUser,
    clock: SettableClock,
    tone: StatementTone,
) -> None:
    invoice = await an_issued_invoice(services.db, platform, customer)
    clock.move(days=30)  # its last day to pay

    with pytest.raises(NothingOverdue):
        await send(services, customer, tone)
    clock.move(days=1)
    await send(services, customer, tone)

    assert [row.statement_tone for row in await statements_of([invoice])] == [tone]


@pytest.mark.parametrize("changes", [{"is_deleted": True}, {"id": new_id()}])
async def test_only_customers_have_an_account(
    services: Services, customer: PlatformUser, owed: list[Invoice], changes: dict[str, object]
) -> None:
    platform = services.platform
    assert isinstance(platform, FakePlatform)
    gone = replace(customer, **changes)  # type: ignore[arg-type]
    if gone.is_deleted:
        platform.add_user(gone)

    with pytest.raises(CustomerNotFound):
        await send(services, gone)

    assert await statements_of(owed) == []


async def test_who_has_no_address_cannot_be_written_to(
    services: Services, platform: FakePlatform, customer: PlatformUser, owed: list[Invoice]
) -> None:
    platform.add_user(replace(customer, email=""))

    with pytest.raises(NoEmailAddress):
        await send(services, customer)

    assert await statements_of(owed) == []


# --- one at a time ----------------------------------------------------------------------------


async def test_while_one_waits_it_is_the_answer(
    services: Services, customer: PlatformUser, owed: list[Invoice], clock: SettableClock
) -> None:
    first = await send(services, customer, FIRM)
    clock.move(hours=2)

    second = await send(services, customer, FIRM)
    other = await send(services, customer, FINAL)

    assert second.id == first.id != other.id
    assert len(await statements_of(owed)) == 2


@ON_THE_SERVER
async def test_pressed_twice_it_is_sent_once_however_quick_the_worker(
    services: Services, customer: PlatformUser, owed: list[Invoice], clock: SettableClock
) -> None:
    first = await send(services, customer)
    await deliver_due(services, FakeMailer())
    clock.move(seconds=SAME_WISH_SECONDS)
    again = await send(services, customer)
    clock.move(seconds=1)
    later = await send(services, customer)

    assert again.id == first.id != later.id
    assert len(await statements_of(owed)) == 2


@ON_THE_SERVER
async def test_one_that_bounced_does_not_stand_for_the_next(
    services: Services, customer: PlatformUser, owed: list[Invoice]
) -> None:
    await send(services, customer)
    await bounce(services)

    await send(services, customer)

    assert [row.status for row in await statements_of(owed)] == [
        NotificationStatus.BOUNCED,
        NotificationStatus.PENDING,
    ]


async def test_another_customers_statement_is_no_answer(
    services: Services, platform: FakePlatform, customer: PlatformUser, owed: list[Invoice]
) -> None:
    other = platform.add_user(a_customer(name="Ben"))
    theirs = await open_invoices(services, platform, other)
    await send(services, customer)

    await send(services, other)

    assert (len(await statements_of(owed)), len(await statements_of(theirs))) == (1, 1)


async def test_many_who_ask_at_once_queue_one(
    real_db: TestDatabase, platform: FakePlatform, customer: PlatformUser
) -> None:
    services = Services(real_db, platform, TERMS, settings())
    owed = await open_invoices(services, platform, customer)

    rows = await asyncio.gather(*(send(services, customer, FIRM) for _ in range(12)))

    [row] = await statements_of(owed)
    assert {answered.id for answered in rows} == {row.id}


# --- trying again -----------------------------------------------------------------------------


@ON_THE_SERVER
async def test_a_bounced_one_is_tried_again_at_the_present_address(
    services: Services, platform: FakePlatform, customer: PlatformUser, owed: list[Invoice]
) -> None:
    row = await send(services, customer, FINAL)
    await bounce(services)
    # Its own invoice is settled meanwhile, which says nothing about the account.
    platform.add_cost_payment(a_cost_payment(customer, "500.00"))
    await services.db.run(ADMIN, allocate_payments, platform, customer.id)
    platform.add_user(replace(customer, email="new@example.com"))

    again = await retry(services, row)

    assert again.id == row.id
    [stored] = await statements_of(owed)
    assert (stored.status, stored.sent_to) == (NotificationStatus.PENDING, "new@example.com")


@ON_THE_SERVER
async def test_what_is_not_true_any_more_or_was_sent_is_not_tried_again(
    services: Services, platform: FakePlatform, customer: PlatformUser, owed: list[Invoice]
) -> None:
    firm = await send(services, customer, FIRM)
    await bounce(services)
    friendly = await send(services, customer)
    await settle(services, platform, customer)

    with pytest.raises(NothingOverdue):
        await retry(services, firm)
    with pytest.raises(EmailNotFailed):
        await retry(services, friendly)


@ON_THE_SERVER
async def test_while_another_waits_a_failed_one_is_not_tried_again(
    services: Services, customer: PlatformUser, owed: list[Invoice]
) -> None:
    failed = await send(services, customer, FIRM)
    await bounce(services)
    await send(services, customer, FIRM)

    with pytest.raises(StatementQueued):
        await retry(services, failed)

    assert [row.status for row in await statements_of(owed)] == [
        NotificationStatus.BOUNCED,
        NotificationStatus.PENDING,
    ]


async def test_mails_about_an_invoice_are_retried_as_before(
    services: Services, platform: FakePlatform, customer: PlatformUser
) -> None:
    invoice = await an_issued_invoice(services.db, platform, customer)
    await bounce(services)
    [row] = await InvoiceNotification.find({"invoiceId": invoice.id}).to_list()

    again = await retry(services, row)

    assert again.status is NotificationStatus.PENDING
