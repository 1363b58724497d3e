"""A conversation by SMTP lands in the list."""

from __future__ import annotations

import json
import smtplib
import urllib.request
from collections.abc import Iterator
from email.message import EmailMessage
from http.client import HTTPMessage
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit

import pytest

from accounting.dev.mail_catcher import MailCatcher, start_mail_catcher
from accounting.dev.processes import ChildDied


@pytest.fixture(scope="module")
def catcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MailCatcher]:
    with start_mail_catcher(tmp_path_factory.mktemp("mail")) as started:
        yield started


def an_invoice_mail(subject: str) -> EmailMessage:
    mail = EmailMessage()
    mail["From"] = "Accounting <accounting@example.com>"
    mail["To"] = "田中 太郎 <tanaka@example.com>"
    mail["Subject"] = subject
    mail.set_content("Please pay 500.00 USD.")
    mail.add_alternative("<p>Please pay <b>500.00 USD</b>.</p>", subtype="html")
    mail.add_attachment(b"%PDF-", maintype="application", subtype="pdf", filename="invoice.pdf")
    return mail


def send(catcher: MailCatcher, mail: EmailMessage) -> None:
    address = urlsplit(catcher.uri)
    assert address.hostname is not None
    assert address.port is not None
    with smtplib.SMTP(address.hostname, address.port, timeout=10) as smtp:
        smtp.send_message(mail)


def get(catcher: MailCatcher, path: str) -> tuple[str, HTTPMessage]:
    with urllib.request.urlopen(f"{catcher.list_url}{path}", timeout=10) as response:
        return response.read().decode(), response.headers


def get_json(catcher: MailCatcher, path: str) -> Any:
    return json.loads(get(catcher, path)[0])


def test_sent_mail_is_first_in_the_list(catcher: MailCatcher) -> None:
    send(catcher, an_invoice_mail("Invoice 2026011201"))
    send(catcher, an_invoice_mail("Invoice 2026011202 — überfällig"))

    first, second, *_ = get_json(catcher, "mails")

    assert first["subject"] == "Invoice 2026011202 — überfällig"
    assert second["subject"] == "Invoice 2026011201"
    assert first["from"] == "Accounting <accounting@example.com>"
    assert first["to"] == "田中 太郎 <tanaka@example.com>"
    assert first["receivedAt"] >= second["receivedAt"]
    assert first["receivedAt"].endswith("Z")


def test_single_mail_has_bodies_and_attachment_names(catcher: MailCatcher) -> None:
    send(catcher, an_invoice_mail("Invoice"))
    mail_id = get_json(catcher, "mails")[0]["id"]

    mail = get_json(catcher, f"mails/{mail_id}")

    assert mail["text"] == "Please pay 500.00 USD.\n"
    assert mail["html"] == "<p>Please pay <b>500.00 USD</b>.</p>\n"
    assert mail["attachments"] == ["invoice.pdf"]
    assert mail["recipients"] == ["tanaka@example.com"]
    assert mail["headers"]["Subject"] == "Invoice"


def test_html_body_is_shown_without_scripts(catcher: MailCatcher) -> None:
    send(catcher, an_invoice_mail("Invoice"))
    mail_id = get_json(catcher, "mails")[0]["id"]

    page, headers = get(catcher, f"mails/{mail_id}/html")

    assert page == "<p>Please pay <b>500.00 USD</b>.</p>\n"
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "sandbox" in policy
    assert "script" not in policy


def test_text_only_mail_is_shown_escaped(catcher: MailCatcher) -> None:
    mail = EmailMessage()
    mail["To"] = "ada@example.com"
    mail["From"] = "accounting@example.com"
    mail.set_content("5 < 6 <script>")
    send(catcher, mail)
    mail_id = get_json(catcher, "mails")[0]["id"]

    assert "5 &lt; 6 &lt;script&gt;" in get(catcher, f"mails/{mail_id}/html")[0]
    assert get_json(catcher, f"mails/{mail_id}")["html"] is None


def test_raw_mail_keeps_the_envelope_and_what_was_sent(catcher: MailCatcher) -> None:
    mail = an_invoice_mail("Invoice")
    mail["Bcc"] = "books@example.com"
    send(catcher, mail)
    mail_id = get_json(catcher, "mails")[0]["id"]

    raw, headers = get(catcher, f"mails/{mail_id}/raw")

    assert raw.startswith("X-MailFrom: accounting@example.com\r\n")
    assert "X-RcptTo: tanaka@example.com, books@example.com\r\n" in raw
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_page_escapes_what_a_sender_wrote(catcher: MailCatcher) -> None:
    send(catcher, an_invoice_mail("<script>alert(1)</script>"))

    page, headers = get(catcher, "")

    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<script" not in page
    assert headers["Content-Type"] == "text/html; charset=utf-8"


@pytest.mark.parametrize(
    "path", ["mails/20260112T101112123-000001", "mails/..%2F..%2Fsecret", "mails/../jwt", "other"]
)
def test_unknown_mail_is_not_found(catcher: MailCatcher, path: str) -> None:
    with pytest.raises(HTTPError, match="404") as refusal:
        get(catcher, path)
    refusal.value.close()


def test_port_of_another_catcher_is_refused(catcher: MailCatcher, tmp_path: Path) -> None:
    address = urlsplit(catcher.uri)

    with pytest.raises(ChildDied, match="address already in use"):
        start_mail_catcher(tmp_path, smtp_port=address.port)


def test_mails_survive_a_restart(tmp_path: Path) -> None:
    with start_mail_catcher(tmp_path) as first:
        send(first, an_invoice_mail("before"))

    with start_mail_catcher(tmp_path) as second:
        send(second, an_invoice_mail("after"))

        assert [mail["subject"] for mail in get_json(second, "mails")] == ["after", "before"]
    assert len(list((tmp_path / "mails").glob("*.eml"))) == 2
    assert not list((tmp_path / "mails").glob(".*"))
