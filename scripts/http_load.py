"""Requests over HTTP/1.1 with as little work as possible: the client shares the server's cores."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from typing import Any, Final
from urllib.parse import urlsplit

ANSWER_SECONDS_MAX: Final = 60.0


class Connection:
    """A connection that is kept open, with one request at a time."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, token: str
    ) -> None:
        self._reader, self._writer = reader, writer
        self._rest = f" HTTP/1.1\r\nHost: benchmark\r\nAuthorization: Bearer {token}\r\n\r\n"

    async def get(self, path: str) -> tuple[int, bytes]:
        """The status and the body of an answer."""
        self._writer.write(f"GET {path}{self._rest}".encode())
        head = await self._reader.readuntil(b"\r\n\r\n")
        status, lowered = int(head[9:12]), head.lower()
        start = lowered.find(b"content-length:")
        if start < 0:
            raise ValueError(f"{path}: an answer without its length")
        length = int(lowered[start + 15 : lowered.index(b"\r\n", start)])
        return status, await self._reader.readexactly(length)

    def close(self) -> None:
        self._writer.close()


async def connect(url: str, token: str) -> Connection:
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port, limit=2**22)
    return Connection(reader, writer, token)


@dataclass(frozen=True, slots=True)
class Measured:
    """What one kind of request took, in milliseconds; errors are answers other than 200."""

    requests: int
    errors: int
    p50: float
    p99: float
    per_second: float
    kilobytes: float
    first_error: str = ""


async def measure(
    url: str, token: str, paths: Iterator[str], *, concurrency: int, seconds: float
) -> Measured:
    """Ask for these paths for so long, with so many requests under way at once."""
    connections = [await connect(url, token) for _ in range(concurrency)]
    taken: list[float] = []
    sizes, errors = 0, list[str]()

    async def ask(connection: Connection, until: float) -> None:
        nonlocal sizes
        while time.perf_counter() < until:
            path, began = next(paths), time.perf_counter()
            async with asyncio.timeout(ANSWER_SECONDS_MAX):
                status, body = await connection.get(path)
            taken.append((time.perf_counter() - began) * 1_000)
            sizes += len(body)
            if status != 200:
                errors.append(f"{path}: {status} {body[:200]!r}")

    started = time.perf_counter()
    await asyncio.gather(*(ask(connection, started + seconds) for connection in connections))
    elapsed = time.perf_counter() - started
    for connection in connections:
        connection.close()
    taken.sort()
    return Measured(
        requests=len(taken),
        errors=len(errors),
        p50=_percentile(taken, 50),
        p99=_percentile(taken, 99),
        per_second=len(taken) / elapsed,
        kilobytes=sizes / len(taken) / 1_024,
        first_error=errors[0] if errors else "",
    )


async def read_json(connection: Connection, path: str) -> Any:
    status, body = await connection.get(path)
    if status != 200:
        raise ValueError(f"{path}: {status} {body[:200]!r}")
    return json.loads(body)


def _percentile(ascending: list[float], percent: int) -> float:
    return ascending[ceil(len(ascending) * percent / 100) - 1]
