"""Writing the e-mail of a statement: the account as it is now, in words and as PDF."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from accounting.bootstrap import Services
from accounting.clock import business_day
from accounting.ids import ObjectId
from accounting.invoices.documents import Invoice
from accounting.links import public_invoice_url
from accounting.notifications.documents import InvoiceNotification, find_view_tokens
from accounting.notifications.message import Content, Pdf
from accounting.notifications.rules import StatementTone
from accounting.notifications.sending import MailWithheld
from accounting.notifications.statements import (
    LISTED_INVOICES_MAX,
    ListedInvoice,
    StatementFacts,
    account_statement,
)
from accounting.platform.reader import get_customer
from accounting.platform.rules import PlatformUser, UserId
from accounting.reports.account import read_statement
from accounting.reports.mailing import why_statement_withheld
from accounting.reports.open_invoices import (
    OpenInvoice,
    list_open_invoices,
    outstanding_of,
    overdue_of,
)
from accounting.reports.paper import name_of_file, print_statement
from accounting.reports.rules import Statement, age, aging_in_words, range_of_statement


async def write_statement(
    services: Services, notification: InvoiceNotification, anchor: Invoice, tone: StatementTone
) -> tuple[Content, Pdf]:
    """What the customer of the anchor owes today, and his statement of this year.

    Raises CustomerNotFound, RangeArchived, StatementTooLong; MailWithheld when nothing is overdue
    any more of which a firm or final one could tell.
    """
    today = business_day(services.db.clock(), services.terms.zone)
    customer = await get_customer(services.platform, anchor.user_id)
    statement, owed = await _read_at_once(services, anchor.user_id, today)
    if reason := why_statement_withheld(tone, overdue_of(owed)):
        raise MailWithheld(reason)
    facts = await _facts(services, notification, customer, statement, owed)
    pdf = await print_statement(customer, statement, services.company, made_on=today)
    return account_statement(facts, tone), Pdf(name_of_file(statement), pdf)


async def _read_at_once(
    services: Services, customer_id: UserId, today: date
) -> tuple[Statement, list[OpenInvoice]]:
    """Both as they are at one moment, so that the e-mail says what its PDF does."""
    first, last = range_of_statement(None, None, today)
    owed = await list_open_invoices(customer_id, today)
    while True:
        statement = await read_statement(
            services.platform, customer_id, first, last, services.terms.zone
        )
        before, owed = owed, await list_open_invoices(customer_id, today)
        if owed == before:
            return statement, owed


async def _facts(
    services: Services,
    notification: InvoiceNotification,
    customer: PlatformUser,
    statement: Statement,
    owed: list[OpenInvoice],
) -> StatementFacts:
    as_of = statement.last_day
    listed = [invoice.id for invoice in owed[:LISTED_INVOICES_MAX]]
    # Links that the reader has got before; what was never written to him about has none.
    tokens = await find_view_tokens(listed, notification.sent_to)
    tokens[ObjectId(notification.invoice_id)] = notification.view_token
    public_url = services.settings.public_url
    urls = {found: public_invoice_url(public_url, token) for found, token in tokens.items()}
    amounts: list[tuple[Decimal, date]] = [(item.balance_due, item.due_on) for item in owed]
    return StatementFacts(
        customer_name=customer.name,
        company_name=customer.company_name,
        as_of=as_of,
        first_day=statement.first_day,
        outstanding=outstanding_of(owed),
        overdue=overdue_of(owed),
        aging=aging_in_words(age(amounts, as_of)),
        invoices=[
            ListedInvoice(
                invoice_number=item.invoice_number,
                due_on=item.due_on,
                balance_due=item.balance_due,
                days_overdue=max((as_of - item.due_on).days, 0),
                url=urls.get(item.id),
            )
            for item in owed
        ],
    )
