"""Restoring: a backup into collections that do not exist yet. Nothing that exists is touched.

Everything is loaded under other names first (`accounting_restore.<name>`), is checked there, and
gets its own name at the very end; so the service never meets half a collection. A mark
(`accounting_restore`) says who is at it and how far: a restore that was killed while loading is
begun anew by the next one, and one that was killed while renaming is finished by it.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from bson.raw_bson import RawBSONDocument
from pymongo.errors import DuplicateKeyError, OperationFailure, PyMongoError

from accounting.db.backup.failures import (
    CollectionsExist,
    NoPlatformInBackup,
    NotAsSaved,
    NotLoaded,
    PlatformExists,
    RestoreTakenOver,
    RestoreUnfinished,
    said_plainly,
)
from accounting.db.backup.folder import Backup, SavedCollection
from accounting.db.backup.progress import OnProgress, Progress, in_thread, read_ahead, show_nothing
from accounting.db.client import MongoDatabase

logger = logging.getLogger(__name__)

MARK_COLLECTION: Final = "accounting_restore"
LOADING_PREFIX: Final = "accounting_restore."
_MARK_ID: Final = "restore"
_NAMESPACE_NOT_FOUND: Final = 26
_NAMESPACE_EXISTS: Final = 48
# The collection exists, a document is there already; the driver's name for several at once.
_SOMEBODY_ELSE_LOADS: Final = (_NAMESPACE_EXISTS, 11000, 65)


class Phase(StrEnum):
    """How far a restore is; from RENAMING on it can only be finished."""

    LOADING = "loading"
    RENAMING = "renaming"


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore has made, and which collections of the backup it left out."""

    collections: tuple[SavedCollection, ...]
    left_out: tuple[str, ...]


async def restore(
    mongo: MongoDatabase,
    backup: Backup,
    *,
    platform_names: Collection[str],
    with_platform: bool = False,
    on_progress: OnProgress = show_nothing,
) -> Restored:
    """Make the collections of a checked backup, with their documents, indexes and options.

    The platform's are left out unless asked for, and then made only where no platform is.
    Raises CollectionsExist, PlatformExists, NoPlatformInBackup, RestoreUnfinished,
    RestoreTakenOver, NotAsSaved, Misconfigured where a right is missing, and Unavailable.
    """
    saved = backup.manifest.collections
    platform = tuple(found.name for found in saved if found.name in platform_names)
    if with_platform and not platform:
        raise NoPlatformInBackup(backup.path)
    left_out = () if with_platform else platform
    wanted = [found for found in saved if found.name not in left_out]
    with said_plainly():
        names = await _find_names_left(mongo, backup)
        if names is None:
            if with_platform:
                await _require_no_platform(mongo, platform_names)
            names = [found.name for found in wanted]
            await _require_absent(mongo, names)
            await _load_and_check(mongo, backup, wanted, on_progress)
        made = tuple(found for found in saved if found.name in names)
        await _rename(mongo, made)
        await discard_unfinished(mongo)
    return Restored(made, left_out)


async def discard_unfinished(mongo: MongoDatabase) -> int:
    """Drop what a restore has loaded and not renamed; returns how many collections that were."""
    dropped = await _drop_loaded(mongo)
    # Only what exists: a user who may not drop it should not be told so for nothing.
    if await mongo.list_collection_names(filter={"name": MARK_COLLECTION}):
        await mongo.drop_collection(MARK_COLLECTION)
    return dropped


async def _find_names_left(mongo: MongoDatabase, backup: Backup) -> list[str] | None:
    """What a restore of this very backup, killed while renaming, was to make."""
    mark = await _find_mark(mongo)
    if mark is None or mark["phase"] != Phase.RENAMING:
        return None
    if mark["digest"] != backup.digest:
        raise RestoreUnfinished(mark["path"])
    return list(mark["names"])


async def _find_mark(mongo: MongoDatabase) -> Mapping[str, Any] | None:
    return await mongo[MARK_COLLECTION].find_one({"_id": _MARK_ID})


async def _require_no_platform(mongo: MongoDatabase, platform_names: Collection[str]) -> None:
    names = await mongo.list_collection_names(filter={"name": {"$in": list(platform_names)}})
    if names:
        raise PlatformExists(mongo.name, sorted(names))


async def _require_absent(mongo: MongoDatabase, names: Sequence[str]) -> None:
    present = await mongo.list_collection_names(filter={"name": {"$in": list(names)}})
    if present:
        counts = {name: await mongo[name].count_documents({}) for name in sorted(present)}
        raise CollectionsExist(mongo.name, counts)


async def _load_and_check(
    mongo: MongoDatabase,
    backup: Backup,
    wanted: Sequence[SavedCollection],
    on_progress: OnProgress,
) -> None:
    """Load everything under other names; after a failure nothing of it stays."""
    run = await _begin(mongo, backup)
    progress = Progress(on_progress, sum(found.documents for found in wanted))
    try:
        await _drop_loaded(mongo)
        for found in wanted:
            await _load(mongo, run, backup, found, progress)
        await _end_loading(mongo, run, [found.name for found in wanted])
    except RestoreTakenOver:
        raise
    except BaseException:
        await _clean_up(mongo, run)
        raise


async def _begin(mongo: MongoDatabase, backup: Backup) -> str:
    """Leave our mark; a restore that is at work finds out and gives way."""
    run = secrets.token_hex(8)
    try:
        await mongo[MARK_COLLECTION].update_one(
            {"_id": _MARK_ID, "phase": Phase.LOADING.value},
            {
                "$set": {"run": run, "digest": backup.digest, "path": str(backup.path)},
                "$currentDate": {"startedAt": True},
            },
            upsert=True,
        )
    except DuplicateKeyError:  # another one has come to the renaming in this moment
        mark = await _find_mark(mongo)
        raise RestoreUnfinished(mark["path"] if mark else str(backup.path)) from None
    return run


async def _require_ours(mongo: MongoDatabase, run: str) -> None:
    ours = {"_id": _MARK_ID, "run": run, "phase": Phase.LOADING.value}
    if await mongo[MARK_COLLECTION].find_one(ours) is None:
        raise RestoreTakenOver


async def _end_loading(mongo: MongoDatabase, run: str, names: list[str]) -> None:
    ended = await mongo[MARK_COLLECTION].update_one(
        {"_id": _MARK_ID, "run": run, "phase": Phase.LOADING.value},
        {"$set": {"phase": Phase.RENAMING.value, "names": names}},
    )
    if not ended.matched_count:
        raise RestoreTakenOver


async def _load(
    mongo: MongoDatabase, run: str, backup: Backup, saved: SavedCollection, progress: Progress
) -> None:
    """Make one collection, fill it, see that all is there, and build its indexes."""
    name = LOADING_PREFIX + saved.name
    definition = backup.definitions[saved.name]
    await _require_ours(mongo, run)
    try:
        await mongo.command({"create": name, **definition.options})
        saved_batches = in_thread(backup.batches(saved.name))
        async with aclosing(read_ahead(saved_batches)) as batches:
            async for batch in batches:
                await _require_ours(mongo, run)
                # A document may be older than the validator.
                await mongo[name].insert_many(
                    [RawBSONDocument(document) for document in batch],
                    ordered=False,
                    bypass_document_validation=True,
                )
                progress.add(len(batch))
    except OperationFailure as error:
        if error.code not in _SOMEBODY_ELSE_LOADS:
            raise
        await _require_ours(mongo, run)
        raise NotLoaded(saved.name, str(error)) from error
    # Before the indexes: one of them may be a TTL, which lets the server delete what has expired.
    stored = await mongo[name].count_documents({})
    if stored != saved.documents:
        raise NotAsSaved(saved.name, stored, saved.documents)
    if indexes := definition.indexes_to_build():
        await mongo.command({"createIndexes": name, "indexes": indexes})


async def _rename(mongo: MongoDatabase, wanted: Sequence[SavedCollection]) -> None:
    """Give every collection its name; those that have it already keep it.

    In the order of the backup, where the record of what is ours comes first: from then on
    a rollback knows what to drop.
    """
    for found in wanted:
        try:
            await mongo[LOADING_PREFIX + found.name].rename(found.name)
        except OperationFailure as error:
            if error.code == _NAMESPACE_EXISTS:
                count = await mongo[found.name].count_documents({})
                raise CollectionsExist(mongo.name, {found.name: count}) from error
            if error.code != _NAMESPACE_NOT_FOUND:
                raise
    present = await mongo.list_collection_names()
    for found in wanted:
        if found.name not in present:
            raise NotAsSaved(found.name, 0, found.documents)


async def _drop_loaded(mongo: MongoDatabase) -> int:
    names = await mongo.list_collection_names()
    loaded = [name for name in names if name.startswith(LOADING_PREFIX)]
    for name in loaded:
        await mongo.drop_collection(name)
    return len(loaded)


async def _clean_up(mongo: MongoDatabase, run: str) -> None:
    try:
        await _require_ours(mongo, run)
        await discard_unfinished(mongo)
    except (PyMongoError, RestoreTakenOver) as error:
        # What led here says more; the next restore begins with the same cleaning up.
        logger.warning("What was loaded was left behind: %s", error)
