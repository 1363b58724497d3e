"""Backing up: collections as they were at one moment, in a folder that exists whole or not at all.

Documents go from the server to the disk as they are, undecoded, one batch at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
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
        if not definitions:
            raise NothingToBackUp(mongo.name)
        # An estimate is enough for a bar.
        total = sum([await mongo[name].estimated_document_count() for name in definitions])
        progress = Progress(on_progress, total)
        async with _session(mongo, is_of_one_moment=is_of_one_moment) as session:
            saved = [
                await _save(mongo, definition, session, writer, progress)
                for definition in definitions.values()
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
    session: Session | None,
    writer: BackupWriter,
    progress: Progress,
) -> SavedCollection:
    name = definition.name
    documents = size_bytes = 0
    writer.write_definition(mongo.name, definition)
    stored = mongo[name].find_raw_batches({}, session=session)
    with writer.new_documents(mongo.name, name) as stream:
        async with aclosing(read_ahead(stored)) as batches:
            async for batch in batches:
                await asyncio.to_thread(stream.write, batch)
                found = count_documents(batch)
                documents += found
                size_bytes += len(batch)
                progress.add(found)
    return SavedCollection(name=name, documents=documents, size_bytes=size_bytes)


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
