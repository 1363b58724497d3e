"""Rows of the outbox against a real mail server that does its worst: each ends as specified."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from accounting.audit.rules import AuditAction, EntityType
from accounting.audit.service import history
from accounting.bootstrap import Services
from accounting.ids import ObjectId
from accounting.invoices.documents import Invoice
from accounting.invoices.service import cancel_invoice
from accounting.invoices.settlement import record_payment
from accounting.notifications.documents import InvoiceNotification
from accounting.notifications.mailer import SmtpMailer
from accounting.notifications.rules import NotificationStatus, outcome_unknown
from accounting.worker.delivery import deliver_due, deliver_one
from api_app import settings
from builders import ADMIN, NOW, TERMS, a_cost_payment, a_customer, an_issued_invoice
from fakes import FakePlatform, SettableClock, TestDatabase
from mail_server import CUT, DROP, END, SILENT, Answer, MailServer
from mails import html_of, read, text_of
from outbox import last_row, remind

PENDING, SENT, FAILED, BOUNCED = (
    NotificationStatus.PENDING,
    NotificationStatus.SENT,
    NotificationStatus.FAILED,
    NotificationStatus.BOUNCED,
)
HUNG_UP = "The mail server closed the connection."
SILENCE = "No answer from the mail server within 0.3 seconds."


@pytest.fixture
def services(real_db: TestDatabase, platform: FakePlatform) -> Services:
    return Services(real_db, platform, TERMS, settings())


def mailer_to(server: MailServer) -> SmtpMailer:
    url = f"smtp://{server.address}"
    return SmtpMailer(url, timeout_seconds=0.3, verdict_seconds=0.3)


async def an_invoice(services: Services, platform: FakePlatform) -> Invoice:
    return await an_issued_invoice(services.db, platform, a_customer())


@pytest.mark.parametrize(
    ("answers", "status", "reason"),
    [
        ({"greeting": "421 4.3.2 Too busy"}, PENDING, "421 4.3.2 Too busy"),
        ({"greeting": "554 5.7.1 Not you"}, FAILED, "554 5.7.1 Not you"),
        ({"greeting": SILENT}, PENDING, SILENCE),
        ({"EHLO": DROP}, PENDING, HUNG_UP),
        ({"MAIL": "451 4.3.0 Try later"}, PENDING, "451 4.3.0 Try later"),
        ({"MAIL": "550 5.7.1 Sender refused"}, FAILED, "550 5.7.1 Sender refused"),
        ({"RCPT": "451 4.7.1 Greylisted"}, PENDING, "451 4.7.1 Greylisted"),
        ({"RCPT": "550 5.1.1 No such user"}, BOUNCED, "550 5.1.1 No such user"),
        ({"RCPT": "552 5.2.2 Mailbox full"}, BOUNCED, "552 5.2.2 Mailbox full"),
        ({"RCPT": DROP}, PENDING, HUNG_UP),
        ({"DATA": "451 4.3.0 Not now"}, PENDING, "451 4.3.0 Not now"),
        ({"DATA": "554 5.5.1 No"}, FAILED, "554 5.5.1 No"),
        ({"DATA": SILENT}, PENDING, SILENCE),
        ({"DATA": DROP}, PENDING, HUNG_UP),
        ({END: "452 4.3.1 Disk full"}, PENDING, "452 4.3.1 Disk full"),
        ({END: "552 5.3.4 Too big"}, FAILED, "552 5.3.4 Too big"),
        ({"DATA": CUT}, FAILED, outcome_unknown(HUNG_UP)),
        ({END: DROP}, FAILED, outcome_unknown(HUNG_UP)),
        ({END: SILENT}, FAILED, outcome_unknown(SILENCE)),
        ({END: "what is this"}, FAILED, outcome_unknown("")),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
async def test_each_answer_ends_the_row_as_specified(
    services: Services,
    platform: FakePlatform,
    clock: SettableClock,
    answers: dict[str, Answer],
    status: NotificationStatus,
    reason: str,
) -> None:
    invoice = await an_invoice(services, platform)

    with MailServer(answers) as server:
        await deliver_due(services, mailer_to(server))
        row = await last_row(invoice)
        clock.move(minutes=4)
        soon = await deliver_due(services, mailer_to(server))
        offered = len(server.offered)

    assert (row.status, row.lease_until) == (status, None)
    assert (row.failure_reason or "").startswith(reason)
    is_unknown = reason.startswith("outcome unknown")
    assert row.may_have_arrived == is_unknown
    assert row.handed_over_at == (NOW if is_unknown else None)
    assert row.next_retry_at == (NOW + timedelta(minutes=5) if status is PENDING else None)
    assert row.retry_count == (1 if status is PENDING else 0)
    entry = (await history(EntityType.INVOICE, ObjectId(invoice.id)))[-1]
    is_retry = status is PENDING
    assert entry.action is (AuditAction.EMAIL_RETRY if is_retry else AuditAction.EMAIL_FAILED)
    assert soon == {}
    assert offered <= 1


async def test_a_greylisted_mail_arrives_with_its_retry(
    services: Services, platform: FakePlatform, clock: SettableClock
) -> None:
    invoice = await an_invoice(services, platform)

    with MailServer({"RCPT": ["451 4.7.1 Greylisted", "250 ok"]}) as server:
        first = await deliver_due(services, mailer_to(server))
        clock.move(minutes=5)
        second = await deliver_due(services, mailer_to(server))

    assert (first, second) == ({PENDING: 1}, {SENT: 1})
    row = await last_row(invoice)
    assert (row.retry_count, row.failure_reason) == (1, None)
    [mail] = server.mails
    assert mail["Message-ID"] == row.message_id == f"<{row.id}@localhost>"


async def test_a_slow_server_gets_its_time(services: Services, platform: FakePlatform) -> None:
    await an_invoice(services, platform)

    with MailServer(delay_seconds=0.05) as server:
        url = f"smtp://{server.address}"
        patient = SmtpMailer(url, timeout_seconds=5, verdict_seconds=5)
        assert await deliver_due(services, patient) == {SENT: 1}

    assert len(server.contents) == 1


async def test_a_cancellation_while_the_mail_is_offered_keeps_it_from_going_out(
    services: Services, platform: FakePlatform
) -> None:
    invoice = await an_invoice(services, platform)
    row = await last_row(invoice)

    with MailServer(hold=["RCPT"]) as server:
        url = f"smtp://{server.address}"
        mailer = SmtpMailer(url, timeout_seconds=10, verdict_seconds=10)
        delivering = asyncio.create_task(deliver_one(services, mailer, ObjectId(row.id)))
        await asyncio.to_thread(server.wait_for, "RCPT")
        await services.db.run(ADMIN, cancel_invoice, ObjectId(invoice.id), "why")
        server.release("RCPT")
        assert await delivering is None
        await asyncio.sleep(0.1)

        assert server.offered == []
    assert (await last_row(invoice)).status is FAILED


@pytest.mark.parametrize(
    "address",
    [
        "ada@example.com\r\nBcc: all@example.com",
        "ada@example.com>\r\nRCPT TO:<all@example.com",
        "ada@example.com\nX-Header: yes",
        "ada@example.com, all@example.com",
    ],
)
async def test_an_address_that_holds_a_header_is_refused_before_any_server_sees_it(
    services: Services, platform: FakePlatform, address: str
) -> None:
    invoice = await an_issued_invoice(services.db, platform, a_customer(email=address))

    with MailServer() as server:
        assert await deliver_due(services, mailer_to(server)) == {FAILED: 1}
        assert server.log == []

    row = await last_row(invoice)
    assert "is not an e-mail address" in (row.failure_reason or "")


async def test_hostile_names_and_reasons_are_text_in_every_mail(
    services: Services, platform: FakePlatform, clock: SettableClock
) -> None:
    name = '<script>alert("name")</script>'
    company = "<img src=x onerror=alert(1)> & Sons"
    reason = '</td><a href="https://evil.example.com">pay here</a>'
    customer = a_customer(name=name, company_name=company)
    invoice = await an_issued_invoice(services.db, platform, customer)
    row = a_cost_payment(customer, narration="<b>narration</b>")
    platform.add_cost_payment(row)
    await services.db.run(ADMIN, record_payment, platform, ObjectId(invoice.id), row.id)
    cancelled = await an_issued_invoice(services.db, platform, customer)

    with MailServer() as server:
        await deliver_due(services, mailer_to(server))
        await services.db.run(ADMIN, cancel_invoice, ObjectId(cancelled.id), reason)
        clock.move(days=31)
        other = await an_issued_invoice(services.db, platform, replace(customer))
        await deliver_due(services, mailer_to(server))
        clock.move(days=31)
        await remind(services, other, 1)
        await deliver_due(services, mailer_to(server))

    mails = server.mails
    assert len(mails) == 6
    for mail in mails:
        page = read(html_of(mail))
        bodies = (text_of(mail), "".join(page.words))
        assert page.tags.isdisjoint({"script", "img", "b"})
        assert all("evil" not in (link or "") for link in page.links)
        assert all(name in body and "narration" not in body for body in bodies)
        if not mail["Subject"].startswith("Payment"):  # which does not mention the company
            assert all(company in " ".join(body.split()) for body in bodies)
    told = next(mail for mail in mails if "cancelled" in mail["Subject"])
    assert f"Reason: {reason}" in text_of(told)
    assert f"Reason: {reason}" in "".join(read(html_of(told)).words)
    assert await InvoiceNotification.find({"status": {"$ne": "SENT"}}).count() == 0
