"""Accounts with open and overdue invoices, for tests of statements."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from accounting.bootstrap import Services
from accounting.ids import ObjectId
from accounting.invoices.documents import Invoice
from accounting.notifications.documents import InvoiceNotification
from accounting.notifications.rules import StatementTone
from accounting.platform.rules import PlatformUser
from accounting.reports.mailing import send_statement
from accounting.worker.delivery import deliver_due
from builders import ADMIN, an_issued_invoice
from fakes import FakeMailer, FakePlatform

# With the clock of the tests at 12 January 2026: long overdue, overdue, and still to be paid.
DUE_DATES = (date(2025, 9, 30), date(2025, 12, 31), date(2026, 2, 11))


async def open_invoices(
    services: Services, platform: FakePlatform, customer: PlatformUser
) -> list[Invoice]:
    """Invoices of 500.00, due on each of DUE_DATES; the e-mails that carry them are out."""
    issued = [
        await an_issued_invoice(
            services.db, platform, customer, due_date=due, unit_price=Decimal("100.00")
        )
        for due in reversed(DUE_DATES)
    ]
    await deliver_due(services, FakeMailer())
    return issued[::-1]


async def send(
    services: Services, customer: PlatformUser, tone: StatementTone = StatementTone.FRIENDLY
) -> InvoiceNotification:
    use_case = (send_statement, services.platform, services.terms, customer.id, tone)
    return await services.db.run(ADMIN, *use_case)


async def statements_of(customer_invoices: list[Invoice]) -> list[InvoiceNotification]:
    """The rows of statements, oldest first."""
    ids = [ObjectId(invoice.id) for invoice in customer_invoices]
    rows = await InvoiceNotification.find({"invoiceId": {"$in": ids}}).sort("_id").to_list()
    return [row for row in rows if row.statement_tone is not None]
