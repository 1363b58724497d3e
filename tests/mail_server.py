"""A mail server that does what a test tells it to: refuses, waits, falls silent, hangs up."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Self, TypeAlias

SILENT = "silent"  # an answer: keep the connection open and say nothing
DROP = "drop"  # an answer: close the connection
CUT = "cut"  # an answer to DATA: take the content, and close the connection in the middle of it
END = "."  # what is answered at the end of the content

# One answer for each time that it is asked for, the last one for ever; or the same each time.
Answer: TypeAlias = str | Sequence[str]

_USUAL = {"greeting": "220 ready", "EHLO": "250 ok", "DATA": "354 go", "QUIT": "221 bye"}
_LIMIT = 2**26
_WAIT_SECONDS_MAX = 60.0


class MailServer:
    """Answers by the beginning of each command; what no answer is given for is accepted.

    `greeting` and END can be given too. A command that is held is not answered before it is
    released; `wait_for` waits until it has come. It lives in a thread of its own, so that tests
    with and without a loop can use it, and processes that they start.
    """

    def __init__(
        self,
        answers: Mapping[str, Answer] | None = None,
        *,
        hold: Sequence[str] = (),
        delay_seconds: float = 0,
    ) -> None:
        self.answers = dict(answers or {})
        self.log: list[str] = []
        self.contents: list[bytes] = []
        """The contents that were accepted, as they came."""
        self.offered: list[bytes] = []
        """The contents that came as a whole, whatever was answered then."""
        self.delay_seconds = delay_seconds
        self._asked: Counter[str] = Counter()
        self._reached: dict[str, threading.Event] = {}
        self._released: dict[str, threading.Event] = {}
        for command in hold:
            self.hold(command)
        self._loop = asyncio.new_event_loop()
        self._is_listening = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._is_listening.wait(_WAIT_SECONDS_MAX)
        return self

    def __exit__(self, *_exception: object) -> None:
        for command in self._released:
            self.release(command)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    @property
    def address(self) -> str:
        """`host:port`"""
        return f"127.0.0.1:{self._port}"

    @property
    def mails(self) -> list[EmailMessage]:
        """What was accepted."""
        return [_parsed(content) for content in self.contents]

    def hold(self, command: str) -> None:
        """From now on, let whoever sends this command wait."""
        self._reached[command], self._released[command] = threading.Event(), threading.Event()

    def wait_for(self, command: str, seconds: float = _WAIT_SECONDS_MAX) -> None:
        """Wait until a held command has come."""
        assert self._reached[command].wait(seconds), f"{command} did not come; log: {self.log}"

    def release(self, command: str) -> None:
        """Answer a held command, this one and all that follow."""
        self._released[command].set()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(
            asyncio.start_server(self._talk, "127.0.0.1", 0, limit=_LIMIT)
        )
        self._port = server.sockets[0].getsockname()[1]
        self._is_listening.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._converse(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client went away, which some tests want
        finally:
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answer, content = await self._answer_to("greeting"), b""
        while answer != DROP:
            if answer == SILENT:
                await reader.read()
                return
            writer.write(("354 go" if answer == CUT else answer).encode("latin-1") + b"\r\n")
            if answer == CUT:
                await reader.read(1_000)
                return
            if content and answer.startswith("2"):
                self.contents.append(content)
            content = b""
            if answer.startswith("354"):
                content = await reader.readuntil(b"\r\n.\r\n")
                self.offered.append(content)
                command = END
            else:
                command = (await reader.readline()).decode("ascii").strip()
            if not command:
                return
            answer = await self._answer_to(command)

    async def _answer_to(self, command: str) -> str:
        self.log.append(command)
        if self.delay_seconds:
            await asyncio.sleep(self.delay_seconds)
        for held, released in list(self._released.items()):
            if command.startswith(held):
                self._reached[held].set()
                await asyncio.to_thread(released.wait, _WAIT_SECONDS_MAX)
        given = [start for start in self.answers if command.startswith(start)]
        if not given:
            return _USUAL.get(command if command == "greeting" else command[:4], "250 ok")
        start = max(given, key=len)
        answer = self.answers[start]
        if isinstance(answer, str):
            return answer
        self._asked[start] += 1
        return answer[min(self._asked[start], len(answer)) - 1]


def _parsed(content: bytes) -> EmailMessage:
    message = message_from_bytes(content, policy=policy.default)
    assert isinstance(message, EmailMessage)
    return message
