"""Real SMTP conversations: with aiosmtpd, and with a scripted server for what it cannot do."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiosmtpd import smtp
from aiosmtpd.controller import Controller

from accounting.errors import Misconfigured
from accounting.notifications.mailer import (
    REASON_LENGTH_MAX,
    MailNotAccepted,
    OutcomeUnknown,
    PermanentFailure,
    RecipientRefused,
    SmtpMailer,
    TemporaryFailure,
)
from mail_server import CUT, DROP, SILENT, MailServer

TO = "nia@example.org"
CC = "books@example.com"


def a_mail(
    *, cc: str | None = None, subject: str = "Invoice 1", body: str = "Hello"
) -> EmailMessage:
    message = EmailMessage()
    message["Subject"] = subject
    message["From"] = "Accounting <billing@example.com>"
    message["To"] = TO
    if cc:
        message["Cc"] = cc
    message["Message-ID"] = "<1@example.com>"
    message.set_content(body)
    return message


class Mailbox:
    """An aiosmtpd handler that keeps what it accepts and refuses what it is told to."""

    def __init__(self, *, refuse: Mapping[str, str] | None = None, after_data: str = "") -> None:
        self.refuse = dict(refuse or {})
        self.after_data = after_data
        self.recipients: list[str] = []
        self.mails: list[EmailMessage] = []
        self.raw: list[bytes] = []
        self.was_encrypted: list[bool] = []

    async def handle_RCPT(  # noqa: N802, aiosmtpd finds the method by this name
        self, server: Any, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        if address in self.refuse:
            return self.refuse[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        if self.after_data:
            return self.after_data
        self.recipients.extend(envelope.rcpt_tos)
        self.was_encrypted.append(session.ssl is not None)
        self.raw.append(envelope.content)
        mail = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(mail, EmailMessage)
        self.mails.append(mail)
        return "250 Accepted"


class _Controller(Controller):
    def __init__(self, handler: Mailbox, *, is_smtps: bool, options: dict[str, Any]) -> None:
        self._options = options
        tls = options.pop("smtps_context", None) if is_smtps else None
        super().__init__(handler, hostname="127.0.0.1", port=free_port(), ssl_context=tls)

    def factory(self) -> smtp.SMTP:
        return smtp.SMTP(self.handler, hostname="mail.example.com", **self._options)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(handler: Mailbox, **options: Any) -> Iterator[str]:
    """Run aiosmtpd, yield `host:port`."""
    controller = _Controller(handler, is_smtps="smtps_context" in options, options=options)
    controller.start()
    try:
        yield f"127.0.0.1:{controller.port}"
    finally:
        controller.stop()


@asynccontextmanager
async def scripted(answers: Mapping[str, str]) -> AsyncIterator[tuple[str, list[str]]]:
    """Run a server that answers as told; yield `host:port`, and what it was asked."""
    with MailServer(answers) as server:
        yield server.address, server.log


async def failure_of(mailer: SmtpMailer, message: EmailMessage | None = None) -> MailNotAccepted:
    with pytest.raises(MailNotAccepted) as caught:
        await mailer.send(message or a_mail())
    return caught.value


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """A certificate authority of these tests alone, made anew for each run."""
    return trustme.CA()


@pytest.fixture
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    return context


@pytest.fixture
def trust(
    authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], None]:
    """Make this process trust the test authority, the way an operator would."""
    pem_file = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(pem_file))
    return lambda: monkeypatch.setenv("SSL_CERT_FILE", str(pem_file))


# --- accepted ---------------------------------------------------------------------------------


async def test_accepted_mail_arrives_whole() -> None:
    inbox = Mailbox()
    body = "First line\n.hidden dot\n..\n.\nGrüße, 山田\n" + "long " * 400 + "\n"

    with serving(inbox) as address:
        await SmtpMailer(f"smtp://{address}").send(a_mail(cc=CC, body=body))

    (mail,) = inbox.mails
    assert inbox.recipients == [TO, CC]
    assert mail.get_content().replace("\r\n", "\n") == body
    assert mail["Message-ID"] == "<1@example.com>"


async def test_subject_beyond_ascii_arrives_decodable() -> None:
    inbox = Mailbox()
    subject = "Rechnung für März: 山田 " + "ö" * 100

    with serving(inbox) as address:
        await SmtpMailer(f"smtp://{address}").send(a_mail(subject=subject))

    assert inbox.mails[0]["Subject"] == subject


async def test_body_beyond_ascii_travels_in_seven_bits() -> None:
    inbox = Mailbox()

    with serving(inbox) as address:
        await SmtpMailer(f"smtp://{address}").send(a_mail(body="Grüße\n"))

    assert inbox.raw[0].isascii()
    assert inbox.mails[0].get_content().strip() == "Grüße"


async def test_refused_cc_does_not_fail_the_mail() -> None:
    inbox = Mailbox(refuse={CC: "550 5.1.1 No such copy"})

    with serving(inbox) as address:
        await SmtpMailer(f"smtp://{address}").send(a_mail(cc=CC))

    assert inbox.recipients == [TO]


async def test_greylisted_cc_does_not_fail_the_mail() -> None:
    inbox = Mailbox(refuse={CC: "451 4.7.1 Come back later"})

    with serving(inbox) as address:
        await SmtpMailer(f"smtp://{address}").send(a_mail(cc=CC))

    assert inbox.recipients == [TO]


@pytest.mark.parametrize("answer", [SILENT, DROP, "500 what"])
async def test_trouble_with_quit_does_not_undo_the_acceptance(answer: str) -> None:
    async with scripted({"QUIT": answer}) as (address, log):
        await SmtpMailer(f"smtp://{address}", timeout_seconds=5, verdict_seconds=5).send(a_mail())

    assert "." in log


async def test_server_without_ehlo_is_spoken_to_with_helo() -> None:
    async with scripted({"EHLO": "502 what"}) as (address, log):
        await SmtpMailer(f"smtp://{address}").send(a_mail())

    assert [line[:4] for line in log[:4]] == ["gree", "EHLO", "HELO", "MAIL"]


# --- not accepted -----------------------------------------------------------------------------


async def test_refused_connection_is_temporary() -> None:
    failure = await failure_of(SmtpMailer(f"smtp://127.0.0.1:{free_port()}"))

    assert type(failure) is TemporaryFailure
    assert "127.0.0.1" in failure.reason


async def test_unknown_host_is_temporary() -> None:
    failure = await failure_of(SmtpMailer("smtp://mail.invalid"))

    assert type(failure) is TemporaryFailure


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ({"greeting": "421 4.3.2 Too busy"}, TemporaryFailure),
        ({"greeting": "554 5.7.1 No service for you"}, PermanentFailure),
        ({"greeting": DROP}, TemporaryFailure),
        ({"greeting": "hello there"}, TemporaryFailure),
        ({"EHLO": "421 4.3.2 Closing"}, TemporaryFailure),
        ({"MAIL": "451 4.3.0 Try later"}, TemporaryFailure),
        ({"MAIL": "550 5.7.1 Sender refused"}, PermanentFailure),
        ({"MAIL": DROP}, TemporaryFailure),
        ({"RCPT": "451 4.7.1 Greylisted"}, TemporaryFailure),
        ({"RCPT": "421 4.7.0 Closing"}, TemporaryFailure),
        ({"RCPT": "550 5.1.1 No such user"}, RecipientRefused),
        ({"RCPT": "553 5.1.3 Bad address"}, RecipientRefused),
        ({"RCPT": DROP}, TemporaryFailure),
        ({f"RCPT TO:<{CC}>": "421 4.7.0 Closing"}, TemporaryFailure),
        ({"DATA": "451 4.3.0 Not now"}, TemporaryFailure),
        ({"DATA": "554 5.5.1 No valid recipients"}, PermanentFailure),
        ({"DATA": "250 what"}, TemporaryFailure),
        ({"DATA": DROP}, TemporaryFailure),
        ({".": "452 4.3.1 Disk full"}, TemporaryFailure),
        ({".": "421 4.3.2 Closing"}, TemporaryFailure),
        ({".": "552 5.3.4 Too big"}, PermanentFailure),
        ({"DATA": CUT}, OutcomeUnknown),
        ({".": DROP}, OutcomeUnknown),
        ({".": "what is this"}, OutcomeUnknown),
        ({".": "354 go on"}, OutcomeUnknown),
    ],
)
async def test_each_answer_has_its_outcome(
    answers: dict[str, str], expected: type[MailNotAccepted]
) -> None:
    async with scripted(answers) as (address, _):
        failure = await failure_of(
            SmtpMailer(f"smtp://{address}", timeout_seconds=5, verdict_seconds=5), a_mail(cc=CC)
        )

    assert type(failure) is expected
    (answer,) = answers.values()
    if answer[:1] in {"4", "5"} and CC not in str(answers):
        assert failure.reason == answer
    assert failure.reason


@pytest.mark.parametrize(
    ("inbox", "expected"),
    [
        (Mailbox(refuse={TO: "451 4.7.1 Greylisted"}), TemporaryFailure),
        (Mailbox(refuse={TO: "550 5.1.1 No such user"}), RecipientRefused),
        (Mailbox(after_data="552 5.3.4 Too big"), PermanentFailure),
    ],
)
async def test_aiosmtpd_agrees_on_the_outcomes(
    inbox: Mailbox, expected: type[MailNotAccepted]
) -> None:
    with serving(inbox) as address:
        failure = await failure_of(SmtpMailer(f"smtp://{address}"), a_mail(cc=CC))

    assert type(failure) is expected
    assert inbox.mails == []


@pytest.mark.parametrize(
    ("silent_at", "expected"),
    [
        ("greeting", TemporaryFailure),
        ("EHLO", TemporaryFailure),
        ("RCPT", TemporaryFailure),
        ("DATA", TemporaryFailure),
        (".", OutcomeUnknown),
    ],
)
async def test_silent_server_holds_the_worker_no_longer_than_the_limit(
    silent_at: str, expected: type[MailNotAccepted]
) -> None:
    async with scripted({silent_at: SILENT}) as (address, _):
        started = time.monotonic()
        failure = await failure_of(
            SmtpMailer(f"smtp://{address}", timeout_seconds=0.9, verdict_seconds=0.9)
        )
        took = time.monotonic() - started

    assert type(failure) is expected
    assert failure.reason == "No answer from the mail server within 0.9 seconds."
    assert took < 3


async def test_many_slow_answers_share_one_limit() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 ready\r\n")
        while await reader.readline():
            await asyncio.sleep(0.25)
            writer.write(b"250 ok\r\n")
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        failure = await failure_of(
            SmtpMailer(f"smtp://127.0.0.1:{port}", timeout_seconds=0.6, verdict_seconds=0.6)
        )

    assert type(failure) is TemporaryFailure
    assert "within 0.6 seconds" in failure.reason


async def test_server_that_stops_reading_a_large_mail_leaves_the_outcome_unknown() -> None:
    released = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 ready\r\n")
        while (line := await reader.readline()) and not line.startswith(b"DATA"):
            writer.write(b"250 ok\r\n")
        writer.write(b"354 go\r\n")
        await released.wait()
        writer.close()

    large = a_mail(body="x" * 70 + "\n")
    large.add_attachment(bytes(20_000_000), maintype="application", subtype="pdf")
    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        failure = await failure_of(
            SmtpMailer(f"smtp://127.0.0.1:{port}", timeout_seconds=1, verdict_seconds=1), large
        )
        released.set()

    assert type(failure) is OutcomeUnknown


async def test_reason_is_one_storable_line_of_bounded_length() -> None:
    answer = "550-first\x1b[1m \xff\r\n550-second\r\n550 " + "long " * 300

    async with scripted({"RCPT": answer}) as (address, _):
        failure = await failure_of(SmtpMailer(f"smtp://{address}"))

    assert failure.reason.startswith("550 first [1m ? second long")
    assert len(failure.reason) == REASON_LENGTH_MAX
    assert failure.reason.isprintable()
    assert str(failure) == failure.reason


# --- handed over ------------------------------------------------------------------------------


async def test_the_handover_comes_when_all_but_the_content_is_accepted() -> None:
    with MailServer() as server:

        async def note() -> None:
            assert server.log[-1] == "DATA"
            assert server.offered == []

        await SmtpMailer(f"smtp://{server.address}").send(a_mail(), on_handover=note)

    assert len(server.contents) == 1


@pytest.mark.parametrize("stage", ["MAIL", "RCPT", "DATA"])
async def test_what_is_refused_before_the_content_is_not_handed_over(stage: str) -> None:
    handed_over = False

    async def note() -> None:
        nonlocal handed_over
        handed_over = True

    with MailServer({stage: "451 later"}) as server:
        mailer = SmtpMailer(f"smtp://{server.address}")
        with pytest.raises(TemporaryFailure):
            await mailer.send(a_mail(), on_handover=note)

    assert not handed_over


@pytest.mark.parametrize("error", [RuntimeError("not ours any more"), asyncio.CancelledError()])
async def test_nothing_goes_out_when_it_must_not_be_handed_over(error: BaseException) -> None:
    async def refuse() -> None:
        raise error

    with MailServer() as server:
        mailer = SmtpMailer(f"smtp://{server.address}")
        with pytest.raises(type(error)):
            await mailer.send(a_mail(), on_handover=refuse)
        await asyncio.sleep(0.1)

        assert server.log[-1] == "DATA"  # no QUIT either: the connection was cut
        assert server.offered == []


# --- TLS and login ----------------------------------------------------------------------------


async def test_required_starttls_that_is_not_offered_is_temporary() -> None:
    async with scripted({}) as (address, log):
        failure = await failure_of(SmtpMailer(f"smtp://{address}?starttls=required"))

    assert type(failure) is TemporaryFailure
    assert "STARTTLS" in failure.reason
    assert not any(line.startswith("MAIL") for line in log)


async def test_offered_starttls_is_used(server_tls: ssl.SSLContext) -> None:
    inbox = Mailbox()

    with serving(inbox, tls_context=server_tls) as address:
        await SmtpMailer(f"smtp://{address}").send(a_mail())

    assert inbox.was_encrypted == [True]


async def test_offered_starttls_is_left_alone_on_demand(server_tls: ssl.SSLContext) -> None:
    inbox = Mailbox()

    with serving(inbox, tls_context=server_tls) as address:
        await SmtpMailer(f"smtp://{address}?starttls=never").send(a_mail())

    assert inbox.was_encrypted == [False]


async def test_required_starttls_trusts_only_a_proven_server(
    server_tls: ssl.SSLContext, trust: Callable[[], None]
) -> None:
    inbox = Mailbox()

    with serving(inbox, tls_context=server_tls) as address:
        mailer = SmtpMailer(f"smtp://{address}?starttls=required")
        failure = await failure_of(mailer)
        trust()
        await mailer.send(a_mail())

    assert type(failure) is TemporaryFailure
    assert "certificate" in failure.reason
    assert inbox.was_encrypted == [True]


async def test_smtps_speaks_tls_from_the_first_byte(
    server_tls: ssl.SSLContext, trust: Callable[[], None]
) -> None:
    inbox = Mailbox()

    with serving(inbox, smtps_context=server_tls) as address:
        failure = await failure_of(SmtpMailer(f"smtps://{address}"))
        trust()
        await SmtpMailer(f"smtps://{address}").send(a_mail())

    assert type(failure) is TemporaryFailure
    assert len(inbox.mails) == 1


async def test_credentials_are_percent_decoded(
    server_tls: ssl.SSLContext, trust: Callable[[], None]
) -> None:
    seen: list[tuple[bytes, bytes]] = []

    def authenticate(
        server: Any, session: Any, envelope: Any, how: str, data: Any
    ) -> smtp.AuthResult:
        assert isinstance(data, smtp.LoginPassword)
        seen.append((data.login, data.password))
        # `handled=False` leaves the 535 reply to aiosmtpd.
        return smtp.AuthResult(success=data.password == b"p@ss:w/rd?#%", handled=False)

    inbox = Mailbox()
    trust()
    with serving(
        inbox, tls_context=server_tls, authenticator=authenticate, auth_required=True
    ) as address:
        await SmtpMailer(f"smtp://us%40er:p%40ss%3Aw%2Frd%3F%23%25@{address}").send(a_mail())
        failure = await failure_of(SmtpMailer(f"smtp://us%40er:wrong@{address}"))

    assert seen[0] == (b"us@er", b"p@ss:w/rd?#%")
    assert len(inbox.mails) == 1
    assert type(failure) is PermanentFailure
    assert failure.reason.startswith("535")
    assert "wrong" not in failure.reason


async def test_password_is_not_shown_to_a_server_that_proves_nothing(
    server_tls: ssl.SSLContext,
) -> None:
    seen: list[object] = []

    def authenticate(
        server: Any, session: Any, envelope: Any, how: str, data: Any
    ) -> smtp.AuthResult:
        seen.append(data)
        return smtp.AuthResult(success=True)

    with serving(Mailbox(), tls_context=server_tls, authenticator=authenticate) as address:
        failure = await failure_of(SmtpMailer(f"smtp://user:secret@{address}"))

    assert type(failure) is TemporaryFailure
    assert seen == []


@pytest.mark.parametrize(
    "url",
    [
        "http://secret@mail.example.com",
        "mail.example.com:25",
        "smtp://",
        "smtp://secret@mail.example.com:port",
        "smtp://user:se/cret@mail.example.com:25",
        "smtp://user:secret@mail.example.com:25/path",
        "smtp://mail.example.com?starttls=maybe",
        "smtp://mail.example.com?tls=never",
        "smtps://mail.example.com?starttls=required",
        "smtp://user:secret@[::1",
    ],
)
def test_wrong_url_is_refused_without_repeating_the_password(url: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        SmtpMailer(url)

    assert "cret" not in refused.value.sentence
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


def test_password_is_in_no_repr() -> None:
    mailer = SmtpMailer("smtp://user:secret@mail.example.com")

    assert "secret" not in repr(vars(mailer))
