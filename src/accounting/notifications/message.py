"""An e-mail as it travels: headers, the two bodies, attachments; `mailer.py` sends it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.headerregistry import Address, HeaderRegistry, UnstructuredHeader
from email.message import EmailMessage
from email.policy import EmailPolicy
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from accounting.errors import Invalid

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


class _AddressHeader(UnstructuredHeader):
    """A header that is one long web address: on one line and as it is.

    Folded as others are, it would be taken for a word to be encoded, and no mail program finds an
    address in that.
    """

    def fold(self, *, policy: Any) -> str:
        # What BaseHeader, which the registry adds, knows: the header's name.
        name: str = getattr(self, "name")  # noqa: B009
        return f"{name}: {self}{policy.linesep}"


_HEADERS: Final = HeaderRegistry()
# The registry adds the base class, which the types do not know.
_HEADERS.map_to_type("list-unsubscribe", _AddressHeader)  # type: ignore[arg-type]
_POLICY: Final = EmailPolicy(header_factory=_HEADERS)


class UndeliverableAddress(Invalid):
    """No mail can be sent to or from this address; trying again cannot help."""

    def __init__(self, address: str, why: str) -> None:
        # `ascii` shows what hides in it: a line break, a letter that only looks like another.
        shown = ascii(address)
        super().__init__(f"{shown} is not an e-mail address: {why}.", address=shown)


@dataclass(frozen=True)
class Content:
    """What one e-mail says: its subject, and the words that its two templates place."""

    subject: str
    template: str
    """The name of the templates, without `.html` and `.txt`."""
    words: Mapping[str, object]


@dataclass(frozen=True)
class Envelope:
    """From whom to whom, and when."""

    sender: str
    to: str
    cc: Sequence[str]
    message_id: str
    """With its angle brackets; the same when a send is repeated, so that a second copy is known."""
    date: datetime


@dataclass(frozen=True)
class Links:
    """Where the reader finds the invoice, and where he stops e-mails of this kind, if he can."""

    invoice: str
    unsubscribe: str | None = None


@dataclass(frozen=True)
class Pdf:
    """A document to go along."""

    filename: str
    content: bytes


def compose_mail(
    content: Content, envelope: Envelope, links: Links, pdf: Pdf | None = None
) -> EmailMessage:
    """Write an e-mail in HTML and in plain text. Raises UndeliverableAddress."""
    from_mailbox = parse_mailbox(envelope.sender)
    message = EmailMessage(policy=_POLICY)
    message["Subject"] = content.subject
    message["From"] = from_mailbox
    message["To"] = parse_mailbox(envelope.to)
    if envelope.cc:
        message["Cc"] = [parse_mailbox(address) for address in envelope.cc]
    message["Date"] = envelope.date
    message["Message-ID"] = envelope.message_id
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: keeps holiday replies away
    if links.unsubscribe:
        # RFC 8058: mail programs show a button that needs no visit to a page.
        message["List-Unsubscribe"] = f"<{links.unsubscribe}>"
        message["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"

    words = {
        **content.words,
        "sender_name": from_mailbox.display_name or from_mailbox.addr_spec,
        "invoice_url": links.invoice,
        "unsubscribe_url": links.unsubscribe or "",
    }
    # Quoted-printable is plain ASCII with short lines, which no server on the way has to rewrite.
    text = _TEMPLATES.get_template(f"{content.template}.txt").render(words)
    message.set_content(text, cte="quoted-printable")
    html = _TEMPLATES.get_template(f"{content.template}.html").render(words)
    message.add_alternative(html, subtype="html", cte="quoted-printable")
    if pdf is not None:
        message.add_attachment(
            pdf.content, maintype="application", subtype="pdf", filename=pdf.filename
        )
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
