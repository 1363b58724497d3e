"""A queue that delivers every message twice: a proxy in front of Redis that doubles what is sent.

Celery puts a message into its queue with `LPUSH queue message`, and the command takes any number of
messages: the proxy adds a copy of each. The copy has a delivery tag of its own, as a message that
was sent twice has, and so both are taken, mostly by two workers at the same time.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from accounting.dev.processes import LOOPBACK

QUEUE: Final = b"accounting"
CHUNK_BYTES: Final = 64 * 1024
LINE_END: Final = b"\r\n"


@dataclass
class DoubledQueue:
    """The proxy: `url` in the place of the one of Redis, and how many messages it has doubled."""

    redis_url: str
    url: str = ""
    messages: int = 0
    _ways: set[asyncio.Task[None]] = field(default_factory=set)

    async def listen(self, is_ready: Event, stop: asyncio.Event) -> None:
        """Serve until told to stop."""
        server = await asyncio.start_server(self._connect, LOOPBACK, 0)
        port = server.sockets[0].getsockname()[1]
        address = urlsplit(self.redis_url)
        self.url = urlunsplit(address._replace(netloc=f"{LOOPBACK}:{port}"))
        is_ready.set()
        await stop.wait()
        server.close()
        for way in self._ways:
            way.cancel()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*others, return_exceptions=True)

    async def _connect(self, client: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
        redis_port = urlsplit(self.redis_url).port
        redis, ask = await asyncio.open_connection(LOOPBACK, redis_port)
        ways = {
            asyncio.create_task(self._pass_commands(client, ask)),
            asyncio.create_task(_pass_bytes(redis, answer)),
        }
        self._ways |= ways
        # Either side may leave, also in the middle of a command: it may have been killed.
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        self._ways -= ways
        for writer in (ask, answer):
            writer.close()

    async def _pass_commands(self, client: asyncio.StreamReader, ask: asyncio.StreamWriter) -> None:
        while header := await client.readline():
            words = [await _read_word(client) for _ in range(int(header[1:]))]
            if words[:2] == [b"LPUSH", QUEUE]:
                self.messages += len(words) - 2
                words += [_copy_of(message) for message in words[2:]]
            ask.write(_command(words))
            await ask.drain()


@contextmanager
def doubled_queue(redis_url: str) -> Iterator[DoubledQueue]:
    """The proxy in a thread of its own, as long as the context lasts."""
    queue, is_ready = DoubledQueue(redis_url), Event()
    loop, stop = asyncio.new_event_loop(), asyncio.Event()
    thread = Thread(target=loop.run_until_complete, args=(queue.listen(is_ready, stop),))
    thread.start()
    try:
        assert is_ready.wait(10)
        yield queue
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


async def _pass_bytes(redis: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
    while chunk := await redis.read(CHUNK_BYTES):
        answer.write(chunk)
        await answer.drain()


async def _read_word(client: asyncio.StreamReader) -> bytes:
    length = int((await client.readline())[1:])
    word = await client.readexactly(length + len(LINE_END))
    return word.removesuffix(LINE_END)


def _command(words: list[bytes]) -> bytes:
    parts = [b"*%d" % len(words)]
    for word in words:
        parts += [b"$%d" % len(word), word]
    return LINE_END.join([*parts, b""])


def _copy_of(message: bytes) -> bytes:
    copy = json.loads(message)
    copy["properties"]["delivery_tag"] = str(uuid.uuid4())
    return json.dumps(copy).encode()
