"""What reminders, confirmations and cancellations say to their customer."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from accounting.notifications import contents
from accounting.notifications.contents import InvoiceFacts, Tone
from accounting.notifications.message import Content
from mails import FACTS, LINKS, html_of, over_the_wire, read, words_of

PART_PAID = replace(FACTS, amount_paid=Decimal("400.10"))
SETTLED = replace(FACTS, amount_paid=Decimal("1250.00"))


def overdue(facts: InvoiceFacts, days: int, tone: Tone) -> Content:
    return contents.overdue_reminder(facts, days_overdue=days, tone=tone)


EVERY_KIND = {
    "issued": contents.invoice_issued(FACTS),
    "reminder": contents.payment_reminder(PART_PAID),
    "friendly": overdue(FACTS, 1, Tone.FRIENDLY),
    "firm": overdue(FACTS, 7, Tone.FIRM),
    "last": overdue(FACTS, 14, Tone.LAST),
    "received": contents.payment_received(PART_PAID, Decimal("400.10")),
    "settled": contents.payment_received(SETTLED, Decimal("849.90")),
    "cancelled": contents.invoice_cancelled(FACTS, "Billed twice."),
}


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_every_mail_names_the_invoice_its_period_and_its_sender(kind: str) -> None:
    message = over_the_wire(EVERY_KIND[kind])

    assert FACTS.invoice_number in message["Subject"]
    for words in words_of(message):
        assert words.count("Dear Nia Okafor,") == 1
        assert FACTS.invoice_number in words
        assert "Hosting of 25 miners" in words
        assert "February 2026" in words
        assert "USD 1,250.00" in words
        assert words.removesuffix("Accounting").rstrip().endswith("Kind regards")


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_html_of_every_mail_is_whole_and_needs_nothing_from_outside(kind: str) -> None:
    html = html_of(over_the_wire(EVERY_KIND[kind]))
    page = read(html)

    assert html.count("<table") == html.count("</table>")
    assert html.count("<td") == html.count("</td>")
    assert page.tags.isdisjoint({"script", "img", "link", "iframe", "form"})
    assert page.attributes.isdisjoint({"src", "background"})
    assert page.links == [LINKS.invoice]


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_markup_in_any_name_stays_text(kind: str) -> None:
    name = '<img src=x> & "Co"'
    content = EVERY_KIND[kind]
    words = {**content.words, "customer_name": name, "company_name": name}
    if "reason" in words:
        words["reason"] = name

    message = over_the_wire(replace(content, words=words))

    assert "img" not in read(html_of(message)).tags
    assert all(f"Dear {name}," in words for words in words_of(message))


def test_a_payment_reminder_names_the_balance_and_the_due_date() -> None:
    message = over_the_wire(contents.payment_reminder(PART_PAID))

    assert message["Subject"] == "Reminder: invoice 2026021101, USD 849.90 due by 13 March 2026"
    for words in words_of(message):
        assert "friendly reminder that invoice 2026021101 for Okafor Digital is due" in words
        assert "13 March 2026" in words
        assert "USD 849.90" in words
        assert "overdue" not in words


@pytest.mark.parametrize(
    ("days", "tone", "subject", "sentence"),
    [
        (
            1,
            Tone.FRIENDLY,
            "Invoice 2026021101 is 1 day overdue: USD 849.90",
            "It may simply have been overlooked",
        ),
        (
            7,
            Tone.FIRM,
            "Payment needed: invoice 2026021101 is 7 days overdue",
            "Please pay the balance without further delay.",
        ),
        (
            14,
            Tone.LAST,
            "Last reminder: invoice 2026021101 is 14 days overdue",
            "This is our last reminder",
        ),
    ],
)
def test_an_overdue_reminder_speaks_more_plainly_each_time(
    days: int, tone: Tone, subject: str, sentence: str
) -> None:
    message = over_the_wire(overdue(PART_PAID, days, tone))

    assert message["Subject"] == subject
    for words in words_of(message):
        assert sentence in words
        assert f"{days} day{'s' if days > 1 else ''} overdue" in words
        assert "13 March 2026" in words
        assert "USD 849.90" in words


@pytest.mark.parametrize("tone", Tone)
def test_absent_company_and_period_leave_no_trace_in_a_reminder(tone: Tone) -> None:
    facts = replace(FACTS, company_name=None, billing_period=None)

    for words in words_of(over_the_wire(overdue(facts, 2, tone))):
        assert "None" not in words
        assert "Period" not in words
        assert " for ," not in words


def test_a_payment_is_confirmed_with_what_is_left() -> None:
    message = over_the_wire(contents.payment_received(PART_PAID, Decimal("100.10")))

    assert message["Subject"] == "Payment of USD 100.10 received for invoice 2026021101"
    for words in words_of(message):
        assert "USD 100.10" in words  # this payment
        assert "USD 400.10" in words  # all of them
        assert "USD 849.90" in words
        assert "paid in full" not in words


def test_the_last_payment_is_confirmed_as_the_end() -> None:
    message = over_the_wire(contents.payment_received(SETTLED, Decimal("849.90")))

    for words in words_of(message):
        assert "The invoice is paid in full." in words
        assert "Nothing left to pay" in words
        assert "due by" not in words.lower()


def test_a_cancellation_gives_the_reason_and_asks_for_nothing() -> None:
    content = contents.invoice_cancelled(FACTS, "The price was wrong;\r\na new one follows.")

    message = over_the_wire(content)

    assert message["Subject"] == "Invoice 2026021101 is cancelled: nothing to pay"
    for words in words_of(message):
        assert "has been cancelled. You do not have to pay it." in words
        assert "Reason: The price was wrong; a new one follows." in words
        assert "Balance due" not in words
        assert "due by" not in words.lower()


def test_a_cancellation_without_a_reason_does_not_mention_one() -> None:
    for words in words_of(over_the_wire(contents.invoice_cancelled(FACTS, " "))):
        assert "Reason" not in words
