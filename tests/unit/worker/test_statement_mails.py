"""What the worker writes for a statement, from the account as it is then, and when it does not."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from email.message import EmailMessage

import pytest

from accounting.bootstrap import Services
from accounting.ids import ObjectId
from accounting.invoices.documents import Invoice
from accounting.invoices.service import issue_invoice
from accounting.invoices.settlement import record_payment
from accounting.links import public_invoice_url, unsubscribe_url
from accounting.notifications.documents import InvoiceNotification
from accounting.notifications.rules import NotificationStatus, StatementTone
from accounting.notifications.sending import MailWithheld
from accounting.optouts.service import UsedLink, opt_out
from accounting.platform.rules import CustomerNotFound, PlatformUser
from accounting.printing.company import Company
from accounting.reports.account import read_statement
from accounting.reports.rules import range_of_statement
from accounting.wording import usd
from accounting.worker.delivery import deliver_due
from accounting.worker.mails import compose
from api_app import settings
from builders import ADMIN, TERMS, TODAY, a_cost_payment, a_customer, a_draft
from fakes import FakeMailer, FakePlatform, SettableClock, TestDatabase
from mails import html_of, read, text_of, words_of
from pdf_reading import lines_of, same_line
from pdf_reading import text_of as text_of_pdf
from statements import DUE_DATES, open_invoices, send

FRIENDLY, FIRM, FINAL = StatementTone
COMPANY = Company(name="Northern Hosting Ltd", payment_instructions=("IBAN: GB33",))


@pytest.fixture
def services(real_db: TestDatabase, platform: FakePlatform) -> Services:
    return Services(real_db, platform, TERMS, settings(), COMPANY)


@pytest.fixture
def customer(platform: FakePlatform) -> PlatformUser:
    return platform.add_user(a_customer())


@pytest.fixture
async def owed(services: Services, platform: FakePlatform, customer: PlatformUser) -> list[Invoice]:
    return await open_invoices(services, platform, customer)


async def pay(services: Services, customer: PlatformUser, invoice: Invoice, amount: str) -> None:
    platform = services.platform
    assert isinstance(platform, FakePlatform)
    row = platform.add_cost_payment(a_cost_payment(customer, amount))
    await services.db.run(ADMIN, record_payment, platform, ObjectId(invoice.id), row.id)
    await deliver_due(services, FakeMailer())


def pdf_of(mail: EmailMessage) -> bytes:
    [attached] = mail.iter_attachments()
    assert attached.get_content_type() == "application/pdf"
    content: bytes = attached.get_content()
    return content


@pytest.mark.parametrize("tone", StatementTone)
async def test_mail_and_pdf_say_what_the_statement_says(
    services: Services, customer: PlatformUser, owed: list[Invoice], tone: StatementTone
) -> None:
    await pay(services, customer, owed[0], "120.50")
    row = await send(services, customer, tone)

    mail = await compose(services, row)

    first, last = range_of_statement(None, None, TODAY)
    statement = await read_statement(services.platform, customer.id, first, last, TERMS.zone)
    assert statement.closing_balance == Decimal("1379.50")
    for words in words_of(mail):
        assert "Outstanding" in words
        for amount in (statement.closing_balance, Decimal("879.50"), Decimal("379.50")):
            assert usd(amount) in words
        for amount in statement.aging.values():
            assert usd(amount) in words
        assert all(invoice.invoice_number in words for invoice in owed)
        assert "104 days overdue" in words
        assert "12 days overdue" in words
    [attached] = mail.iter_attachments()
    assert attached.get_filename() == "statement-2026-01-01-2026-01-12.pdf"
    lines = lines_of(pdf_of(mail))
    assert lines[0].startswith("Northern Hosting Ltd")
    assert same_line(lines, "USD 1,379.50", "USD 879.50 overdue")
    assert same_line(lines, "12 January 2026", "Closing balance", "USD 1,379.50")
    assert same_line(
        lines,
        *[usd(statement.aging[name]) for name in ("current", "1-30", "31-60", "61-90", "90+")],
    )
    assert "IBAN: GB33" in lines


async def test_it_shows_the_account_as_it_is_when_it_is_written(
    services: Services, customer: PlatformUser, owed: list[Invoice], clock: SettableClock
) -> None:
    row = await send(services, customer, FIRM)
    await pay(services, customer, owed[0], "500.00")
    clock.move(days=1)

    mail = await compose(services, await _again(row))

    assert mail["Subject"] == "Payment needed: USD 500.00 overdue on your account"
    assert all(owed[0].invoice_number not in words for words in words_of(mail))
    assert all("13 days overdue" in words for words in words_of(mail))


async def _again(row: InvoiceNotification) -> InvoiceNotification:
    found = await InvoiceNotification.get(row.id)
    assert found is not None
    return found


async def test_it_is_sent_though_the_invoice_it_hangs_on_is_paid(
    services: Services, customer: PlatformUser, owed: list[Invoice]
) -> None:
    row = await send(services, customer, FINAL)
    services.platform.add_cost_payment(money := a_cost_payment(customer, "500.00"))  # type: ignore[attr-defined]
    use_case = (record_payment, services.platform, ObjectId(owed[0].id), money.id)
    await services.db.run(ADMIN, *use_case)
    mailer = FakeMailer()

    await deliver_due(services, mailer)

    assert (await _again(row)).status is NotificationStatus.SENT
    assert "Final notice: USD 500.00 overdue on your account" in [m["Subject"] for m in mailer.sent]


@pytest.mark.parametrize(
    ("tone", "status", "reason"),
    [
        (FRIENDLY, NotificationStatus.SENT, None),
        (FIRM, NotificationStatus.FAILED, "nothing is overdue any more"),
        (FINAL, NotificationStatus.FAILED, "nothing is overdue any more"),
    ],
)
async def test_once_nothing_is_overdue_only_the_friendly_one_goes_out(
    services: Services,
    customer: PlatformUser,
    owed: list[Invoice],
    tone: StatementTone,
    status: NotificationStatus,
    reason: str | None,
) -> None:
    row = await send(services, customer, tone)
    money = a_cost_payment(customer, "1000.00")
    services.platform.add_cost_payment(money)  # type: ignore[attr-defined]
    for invoice in owed[:2]:
        use_case = (record_payment, services.platform, ObjectId(invoice.id), money.id)
        await services.db.run(ADMIN, *use_case)
    mailer = FakeMailer()

    await deliver_due(services, mailer)

    stored = await _again(row)
    assert (stored.status, stored.failure_reason) == (status, reason)
    told = [mail for mail in mailer.sent if "received" not in mail["Subject"]]
    assert len(told) == (tone is FRIENDLY)


async def test_a_settled_account_is_told_of_as_such(
    services: Services, customer: PlatformUser, owed: list[Invoice]
) -> None:
    for invoice in owed:
        await pay(services, customer, invoice, "500.00")
    row = await send(services, customer)

    mail = await compose(services, row)

    assert mail["Subject"] == "Your statement of account: nothing to pay"
    assert "Nothing to pay" in text_of_pdf(pdf_of(mail))
    assert "IBAN" not in text_of_pdf(pdf_of(mail))
    assert all("Open invoice" not in words for words in words_of(mail))


async def test_who_unsubscribed_is_not_written_to(
    services: Services, customer: PlatformUser, owed: list[Invoice]
) -> None:
    [carrier] = await InvoiceNotification.find({"invoiceId": owed[0].id}).to_list()
    link = UsedLink(
        notification_id=ObjectId(carrier.id),
        sent_to=carrier.sent_to,
        customer_id=customer.id,
        invoice_id=ObjectId(owed[0].id),
        invoice_number=owed[0].invoice_number,
    )
    await services.db.run(ADMIN, opt_out, link)
    await send(services, customer, FINAL)
    mailer = FakeMailer()

    # As a reminder that an admin asks for.
    assert await deliver_due(services, mailer) == {NotificationStatus.UNSUBSCRIBED: 1}
    assert mailer.sent == []


async def test_it_can_be_stopped_and_leads_to_the_pages_that_its_reader_knows(
    services: Services, platform: FakePlatform, customer: PlatformUser, owed: list[Invoice]
) -> None:
    quiet = await a_draft(services.db, platform, customer, due_date=DUE_DATES[0])
    use_case = (issue_invoice, platform, TERMS, ObjectId(quiet.id))
    await services.db.run(ADMIN, *use_case, skip_email=True)
    row = await send(services, customer)

    mail = await compose(services, row)

    public_url = services.settings.public_url
    carriers = {
        mail.invoice_id: mail.view_token
        for mail in await InvoiceNotification.find({"status": NotificationStatus.SENT}).to_list()
    }
    pages = [
        public_invoice_url(public_url, row.view_token),  # of the one that it hangs on
        *[public_invoice_url(public_url, carriers[invoice.id]) for invoice in owed[1:]],
    ]
    stop = unsubscribe_url(public_url, row.view_token)
    assert read(html_of(mail)).links == [*pages, stop]
    assert all(f"    {page}\n" in text_of(mail) for page in pages)
    assert quiet.invoice_number in text_of(mail)
    assert mail["List-Unsubscribe"] == f"<{stop}>"
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"


async def test_links_that_went_to_another_address_are_not_used(
    services: Services, platform: FakePlatform, customer: PlatformUser, owed: list[Invoice]
) -> None:
    platform.add_user(replace(customer, email="new@example.com"))
    row = await send(services, customer)

    links = read(html_of(await compose(services, row))).links

    public_url = services.settings.public_url
    assert links == [
        public_invoice_url(public_url, row.view_token),
        unsubscribe_url(public_url, row.view_token),
    ]


async def test_markup_in_a_customers_name_shows_as_text(
    services: Services, platform: FakePlatform, customer: PlatformUser, owed: list[Invoice]
) -> None:
    name = '<img src=x onerror=alert(1)> #panic("x")'
    platform.add_user(replace(customer, name=name, company_name=name))
    row = await send(services, customer, FIRM)

    mail = await compose(services, row)

    assert "img" not in read(html_of(mail)).tags
    assert all(words.count(name) == 2 for words in words_of(mail))
    assert text_of_pdf(pdf_of(mail)).count(name) == 2


async def test_a_customer_who_is_gone_is_not_written_to(
    services: Services, platform: FakePlatform, customer: PlatformUser, owed: list[Invoice]
) -> None:
    row = await send(services, customer)
    platform.add_user(replace(customer, is_deleted=True))

    with pytest.raises(CustomerNotFound):
        await compose(services, row)
    assert await deliver_due(services, FakeMailer()) == {NotificationStatus.FAILED: 1}


async def test_a_withheld_one_is_withheld_before_it_is_printed(
    services: Services, customer: PlatformUser, owed: list[Invoice]
) -> None:
    row = await send(services, customer, FIRM)
    for invoice in owed:
        await pay(services, customer, invoice, "500.00")

    with pytest.raises(MailWithheld):
        await compose(services, row)
