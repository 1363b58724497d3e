"""Hands e-mails to the mail server, and says what became of each.

MailNotAccepted
├── TemporaryFailure   not this time: no connection, no answer, a 4xx reply; try again later
├── RecipientRefused   a 5xx reply to the recipient: this address does not work
├── PermanentFailure   another 5xx reply: sender, content or login refused
└── OutcomeUnknown     all was sent and no reply came: accepted or not, nobody can tell
"""

from __future__ import annotations

import asyncio
import email.policy
import logging
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from email.message import EmailMessage
from typing import Final, Protocol, TypeAlias
from urllib.parse import SplitResult, unquote, urlsplit

from aiosmtplib import (
    SMTP,
    SMTPException,
    SMTPRecipientRefused,
    SMTPResponseException,
    SMTPServerDisconnected,
)

from accounting.errors import Misconfigured
from accounting.wording import one_line

REASON_LENGTH_MAX: Final = 500
DEFAULT_PORTS: Final = {"smtp": 25, "smtps": 465}

# Seven bits pass through every server, whether or not it offers 8BITMIME.
_WIRE_POLICY: Final = email.policy.SMTP.clone(cte_type="7bit")
_LEADING_DOT: Final = re.compile(rb"^\.", re.MULTILINE)
_START_INPUT: Final = 354

_log = logging.getLogger(__name__)


class MailNotAccepted(Exception):
    """The mail server did not say that it took the mail; `reason` is one line, in its words."""

    def __init__(self, reason: str) -> None:
        # Servers are free to send any bytes; what cannot be stored as UTF-8 becomes `?`.
        storable = reason.encode("utf-8", "replace").decode("utf-8")
        self.reason: str = one_line(storable)[:REASON_LENGTH_MAX]
        super().__init__(self.reason)


class TemporaryFailure(MailNotAccepted):
    """The mail was not accepted this time; a later attempt may succeed."""


class RecipientRefused(MailNotAccepted):
    """The server refuses this recipient for good."""


class PermanentFailure(MailNotAccepted):
    """The server refuses this mail for good, for another reason than its recipient."""


class OutcomeUnknown(MailNotAccepted):
    """The whole mail was sent, the reply is missing: sending again may deliver it twice."""


# Content scanners take their time after the final dot (RFC 5321 section 4.5.3.2.6 asks for ten
# minutes); both together stay below LEASE_SECONDS, so that no other worker starts meanwhile.
OFFER_SECONDS_MAX: Final = 20.0
VERDICT_SECONDS_MAX: Final = 80.0


# Called once everything but the content was accepted; nothing of it is sent where this raises.
OnHandover: TypeAlias = Callable[[], Awaitable[None]]


async def _do_nothing() -> None:
    """For senders who do not keep a record."""


class Mailer(Protocol):
    """Whatever can send an e-mail."""

    async def send(self, message: EmailMessage, *, on_handover: OnHandover = _do_nothing) -> None:
        """Return when the mail was accepted. Raises MailNotAccepted otherwise.

        Before `on_handover` has returned the mail cannot arrive, after that it may.
        """


@dataclass(frozen=True, repr=False)  # a repr would show the password in logs
class _Server:
    host: str
    port: int
    username: str | None
    password: str | None
    is_tls_implicit: bool
    starttls: bool | None
    """True: required; False: never; None: used when the server offers it."""

    @property
    def validates_certificate(self) -> bool:
        """Whether the server must prove who it is.

        Where TLS is optional, whoever could present a false certificate could as well hide the
        offer of TLS: then a self-signed one, as relays on the same host have it, is better than
        plain text. A password, though, is not shown to a server that fails the proof.
        """
        return self.is_tls_implicit or bool(self.starttls) or self.username is not None

    def client(self) -> SMTP:
        """A new connection, not yet opened. It has no time limit of its own: `send` has one."""
        return SMTP(
            hostname=self.host,
            port=self.port,
            username=self.username,
            password=self.password,
            use_tls=self.is_tls_implicit,
            start_tls=self.starttls,
            validate_certs=self.validates_certificate,
            timeout=None,
        )


class SmtpMailer:
    """Sends through the SMTP server that a URL names, one connection for each mail.

    `smtp://[user:password@]host[:port]` uses STARTTLS when the server offers it;
    `?starttls=required` insists on it and `?starttls=never` does without.
    `smtps://...` speaks TLS from the first byte. User and password are percent-encoded.
    Raises Misconfigured for any other URL.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_seconds: float = OFFER_SECONDS_MAX,
        verdict_seconds: float = VERDICT_SECONDS_MAX,
    ) -> None:
        self._server = _parse_url(url)
        self._timeout_seconds = timeout_seconds
        self._verdict_seconds = verdict_seconds

    async def send(self, message: EmailMessage, *, on_handover: OnHandover = _do_nothing) -> None:
        """Return when the server has accepted the mail for its To recipient.

        Takes at most `timeout_seconds` from connecting to `on_handover`, and `verdict_seconds` from
        there to the last reply.
        Raises TemporaryFailure, RecipientRefused, PermanentFailure or OutcomeUnknown.
        """
        content = _LEADING_DOT.sub(b"..", message.as_bytes(policy=_WIRE_POLICY))
        deadline = asyncio.get_running_loop().time() + self._timeout_seconds
        smtp = self._server.client()
        try:
            await self._offer(smtp, message, deadline)
            await on_handover()
            await self._hand_over(smtp, content)
        except (TemporaryFailure, RecipientRefused, PermanentFailure):
            _hang_up(smtp)
            raise
        except BaseException:
            # No reply, cancelled, or not to be sent after all: what still waits in the send buffer
            # must not follow later.
            _abort(smtp)
            raise
        _hang_up(smtp)

    async def _offer(self, smtp: SMTP, message: EmailMessage, deadline: float) -> None:
        """Everything before the content: connect, TLS, login, sender, recipients, DATA."""
        try:
            async with asyncio.timeout_at(deadline):
                await smtp.connect()
                await smtp.mail(_addresses(message, "From")[0])
                await _name_recipients(smtp, message)
                reply = await smtp.execute_command(b"DATA")
        except SMTPRecipientRefused as error:
            raise _refusal(error.code, error.message, of_recipient=True) from error
        except SMTPResponseException as error:
            raise _refusal(error.code, error.message) from error
        except (SMTPException, OSError) as error:
            # Also a server that lacks the STARTTLS or the login we need, or fails to prove who it
            # is. That is no verdict on this mail: nothing of it was shown, and it can go out as
            # soon as the server or our setting is put right.
            raise TemporaryFailure(_in_words(error, self._timeout_seconds)) from error
        if reply.code != _START_INPUT:
            raise _refusal(reply.code, reply.message)

    async def _hand_over(self, smtp: SMTP, content: bytes) -> None:
        """Send the content and its final dot, and wait for the verdict.

        `SMTP.data` does this and DATA in one step, so that its errors do not tell on which side
        of the final dot they happened. From the first byte written here on, silence means that
        the outcome is unknown.
        """
        protocol = smtp.protocol
        if protocol is None or not protocol.is_connected:
            raise TemporaryFailure("Connection lost before the content was sent.")
        try:
            async with asyncio.timeout(self._verdict_seconds):
                protocol.write(content + b".\r\n")
                reply = await protocol.read_response()
        except (SMTPException, OSError) as error:
            raise OutcomeUnknown(_in_words(error, self._verdict_seconds)) from error
        if 200 <= reply.code <= 299:
            return
        if 400 <= reply.code <= 599:
            raise _refusal(reply.code, reply.message)
        raise OutcomeUnknown(f"{reply.code} {reply.message}")


def _in_words(error: Exception, seconds: float) -> str:
    if isinstance(error, TimeoutError) and not isinstance(error, SMTPException):
        return f"No answer from the mail server within {seconds:g} seconds."
    if isinstance(error, SMTPServerDisconnected):
        return "The mail server closed the connection."
    return str(error) or type(error).__name__


async def _name_recipients(smtp: SMTP, message: EmailMessage) -> None:
    """Name To and Cc to the server. Raises SMTPRecipientRefused for To only.

    The To recipient decides. A refused Cc must not fail the mail: the customer would be left
    without the invoice, or get it again with each retry, for the sake of a copy.
    """
    for address in _addresses(message, "To"):
        await smtp.rcpt(address)
    for address in _addresses(message, "Cc"):
        try:
            await smtp.rcpt(address)
        except SMTPRecipientRefused as error:
            refusal = _refusal(error.code, error.message, of_recipient=True)
            _log.warning("The mail server refused the copy to %s: %s", address, refusal.reason)


def _addresses(message: EmailMessage, header: str) -> list[str]:
    return [
        address.addr_spec for field in message.get_all(header, []) for address in field.addresses
    ]


def _refusal(code: int, words: str, *, of_recipient: bool = False) -> MailNotAccepted:
    """What a reply other than the hoped-for one means (RFC 5321 section 4.2.1)."""
    reason = f"{code} {words}"
    if not 500 <= code <= 599:
        return TemporaryFailure(reason)
    return RecipientRefused(reason) if of_recipient else PermanentFailure(reason)


def _hang_up(smtp: SMTP) -> None:
    """Say QUIT and close without waiting: its reply could not change what became of the mail."""
    if smtp.protocol is not None:
        with suppress(SMTPException):
            smtp.protocol.write(b"QUIT\r\n")
    smtp.close()


def _abort(smtp: SMTP) -> None:
    if isinstance(smtp.transport, asyncio.WriteTransport):
        smtp.transport.abort()
    smtp.close()


def _parse_url(url: str) -> _Server:
    """Read an SMTP URL. The errors never repeat it, since it may hold a password."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise Misconfigured("The SMTP URL has a wrong host or port.") from None
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
        raise Misconfigured("The SMTP URL must look like smtp://host:25 or smtps://host:465.")
    if parts.path not in {"", "/"} or parts.fragment:
        raise Misconfigured(
            "The SMTP URL goes on after host and port; a '/', '?' or '#' in the password must be "
            "percent-encoded."
        )
    return _Server(
        host=parts.hostname,
        port=port or DEFAULT_PORTS[parts.scheme],
        username=None if parts.username is None else unquote(parts.username),
        password=None if parts.password is None else unquote(parts.password),
        is_tls_implicit=parts.scheme == "smtps",
        starttls=_starttls_of(parts),
    )


def _starttls_of(parts: SplitResult) -> bool | None:
    is_tls_implicit = parts.scheme == "smtps"
    if not parts.query:
        return False if is_tls_implicit else None
    choices = {"starttls=required": True, "starttls=never": False}
    if is_tls_implicit or parts.query not in choices:
        raise Misconfigured(
            "The SMTP URL may only end in ?starttls=required or ?starttls=never, and not for smtps."
        )
    return choices[parts.query]
