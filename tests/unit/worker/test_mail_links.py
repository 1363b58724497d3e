"""What goes along with an e-mail: the link to its page, the way to stop it, the PDF."""

from __future__ import annotations

import pytest

from accounting.bootstrap import Services
from accounting.ids import ObjectId, new_id
from accounting.invoices.documents import Invoice
from accounting.notifications.rules import NotificationStatus, NotificationType, dedupe_key
from accounting.notifications.service import NewNotification, queue_notifications
from accounting.optouts.service import UsedLink, opt_out
from accounting.worker.delivery import deliver_due
from accounting.worker.papers import frozen_pdf
from api_app import settings
from builders import ADMIN, TERMS, a_customer, an_issued_invoice
from fakes import FakeMailer, FakePlatform, SettableClock, TestDatabase
from mails import html_of, read, text_of
from outbox import an_announced_invoice, last_row, pay, remind


@pytest.fixture
def mailer() -> FakeMailer:
    return FakeMailer()


@pytest.fixture
def services(db: TestDatabase, platform: FakePlatform) -> Services:
    return Services(db, platform, TERMS, settings())


async def unsubscribe(services: Services, invoice: Invoice) -> None:
    row = await last_row(invoice)
    link = UsedLink(
        notification_id=ObjectId(row.id),
        sent_to=row.sent_to,
        customer_id=invoice.user_id,
        invoice_id=ObjectId(invoice.id),
        invoice_number=invoice.invoice_number,
    )
    await services.db.run(ADMIN, opt_out, link)


async def test_a_reminder_queued_before_its_reader_unsubscribed_is_not_sent(
    services: Services, platform: FakePlatform, mailer: FakeMailer, clock: SettableClock
) -> None:
    invoice = await an_announced_invoice(services, platform)
    clock.move(days=31)
    await remind(services, invoice, 1)
    await unsubscribe(services, invoice)

    assert await deliver_due(services, mailer) == {NotificationStatus.UNSUBSCRIBED: 1}
    assert mailer.sent == []
    assert (await last_row(invoice)).failure_reason == "the customer wants no reminders"


async def test_who_unsubscribed_still_gets_invoices_and_confirmations(
    services: Services, platform: FakePlatform, mailer: FakeMailer
) -> None:
    invoice = await an_announced_invoice(services, platform)
    await unsubscribe(services, invoice)

    await pay(services, platform, invoice)
    kind, invoice_id = NotificationType.INVOICE_ISSUED, ObjectId(invoice.id)
    key = dedupe_key(kind, invoice_id, str(new_id()))
    mail = NewNotification(kind, invoice_id, "ada@example.com", [], key)
    await services.db.run(ADMIN, queue_notifications, [mail])

    assert await deliver_due(services, mailer) == {NotificationStatus.SENT: 2}


async def test_every_mail_leads_to_the_page_of_its_own_row(
    services: Services, platform: FakePlatform, mailer: FakeMailer
) -> None:
    invoice = await an_issued_invoice(services.db, platform, a_customer())

    await deliver_due(services, mailer)

    row = await last_row(invoice)
    [mail] = mailer.sent
    page = f"http://127.0.0.1:8000/api/accounting/public/invoices/{row.view_token}"
    assert read(html_of(mail)).links == [page]
    assert page in text_of(mail)


@pytest.mark.parametrize("day", [-3, 1])
async def test_a_reminder_can_be_stopped_with_the_token_of_its_row(
    services: Services, platform: FakePlatform, mailer: FakeMailer, clock: SettableClock, day: int
) -> None:
    invoice = await an_announced_invoice(services, platform)
    clock.move(days=30 + day)
    await remind(services, invoice, day)

    await deliver_due(services, mailer)

    row = await last_row(invoice)
    [mail] = mailer.sent
    stop = f"http://127.0.0.1:8000/api/accounting/public/unsubscribe/{row.view_token}"
    assert mail["List-Unsubscribe"] == f"<{stop}>"
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert read(html_of(mail)).links[-1] == stop


async def test_what_asks_for_money_brings_the_kept_pdf_and_what_does_not_brings_none(
    services: Services, platform: FakePlatform, mailer: FakeMailer, clock: SettableClock
) -> None:
    invoice = await an_issued_invoice(services.db, platform, a_customer())
    await deliver_due(services, mailer)
    clock.move(days=31)
    await remind(services, invoice, 1)
    await deliver_due(services, mailer)
    await pay(services, platform, invoice)
    await deliver_due(services, mailer)

    kept = await frozen_pdf(services, invoice)

    issued, reminder, received = mailer.sent
    for mail in (issued, reminder):
        [attached] = mail.iter_attachments()
        assert attached.get_filename() == f"invoice-{invoice.invoice_number}.pdf"
        assert attached.get_content() == kept
        assert mail["List-Unsubscribe"] is None or mail is reminder
    assert list(received.iter_attachments()) == []
    assert received["List-Unsubscribe"] is None
