"""What the e-mail about an issued invoice says, and whom it refuses to address."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from accounting.errors import Invalid
from accounting.notifications.contents import invoice_issued
from accounting.notifications.message import (
    ADDRESS_LENGTH_MAX,
    Links,
    Pdf,
    UndeliverableAddress,
    parse_mailbox,
)
from mails import FACTS, LINKS, html_of, on_the_wire, over_the_wire, read, text_of
from mails import an_issued_mail as compose


def usd(amount: Decimal) -> str:
    return f"USD {amount:,}"


def test_headers_say_who_writes_to_whom_and_that_a_machine_did() -> None:
    message = compose(cc=["books@example.com", "Second <second@example.com>"])

    assert message["From"] == "Accounting <billing@example.com>"
    assert message["To"] == "nia@example.org"
    assert [a.addr_spec for a in message["Cc"].addresses] == [
        "books@example.com",
        "second@example.com",
    ]
    assert message["Message-ID"] == "<1@example.com>"
    assert message["Date"].datetime == datetime(2026, 2, 11, 8, 30, tzinfo=UTC)
    assert message["Auto-Submitted"] == "auto-generated"
    assert (
        message["Subject"] == f"Invoice 2026021101: {usd(FACTS.total_amount)} due by 13 March 2026"
    )


def test_without_cc_there_is_no_cc_header() -> None:
    assert compose()["Cc"] is None


def test_both_bodies_tell_the_same_facts() -> None:
    message = compose()
    facts = [
        "Dear Nia Okafor,",
        "2026021101",
        "Okafor Digital",
        f"Hosting of {FACTS.total_miners} miners",
        "February 2026",
        usd(FACTS.unit_price),
        usd(FACTS.unit_price * FACTS.total_miners),
        "11 February 2026",
        "13 March 2026",
        "Balance due",
        "Kind regards",
    ]

    words = "".join(read(html_of(message)).words)
    for fact in facts:
        assert fact in text_of(message)
        assert fact in words


def test_part_payment_shows_what_is_left_to_pay() -> None:
    facts = replace(FACTS, amount_paid=Decimal("400.10"))

    message = compose(facts)

    assert facts.balance_due == Decimal("849.90")
    assert usd(facts.balance_due) in message["Subject"]
    for body in (text_of(message), html_of(message)):
        assert usd(facts.amount_paid) in body
        assert usd(facts.balance_due) in body
        assert "Total due" not in body


@pytest.mark.parametrize("paid", [Decimal("1250.00"), Decimal("1250.01")])
def test_settled_invoice_asks_for_nothing(paid: Decimal) -> None:
    message = compose(replace(FACTS, amount_paid=paid))

    assert message["Subject"] == "Invoice 2026021101: nothing left to pay"
    assert "Due by" not in text_of(message)
    assert "Due by" not in html_of(message)


def test_last_cent_still_has_to_be_paid() -> None:
    message = compose(replace(FACTS, amount_paid=Decimal("1249.99")))

    assert "USD 0.01 due by" in message["Subject"]


def test_one_miner_is_singular_and_large_numbers_have_separators() -> None:
    one = text_of(compose(replace(FACTS, total_miners=1)))
    many = replace(
        FACTS,
        total_miners=12_500,
        unit_price=Decimal("80000.00"),
        total_amount=Decimal("1000000000.00"),
    )

    assert "Hosting of 1 miner\n" in one
    assert "Hosting of 12,500 miners" in text_of(compose(many))
    assert "USD 1,000,000,000.00" in text_of(compose(many))


def test_absent_company_and_period_leave_no_trace() -> None:
    message = compose(replace(FACTS, company_name=None, billing_period=None))

    for body in (text_of(message), html_of(message)):
        assert "None" not in body
        assert "Period" not in body
    assert "has been issued.\n" in text_of(message)


def test_names_beyond_ascii_arrive_whole() -> None:
    facts = replace(FACTS, customer_name="Zoë Núñez 山田", company_name="Müller & Söhne")

    message = compose(
        facts, sender='"Büro, München" <billing@example.com>', to="Zoë <z@example.org>"
    )

    assert message["From"].addresses[0].display_name == "Büro, München"
    assert message["From"].addresses[0].addr_spec == "billing@example.com"
    assert message["To"].addresses[0].display_name == "Zoë"
    assert "Dear Zoë Núñez 山田," in text_of(message)
    assert "issued to Müller & Söhne." in text_of(message)
    assert "Dear Zoë Núñez 山田," in html_of(message)
    assert "Büro, München" in text_of(message)


def test_markup_in_a_name_stays_text() -> None:
    name = '<img src=x onerror=alert(1)> & "Co" {{ 7 * 7 }}'

    message = compose(replace(FACTS, customer_name=name))

    page = read(html_of(message))
    assert "img" not in page.tags
    assert f"Dear {name}," in "".join(page.words)
    assert f"Dear {name}," in text_of(message)


def test_line_breaks_in_a_name_collapse() -> None:
    facts = replace(FACTS, customer_name="Nia\r\nBcc: all@example.com\u2028\x00  Okafor\n")

    message = compose(facts)

    assert "Dear Nia Bcc: all@example.com Okafor," in text_of(message)
    assert "Dear Nia Bcc: all@example.com Okafor," in html_of(message)
    assert message["Bcc"] is None


def test_html_needs_nothing_from_outside() -> None:
    page = read(html_of(compose()))

    assert page.tags.isdisjoint({"script", "img", "link", "iframe", "form"})
    assert page.attributes.isdisjoint({"src", "background"})
    assert "url(" not in html_of(compose())


def test_both_bodies_lead_to_the_invoice() -> None:
    message = compose()

    assert read(html_of(message)).links == [LINKS.invoice]
    assert f"View the invoice online:\n{LINKS.invoice}\n" in text_of(message)
    assert message["List-Unsubscribe"] is None
    assert message["List-Unsubscribe-Post"] is None


def test_what_can_be_stopped_says_how_in_both_bodies_and_for_a_button() -> None:
    stop = f"https://accounting.hosting.example.com/{'long/' * 40}"
    links = Links(LINKS.invoice, unsubscribe=stop)

    wire = on_the_wire(invoice_issued(FACTS), links=links)
    message = over_the_wire(invoice_issued(FACTS), links=links)

    # Neither folded nor encoded: mail programs look for the address between < and >.
    assert f"\r\nList-Unsubscribe: <{stop}>\r\n".encode() in wire
    assert b"\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n" in wire
    assert read(html_of(message)).links == [LINKS.invoice, stop]
    assert text_of(message).rstrip().endswith(stop)


def test_a_pdf_goes_along_under_its_name() -> None:
    message = compose(pdf=Pdf("invoice-2026021101.pdf", b"%PDF-1.7 \x00\xff"))

    [attached] = message.iter_attachments()
    assert attached.get_content_type() == "application/pdf"
    assert attached.get_filename() == "invoice-2026021101.pdf"
    assert attached.get_content() == b"%PDF-1.7 \x00\xff"
    assert "Dear Nia Okafor," in text_of(message)


def test_html_opens_with_the_words_for_the_inbox_list() -> None:
    body = html_of(compose()).split("<body", 1)[1]

    first_words = next(word.strip() for word in read("<p" + body).words if word.strip())
    assert first_words.startswith(
        f"{usd(FACTS.total_amount)} due by 13 March 2026 for hosting of 25 miners, February 2026."
    )


@pytest.mark.parametrize(
    "address",
    [
        "nia@example.org\r\nBcc: all@example.com",
        "nia@example.org\n",
        "Nia\rOkafor <nia@example.org>",
        "nia\x00@example.org",
        "nia\u2028@example.org",
        "Nia\u2028Bcc: all@example.com <nia@example.org>",
        "nia\x85@example.org",
        "",
        "nia",
        "nia@",
        "@example.org",
        "nia@@example.org",
        "nia@example..org",
        "nia@-example.org",
        ".nia@example.org",
        "nia@example.org, all@example.com",
        "nia@example.org all@example.com",
        "Nia <nia@example.org> <all@example.com>",
        "Nia <nia@example.org",
        "<>",
        "nia@exämple.org",
        "nía@example.org",
        "a" * 65 + "@example.org",
    ],
)
def test_implausible_address_is_refused_by_name(address: str) -> None:
    with pytest.raises(UndeliverableAddress) as refused:
        compose(to=address)

    assert isinstance(refused.value, Invalid)
    assert ascii(address) in refused.value.sentence
    assert refused.value.code == "undeliverable_address"


@pytest.mark.parametrize("place", ["sender", "cc"])
def test_sender_and_cc_are_checked_too(place: str) -> None:
    bad = "x@example.com\nBcc: all@example.com"

    with pytest.raises(UndeliverableAddress):
        compose(FACTS, **{place: [bad] if place == "cc" else bad})


@pytest.mark.parametrize(
    ("mailbox", "name", "address"),
    [
        ("nia@example.org", "", "nia@example.org"),
        ("  nia@example.org ", "", "nia@example.org"),
        ("<nia@example.org>", "", "nia@example.org"),
        ("Accounting <accounting@localhost>", "Accounting", "accounting@localhost"),
        (r'"Okafor, \"Nia\"" <nia+b@sub.example.org>', 'Okafor, "Nia"', "nia+b@sub.example.org"),
        ("a" * 64 + "@example.org", "", "a" * 64 + "@example.org"),
        ("o'hara@xn--exmple-cua.org", "", "o'hara@xn--exmple-cua.org"),
    ],
)
def test_plausible_mailbox_is_read(mailbox: str, name: str, address: str) -> None:
    parsed = parse_mailbox(mailbox)

    assert (parsed.display_name, parsed.addr_spec) == (name, address)


def test_longest_address_is_taken_and_one_more_is_not() -> None:
    longest = f"nia@{'a' * 60}.{'b' * 60}.{'c' * 60}.".ljust(ADDRESS_LENGTH_MAX - 4, "d") + ".org"

    assert len(longest) == ADDRESS_LENGTH_MAX
    assert parse_mailbox(longest).addr_spec == longest
    with pytest.raises(UndeliverableAddress):
        parse_mailbox("n" + longest)
