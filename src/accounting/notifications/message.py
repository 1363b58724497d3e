"""What an e-mail says and to whom it is addressed; `mailer.py` sends it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from email.headerregistry import Address
from email.message import EmailMessage
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from accounting.errors import Invalid
from accounting.money import ZERO, cents

ADDRESS_LENGTH_MAX: Final = 254  # RFC 5321 section 4.5.3.1.3, without the angle brackets
LOCAL_PART_LENGTH_MAX: Final = 64

# Control characters, lone surrogates and the Unicode line breaks: what may end a header early,
# cannot be encoded, or is seen by nobody.
_UNPRINTABLE: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})
_ATOM: Final = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_ADDRESS: Final = re.compile(rf"(?P<local>{_ATOM}(?:\.{_ATOM})*)@{_LABEL}(?:\.{_LABEL})*")
_MAILBOX: Final = re.compile(r"(?P<name>[^<>]*)<(?P<address>[^<>]*)>")
_QUOTED_PAIR: Final = re.compile(r"\\(.)")

_TEMPLATES: Final = Environment(
    loader=PackageLoader("accounting.notifications", "templates"),
    autoescape=select_autoescape(["html"]),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)


class UndeliverableAddress(Invalid):
    """No mail can be sent to or from this address; trying again cannot help."""

    def __init__(self, address: str, why: str) -> None:
        # `ascii` shows what hides in it: a line break, a letter that only looks like another.
        shown = ascii(address)
        super().__init__(f"{shown} is not an e-mail address: {why}.", address=shown)


@dataclass(frozen=True)
class InvoiceFacts:
    """What an e-mail tells about one invoice, as it stands when the e-mail is written."""

    invoice_number: str
    customer_name: str
    company_name: str | None
    total_miners: int
    unit_price: Decimal
    total_amount: Decimal
    amount_paid: Decimal
    issued_on: date
    due_on: date
    billing_period: str | None
    """The month that is billed, `2026-11`."""

    @property
    def balance_due(self) -> Decimal:
        """Total minus payments."""
        return self.total_amount - self.amount_paid


def compose_invoice_issued(
    facts: InvoiceFacts,
    *,
    sender: str,
    to: str,
    cc: Sequence[str],
    message_id: str,
    date: datetime,
) -> EmailMessage:
    """Write the e-mail which tells a customer that an invoice was issued.

    `message_id` comes with its angle brackets; it stays the same when a send is repeated, so that
    a mail which arrives twice can be recognised. Raises UndeliverableAddress.
    """
    from_mailbox = parse_mailbox(sender)
    message = EmailMessage()
    message["Subject"] = _subject_of(facts)
    message["From"] = from_mailbox
    message["To"] = parse_mailbox(to)
    if cc:
        message["Cc"] = [parse_mailbox(address) for address in cc]
    message["Date"] = date
    message["Message-ID"] = message_id
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: keeps holiday replies away

    words = _words_of(facts) | {"sender_name": from_mailbox.display_name or from_mailbox.addr_spec}
    # Quoted-printable is plain ASCII with short lines, which no server on the way has to rewrite.
    text = _TEMPLATES.get_template("invoice_issued.txt").render(words)
    message.set_content(text, cte="quoted-printable")
    html = _TEMPLATES.get_template("invoice_issued.html").render(words)
    message.add_alternative(html, subtype="html", cte="quoted-printable")
    return message


def parse_mailbox(mailbox: str) -> Address:
    """Read `billing@example.com` or `Accounting <billing@example.com>`.

    Raises UndeliverableAddress for anything else, and for addresses beyond ASCII: few servers take
    those, and a guessed spelling of a foreign domain could be somebody else's.
    """
    if any(unicodedata.category(character) in _UNPRINTABLE for character in mailbox):
        raise UndeliverableAddress(mailbox, "it holds a line break or another control character")

    with_name = _MAILBOX.fullmatch(mailbox.strip())
    address = (with_name["address"] if with_name else mailbox).strip()
    name = with_name["name"].strip() if with_name else ""
    if len(name) > 1 and name[0] == name[-1] == '"':
        name = _QUOTED_PAIR.sub(r"\1", name[1:-1])

    if not address.isascii():
        raise UndeliverableAddress(mailbox, "only ASCII letters can be used")
    match = _ADDRESS.fullmatch(address)
    if match is None or len(match["local"]) > LOCAL_PART_LENGTH_MAX:
        raise UndeliverableAddress(mailbox, "it does not look like name@example.com")
    if len(address) > ADDRESS_LENGTH_MAX:
        raise UndeliverableAddress(mailbox, f"it is longer than {ADDRESS_LENGTH_MAX} characters")
    return Address(display_name=name, addr_spec=address)


def one_line(text: str) -> str:
    """Collapse line breaks, control characters and runs of spaces into single spaces."""
    printable = (
        " " if unicodedata.category(character) in _UNPRINTABLE else character for character in text
    )
    return " ".join("".join(printable).split())


def _subject_of(facts: InvoiceFacts) -> str:
    number = one_line(facts.invoice_number)
    if facts.balance_due <= ZERO:
        return f"Invoice {number}: nothing left to pay"
    return f"Invoice {number}: {_usd(facts.balance_due)} due by {_day(facts.due_on)}"


def _words_of(facts: InvoiceFacts) -> dict[str, str | bool]:
    """The facts as a customer reads them; templates only place them."""
    miners = "1 miner" if facts.total_miners == 1 else f"{facts.total_miners:,} miners"
    return {
        "number": one_line(facts.invoice_number),
        "customer_name": one_line(facts.customer_name),
        "company_name": one_line(facts.company_name or ""),
        "description": f"Hosting of {miners}",
        "period": _month(facts.billing_period) if facts.billing_period else "",
        "unit_price": _usd(facts.unit_price),
        "total": _usd(facts.total_amount),
        "paid": _usd(facts.amount_paid),
        "has_payments": facts.amount_paid > ZERO,
        "balance_due": _usd(facts.balance_due),
        "is_settled": facts.balance_due <= ZERO,
        "issued_on": _day(facts.issued_on),
        "due_on": _day(facts.due_on),
    }


def _usd(amount: Decimal) -> str:
    return f"USD {cents(amount):,.2f}"


def _day(day: date) -> str:
    return f"{day.day} {day:%B %Y}"


def _month(billing_period: str) -> str:
    return f"{date.fromisoformat(f'{billing_period}-01'):%B %Y}"
