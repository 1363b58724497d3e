"""Archiving: export, check, remove; each step can be interrupted at any moment and gone on with.

Nothing is removed before the folder is on the disk and was read back. The document of the archive
says how far it is; it changes in each transaction that removes something.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Final, TypeAlias
from zoneinfo import ZoneInfo

from accounting.actor import SYSTEM
from accounting.archiving.documents import Archive, ArchiveStatus
from accounting.archiving.exporting import SavedInvoice, export, read_back
from accounting.archiving.planning import ArchivePlan
from accounting.archiving.removal import remove_saved
from accounting.archiving.rules import Age, ArchiveError
from accounting.archiving.turns import (
    Holder,
    begin,
    begin_removal,
    end,
    signs_of_life,
    take_over,
)
from accounting.db.backup.folder import Backup, open_backup
from accounting.db.backup.progress import OnProgress
from accounting.db.database import Database
from accounting.ids import ObjectId

# A transaction of so many takes a fraction of a second, and holds up nobody for longer.
BATCH_INVOICES: Final = 100

# The server keeps the open transaction of a killed process, and with it the turn, for a minute
# unless told otherwise (`transactionLifetimeLimitSeconds`; it was measured at 89 s).
PATIENCE_SECONDS: Final = 120.0

# What is being done, how much of it is done, and how much it is.
ShowProgress: TypeAlias = Callable[[str, int, int], None]


class ArchiveFolderMissing(ArchiveError):
    """The folder of an interrupted archive must be there to go on with it."""

    def __init__(self, archive: Archive) -> None:
        super().__init__(
            f"An archive was interrupted after it had removed {archive.removed:,} invoices, and "
            f"its folder {archive.folder} on {archive.host} is not here: run this where it is; or "
            "give --abandon, and what it has not removed stays."
        )


class ArchiveFolderChanged(ArchiveError):
    """The folder is another one than the one that was exported."""

    def __init__(self, archive: Archive) -> None:
        super().__init__(
            f"The folder {archive.folder} is not the one that was exported: its SHA256SUMS is "
            "another one. Nothing more was removed; put it back, or give --abandon."
        )


async def archive_invoices(
    db: Database,
    zone: ZoneInfo,
    plan: ArchivePlan,
    age: Age,
    parent: Path,
    *,
    holder: Holder,
    batch_invoices: int = BATCH_INVOICES,
    show: ShowProgress = lambda what, done, total: None,
) -> Archive:
    """Export what the plan takes into a new folder in `parent`, check it, and remove it here.

    Raises ArchiveAtWork; what `back_up` and `open_backup` raise, before anything is removed.
    """
    db = db.with_patience(PATIENCE_SECONDS)
    now = db.clock()
    folder = parent / f"accounting-archive-{db.mongo.name}-{_stamp(now)}"
    archive = await db.run(SYSTEM, begin, holder, plan, age, folder)
    async with signs_of_life(db, ObjectId(archive.id), holder):
        await export(db.mongo, plan, folder, now=now, on_progress=_as(show, "documents exported"))
        backup = await asyncio.to_thread(
            open_backup, folder, on_progress=_as(show, "documents read back")
        )
        archive = await db.run(SYSTEM, begin_removal, ObjectId(archive.id), holder, backup)
        return await _remove_all(db, zone, archive, backup, holder, batch_invoices, show)


async def resume_archive(
    db: Database,
    zone: ZoneInfo,
    *,
    holder: Holder,
    batch_invoices: int = BATCH_INVOICES,
    show: ShowProgress = lambda what, done, total: None,
) -> Archive | None:
    """Go on with an archive that was interrupted while it removed; None if there is none.

    One that was interrupted while it exported has removed nothing, and is forgotten.
    Raises ArchiveAtWork, ArchiveFolderMissing, ArchiveFolderChanged, BackupDamaged.
    """
    db = db.with_patience(PATIENCE_SECONDS)
    archive = await db.run(SYSTEM, take_over, holder)
    if archive is None:
        return None
    async with signs_of_life(db, ObjectId(archive.id), holder):
        if archive.status is ArchiveStatus.EXPORTING:
            await db.run(SYSTEM, end, ObjectId(archive.id), holder, ArchiveStatus.ABANDONED)
            return None
        folder = Path(archive.folder)
        if not await asyncio.to_thread(folder.is_dir):
            raise ArchiveFolderMissing(archive)
        backup = await asyncio.to_thread(
            open_backup, folder, on_progress=_as(show, "documents read back")
        )
        if backup.digest != archive.sha256:
            raise ArchiveFolderChanged(archive)
        return await _remove_all(db, zone, archive, backup, holder, batch_invoices, show)


async def abandon_archive(db: Database, *, holder: Holder) -> Archive | None:
    """Let an interrupted archive be: what it has not removed stays; None if there is none.

    Raises ArchiveAtWork.
    """
    db = db.with_patience(PATIENCE_SECONDS)
    archive = await db.run(SYSTEM, take_over, holder)
    if archive is None:
        return None
    return await db.run(SYSTEM, end, ObjectId(archive.id), holder, ArchiveStatus.ABANDONED)


async def _remove_all(
    db: Database,
    zone: ZoneInfo,
    archive: Archive,
    backup: Backup,
    holder: Holder,
    batch_invoices: int,
    show: ShowProgress,
) -> Archive:
    archive_id = ObjectId(archive.id)
    total = archive.exported.invoices if archive.exported else 0
    saved = read_back(backup, after=archive.last_invoice_id)
    while batch := await asyncio.to_thread(_take, saved, batch_invoices):
        archive = await db.run(SYSTEM, remove_saved, archive_id, holder, batch, zone)
        show("invoices removed", archive.removed + archive.left, total)
    return await db.run(SYSTEM, end, archive_id, holder, ArchiveStatus.DONE)


def _take(saved: Iterator[SavedInvoice], most: int) -> list[SavedInvoice]:
    return list(islice(saved, most))


def _as(show: ShowProgress, what: str) -> OnProgress:
    return lambda done, total: show(what, done, total)


def _stamp(now: datetime) -> str:
    return f"{now:%Y%m%dT%H%M%S}{now.microsecond // 1000:03}Z"
