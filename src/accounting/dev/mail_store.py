"""Mails caught in development: one .eml file each, in the order of arrival."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Final

from accounting.clock import utc_now

SENDER_HEADER: Final = "X-MailFrom"
RECIPIENTS_HEADER: Final = "X-RcptTo"
LISTED_MAILS_MAX: Final = 1000

_ID = re.compile(r"[0-9]{8}T[0-9]{9}-[0-9]{6}")
_ID_TIME: Final = "%Y%m%dT%H%M%S%f"


@dataclass(frozen=True)
class CaughtMail:
    """One mail as it arrived; its id sorts by the time of arrival."""

    id: str
    raw: bytes

    @cached_property
    def message(self) -> EmailMessage:
        return message_from_bytes(self.raw, policy=policy.default)

    @property
    def received_at(self) -> datetime:
        """The instant of arrival, which the id carries."""
        return datetime.strptime(self.id.partition("-")[0], _ID_TIME).replace(tzinfo=UTC)

    def summary(self) -> dict[str, str]:
        """What the list shows."""
        message = self.message
        return {
            "id": self.id,
            "from": str(message["From"] or message[SENDER_HEADER] or ""),
            "to": str(message["To"] or message[RECIPIENTS_HEADER] or ""),
            "subject": str(message["Subject"] or ""),
            "receivedAt": self.received_at.isoformat(timespec="milliseconds")[:-6] + "Z",
        }

    def details(self) -> dict[str, object]:
        """The list entry with the envelope's recipients, bodies, attachment names and headers."""
        message = self.message
        return {
            **self.summary(),
            "cc": str(message["Cc"] or ""),
            "recipients": str(message[RECIPIENTS_HEADER] or "").split(", "),
            "headers": {name: str(value) for name, value in message.items()},
            "text": self.body("plain"),
            "html": self.body("html"),
            "attachments": [part.get_filename() or "" for part in message.iter_attachments()],
        }

    def body(self, kind: str) -> str | None:
        """The `plain` or `html` body, or None when the mail has no such part."""
        part = self.message.get_body(preferencelist=(kind,))
        return str(part.get_content()).replace("\r\n", "\n") if part else None


class MailStore:
    """A directory of caught mails, which outlives the process."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._numbers = count(1)

    def add(self, content: bytes, *, sender: str, recipients: Sequence[str]) -> str:
        """Keep a mail, with the envelope in two headers above its own, and return its id."""
        envelope = f"{SENDER_HEADER}: {sender}\r\n{RECIPIENTS_HEADER}: {', '.join(recipients)}\r\n"
        arrival = utc_now().strftime(_ID_TIME)[:-3]
        mail_id = f"{arrival}-{next(self._numbers):06}"
        unfinished = self._directory / f".{mail_id}.unfinished"
        unfinished.write_bytes(envelope.encode() + content)
        # A reader sees the whole mail or none.
        os.replace(unfinished, self._directory / f"{mail_id}.eml")
        return mail_id

    def find(self, mail_id: str) -> CaughtMail | None:
        """The mail with this id, or None; an id is never taken for a path."""
        if not _ID.fullmatch(mail_id):
            return None
        try:
            return CaughtMail(mail_id, (self._directory / f"{mail_id}.eml").read_bytes())
        except FileNotFoundError:
            return None

    def newest_first(self) -> list[CaughtMail]:
        """The mails with the latest arrival first, at most LISTED_MAILS_MAX."""
        ids = sorted((path.stem for path in self._directory.glob("*.eml")), reverse=True)
        return [mail for mail_id in ids[:LISTED_MAILS_MAX] if (mail := self.find(mail_id))]
