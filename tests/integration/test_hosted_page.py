"""The hosted page in a real browser, as a customer meets it: at a desk and on a phone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Error, Page

from accounting.dev.mail_catcher import MailCatcher
from accounting.dev.processes import Server
from accounting.ids import ObjectId
from accounting.links import public_invoice_url
from browser import DESKTOP, PHONE, running_browser, visit
from pdf_reading import text_of as paper_text_of
from service import Service, running_service, service_environment

COMPANY_FILE = Path(__file__).parents[2] / "docker" / "company" / "company.example.toml"
WAIT_SECONDS_MAX = 20
EVIL_NAME = "Eve <script>alert(1)</script> <img src=x onerror=alert(2)>"
LONG_NAME = "Donaudampfschifffahrtselektrizitaetenhauptbetriebswerkbauunterbeamtengesellschaft"


@pytest.fixture(scope="module")
def service(
    mongod: Server,
    redis_server: Server,
    mail_catcher: MailCatcher,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Service]:
    """A service whose company has everything that a page can show."""
    environment = service_environment(
        mongod, redis_url=redis_server.uri, smtp_url=mail_catcher.uri, database="hosted_page_test"
    )
    environment["ACCOUNTING_COMPANY_FILE"] = str(COMPANY_FILE)
    environment["ACCOUNTING_RATE_LIMIT"] = "100000/second"
    with running_service(environment, tmp_path_factory.mktemp("service")) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as running:
        yield running


def post(service: Service, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = service.api.post(path, headers=service.as_admin(), json=body)
    assert answer.is_success, answer.text
    return dict(answer.json())


def issued(service: Service, customer_id: object = None) -> dict[str, Any]:
    """An invoice of USD 1,248.75."""
    body = {
        "customerId": str(customer_id or service.demo.customer_id),
        "totalMiners": 25,
        "unitPrice": "49.95",
        "billingPeriod": "2026-01",
        "dueDate": "2099-02-11",
    }
    draft = post(service, "/invoices", body)
    return post(service, f"/invoices/{draft['id']}/issue", {})


def pay(service: Service, invoice: dict[str, Any], amount: float) -> None:
    row = {
        "userId": ObjectId(invoice["userId"]),
        "amount": amount,
        "type": "PAYMENT",
        "isDeleted": False,
    }
    money = service.mongo["cost_payments"].insert_one(row).inserted_id
    post(service, f"/invoices/{invoice['id']}/record-payment", {"costPaymentId": str(money)})


def mail_of(service: Service, invoice: dict[str, Any]) -> dict[str, Any]:
    wanted = {"invoiceId": ObjectId(invoice["id"]), "notificationType": "INVOICE_ISSUED"}
    found = service.mongo["invoice_notifications"].find_one(wanted)
    assert found is not None
    return found


def url_of(service: Service, invoice: dict[str, Any]) -> str:
    return public_invoice_url(service.root_url, mail_of(service, invoice)["viewToken"])


def text_of(page: Page) -> str:
    return " ".join(page.locator("body").inner_text().split())


def wait_for(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while time.monotonic() < deadline:
        if result := condition():
            return result
        time.sleep(0.05)
    raise AssertionError("it did not happen in time")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desk", "phone"])
def test_it_can_be_read_everywhere_and_loads_nothing_else(
    service: Service, browser: Browser, size: dict[str, int], scheme: str
) -> None:
    invoice = issued(service)
    pay(service, invoice, 748.75)
    url = url_of(service, invoice)

    with visit(browser, url, size=size, scheme=scheme) as visited:
        text = text_of(visited.page)
        button = visited.page.get_by_role("link", name="Download PDF").bounding_box()
        logo = visited.page.locator("img").evaluate("picture => picture.naturalWidth")

        assert f"Invoice {invoice['invoiceNumber']} ISSUED" in text
        assert "Balance due USD 500.00 Due by 11 February 2099" in text
        assert "USD 748.75 of USD 1,248.75 is paid" in text
        assert "IBAN: GB33 BUKB 2020 1555 5555 55" in text
        assert ("25 \N{MULTIPLICATION SIGN} USD 49.95" in text) == (size is PHONE)
        assert ("Quantity Unit price" in text) == (size is DESKTOP)
        assert "Payments" in text
        assert not visited.is_too_wide()
        assert button is not None
        assert button["y"] + button["height"] <= size["height"], "it is below the first screen"
        assert logo > 0
        assert (visited.background() > 200) == (scheme == "light")
        assert [address for address in visited.requests if not address.startswith("data:")] == [url]
        assert visited.complaints == []


def test_the_pdf_that_is_downloaded_has_the_amounts_of_the_issue(
    service: Service, browser: Browser, tmp_path: Path
) -> None:
    invoice = issued(service)
    pay(service, invoice, 1248.75)

    with visit(browser, url_of(service, invoice)) as visited:
        assert "PAID Balance due USD 0.00 Paid in full" in text_of(visited.page)
        with visited.page.expect_download() as started:
            visited.page.get_by_role("link", name="Download PDF").click()
        download = started.value
        download.save_as(tmp_path / "downloaded.pdf")
        assert visited.complaints == []

    content = (tmp_path / "downloaded.pdf").read_bytes()
    url = f"/invoices/{invoice['id']}/download"
    assert download.suggested_filename == f"invoice-{invoice['invoiceNumber']}.pdf"
    assert content == service.api.get(url, headers=service.as_customer()).content
    text = paper_text_of(content)
    for words in (
        "Miner hosting January 2026 25 USD 49.95 USD 1,248.75",
        "Total USD 1,248.75 Amount paid USD 0.00 Balance due USD 1,248.75",
        "BIC: BUKBGB22",
    ):
        assert words in text


def test_the_worker_has_made_the_pdf_before_anybody_asks(service: Service) -> None:
    invoice = issued(service)

    wanted = {"metadata.invoiceId": ObjectId(invoice["id"])}
    stored = wait_for(lambda: service.mongo["invoice_pdfs.files"].find_one(wanted))

    url = f"/invoices/{invoice['id']}/download"
    answer = service.api.get(url, headers=service.as_admin())
    assert answer.headers["etag"] == f'"{stored["metadata"]["sha256"]}"'
    assert service.mongo["invoice_pdfs.files"].count_documents(wanted) == 1


def test_the_first_look_of_a_person_is_noted(service: Service, browser: Browser) -> None:
    invoice = issued(service)
    url = url_of(service, invoice)

    with visit(browser, url, user_agent=None):  # says that it is headless, as scanners are
        assert mail_of(service, invoice)["openedAt"] is None
    with visit(browser, url) as visited:
        first = mail_of(service, invoice)["openedAt"]
        visited.page.reload()

    assert first is not None
    assert mail_of(service, invoice)["openedAt"] == first
    shown = service.api.get(f"/invoices/{invoice['id']}", headers=service.as_admin()).json()
    kinds = [row["notificationType"] for row in shown["notifications"]]
    assert kinds == ["INVOICE_ISSUED", "INVOICE_VIEWED"]


def test_names_are_text_and_long_ones_break(service: Service, browser: Browser) -> None:
    user = {"name": EVIL_NAME, "companyName": LONG_NAME, "email": "eve@example.com"}
    customer_id = service.mongo["users"].insert_one({**user, "role": "CLIENT"}).inserted_id
    invoice = issued(service, customer_id)

    with visit(browser, url_of(service, invoice), size=PHONE) as visited:
        assert EVIL_NAME in text_of(visited.page)
        assert LONG_NAME in text_of(visited.page)
        assert not visited.is_too_wide()
        assert visited.page.locator("script").count() == 0
        assert visited.complaints == []
        # Even markup that found its way into the page could do nothing.
        with pytest.raises(Error, match="Content Security Policy"):
            visited.page.add_script_tag(content="document.title = 'changed'")
        assert visited.page.title().startswith("Invoice")


def test_reminders_are_stopped_and_started_again_with_a_click(
    service: Service, browser: Browser
) -> None:
    user = {"name": "Nia", "email": f"{ObjectId()}@example.com", "role": "CLIENT"}
    customer_id = service.mongo["users"].insert_one(user).inserted_id
    invoice = issued(service, customer_id)
    optouts = service.mongo["mail_optouts"]

    with visit(browser, url_of(service, invoice), size=PHONE) as visited:
        page = visited.page
        page.get_by_role("link", name="Reminder e-mails").click()
        assert optouts.find_one({"_id": customer_id}) is None
        page.get_by_role("button", name="Stop reminders").click()
        assert "You will get no more reminders" in text_of(page)
        assert optouts.find_one({"_id": customer_id}) is not None
        page.get_by_role("button", name="Send me reminders again").click()
        assert "Reminders are on again" in text_of(page)
        assert optouts.find_one({"_id": customer_id}) is None
        page.get_by_role("link", name="Back to invoice").click()
        assert "Balance due" in text_of(page)
        assert not visited.is_too_wide()
        assert visited.complaints == []


def test_what_is_printed_has_no_buttons(service: Service, browser: Browser) -> None:
    invoice = issued(service)

    with visit(browser, url_of(service, invoice)) as visited:
        visited.page.emulate_media(media="print")

        assert not visited.page.get_by_text("Download PDF").is_visible()
        assert not visited.page.get_by_text("Reminder e-mails").is_visible()
        assert "Balance due USD 1,248.75" in text_of(visited.page)


def test_a_link_that_leads_nowhere_says_so(service: Service, browser: Browser) -> None:
    url = public_invoice_url(service.root_url, "x" * 43)

    with visit(browser, url, size=PHONE) as visited:
        assert "This link does not lead anywhere" in text_of(visited.page)
        assert "Northern Hosting Ltd" in text_of(visited.page)
        assert not visited.is_too_wide()
