"""The hosted page of an invoice: what it says, to whom, and what is noted of it."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from datetime import date
from decimal import Decimal
from typing import Any

import httpx
import pytest

from accounting.actor import Role
from accounting.audit.rules import AuditAction, EntityType
from accounting.audit.service import history
from accounting.ids import ObjectId
from accounting.invoices.documents import Invoice
from accounting.invoices.drafts import delete_invoice
from accounting.invoices.papers import InvoicePdfChunk
from accounting.invoices.service import cancel_invoice
from accounting.invoices.settlement import record_payment, refund_invoice
from accounting.links import public_invoice_url
from accounting.notifications.documents import InvoiceNotification
from accounting.notifications.rules import NotificationStatus, NotificationType
from accounting.printing.company import Company
from api_app import a_token, an_api
from builders import ADMIN, a_cost_payment, a_customer, an_issued_invoice
from fakes import FakePlatform, SettableClock, TestDatabase
from page_reading import Page, directives, style_hashes
from pictures import a_svg

COMPANY = Company(
    name="Northern Hosting Ltd",
    address=("14 Harbour Street", "Belfast BT1 4NX"),
    tax_id="GB 123 4567 89",
    email="billing@example.com",
    logo=a_svg().decode(),
    payment_instructions=("IBAN: GB33 BUKB 2020", "BIC: BUKBGB22"),
)
BROWSER = {
    "Accept": "text/html,application/xhtml+xml,*/*;q=0.8",
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0",
}


@pytest.fixture
async def api(db: TestDatabase, platform: FakePlatform) -> AsyncIterator[httpx.AsyncClient]:
    """Whoever has the link: no token, and a browser."""
    async with an_api(db, platform, company=COMPANY) as client:
        client.headers.update(BROWSER)
        yield client


async def mail_of(invoice: Invoice) -> InvoiceNotification:
    wanted = {"invoiceId": invoice.id, "notificationType": NotificationType.INVOICE_ISSUED}
    mail = await InvoiceNotification.find_one(wanted)
    assert mail is not None
    return mail


async def url_of(invoice: Invoice) -> str:
    return public_invoice_url("http://accounting.test", (await mail_of(invoice)).view_token)


async def page_of(api: httpx.AsyncClient, invoice: Invoice) -> Page:
    answer = await api.get(await url_of(invoice))
    assert answer.status_code == 200
    return Page(answer.text)


async def pay(db: TestDatabase, platform: FakePlatform, invoice: Invoice, amount: str) -> None:
    customer = platform.users[invoice.user_id]
    money = platform.add_cost_payment(a_cost_payment(customer, amount))
    await db.run(ADMIN, record_payment, platform, ObjectId(invoice.id), money.id)


async def test_it_says_who_bills_whom_for_what_until_when_and_how_to_pay(
    api: httpx.AsyncClient, db: TestDatabase, platform: FakePlatform
) -> None:
    invoice = await an_issued_invoice(
        db,
        platform,
        a_customer(),
        total_miners=25,
        unit_price=Decimal("49.95"),
        billing_period="2026-01",
    )

    text = (await page_of(api, invoice)).text

    for words in (
        "Northern Hosting Ltd 14 Harbour Street Belfast BT1 4NX Tax ID GB 123 4567 89",
        "Invoice 2026011201 ISSUED",
        "Balance due USD 1,248.75 Due by 11 February 2026 Download PDF",
        "How to pay IBAN: GB33 BUKB 2020 BIC: BUKBGB22",
        "Please quote invoice 2026011201 with your payment.",
        "Billed to Northern Hash Ltd Ada Holm ada@example.com",
        "Invoice date 12 January 2026 Due date 11 February 2026 Billing period January 2026",
        "Miner hosting January 2026 25 \N{MULTIPLICATION SIGN} USD 49.95 25 USD 49.95 USD 1,248.75",
        "Total USD 1,248.75 Amount paid USD 0.00 Balance due USD 1,248.75",
        "As of 12 January 2026, 09:30 UTC.",
    ):
        assert words in text
    assert "Payments" not in text


async def test_payments_show_with_their_dates_and_what_is_left(
    api: httpx.AsyncClient, db: TestDatabase, platform: FakePlatform, clock: SettableClock
) -> None:
    invoice = await an_issued_invoice(db, platform, a_customer())
    await pay(db, platform, invoice, "120.50")
    clock.move(days=3)
    await pay(db, platform, invoice, "79.50")

    text = (await page_of(api, invoice)).text

    assert "Balance due USD 300.00 Due by 11 February 2026 USD 200.00 of USD 500.00 is paid" in text
    assert "Payments Date Amount 12 January 2026 USD 120.50 15 January 2026 USD 79.50" in text
    assert "Amount paid \N{MINUS SIGN} USD 200.00" in text
    assert "How to pay" in text


async def test_a_paid_one_asks_for_nothing(
    api: httpx.AsyncClient, db: TestDatabase, platform: FakePlatform
) -> None:
    invoice = await an_issued_invoice(db, platform, a_customer())
    await pay(db, platform, invoice, "500.00")

    text = (await page_of(api, invoice)).text

    assert "PAID Balance due USD 0.00 Paid in full Download PDF" in text
    assert "How to pay" not in text
    assert "IBAN" not in text


@pytest.mark.parametrize(
    ("days", "status", "note"),
    [(30, "ISSUED", "Due by 11 February 2026"), (31, "OVERDUE", "Was due by 11 February 2026")],
)
async def test_it_is_overdue_from_the_day_after_the_last_one(
    api: httpx.AsyncClient,
    db: TestDatabase,
    platform: FakePlatform,
    clock: SettableClock,
    days: int,
    status: str,
    note: str,
) -> None:
    invoice = await an_issued_invoice(db, platform, a_customer())
    clock.move(days=days)

    text = (await page_of(api, invoice)).text

    assert f"{status} Balance due USD 500.00 {note}" in text


async def test_a_cancelled_one_says_so_and_why(
    api: httpx.AsyncClient, db: TestDatabase, platform: FakePlatform
) -> None:
    invoice = await an_issued_invoice(db, platform, a_customer())
    await db.run(ADMIN, cancel_invoice, ObjectId(invoice.id), "Wrong number of miners.")

    text = (await page_of(api, invoice)).text

    assert "CANCELLED Balance due USD 0.00 Cancelled: nothing to pay" in text
    assert "Cancelled on 12 January 2026 Wrong number of miners." in text
    assert "How to pay" not in text


async def test_a_refunded_one_shows_what_went_back(
    api: httpx.AsyncClient, db: TestDatabase, platform: FakePlatform, clock: SettableClock
) -> None:
    invoice = await an_issued_invoice(db, platform, a_customer())
    await pay(db, platform, invoice, "500.00")
    clock.move(days=1)
    await db.run(ADMIN, refund_invoice, ObjectId(invoice.id), "Paid twice.")

    text = (await page_of(api, invoice)).text

    assert "REFUNDED Balance due USD 0.00 Refunded: nothing to pay" in text
    assert "Refunded on 13 January 2026 Paid twice." in text
    assert "12 January 2026 Refunded on 13 January 2026 USD 500.00" in text


async def test_the_pdf_beside_it_is_the_one_that_was_issued(
    api: httpx.AsyncClient, db: TestDatabase, platform: FakePlatform
) -> None:
    platform.add_user(a_customer(id=ADMIN.user_id, role=Role.ADMIN))
    invoice = await an_issued_invoice(db, platform, a_customer())
    await pay(db, platform, invoice, "500.00")
    page, url = await page_of(api, invoice), await url_of(invoice)

    [relative] = [address for address in page.addresses.values() if address.endswith(".pdf")]
    pdf = await api.get(str(httpx.URL(url).join(relative)))
    as_admin = {"Authorization": f"Bearer {a_token(ADMIN.user_id)}"}
    downloaded = await api.get(f"/invoices/{invoice.id}/download", headers=as_admin)

    assert pdf.status_code == 200
    assert pdf.content == downloaded.content
    assert pdf.headers["content-disposition"] == 'attachment; filename="invoice-2026011201.pdf"'
    assert pdf.headers["x-robots-tag"] == "noindex, nofollow"
    known = await api.get(f"{url}.pdf", headers={"If-None-Match": pdf.headers["etag"]})
    assert known.status_code == 304


EVIL = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</style><style>*{display:none}",
    "' onmouseover='alert(1)",
    "{{ 7 * 7 }} & javascript:alert(1)",
]


@pytest.mark.parametrize("evil", EVIL)
async def test_markup_in_names_reasons_and_company_is_text(
    db: TestDatabase, platform: FakePlatform, evil: str
) -> None:
    customer = a_customer(name=evil, company_name=evil, email=evil)
    invoice = await an_issued_invoice(db, platform, customer)
    await db.run(ADMIN, cancel_invoice, ObjectId(invoice.id), evil)
    company = Company(name=evil, address=(evil,), tax_id=evil, email=evil, logo=evil)
    plain = await an_issued_invoice(db, platform, a_customer())
    await db.run(ADMIN, cancel_invoice, ObjectId(plain.id), "why")
    async with an_api(db, platform, company=company) as api:
        page = await page_of(api, invoice)
    plainly_named = Company(name="N", address=("a",), tax_id="t", email="e", logo=a_svg().decode())
    async with an_api(db, platform, company=plainly_named) as api:
        harmless = await page_of(api, plain)

    assert page.text.count(" ".join(evil.split())) >= 7
    assert page.tags == harmless.tags
    assert page.attributes == harmless.attributes
    assert not {name for name in page.attributes if name.startswith("on")}


async def test_payment_instructions_are_text_too(db: TestDatabase, platform: FakePlatform) -> None:
    company = Company(name="N", payment_instructions=tuple(EVIL))
    invoice = await an_issued_invoice(db, platform, a_customer())
    async with an_api(db, platform, company=company) as api:
        page = await page_of(api, invoice)

    assert all(evil in page.text for evil in EVIL)
    assert not {"script", "img"} & set(page.tags)


async def test_it_needs_nothing_from_elsewhere_and_may_load_nothing(
    api: httpx.AsyncClient, db: TestDatabase, platform: FakePlatform
) -> None:
    invoice = await an_issued_invoice(db, platform, a_customer())

    answer = await api.get(await url_of(invoice))

    page, policy = Page(answer.text), directives(answer.headers["content-security-policy"])
    assert policy == {
        "default-src": "'none'",
        "style-src": style_hashes(answer.text)[0],
        "img-src": "data:",
        "form-action": "'self'",
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
    }
    assert len(style_hashes(answer.text)) == 1
    assert "script" not in page.tags
    assert "style" not in page.attributes
    assert not any("//" in address for address in page.addresses.values())
    assert any(
        address.startswith("data:image/svg+xml;base64,") for address in page.addresses.values()
    )


async def test_it_is_neither_kept_nor_listed_nor_passed_on(
    api: httpx.AsyncClient, db: TestDatabase, platform: FakePlatform
) -> None:
    invoice = await an_issued_invoice(db, platform, a_customer())

    answer = await api.get(await url_of(invoice))

    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-robots-tag"] == "noindex, nofollow"
    assert '<meta name="robots" content="noindex, nofollow">' in answer.text


@pytest.mark.parametrize("suffix", ["", ".pdf"])
@pytest.mark.parametrize("token", ["x" * 43, "short", "%00" * 40, "a" * 5_000, "%F0%9F%92%A9" * 40])
async def test_an_unknown_link_is_a_friendly_page_without_a_hint(
    api: httpx.AsyncClient, token: str, suffix: str
) -> None:
    answer = await api.get(f"/public/invoices/{token}{suffix}")

    page = Page(answer.text)
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["x-robots-tag"] == "noindex, nofollow"
    assert "This link does not lead anywhere" in page.text
    assert "Northern Hosting Ltd" in page.text
    assert token not in answer.text


async def test_an_error_of_ours_is_a_page_and_the_log_does_not_hold_the_key(
    api: httpx.AsyncClient,
    db: TestDatabase,
    platform: FakePlatform,
    caplog: pytest.LogCaptureFixture,
) -> None:
    invoice = await an_issued_invoice(db, platform, a_customer())
    url = await url_of(invoice)
    await api.get(f"{url}.pdf")
    chunks = InvoicePdfChunk.get_motor_collection()
    await chunks.update_one({}, {"$set": {"data": b"%PDF-1.7 of somebody else"}})

    caplog.clear()  # of what the test's own client may have logged about its requests
    with caplog.at_level(logging.ERROR):
        answer = await api.get(f"{url}.pdf")

    assert answer.status_code == 500
    assert "Something went wrong on our side" in Page(answer.text).text
    assert "(invoice-2026011201.pdf) is damaged" in caplog.text
    assert (await mail_of(invoice)).view_token not in caplog.text


async def test_the_link_to_a_deleted_invoice_is_unknown_again(
    api: httpx.AsyncClient, db: TestDatabase, platform: FakePlatform
) -> None:
    invoice = await an_issued_invoice(db, platform, a_customer())
    url = await url_of(invoice)
    await db.run(ADMIN, cancel_invoice, ObjectId(invoice.id), "why")
    await db.run(ADMIN, delete_invoice, ObjectId(invoice.id))

    assert [(await api.get(url)).status_code, (await api.get(f"{url}.pdf")).status_code] == [
        404
    ] * 2


async def test_a_draft_is_not_shown_even_with_a_link(
    api: httpx.AsyncClient, db: TestDatabase, platform: FakePlatform
) -> None:
    invoice = await an_issued_invoice(db, platform, a_customer())
    url = await url_of(invoice)
    await Invoice.get_motor_collection().update_one({}, {"$set": {"status": "DRAFT"}})

    assert (await api.get(url)).status_code == 404


async def test_the_first_view_is_noted_once(
    api: httpx.AsyncClient, db: TestDatabase, platform: FakePlatform, clock: SettableClock
) -> None:
    invoice = await an_issued_invoice(db, platform, a_customer())
    clock.move(hours=2)
    seen_at = clock.now

    await page_of(api, invoice)
    clock.move(hours=1)
    await page_of(api, invoice)

    mail = await mail_of(invoice)
    assert (mail.is_read, mail.opened_at, mail.status) == (
        True,
        seen_at,
        NotificationStatus.PENDING,
    )
    views = {"notificationType": NotificationType.INVOICE_VIEWED}
    [view] = await InvoiceNotification.find(views).to_list()
    assert (view.invoice_id, view.sent_to, view.status) == (
        invoice.id,
        "ada@example.com",
        NotificationStatus.SENT,
    )
    assert (view.is_read, view.opened_at, view.sent_at) == (True, seen_at, seen_at)
    assert view.dedupe_key == f"INVOICE_VIEWED:{mail.id}"


async def test_the_first_view_leaves_an_entry_of_the_customer(
    api: httpx.AsyncClient, db: TestDatabase, platform: FakePlatform
) -> None:
    invoice = await an_issued_invoice(db, platform, a_customer())
    mail = await mail_of(invoice)

    await api.get(await url_of(invoice), headers={"X-Request-Id": "walk-1"})

    entry = (await history(EntityType.INVOICE, ObjectId(invoice.id)))[-1]
    assert (entry.action, entry.user_id) == (
        AuditAction.INVOICE_SENT_TO_CUSTOMER,
        invoice.user_id,
    )
    assert entry.description == (
        "Invoice 2026011201: first opened with the link in INVOICE_ISSUED sent to ada@example.com"
    )
    assert (entry.request_id, entry.user_agent) == ("walk-1", BROWSER["User-Agent"])
    assert entry.changes == {
        "before": {"isRead": False, "openedAt": None},
        "after": {
            "isRead": True,
            "openedAt": "2026-01-12T09:30:00.000Z",
            "notificationId": str(mail.id),
        },
    }
    assert mail.view_token not in str(entry)


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("HEAD", {}),
        ("GET", {"Sec-Purpose": "prefetch"}),
        ("GET", {"X-Moz": "prefetch"}),
        ("GET", {"Accept": "*/*"}),
        ("GET", {"Sec-Fetch-Mode": "no-cors"}),
        ("GET", {"User-Agent": "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)"}),
    ],
)
async def test_scanners_get_the_page_and_are_no_view(
    api: httpx.AsyncClient,
    db: TestDatabase,
    platform: FakePlatform,
    method: str,
    headers: dict[str, str],
) -> None:
    invoice = await an_issued_invoice(db, platform, a_customer())

    answer = await api.request(method, await url_of(invoice), headers=headers)

    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert (await mail_of(invoice)).opened_at is None
    assert await InvoiceNotification.find_all().count() == 1
    await page_of(api, invoice)
    assert (await mail_of(invoice)).opened_at is not None


async def test_the_pdf_alone_is_no_view(
    api: httpx.AsyncClient, db: TestDatabase, platform: FakePlatform
) -> None:
    invoice = await an_issued_invoice(db, platform, a_customer())

    await api.get(f"{await url_of(invoice)}.pdf")

    assert (await mail_of(invoice)).opened_at is None


async def test_each_link_has_a_first_view_of_its_own(
    api: httpx.AsyncClient, db: TestDatabase, platform: FakePlatform
) -> None:
    first = await an_issued_invoice(db, platform, a_customer())
    second = await an_issued_invoice(db, platform, a_customer(), due_date=date(2026, 3, 1))

    for invoice in (first, second):
        await page_of(api, invoice)

    views: dict[str, Any] = {"notificationType": NotificationType.INVOICE_VIEWED}
    seen = await InvoiceNotification.find(views).to_list()
    assert {view.invoice_id for view in seen} == {first.id, second.id}
