"""Files that are made while they are sent."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Final

from litestar.response.streaming import ASGIStreamingResponse
from litestar.types import Receive, Scope, Send

from accounting.api.request_id import request_id_of

logger = logging.getLogger(__name__)

# A reader who takes nothing for so long is gone, though his connection may never say so.
STALLED_SECONDS_MAX: Final = 60.0


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
        stalled_seconds: float = STALLED_SECONDS_MAX,
    ) -> None:
        disposition = f'attachment; filename="{filename}"'
        super().__init__(
            iterator=parts,
            media_type=media_type,
            headers={"Content-Disposition": disposition},
        )
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
