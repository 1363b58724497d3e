"""Rolling back: drop what the setup has made, and nothing else, after a backup of all of it.

What is ours is what the setup's own record (`accounting_meta`) names. The record is dropped last,
so that a rollback that was killed can be run again and finishes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from accounting.db.backup.failures import (
    NotConfirmed,
    NothingKnownToBeOurs,
    RecordNamesThePlatform,
    StillInUse,
    said_plainly,
)
from accounting.db.backup.folder import BackupManifest
from accounting.db.backup.progress import OnProgress, show_nothing
from accounting.db.backup.restoring import discard_unfinished
from accounting.db.backup.saving import back_up
from accounting.db.client import MongoDatabase
from accounting.db.manifest import META, read_manifest


@dataclass(frozen=True, slots=True)
class Doomed:
    """A collection that a rollback drops."""

    name: str
    documents: int


@dataclass(frozen=True, slots=True)
class RollbackPlan:
    """What a rollback would drop, the setup's record last.

    `gone` was made by us and does not exist any more. What stays as it is: `adopted` was there
    before us, and keeps the indexes and the validator that the setup gave it; `unknown` has the
    name of a collection that we made, and is another one.
    """

    collections: tuple[Doomed, ...]
    gone: tuple[str, ...]
    adopted: tuple[str, ...]
    unknown: tuple[str, ...]
    newest_document_at: datetime | None

    @property
    def needs_confirmation(self) -> bool:
        """Whether there is more than `apply` would make again."""
        return any(found.documents for found in self.collections if found.name != META)


async def plan_rollback(
    mongo: MongoDatabase, *, our_names: Collection[str], platform_names: Collection[str]
) -> RollbackPlan:
    """What would be dropped: the collections that the record says we made, and the record.

    Raises RecordNamesThePlatform; NothingKnownToBeOurs when there is no record although collections
    with our names exist.
    """
    with said_plainly():
        manifest = await read_manifest(mongo)
        if not_ours := sorted(set(manifest.made_by_us) & set(platform_names)):
            raise RecordNamesThePlatform(not_ours)
        present = set(await mongo.list_collection_names())
        if not manifest.exists and (unknown := present & set(our_names)):
            raise NothingKnownToBeOurs(mongo.name, sorted(unknown))
        names = [name for name in manifest.made_by_us if name in present]
        names += [META] if manifest.exists else []
        kept = [
            found
            for found in manifest.collections
            if not found.created_by_us and found.name in present
        ]
        return RollbackPlan(
            collections=tuple(
                [Doomed(name, await mongo[name].count_documents({})) for name in names]
            ),
            gone=tuple(name for name in manifest.made_by_us if name not in present),
            adopted=tuple(found.name for found in kept if found.is_adopted),
            unknown=tuple(found.name for found in kept if not found.is_adopted),
            newest_document_at=await _newest(mongo, names),
        )


def require_confirmed(mongo: MongoDatabase, plan: RollbackPlan, confirmed: str | None) -> None:
    """Raises NotConfirmed where data would go and nobody named this database, or named another."""
    if confirmed is None and plan.needs_confirmation:
        raise NotConfirmed(mongo.name, None)
    if confirmed is not None and confirmed != mongo.name:
        raise NotConfirmed(mongo.name, confirmed)


async def roll_back(
    mongo: MongoDatabase,
    plan: RollbackPlan,
    target: Path,
    *,
    now: datetime,
    is_of_one_moment: bool = True,
    on_progress: OnProgress = show_nothing,
) -> BackupManifest:
    """Back up all of the plan into `target` and drop it, the record last.

    Raises what `back_up` raises, before anything is dropped; StillInUse where the service goes on
    writing.
    """
    names = [found.name for found in plan.collections if found.name != META]
    # The record comes first in the backup, as a restore needs it, and is dropped last.
    saved = await back_up(
        mongo,
        [META, *names],
        target,
        now=now,
        is_of_one_moment=is_of_one_moment,
        on_progress=on_progress,
    )
    with said_plainly():
        await _require_unused(mongo, saved)
        for name in names:
            await mongo.drop_collection(name)
        if back := set(await mongo.list_collection_names()) & set(names):
            raise StillInUse(sorted(back), "What was dropped is in the backup; they are new ones.")
        await mongo.drop_collection(META)
    return saved


async def drop_unfinished_restore(mongo: MongoDatabase) -> int:
    """Drop what a killed restore has left behind; returns how many collections that were."""
    with said_plainly():
        return await discard_unfinished(mongo)


async def _newest(mongo: MongoDatabase, names: Sequence[str]) -> datetime | None:
    """When the newest document was made, as far as ids tell it."""
    found = [
        await mongo[name].find_one({"_id": {"$type": "objectId"}}, {"_id": 1}, sort=[("_id", -1)])
        for name in names
    ]
    return max((raw["_id"].generation_time for raw in found if raw), default=None)


async def _require_unused(mongo: MongoDatabase, saved: BackupManifest) -> None:
    """What came after the backup would be lost. Fewer documents are none: those are saved."""
    grown = [
        collection.name
        for collection in saved.collections
        if await mongo[collection.name].count_documents({}) > collection.documents
    ]
    if grown:
        raise StillInUse(grown, "Nothing was dropped.")
