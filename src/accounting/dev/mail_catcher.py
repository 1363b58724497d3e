"""A mail server for development: it keeps every mail and shows it in the browser.

Runs as `python -m accounting.dev.mail_catcher --smtp-port N --http-port M --directory DIR`.
"""

from __future__ import annotations

import json
import os
import re
import signal
import smtplib
import sys
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any, Final

import click

from accounting.dev.mail_pages import list_page, text_page
from accounting.dev.mail_store import MailStore
from accounting.dev.processes import (
    LOOPBACK,
    Child,
    Server,
    free_port,
    start_child,
    wait_until_ready,
)
from accounting.errors import Misconfigured

MAIL_BYTES_MAX: Final = 32 * 1024 * 1024
ATTEMPT_LIMIT_SECONDS: Final = 2
PROCESS_HEADER: Final = "X-Process-Id"  # tells our catcher from another one on the same port

_PATH = re.compile(r"/mails/(?P<id>[^/]+)(?:/(?P<view>html|raw))?")
# A mail may show its own style and embedded pictures, and open its links in a new window; it runs
# nothing and loads nothing.
_MAIL_POLICY: Final = (
    "sandbox allow-popups allow-popups-to-escape-sandbox; "
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
)
_LIST_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"


@dataclass(frozen=True)
class MailCatcher(Server):
    """The started mail catcher: `uri` takes mail by SMTP, `list_url` shows it."""

    list_url: str


def start_mail_catcher(
    data_dir: Path, *, smtp_port: int | None = None, http_port: int | None = None
) -> MailCatcher:
    """Start the catcher on the loopback interface; mails stay in `data_dir/mails`.

    Raises Misconfigured without the dev extra; ChildDied; ChildNotReady.
    """
    if find_spec("aiosmtpd") is None:
        raise Misconfigured(
            "The mail catcher needs the dev extra: pip install 'accounting[dev]', "
            "or set ACCOUNTING_SMTP_URL."
        )
    smtp_port, http_port = smtp_port or free_port(), http_port or free_port()
    list_url = f"http://{LOOPBACK}:{http_port}/"
    child = start_child(
        "mail-catcher",
        [
            *(sys.executable, "-m", "accounting.dev.mail_catcher"),
            *("--smtp-port", str(smtp_port), "--http-port", str(http_port)),
            *("--directory", data_dir / "mails"),
        ],
        data_dir=data_dir,
    )
    wait_until_ready(child, lambda: _answers(child, smtp_port, list_url))
    return MailCatcher(uri=f"smtp://{LOOPBACK}:{smtp_port}", child=child, list_url=list_url)


def _answers(child: Child, smtp_port: int, list_url: str) -> bool:
    try:
        with (
            urllib.request.urlopen(list_url, timeout=ATTEMPT_LIMIT_SECONDS) as response,
            smtplib.SMTP(LOOPBACK, smtp_port, timeout=ATTEMPT_LIMIT_SECONDS),
        ):
            return bool(response.headers[PROCESS_HEADER] == str(child.pid))
    except (OSError, smtplib.SMTPException):
        return False


class SmtpHandler:
    """aiosmtpd calls this for each mail."""

    def __init__(self, store: MailStore) -> None:
        self._store = store

    async def handle_DATA(self, _server: object, _session: object, envelope: Any) -> str:  # noqa: N802
        """Keep the mail; the reply, and so the sender, waits until it is on disk."""
        mail_id = self._store.add(
            envelope.content, sender=envelope.mail_from, recipients=envelope.rcpt_tos
        )
        return f"250 OK kept as {mail_id}"


class HttpHandler(BaseHTTPRequestHandler):
    """The list and the single mails, for people and for tests."""

    server_version = "mail-catcher"

    def __init__(self, store: MailStore, *args: Any, **kwargs: Any) -> None:
        self._store = store
        super().__init__(*args, **kwargs)

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/":
            self._reply("text/html", list_page(self._store.newest_first()), _LIST_POLICY)
        elif path == "/mails":
            self._reply_json([mail.summary() for mail in self._store.newest_first()])
        elif match := _PATH.fullmatch(path):
            self._reply_mail(match["id"], match["view"])
        else:
            self._reply_missing()

    def _reply_mail(self, mail_id: str, view: str | None) -> None:
        mail = self._store.find(mail_id)
        if mail is None:
            self._reply_missing()
        elif view == "raw":
            self._reply("text/plain", mail.raw)
        elif view == "html":
            html = mail.body("html")
            page = html if html is not None else text_page(mail.body("plain") or "")
            self._reply("text/html", page, _MAIL_POLICY)
        else:
            self._reply_json(mail.details())

    def _reply_missing(self) -> None:
        self._reply_json({"error": "There is no such mail or page."}, HTTPStatus.NOT_FOUND)

    def _reply_json(self, value: object, status: HTTPStatus = HTTPStatus.OK) -> None:
        content = json.dumps(value, ensure_ascii=False, indent=2)
        self._reply("application/json", content, status=status)

    def _reply(
        self,
        content_type: str,
        content: str | bytes,
        security_policy: str = "default-src 'none'; sandbox",
        status: HTTPStatus = HTTPStatus.OK,
    ) -> None:
        body = content if isinstance(content, bytes) else content.encode(errors="replace")
        self.send_response(status)
        self.send_header("Content-Type", f"{content_type}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", security_policy)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-store")
        self.send_header(PROCESS_HEADER, str(os.getpid()))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        """Say nothing: the list reloads every few seconds."""


@click.command()
@click.option("--smtp-port", type=click.IntRange(1, 65535), required=True)
@click.option("--http-port", type=click.IntRange(1, 65535), required=True)
@click.option("--directory", type=click.Path(file_okay=False, path_type=Path), required=True)
def main(smtp_port: int, http_port: int, directory: Path) -> None:
    """Catch mail by SMTP and show it by HTTP until a signal ends it."""
    # Here and not above, because the stack imports this module also where aiosmtpd is missing.
    from aiosmtpd.controller import Controller  # noqa: PLC0415

    _on_signals(_raise_exit)
    store = MailStore(directory)
    controller = Controller(
        SmtpHandler(store),
        hostname=LOOPBACK,
        port=smtp_port,
        data_size_limit=MAIL_BYTES_MAX,
    )
    with ThreadingHTTPServer((LOOPBACK, http_port), partial(HttpHandler, store)) as web:
        controller.start()
        try:
            web.serve_forever()
        finally:
            controller.stop()


def _raise_exit(_signal: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


def _on_signals(handler: Callable[[int, FrameType | None], None]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)


if __name__ == "__main__":
    main()
