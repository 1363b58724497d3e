"""How the platform's collections were before the setup: recorded by `apply`, held up by `verify`.

Which collections these are, and which of their fields are never read, its callers know: this floor
knows no platform. They are read, and nothing else; `find` and `listIndexes` on them are enough.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from accounting import __version__
from accounting.db.client import MongoDatabase
from accounting.db.fingerprint import (
    SUM_BYTES,
    Content,
    ContentChange,
    Definition,
    compare_content,
    definition_changes,
    read_definitions,
    take_content,
)
from accounting.db.manifest import META

OnCollection = Callable[[str, int, int], None]


def _show_nothing(name: str, done: int, total: int) -> None:
    """Nobody is watching."""


@dataclass(frozen=True, slots=True)
class Watched:
    """The collections to look after, and the fields of each that must never leave the server."""

    names: tuple[str, ...]
    without: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reference:
    """A collection as it was recorded; without content where it did not exist."""

    name: str
    recorded_at: datetime
    version: str
    definition: Definition
    content: Content | None
    without: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """A collection held against its reference; without content where that was not read."""

    name: str
    reference: Reference | None
    exists: bool
    definition_changes: tuple[str, ...] = ()
    content: ContentChange | None = None

    @property
    def has_come_since(self) -> bool:
        """The platform has made it after it was recorded, as it may."""
        return self.exists and self.reference is not None and not self.reference.definition.exists


async def record_reference(
    mongo: MongoDatabase, watched: Watched, *, on_progress: OnCollection = _show_nothing
) -> None:
    """Take the fingerprints and keep them in our record, in the place of older ones."""
    definitions = await read_definitions(mongo, watched.names)
    for name in watched.names:
        without = tuple(watched.without.get(name, ()))
        content = None
        if definitions[name].exists:
            content = await take_content(
                mongo, name, without=without, on_progress=partial(on_progress, name)
            )
        row = _row(name, definitions[name], content, without)
        await mongo[META].update_one(
            {"_id": row["_id"]}, {"$set": row, "$currentDate": {"recordedAt": True}}, upsert=True
        )


async def read_reference(mongo: MongoDatabase) -> dict[str, Reference]:
    """What was recorded, by the collection's name; empty where nothing ever was."""
    rows = await mongo[META].find({"kind": "platform"}).to_list(None)
    return {row["name"]: _reference(row) for row in rows}


async def verify_reference(
    mongo: MongoDatabase,
    watched: Watched,
    *,
    with_content: bool = True,
    on_progress: OnCollection = _show_nothing,
) -> list[Verdict]:
    """Hold each collection against its reference, which takes one reading of all documents.

    Where documents were changed and others came in between, it takes a second one.
    """
    references = await read_reference(mongo)
    definitions = await read_definitions(mongo, watched.names)
    verdicts = []
    for name in watched.names:
        reference, now = references.get(name), definitions[name]
        changes: tuple[str, ...] = ()
        content = None
        if reference is not None:
            changes = tuple(definition_changes(reference.definition, now))
            if with_content and now.exists and reference.content is not None:
                content = await compare_content(
                    mongo,
                    name,
                    reference.content,
                    without=reference.without,
                    on_progress=partial(on_progress, name),
                )
        verdicts.append(Verdict(name, reference, now.exists, changes, content))
    return verdicts


def _row(
    name: str, definition: Definition, content: Content | None, without: Sequence[str]
) -> dict[str, Any]:
    return {
        "_id": f"platform:{name}",
        "kind": "platform",
        "name": name,
        "version": __version__,
        "type": definition.type,
        "options": definition.options,
        # Names of indexes may be none that a document takes as field names.
        "indexes": [{"name": key, "is": value} for key, value in definition.indexes.items()],
        "without": list(without),
        "content": _packed(content) if content else None,
    }


def _packed(content: Content) -> dict[str, Any]:
    return {
        "documents": content.documents,
        "sizeBytes": content.size_bytes,
        "sha256": content.sha256,
        "counts": struct.pack(f"<{len(content.counts)}I", *content.counts),
        "sums": b"".join(total.to_bytes(SUM_BYTES, "big") for total in content.sums),
    }


def _reference(row: Mapping[str, Any]) -> Reference:
    return Reference(
        name=row["name"],
        recorded_at=row["recordedAt"],
        version=row["version"],
        definition=Definition(
            row["type"], row["options"], {index["name"]: index["is"] for index in row["indexes"]}
        ),
        content=_unpacked(row["content"]) if row["content"] else None,
        without=tuple(row["without"]),
    )


def _unpacked(packed: Mapping[str, Any]) -> Content:
    sums = packed["sums"]
    counts = struct.unpack(f"<{len(sums) // SUM_BYTES}I", packed["counts"])
    return Content(
        documents=packed["documents"],
        size_bytes=packed["sizeBytes"],
        sha256=packed["sha256"],
        counts=counts,
        sums=tuple(
            int.from_bytes(sums[at : at + SUM_BYTES], "big")
            for at in range(0, len(sums), SUM_BYTES)
        ),
    )
