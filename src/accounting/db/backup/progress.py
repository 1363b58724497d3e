"""Long work over many documents: how far it is, and the next batch read while one is at work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from typing import TypeAlias, TypeVar

T = TypeVar("T")

# How many documents are done, and how many there are.
OnProgress: TypeAlias = Callable[[int, int], None]


def show_nothing(done: int, total: int) -> None:
    """Nobody is watching."""


class Progress:
    """Counts what is done; the total grows where it was too low an estimate."""

    def __init__(self, on_progress: OnProgress, total: int) -> None:
        self._on_progress = on_progress
        self._total = total
        self._done = 0

    def add(self, documents: int) -> None:
        self._done += documents
        self._on_progress(self._done, max(self._done, self._total))


async def read_ahead(batches: AsyncIterator[T]) -> AsyncGenerator[T, None]:
    """The same batches, each next one read while the one before is at work."""
    upcoming = _start(batches)
    try:
        while (batch := await upcoming) is not None:
            upcoming = _start(batches)
            yield batch
    finally:
        upcoming.cancel()


async def in_thread(batches: Iterator[T]) -> AsyncIterator[T]:
    """Batches that are read from the disk, away from the event loop."""
    while (batch := await asyncio.to_thread(next, batches, None)) is not None:
        yield batch


def _start(batches: AsyncIterator[T]) -> asyncio.Future[T | None]:
    return asyncio.ensure_future(anext(batches, None))
