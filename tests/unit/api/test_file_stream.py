"""A file that is made while it is sent, or before: its end, and every other way to stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from dataclasses import dataclass, field
from io import BytesIO
from typing import IO, Any

import pytest

from accounting.api.file_stream import FileStream, FinishedFile

SCOPE: Any = {"type": "http"}


@dataclass
class Reader:
    """Who is sent the file: takes `takes` parts, then nothing more; leaves when it is told to."""

    takes: int = 1_000
    leaves: asyncio.Event = field(default_factory=asyncio.Event)
    received: list[dict[str, Any]] = field(default_factory=list)
    is_full: asyncio.Event = field(default_factory=asyncio.Event)

    async def send(self, message: Any) -> None:
        if self.takes <= 0:
            self.is_full.set()
            await asyncio.Event().wait()
        self.takes -= 1
        self.received.append(message)
        if message["type"] == "http.response.body" and not message["more_body"]:
            self.leaves.set()

    async def receive(self) -> Any:
        await self.leaves.wait()
        return {"type": "http.disconnect"}

    @property
    def is_told_the_end(self) -> bool:
        return bool(self.received) and self.received[-1].get("more_body") is False


@dataclass
class Source:
    """Parts of a file, endless unless told otherwise; notes how far it got and that it was left."""

    parts: int = 1_000_000
    fails_at: int = -1
    made: int = 0
    has_begun: asyncio.Event = field(default_factory=asyncio.Event)
    is_closed: bool = False

    async def read(self) -> AsyncGenerator[bytes, None]:
        try:
            for number in range(self.parts):
                if number == self.fails_at:
                    raise ValueError("broken row")
                self.made += 1
                if number == 4:
                    self.has_begun.set()
                yield b"part"
                await asyncio.sleep(0)
        finally:
            self.is_closed = True


@dataclass
class Ends:
    """Counts how often the place was given back."""

    number: int = 0

    def __call__(self) -> None:
        self.number += 1


def stream(source: Source, ends: Ends, stalled_seconds: float = 5.0) -> FileStream:
    return FileStream(
        source.read(),
        filename="a.csv",
        media_type="text/csv",
        on_end=ends,
        stalled_seconds=stalled_seconds,
    )


async def test_a_whole_file_is_told_its_end() -> None:
    source, reader, ends = Source(parts=3), Reader(), Ends()

    await stream(source, ends)(SCOPE, reader.receive, reader.send)

    bodies = [message["body"] for message in reader.received[1:]]
    assert (b"".join(bodies), ends.number, source.is_closed) == (b"part" * 3, 1, True)
    assert reader.is_told_the_end


async def test_a_failure_on_the_way_is_never_told_as_an_end() -> None:
    source, reader, ends = Source(fails_at=3), Reader(), Ends()

    with pytest.raises(ExceptionGroup) as failed:
        await stream(source, ends)(SCOPE, reader.receive, reader.send)

    assert failed.group_contains(ValueError, match="broken row")
    assert not reader.is_told_the_end
    assert (ends.number, source.is_closed) == (1, True)


async def test_work_ends_when_the_reader_goes_away() -> None:
    source, reader, ends = Source(), Reader(), Ends()
    sending = asyncio.create_task(stream(source, ends)(SCOPE, reader.receive, reader.send))
    await source.has_begun.wait()

    reader.leaves.set()
    await asyncio.wait_for(sending, 5)

    assert (ends.number, source.is_closed) == (1, True)
    assert source.made < source.parts
    assert not reader.is_told_the_end


async def test_a_reader_who_goes_away_while_nothing_fits_in_ends_it_too() -> None:
    source, reader, ends = Source(), Reader(takes=5), Ends()
    sending = asyncio.create_task(stream(source, ends)(SCOPE, reader.receive, reader.send))
    await source.has_begun.wait()

    reader.leaves.set()
    await asyncio.wait_for(sending, 5)

    assert (ends.number, source.is_closed, source.made) == (1, True, 5)


async def test_a_reader_who_takes_nothing_is_given_up() -> None:
    source, reader, ends = Source(), Reader(takes=4), Ends()

    with pytest.raises(ExceptionGroup) as given_up:
        await stream(source, ends, 0.05)(SCOPE, reader.receive, reader.send)

    assert given_up.group_contains(TimeoutError)
    assert (ends.number, source.is_closed) == (1, True)
    assert not reader.is_told_the_end


async def test_a_reader_who_is_gone_before_the_first_part_gives_the_place_back() -> None:
    source, reader, ends = Source(), Reader(), Ends()
    reader.leaves.set()

    await stream(source, ends)(SCOPE, reader.receive, reader.send)

    assert ends.number == 1


async def test_an_answer_that_cannot_begin_gives_the_place_back() -> None:
    source, ends = Source(), Ends()

    async def send(message: Any) -> None:
        raise OSError("no connection")

    with pytest.raises(OSError, match="no connection"):
        await stream(source, ends)(SCOPE, Reader().receive, send)

    assert (ends.number, source.made) == (1, 0)


@dataclass
class Maker:
    """Makes a file when it may; notes that it was cancelled."""

    may_end: asyncio.Event = field(default_factory=asyncio.Event)
    has_begun: asyncio.Event = field(default_factory=asyncio.Event)
    file: IO[bytes] = field(default_factory=lambda: BytesIO(b"whole" * 200_000))
    is_cancelled: bool = False

    async def make(self) -> IO[bytes]:
        self.has_begun.set()
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.is_cancelled = True
            raise
        return self.file


def finished(make: Callable[[], Coroutine[Any, Any, IO[bytes]]], ends: Ends) -> FinishedFile:
    return FinishedFile(make, filename="a.xlsx", media_type="application/zip", on_end=ends)


async def test_a_finished_file_is_sent_with_its_length_and_closed() -> None:
    maker, reader, ends = Maker(), Reader(), Ends()
    maker.may_end.set()

    await finished(maker.make, ends)(SCOPE, reader.receive, reader.send)

    start, *bodies = reader.received
    assert (start["status"], dict(start["headers"])) == (
        200,
        {
            b"content-disposition": b'attachment; filename="a.xlsx"',
            b"content-length": b"1000000",
            b"content-type": b"application/zip",
        },
    )
    assert b"".join(body["body"] for body in bodies) == b"whole" * 200_000
    assert reader.is_told_the_end
    assert (ends.number, maker.file.closed) == (1, True)


async def test_a_failure_before_the_file_is_finished_comes_before_any_answer() -> None:
    reader, ends = Reader(), Ends()

    async def make() -> IO[bytes]:
        raise ValueError("broken row")

    with pytest.raises(ValueError, match="broken row"):
        await finished(make, ends)(SCOPE, reader.receive, reader.send)

    assert (ends.number, reader.received) == (1, [])


async def test_a_file_is_not_made_to_its_end_for_a_reader_who_goes_away() -> None:
    maker, reader, ends = Maker(), Reader(), Ends()
    answer = finished(maker.make, ends)
    sending = asyncio.create_task(answer(SCOPE, reader.receive, reader.send))
    await maker.has_begun.wait()

    reader.leaves.set()
    await asyncio.wait_for(sending, 5)

    assert (ends.number, maker.is_cancelled, reader.received) == (1, True, [])


async def test_a_server_that_stops_gives_a_file_up() -> None:
    maker, reader, ends = Maker(), Reader(), Ends()
    answer = finished(maker.make, ends)
    sending = asyncio.create_task(answer(SCOPE, reader.receive, reader.send))
    await maker.has_begun.wait()

    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending

    assert (ends.number, maker.is_cancelled) == (1, True)


async def test_a_finished_file_is_closed_when_its_reader_goes_away() -> None:
    maker, reader, ends = Maker(), Reader(takes=2), Ends()
    maker.may_end.set()
    answer = finished(maker.make, ends)
    sending = asyncio.create_task(answer(SCOPE, reader.receive, reader.send))
    await reader.is_full.wait()

    reader.leaves.set()
    await asyncio.wait_for(sending, 5)

    assert (ends.number, maker.file.closed, reader.is_told_the_end) == (1, True, False)
