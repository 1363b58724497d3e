"""The headers that every answer carries: its request id, and what a browser must not do with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias, cast

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from accounting.api.request_id import HEADER, set_request_id
from accounting.links import BASE_PATH

DOCS_PATH: Final = "/schema"

_Headers: TypeAlias = tuple[tuple[bytes, bytes], ...]

# Data is for programs: nothing in it may be run, framed or loaded.
_API_POLICY: Final = "default-src 'none'; frame-ancestors 'none'"
# The page at /schema starts its own scripts from a line in the page, and calls this API only.
_DOCS_POLICY: Final = (
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def _encoded(headers: Mapping[str, str]) -> _Headers:
    return tuple((name.lower().encode(), value.encode()) for name, value in headers.items())


# Made once: they are added to every single answer.
_EVERYWHERE: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
}
_ELSEWHERE_HEADERS: Final = _encoded({**_EVERYWHERE, "Content-Security-Policy": _API_POLICY})
_API_HEADERS: Final = _ELSEWHERE_HEADERS + _encoded({"Cache-Control": "no-store"})
_DOCS_HEADERS: Final = _encoded({**_EVERYWHERE, "Content-Security-Policy": _DOCS_POLICY})


class AnswerHeaders:
    """Wraps the whole application, so that answers to unknown paths carry them as well.

    A header that a handler has set itself is left as it is.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await self.app(scope, receive, send)
            return
        request_id = set_request_id(cast(dict[str, Any], scope))
        defaults = _defaults(scope["path"])

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = list(message.get("headers", ()))
                names = {name.lower() for name, _ in given}
                given += [header for header in defaults if header[0] not in names]
                given.append((HEADER, request_id.encode()))
                message["headers"] = given
            await send(message)

        await self.app(scope, receive, send_with_headers)


def _defaults(path: str) -> _Headers:
    if path.startswith(BASE_PATH):
        return _API_HEADERS
    return _DOCS_HEADERS if path.startswith(DOCS_PATH) else _ELSEWHERE_HEADERS
