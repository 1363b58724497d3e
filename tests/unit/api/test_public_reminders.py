"""Stopping reminders with the link of an e-mail, by the page and by a mail program."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from accounting.actor import Role
from accounting.audit.documents import AuditLog
from accounting.audit.rules import AuditAction
from accounting.invoices.documents import Invoice
from accounting.links import unsubscribe_url
from accounting.notifications.documents import InvoiceNotification
from accounting.optouts.documents import MailOptout
from accounting.optouts.service import find_opted_out, is_opted_out
from accounting.printing.company import Company
from api_app import a_token, an_api
from builders import NOW, a_customer, an_issued_invoice
from fakes import FakePlatform, SettableClock, TestDatabase
from page_reading import Page

OFF = "You will get no more reminders"
ON_AGAIN = "Reminders are on again"


@pytest.fixture
async def api(db: TestDatabase, platform: FakePlatform) -> AsyncIterator[httpx.AsyncClient]:
    async with an_api(db, platform, company=Company(name="Northern Hosting Ltd")) as client:
        yield client


@pytest.fixture
async def invoice(db: TestDatabase, platform: FakePlatform) -> Invoice:
    return await an_issued_invoice(db, platform, a_customer())


async def url_of(invoice: Invoice) -> str:
    [mail] = await InvoiceNotification.find({"invoiceId": invoice.id}).to_list()
    return unsubscribe_url("http://accounting.test", mail.view_token)


async def entries() -> list[AuditLog]:
    return await AuditLog.find({"action": AuditAction.INVOICE_SENT_TO_CUSTOMER}).to_list()


def where(page: Page, kind: str, url: str) -> str:
    """The absolute address that a link or form of the page leads to."""
    [relative] = [value for name, value in page.addresses.items() if name.startswith(kind)]
    return str(httpx.URL(url).join(relative))


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_looking_at_the_page_changes_nothing(
    api: httpx.AsyncClient, invoice: Invoice, method: str
) -> None:
    answer = await api.request(method, await url_of(invoice))

    assert answer.status_code == 200
    assert ("Stop reminders" in answer.text) == (method == "GET")
    assert not await is_opted_out(invoice.user_id)
    assert await entries() == []


async def test_the_button_of_the_page_stops_them_and_the_next_one_starts_them_again(
    api: httpx.AsyncClient, invoice: Invoice
) -> None:
    url = await url_of(invoice)
    page = Page((await api.get(url)).text)

    stopped = await api.post(where(page, "form action", url))
    assert await is_opted_out(invoice.user_id)
    after = Page(stopped.text)
    started = await api.post(where(after, "form action", url))

    assert (stopped.status_code, started.status_code) == (200, 200)
    assert OFF in after.text
    assert ON_AGAIN in Page(started.text).text
    assert not await is_opted_out(invoice.user_id)
    assert where(after, "a href", url) == url.replace("unsubscribe", "invoices")


@pytest.mark.parametrize(
    "body",
    [
        {"data": {"List-Unsubscribe": "One-Click"}},
        {"files": {"List-Unsubscribe": (None, "One-Click")}},
        {"content": b"", "headers": {"Content-Type": "application/x-www-form-urlencoded"}},
        {"content": b"\xff\x00garbage", "headers": {"Content-Type": "multipart/form-data"}},
        {},
    ],
)
async def test_a_mail_program_unsubscribes_with_one_click(
    api: httpx.AsyncClient, invoice: Invoice, body: dict[str, Any]
) -> None:
    answer = await api.post(await url_of(invoice), **body)

    assert answer.status_code == 200
    assert OFF in Page(answer.text).text
    assert await is_opted_out(invoice.user_id)


async def test_a_cookie_of_the_platform_and_a_strange_origin_do_not_get_in_the_way(
    api: httpx.AsyncClient, platform: FakePlatform, invoice: Invoice
) -> None:
    admin = platform.add_user(a_customer(role=Role.ADMIN))
    cookie = {"Cookie": f"token={a_token(admin.id)}", "Origin": "https://mail.example.com"}

    answer = await api.post(
        await url_of(invoice), data={"List-Unsubscribe": "One-Click"}, headers=cookie
    )

    assert answer.status_code == 200
    assert await is_opted_out(invoice.user_id)


async def test_what_is_stored_is_who_when_and_by_which_e_mail(
    api: httpx.AsyncClient, invoice: Invoice
) -> None:
    [mail] = await InvoiceNotification.find_all().to_list()

    await api.post(await url_of(invoice))

    [optout] = await MailOptout.find_all().to_list()
    assert (optout.id, optout.notification_id) == (invoice.user_id, mail.id)
    assert (optout.sent_to, optout.created_at) == ("ada@example.com", NOW)


async def test_stopping_twice_is_one_entry_and_so_is_starting(
    api: httpx.AsyncClient, invoice: Invoice, clock: SettableClock
) -> None:
    url = await url_of(invoice)
    for address in [url, url, *[url.replace("unsubscribe", "resubscribe")] * 2]:
        assert (await api.post(address, headers={"X-Request-Id": "walk-1"})).status_code == 200
        clock.move(minutes=1)

    stopped, started = await entries()
    assert stopped.description == (
        "Invoice 2026011201: reminders to its customer stopped with the link sent to "
        "ada@example.com"
    )
    assert started.description.endswith("started again with the link sent to ada@example.com")
    assert {entry.user_id for entry in (stopped, started)} == {invoice.user_id}
    assert {entry.entity_id for entry in (stopped, started)} == {invoice.id}
    assert {entry.request_id for entry in (stopped, started)} == {"walk-1"}
    assert stopped.changes is not None
    assert stopped.changes["before"] == {"remindersWanted": True}
    assert stopped.changes["after"]["remindersWanted"] is False


async def test_a_page_of_an_opted_out_customer_says_so(
    api: httpx.AsyncClient, db: TestDatabase, platform: FakePlatform, invoice: Invoice
) -> None:
    """Also by the link of another invoice: it is the customer who wants none."""
    await api.post(await url_of(invoice))
    other = await an_issued_invoice(db, platform, platform.users[invoice.user_id])

    text = Page((await api.get(await url_of(other))).text).text

    assert "Reminders are off" in text
    assert "Send me reminders again" in text


async def test_only_this_customer_is_left_alone(
    api: httpx.AsyncClient, db: TestDatabase, platform: FakePlatform, invoice: Invoice
) -> None:
    other = await an_issued_invoice(db, platform, a_customer())

    await api.post(await url_of(invoice))

    assert await find_opted_out([invoice.user_id, other.user_id]) == {invoice.user_id}


@pytest.mark.parametrize("path", ["unsubscribe", "resubscribe"])
async def test_an_unknown_link_stops_nothing(api: httpx.AsyncClient, path: str) -> None:
    answer = await api.post(f"/public/{path}/{'x' * 43}", data={"List-Unsubscribe": "One-Click"})

    assert answer.status_code == 404
    assert "This link does not lead anywhere" in Page(answer.text).text
    assert await MailOptout.find_all().count() == 0


async def test_its_headers_are_those_of_the_invoice_page(
    api: httpx.AsyncClient, invoice: Invoice
) -> None:
    answer = await api.get(await url_of(invoice))

    assert answer.headers["x-robots-tag"] == "noindex, nofollow"
    assert answer.headers["cache-control"] == "no-store"
    assert "form-action 'self'" in answer.headers["content-security-policy"]
    assert "default-src 'none'" in answer.headers["content-security-policy"]
