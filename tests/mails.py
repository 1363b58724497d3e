"""E-mails as their readers get them: over the wire, in words, with or without HTML."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from email import message_from_bytes, policy
from email.message import EmailMessage
from html.parser import HTMLParser
from typing import Any, Final

from accounting.notifications.contents import InvoiceFacts, invoice_issued
from accounting.notifications.message import Content, Envelope, Links, Pdf, compose_mail

FACTS: Final = InvoiceFacts(
    invoice_number="2026021101",
    customer_name="Nia Okafor",
    company_name="Okafor Digital",
    total_miners=25,
    unit_price=Decimal("50.00"),
    total_amount=Decimal("1250.00"),
    amount_paid=Decimal("0.00"),
    issued_on=date(2026, 2, 11),
    due_on=date(2026, 3, 13),
    billing_period="2026-02",
)


LINKS: Final = Links("https://pay.example.com/i/1")


def over_the_wire(
    content: Content, *, links: Links = LINKS, pdf: Pdf | None = None, **envelope: Any
) -> EmailMessage:
    """Compose, and read back what would travel."""
    message = message_from_bytes(
        on_the_wire(content, links=links, pdf=pdf, **envelope), policy=policy.default
    )
    assert isinstance(message, EmailMessage)
    return message


def on_the_wire(
    content: Content, *, links: Links = LINKS, pdf: Pdf | None = None, **envelope: Any
) -> bytes:
    """The bytes that travel."""
    facts: dict[str, Any] = {
        "sender": "Accounting <billing@example.com>",
        "to": "nia@example.org",
        "cc": [],
        "message_id": "<1@example.com>",
        "date": datetime(2026, 2, 11, 8, 30, tzinfo=UTC),
    }
    message = compose_mail(content, Envelope(**facts | envelope), links, pdf)
    wire = message.as_bytes(policy=policy.SMTP.clone(cte_type="7bit"))
    wire.decode("ascii")
    return wire


def an_issued_mail(facts: InvoiceFacts = FACTS, **envelope: Any) -> EmailMessage:
    return over_the_wire(invoice_issued(facts), **envelope)


def text_of(message: EmailMessage) -> str:
    part = message.get_body(("plain",))
    assert part is not None
    return str(part.get_content()).replace("\r\n", "\n")


def html_of(message: EmailMessage) -> str:
    part = message.get_body(("html",))
    assert part is not None
    return str(part.get_content())


class Page(HTMLParser):
    """The words, the tags and the links of an HTML body."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.links: list[str | None] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)
        self.links += [value for name, value in attrs if name == "href"]

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def read(html: str) -> Page:
    page = Page()
    page.feed(html)
    page.close()
    return page


def words_of(message: EmailMessage) -> tuple[str, str]:
    """What is to be read in the text and in the HTML, each on one line."""
    bodies = (text_of(message), "".join(read(html_of(message)).words))
    text, html = (" ".join(body.split()) for body in bodies)
    return text, html
