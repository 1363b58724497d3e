"""X-Request-Id: accepted or made, kept for logs and audit, and sent back with every answer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, cast
from uuid import uuid4

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

HEADER: Final = b"x-request-id"
_SCOPE_KEY: Final = "accounting_request_id"
_ACCEPTED = re.compile(r"^[A-Za-z0-9._:-]{1,100}$")


class RequestIds:
    """Wraps the whole application, so that answers to unknown paths carry an id as well."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await self.app(scope, receive, send)
            return
        request_id = _accepted(dict(scope["headers"]).get(HEADER)) or uuid4().hex
        cast(dict[str, Any], scope)[_SCOPE_KEY] = request_id

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", ()), (HEADER, request_id.encode())]
                message["headers"] = headers
            await send(message)

        await self.app(scope, receive, send_with_id)


def request_id_of(scope: Mapping[str, Any]) -> str | None:
    """The id of the request in this scope."""
    return scope.get(_SCOPE_KEY)


def _accepted(value: bytes | None) -> str | None:
    text = value.decode("latin-1") if value else ""
    return text if _ACCEPTED.match(text) else None
