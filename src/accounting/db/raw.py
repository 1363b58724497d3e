"""Documents as the very bytes that lie in the database: what is equal byte by byte is unchanged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import bson
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument

from accounting.db.client import CODEC_OPTIONS
from accounting.db.database import Session
from accounting.db.document import BaseDocument
from accounting.db.found import Found

_RAW: Final[CodecOptions[Any]] = CodecOptions(document_class=RawBSONDocument)


async def find_raw(
    kind: type[BaseDocument], query: Mapping[str, object], *, session: Session | None = None
) -> list[bytes]:
    """The stored bytes of each document that a bounded query finds."""
    found = kind.get_motor_collection().with_options(codec_options=_RAW)
    return [bytes(raw.raw) async for raw in found.find(dict(query), session=session)]


def decode_raw(raw: bytes) -> Found:
    """A document from its bytes, with the values that our own client reads."""
    return dict(bson.decode(raw, CODEC_OPTIONS))


def field_of(found: Found, path: str) -> Any:
    """The value at a path of stored names, as `metadata.invoiceId`."""
    value: Any = found
    for name in path.split("."):
        value = value[name]
    return value
