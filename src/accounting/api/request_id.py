"""X-Request-Id: accepted or made, kept for logs and audit, and sent back with every answer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from uuid import uuid4

HEADER: Final = b"x-request-id"
_SCOPE_KEY: Final = "accounting_request_id"
_ACCEPTED = re.compile(r"^[A-Za-z0-9._:-]{1,100}\Z")


def set_request_id(scope: dict[str, Any]) -> str:
    """Give the request in this scope its id: the one that it came with, or a new one."""
    request_id = _accepted(dict(scope["headers"]).get(HEADER)) or uuid4().hex
    scope[_SCOPE_KEY] = request_id
    return request_id


def request_id_of(scope: Mapping[str, Any]) -> str | None:
    """The id of the request in this scope."""
    return scope.get(_SCOPE_KEY)


def _accepted(value: bytes | None) -> str | None:
    text = value.decode("latin-1") if value else ""
    return text if _ACCEPTED.match(text) else None
