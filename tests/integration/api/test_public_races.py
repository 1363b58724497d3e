"""Links that are opened or used several times at once, on the real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from accounting.audit.documents import AuditLog
from accounting.audit.rules import AuditAction
from accounting.invoices.documents import Invoice
from accounting.links import public_invoice_url, unsubscribe_url
from accounting.notifications.documents import InvoiceNotification
from accounting.notifications.rules import NotificationType
from accounting.optouts.documents import MailOptout
from api_app import an_api
from builders import a_customer, an_issued_invoice
from fakes import FakePlatform, TestDatabase

AT_ONCE = 12
BROWSER = {"Accept": "text/html", "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Firefox"}
ROOT = "http://accounting.test"


@pytest.fixture
async def api(real_db: TestDatabase, platform: FakePlatform) -> AsyncIterator[httpx.AsyncClient]:
    async with an_api(real_db, platform) as client:
        client.headers.update(BROWSER)
        yield client


@pytest.fixture
async def invoice(real_db: TestDatabase, platform: FakePlatform) -> Invoice:
    return await an_issued_invoice(real_db, platform, a_customer())


async def token_of(invoice: Invoice) -> str:
    [mail] = await InvoiceNotification.find({"invoiceId": invoice.id}).to_list()
    return mail.view_token


async def entries() -> int:
    return await AuditLog.find({"action": AuditAction.INVOICE_SENT_TO_CUSTOMER}).count()


async def test_first_views_at_once_are_one_view_and_everybody_gets_the_page(
    api: httpx.AsyncClient, invoice: Invoice
) -> None:
    url = public_invoice_url(ROOT, await token_of(invoice))

    answers = await asyncio.gather(*(api.get(url) for _ in range(AT_ONCE)))

    assert {answer.status_code for answer in answers} == {200}
    views = {"notificationType": NotificationType.INVOICE_VIEWED}
    assert await InvoiceNotification.find(views).count() == 1
    assert await InvoiceNotification.find({"openedAt": {"$ne": None}}).count() == 2
    assert await entries() == 1


async def test_clicks_at_once_stop_reminders_once(api: httpx.AsyncClient, invoice: Invoice) -> None:
    url = unsubscribe_url(ROOT, await token_of(invoice))

    answers = await asyncio.gather(*(api.post(url) for _ in range(AT_ONCE)))

    assert {answer.status_code for answer in answers} == {200}
    assert await MailOptout.find_all().count() == 1
    assert await entries() == 1


async def test_stopping_and_starting_at_once_leaves_what_the_trail_says(
    api: httpx.AsyncClient, invoice: Invoice
) -> None:
    stop = unsubscribe_url(ROOT, await token_of(invoice))
    start = stop.replace("unsubscribe", "resubscribe")

    answers = await asyncio.gather(*(api.post(url) for url in [stop, start] * (AT_ONCE // 2)))

    assert {answer.status_code for answer in answers} == {200}
    trail = (
        await AuditLog.find({"action": AuditAction.INVOICE_SENT_TO_CUSTOMER}).sort("seq").to_list()
    )
    said = [entry.changes["after"]["remindersWanted"] for entry in trail if entry.changes]
    assert said == [bool(number % 2) for number in range(len(said))]
    assert await MailOptout.find_all().count() == (0 if said[-1] else 1)
