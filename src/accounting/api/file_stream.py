"""Files that are made for one answer: while it is sent, or before."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from os import SEEK_END
from typing import IO, Any, Final

from litestar.response.base import ASGIResponse
from litestar.response.streaming import ASGIStreamingResponse
from litestar.types import Receive, Scope, Send

from accounting.api.request_id import request_id_of

logger = logging.getLogger(__name__)

# A reader who takes nothing for so long is gone, though his connection may never say so.
STALLED_SECONDS_MAX: Final = 60.0
_BYTES_AT_ONCE: Final = 256 * 1024


class FileStream(ASGIStreamingResponse):
    """Sends the parts of a file as they come, as fast as the reader takes them.

    Whatever fails on the way breaks the connection before the end that HTTP wants to see, so that
    no reader can take a part of the file for the whole. `on_end` is called once, however it ends.
    """

    __slots__ = ("on_end", "parts", "stalled_seconds")

    def __init__(
        self,
        parts: AsyncGenerator[bytes, None],
        *,
        filename: str,
        media_type: str,
        on_end: Callable[[], None],
        size: int | None = None,
        stalled_seconds: float = STALLED_SECONDS_MAX,
    ) -> None:
        headers = {"Content-Disposition": f'attachment; filename="{filename}"'}
        if size is not None:
            headers["Content-Length"] = str(size)
        super().__init__(iterator=parts, media_type=media_type, headers=headers)
        self.parts = parts
        self.on_end = on_end
        self.stalled_seconds = stalled_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        except Exception:
            # The server logs why, but does not know the request.
            logger.error("a file was broken off (request %s)", request_id_of(scope))
            raise
        finally:
            await self.parts.aclose()
            self.on_end()

    async def _stream(self, send: Send) -> None:
        # Litestar's own lets go of the parts when the collector finds them, and waits forever.
        async with aclosing(self.parts) as parts:
            async for part in parts:
                async with asyncio.timeout(self.stalled_seconds):
                    await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class FinishedFile(ASGIResponse):
    """Has a file made, and sends it when it is finished, with its length.

    What fails before is answered as everywhere. Nobody is answered who goes away before: the work
    is cancelled. `on_end` is called once, however it ends.
    """

    __slots__ = ("filename", "make", "media_type", "on_end")

    def __init__(
        self,
        make: Callable[[], Coroutine[Any, Any, IO[bytes]]],
        *,
        filename: str,
        media_type: str,
        on_end: Callable[[], None],
    ) -> None:
        super().__init__(media_type=media_type)
        self.make = make
        self.filename = filename
        self.media_type = media_type
        self.on_end = on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            file = await _unless_gone(self.make(), receive)
            if file is not None:
                await self._stream(file)(scope, receive, send)
        finally:
            self.on_end()

    def _stream(self, file: IO[bytes]) -> FileStream:
        size = file.seek(0, SEEK_END)
        file.seek(0)
        return FileStream(
            _read(file),
            filename=self.filename,
            media_type=self.media_type,
            on_end=file.close,
            size=size,
        )


async def _unless_gone(
    making: Coroutine[Any, Any, IO[bytes]], receive: Receive
) -> IO[bytes] | None:
    """What is made; None when the client went away before, and the making was cancelled."""
    work, leaving = asyncio.create_task(making), asyncio.create_task(_leave(receive))
    try:
        await asyncio.wait({work, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        work.cancel()
        leaving.cancel()
        await asyncio.gather(work, leaving, return_exceptions=True)
    return None if work.cancelled() else work.result()


async def _leave(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _read(file: IO[bytes]) -> AsyncGenerator[bytes, None]:
    while part := await asyncio.to_thread(file.read, _BYTES_AT_ONCE):
        yield part
