"""What an e-mail with a statement says, in each of its tones."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal

import pytest

from accounting.ids import new_id
from accounting.money import ZERO
from accounting.notifications.message import Links
from accounting.notifications.rules import (
    NotificationType,
    StatementTone,
    dedupe_key,
    statement_step,
    statement_tone_of,
)
from accounting.notifications.statements import (
    LISTED_INVOICES_MAX,
    ListedInvoice,
    StatementFacts,
    account_statement,
)
from mails import html_of, over_the_wire, read, text_of, words_of

FRIENDLY, FIRM, FINAL = StatementTone
PAGE, STOP = "https://pay.example.com/i/1", "https://pay.example.com/u/1"
LINKS = Links("https://pay.example.com/unused", STOP)
LATE = ListedInvoice("2026011201", date(2026, 2, 11), Decimal("850.10"), 45, PAGE)
OPEN = ListedInvoice("2026031201", date(2026, 4, 11), Decimal("399.90"), 0)
FACTS = StatementFacts(
    customer_name="Nia Okafor",
    company_name="Okafor Digital",
    as_of=date(2026, 3, 28),
    first_day=date(2026, 1, 1),
    outstanding=Decimal("1250.00"),
    overdue=Decimal("850.10"),
    aging=[("Not yet due", Decimal("399.90")), ("31 to 60 days", Decimal("850.10"))],
    invoices=[LATE, OPEN],
)
ON_TIME = replace(FACTS, outstanding=Decimal("399.90"), overdue=ZERO, invoices=[OPEN])
SETTLED = replace(FACTS, outstanding=ZERO, overdue=ZERO, invoices=[], aging=[])
EVERY = [
    (FACTS, FRIENDLY),
    (FACTS, FIRM),
    (FACTS, FINAL),
    (ON_TIME, FRIENDLY),
    (SETTLED, FRIENDLY),
]


@pytest.mark.parametrize(
    ("facts", "tone", "subject", "says"),
    [
        (
            FACTS,
            FRIENDLY,
            "Your statement of account: USD 1,250.00 outstanding",
            "USD 850.10 is past its due date. It may simply have been overlooked",
        ),
        (
            FACTS,
            FIRM,
            "Payment needed: USD 850.10 overdue on your account",
            "USD 850.10 is overdue. Please pay it without further delay.",
        ),
        (
            FACTS,
            FINAL,
            "Final notice: USD 850.10 overdue on your account",
            "This is our final notice",
        ),
        (
            ON_TIME,
            FRIENDLY,
            "Your statement of account: USD 399.90 outstanding",
            "from 1 January 2026 to 28 March 2026. Nothing is overdue.",
        ),
        (
            SETTLED,
            FRIENDLY,
            "Your statement of account: nothing to pay",
            "Everything is paid: thank you.",
        ),
    ],
)
def test_each_tone_has_its_own_words(
    facts: StatementFacts, tone: StatementTone, subject: str, says: str
) -> None:
    message = over_the_wire(account_statement(facts, tone), links=LINKS)

    assert message["Subject"] == subject
    assert message["List-Unsubscribe"] == f"<{STOP}>"
    for words in words_of(message):
        assert "Dear Nia Okafor," in words
        assert says in words
        assert "your account for Okafor Digital" in words
        assert "Outstanding" in words


@pytest.mark.parametrize("tone", StatementTone)
def test_what_is_owed_stands_in_both_bodies(tone: StatementTone) -> None:
    for words in words_of(over_the_wire(account_statement(FACTS, tone), links=LINKS)):
        assert "USD 1,250.00" in words
        assert "2026011201" in words
        assert "11 February 2026, 45 days overdue" in words
        assert "Due by 11 April 2026" in words or "due by 11 April 2026" in words
        assert "0 days" not in words.replace("30 days", "").replace("60 days", "")
        assert words.count("USD 399.90") == 2  # the invoice, and its step of the aging
        assert "31 to 60 days" in words


@pytest.mark.parametrize(("facts", "tone"), EVERY)
def test_html_is_whole_and_leads_to_the_pages_that_are_known(
    facts: StatementFacts, tone: StatementTone
) -> None:
    html = html_of(over_the_wire(account_statement(facts, tone), links=LINKS))

    page = read(html)
    for tag in ("table", "tr", "td", "div", "span", "strong"):
        assert html.count(f"<{tag}") == html.count(f"</{tag}>"), tag
    assert page.tags.isdisjoint({"script", "img", "link", "iframe", "form"})
    assert page.links == ([PAGE, STOP] if LATE in facts.invoices else [STOP])
    assert "prefers-color-scheme: dark" in html


def test_text_has_the_links_too() -> None:
    text = text_of(over_the_wire(account_statement(FACTS, FIRM), links=LINKS))

    assert f"    {PAGE}\n" in text
    assert text.rstrip().endswith(STOP)
    assert "None" not in text
    assert "\n\n\n" not in text


def test_one_day_is_one_day() -> None:
    facts = replace(FACTS, invoices=[replace(LATE, days_overdue=1)])

    for words in words_of(over_the_wire(account_statement(facts, FIRM))):
        assert "1 day overdue" in words


@pytest.mark.parametrize(
    ("count", "more"),
    [
        (LISTED_INVOICES_MAX, None),
        (LISTED_INVOICES_MAX + 1, "and 1 more open invoice: USD 850.10"),
        (LISTED_INVOICES_MAX + 3, "and 3 more open invoices: USD 2,550.30"),
    ],
)
def test_a_long_list_is_cut_and_says_what_is_left(count: int, more: str | None) -> None:
    invoices = [replace(LATE, invoice_number=f"{2026011200 + at}") for at in range(count)]

    for words in words_of(
        over_the_wire(account_statement(replace(FACTS, invoices=invoices), FIRM))
    ):
        listed = sum(f"{2026011200 + at}" in words for at in range(count))
        assert listed == LISTED_INVOICES_MAX
        assert ("more open invoice" in words) == (more is not None)
        assert (more or "") in words


def test_markup_in_a_name_shows_as_text() -> None:
    name = '<script>alert("x")</script> & <b>Co</b>'
    facts = replace(FACTS, customer_name=name, company_name=name)

    message = over_the_wire(account_statement(facts, FINAL), links=LINKS)

    page = read(html_of(message))
    assert page.tags.isdisjoint({"script", "b"})
    for words in words_of(message):
        assert words.count(name) == 2
    assert "script" not in message["Subject"]


@pytest.mark.parametrize("tone", StatementTone)
def test_a_key_tells_a_statement_and_its_tone(tone: StatementTone) -> None:
    key = dedupe_key(tone.notification_type, new_id(), statement_step(tone, new_id()))

    assert statement_tone_of(key) is tone
    assert len(key) <= 200


@pytest.mark.parametrize(
    "step",
    ["", "+7", "-3", str(new_id()), f"{new_id()}:{new_id()}"],
    ids=["first", "overdue", "before", "payment", "two ids"],
)
def test_keys_of_other_mails_tell_no_statement(step: str) -> None:
    key = dedupe_key(NotificationType.OVERDUE_REMINDER, new_id(), step)

    assert statement_tone_of(key) is None


def test_statements_are_stored_as_reminders() -> None:
    assert [tone.notification_type for tone in (FRIENDLY, FIRM, FINAL)] == [
        NotificationType.PAYMENT_REMINDER,
        NotificationType.OVERDUE_REMINDER,
        NotificationType.OVERDUE_REMINDER,
    ]
