"""Whose turn it is: one archive at a time, and one process at work on it."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from accounting.archiving.documents import Archive, ArchiveCounts, ArchiveStatus, find_unfinished
from accounting.archiving.planning import ArchivePlan
from accounting.archiving.rules import Age, ArchiveError
from accounting.clock import after
from accounting.db.backup.folder import Backup
from accounting.db.client import DriverError
from accounting.db.database import Database, Transaction
from accounting.ids import ObjectId, new_id
from accounting.invoices.documents import Invoice
from accounting.invoices.papers import InvoicePdf
from accounting.notifications.documents import InvoiceNotification
from accounting.payments.documents import InvoicePayment

# A process that has been silent for so long was killed; a batch of the removal takes far less.
LEASE_SECONDS: Final = 30.0
_SIGNS_PER_LEASE: Final = 6


class ArchiveAtWork(ArchiveError):
    """One at a time: two would export the same invoices."""

    def __init__(self, other: Archive) -> None:
        super().__init__(
            f"Another `accounting archive` is at work on {other.host}, into {other.folder}. "
            f"If it was killed, run this again in {LEASE_SECONDS:.0f} seconds."
        )


class ArchiveTakenOver(ArchiveError):
    """This process was away for so long that another one goes on with the archive."""

    def __init__(self) -> None:
        super().__init__(
            "Another `accounting archive` has taken over, since this one gave no sign of life; "
            "what was removed until then is in the archive's folder."
        )


@dataclass(frozen=True, slots=True)
class Holder:
    """A process, and for how long its turn is kept while it shows no sign of life."""

    lease_seconds: float = LEASE_SECONDS
    name: str = field(default_factory=lambda: secrets.token_hex(8))


async def begin(
    tx: Transaction, holder: Holder, plan: ArchivePlan, age: Age, folder: Path
) -> Archive:
    """Take the turn for a new archive. Raises ArchiveAtWork."""
    other = await find_unfinished(session=tx.session)
    if other is not None:
        raise ArchiveAtWork(other)
    archive = Archive(
        id=new_id(),
        older_than=age.text,
        cutoff=plan.cutoff,
        host=socket.gethostname(),
        folder=str(folder),
        holder=holder.name,
        lease_until=after(tx.now, seconds=holder.lease_seconds),
        started_at=tx.now,
    )
    await archive.add(tx)
    return archive


async def take_over(tx: Transaction, holder: Holder) -> Archive | None:
    """Take the turn of an interrupted archive; None if there is none. Raises ArchiveAtWork."""
    archive = await find_unfinished(session=tx.session)
    if archive is None:
        return None
    if archive.lease_until > tx.now:
        raise ArchiveAtWork(archive)
    return await archive.change(
        tx,
        expect={"holder": archive.holder},
        holder=holder.name,
        lease_until=after(tx.now, seconds=holder.lease_seconds),
    )


async def get_held(tx: Transaction, archive_id: ObjectId, holder: Holder) -> Archive:
    """The archive as it is, for a process that has its turn still. Raises ArchiveTakenOver."""
    held = {"_id": archive_id, "holder": holder.name, "finishedAt": None}
    archive: Archive | None = await Archive.find_one(held, session=tx.session)
    if archive is None:
        raise ArchiveTakenOver
    return archive


async def begin_removal(
    tx: Transaction, archive_id: ObjectId, holder: Holder, backup: Backup
) -> Archive:
    """Note that the folder is whole, and what is in it: from now on it is removed."""
    archive = await get_held(tx, archive_id, holder)
    saved = {found.name: found.documents for found in backup.manifest.collections}
    return await archive.change(
        tx,
        status=ArchiveStatus.REMOVING,
        sha256=backup.digest,
        exported=ArchiveCounts(
            invoices=saved[Invoice.get_collection_name()],
            payments=saved[InvoicePayment.get_collection_name()],
            notifications=saved[InvoiceNotification.get_collection_name()],
            pdfs=saved[InvoicePdf.get_collection_name()],
        ),
    )


async def end(
    tx: Transaction, archive_id: ObjectId, holder: Holder, status: ArchiveStatus
) -> Archive:
    """Give the turn to whoever is next."""
    archive = await get_held(tx, archive_id, holder)
    return await archive.change(tx, status=status, finished_at=tx.now)


@asynccontextmanager
async def signs_of_life(db: Database, archive_id: ObjectId, holder: Holder) -> AsyncIterator[None]:
    """Keep the turn while something takes long; whoever fails gives it back at once."""
    signs = asyncio.create_task(_show_signs(db, archive_id, holder))
    try:
        yield
    except BaseException:
        with suppress(DriverError):  # what led here says more
            await _keep(db, archive_id, holder, seconds=0)
        raise
    finally:
        signs.cancel()


async def _show_signs(db: Database, archive_id: ObjectId, holder: Holder) -> None:
    while True:
        await asyncio.sleep(holder.lease_seconds / _SIGNS_PER_LEASE)
        with suppress(DriverError):  # the work itself will say that the server is away
            await _keep(db, archive_id, holder, seconds=holder.lease_seconds)


async def _keep(db: Database, archive_id: ObjectId, holder: Holder, *, seconds: float) -> None:
    await Archive.get_motor_collection().update_one(
        {"_id": archive_id, "holder": holder.name},
        {"$set": {"leaseUntil": after(db.clock(), seconds=seconds)}},
    )
