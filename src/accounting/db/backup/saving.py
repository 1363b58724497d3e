"""Backing up: collections as they were at one moment, in a folder that exists whole or not at all.

Documents go from the server to the disk as they are, undecoded, one batch at a time. All of a
collection, or those that some queries find.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from accounting import __version__
from accounting.db.backup.definitions import Definition, read_definitions
from accounting.db.backup.failures import DefinitionsChanged, NothingToBackUp, said_plainly
from accounting.db.backup.folder import (
    BackupManifest,
    BackupWriter,
    SavedCollection,
    count_documents,
    new_backup,
)
from accounting.db.backup.progress import OnProgress, Progress, read_ahead, show_nothing
from accounting.db.client import MongoDatabase
from accounting.db.database import Session


@dataclass(frozen=True, slots=True)
class Selected:
    """Documents of a collection: what these queries find, one query after the other.

    Each in ascending order of these stored names; `documents` says about how many there are.
    """

    name: str
    queries: Sequence[Mapping[str, object]]
    documents: int
    order: tuple[str, ...] = ()


async def back_up(
    mongo: MongoDatabase,
    names: Sequence[str],
    target: Path,
    *,
    now: datetime,
    is_of_one_moment: bool = True,
    on_progress: OnProgress = show_nothing,
) -> BackupManifest:
    """Save those of the collections that exist; nothing else of the database is read.

    All are read as they were at one moment, that of the first read, whatever is written meanwhile.
    The server knows that moment for `minSnapshotHistoryWindowInSeconds`; with
    `is_of_one_moment=False` each collection is read as it is then.
    Raises BackupExists, BackupNotWritten, NothingToBackUp, NotACollection, SnapshotGone,
    NotOfOneMoment, DefinitionsChanged, Misconfigured where a right is missing, and Unavailable.
    """
    with said_plainly(), new_backup(target) as writer:
        definitions = await read_definitions(mongo, names)
        # An estimate is enough for a bar.
        everything = [
            Selected(name, [{}], await mongo[name].estimated_document_count())
            for name in definitions
        ]
        return await _back_up(
            mongo,
            definitions,
            everything,
            writer,
            target,
            now=now,
            is_of_one_moment=is_of_one_moment,
            on_progress=on_progress,
        )


async def back_up_selected(
    mongo: MongoDatabase,
    selected: Sequence[Selected],
    target: Path,
    *,
    now: datetime,
    on_progress: OnProgress = show_nothing,
) -> BackupManifest:
    """Save some documents only, as they were at one moment; in all else `back_up`."""
    with said_plainly(), new_backup(target) as writer:
        definitions = await read_definitions(mongo, [found.name for found in selected])
        return await _back_up(
            mongo,
            definitions,
            [found for found in selected if found.name in definitions],
            writer,
            target,
            now=now,
            is_of_one_moment=True,
            on_progress=on_progress,
        )


async def _back_up(
    mongo: MongoDatabase,
    definitions: dict[str, Definition],
    selected: Sequence[Selected],
    writer: BackupWriter,
    target: Path,
    *,
    now: datetime,
    is_of_one_moment: bool,
    on_progress: OnProgress,
) -> BackupManifest:
    if not definitions:
        raise NothingToBackUp(mongo.name)
    progress = Progress(on_progress, sum(found.documents for found in selected))
    async with _session(mongo, is_of_one_moment=is_of_one_moment) as session:
        saved = [
            await _save(mongo, definitions[found.name], found, session, writer, progress)
            for found in selected
        ]
    await _require_unchanged(mongo, definitions)
    manifest = BackupManifest(
        made_by=__version__,
        made_at=now,
        server_version=(await mongo.client.server_info())["version"],
        database=mongo.name,
        is_of_one_moment=is_of_one_moment,
        collections=tuple(saved),
    )
    await asyncio.to_thread(writer.finish, manifest, target)
    return manifest


async def _save(
    mongo: MongoDatabase,
    definition: Definition,
    selected: Selected,
    session: Session | None,
    writer: BackupWriter,
    progress: Progress,
) -> SavedCollection:
    name = definition.name
    documents = size_bytes = 0
    writer.write_definition(mongo.name, definition)
    with writer.new_documents(mongo.name, name) as stream:
        async with aclosing(read_ahead(_find_raw(mongo, selected, session))) as batches:
            async for batch in batches:
                await asyncio.to_thread(stream.write, batch)
                found = count_documents(batch)
                documents += found
                size_bytes += len(batch)
                progress.add(found)
    return SavedCollection(name=name, documents=documents, size_bytes=size_bytes)


async def _find_raw(
    mongo: MongoDatabase, selected: Selected, session: Session | None
) -> AsyncIterator[bytes]:
    order = [(name, 1) for name in selected.order] or None
    for query in selected.queries:
        found = mongo[selected.name].find_raw_batches(dict(query), session=session, sort=order)
        async for batch in found:
            yield batch


async def _require_unchanged(mongo: MongoDatabase, before: dict[str, Definition]) -> None:
    """Definitions are not part of the snapshot; those we wrote must still be the ones there."""
    after = await read_definitions(mongo, list(before))
    changed = [
        name
        for name, definition in before.items()
        if name not in after or after[name].to_json() != definition.to_json()
    ]
    if changed:
        raise DefinitionsChanged(changed)


@asynccontextmanager
async def _session(
    mongo: MongoDatabase, *, is_of_one_moment: bool
) -> AsyncIterator[Session | None]:
    if not is_of_one_moment:
        yield None
        return
    async with await mongo.client.start_session(snapshot=True) as session:
        yield session
