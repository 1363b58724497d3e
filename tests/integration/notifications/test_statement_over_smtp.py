"""A statement as it arrives: over SMTP, read back as its reader's mail program would."""

from __future__ import annotations

import pytest

from accounting.bootstrap import Services
from accounting.ids import ObjectId
from accounting.invoices.settlement import record_payment
from accounting.notifications.mailer import SmtpMailer
from accounting.notifications.rules import NotificationStatus, StatementTone
from accounting.reports.account import read_balance, read_statement
from accounting.reports.rules import range_of_statement
from accounting.wording import long_day, usd
from accounting.worker.delivery import deliver_due
from api_app import settings
from builders import ADMIN, TERMS, TODAY, a_cost_payment, a_customer
from fakes import FakePlatform, TestDatabase
from mail_server import MailServer
from mails import words_of
from pdf_reading import lines_of, same_line, text_of
from statements import open_invoices, send, statements_of


@pytest.mark.parametrize("tone", StatementTone)
async def test_the_mail_and_its_pdf_carry_the_figures_of_the_account(
    real_db: TestDatabase, platform: FakePlatform, tone: StatementTone
) -> None:
    services = Services(real_db, platform, TERMS, settings())
    customer = platform.add_user(a_customer(name="王小明 <b>&", company_name="北方数字矿业"))
    owed = await open_invoices(services, platform, customer)
    money = platform.add_cost_payment(a_cost_payment(customer, "123.45"))
    await real_db.run(ADMIN, record_payment, platform, ObjectId(owed[1].id), money.id)
    await send(services, customer, tone)

    with MailServer() as server:
        mailer = SmtpMailer(f"smtp://{server.address}", timeout_seconds=5, verdict_seconds=5)
        outcomes = await deliver_due(services, mailer)

    assert outcomes == {NotificationStatus.SENT: 2}  # the payment is confirmed as well
    [row] = await statements_of(owed)
    [mail] = [mail for mail in server.mails if mail["Message-ID"] == row.message_id]
    balance = await read_balance(platform, customer.id, TODAY)
    first, last = range_of_statement(None, None, TODAY)
    statement = await read_statement(platform, customer.id, first, last, TERMS.zone)
    assert statement.closing_balance == balance.outstanding
    assert str(balance.outstanding) == "1376.55"

    for words in words_of(mail):
        assert "王小明 <b>&" in words
        for amount in (balance.outstanding, balance.overdue, *balance.aging.values()):
            assert usd(amount) in words
    [attached] = mail.iter_attachments()
    pdf = attached.get_content()
    lines, text = lines_of(pdf), text_of(pdf)
    assert same_line(lines, usd(balance.outstanding), f"{usd(balance.overdue)} overdue")
    assert same_line(lines, *[usd(amount) for amount in balance.aging.values()])
    assert same_line(lines, long_day(last), "Closing balance", usd(statement.closing_balance))
    for entry in statement.entries:
        assert entry.movement.invoice_number in text
        assert usd(abs(entry.movement.amount)) in text
        assert usd(entry.balance) in text
    assert "北方数字矿业" in text
