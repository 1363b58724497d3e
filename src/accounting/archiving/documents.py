"""What the database remembers of each archive: where its folder is, and how far it has come."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from accounting.db.database import Session
from accounting.db.document import BaseDocument, EmbeddedDocument, index
from accounting.db.fields import Count, Day, Instant, Name, Sha256Hex, Text
from accounting.ids import ObjectId


class ArchiveStatus(StrEnum):
    """How far an archive is; nothing is removed before REMOVING, the folder is whole by then."""

    EXPORTING = "EXPORTING"
    REMOVING = "REMOVING"
    DONE = "DONE"
    ABANDONED = "ABANDONED"


class ArchiveCounts(EmbeddedDocument):
    """How many documents of each kind."""

    invoices: Count = 0
    payments: Count = 0
    notifications: Count = 0
    pdfs: Count = 0


class Archive(BaseDocument):
    """One run of `accounting archive`; `holder` is the process that is at it.

    Each transaction that removes something changes this document if its process still holds it:
    so two can never both remove, and a second process goes on where a killed one was.
    """

    status: ArchiveStatus = ArchiveStatus.EXPORTING
    older_than: Annotated[str, Field(min_length=1, max_length=10)]
    cutoff: Day
    # The folder's full path on that host; entries of the trail have its name and its digest.
    host: Name
    folder: Text
    sha256: Sha256Hex | None = None
    exported: ArchiveCounts | None = None
    removed: Count = 0
    # Those that were changed meanwhile: they stay.
    left: Count = 0
    last_invoice_id: ObjectId | None = None
    holder: Name
    lease_until: Instant
    started_at: Instant
    finished_at: Instant | None = None

    class Settings:
        name = "accounting_archives"
        # No second archive begins before the first one is over.
        indexes = [index("finishedAt", unique=True, only_if={"finishedAt": None})]


async def find_unfinished(*, session: Session | None = None) -> Archive | None:
    """The archive that is at work or was interrupted."""
    archive: Archive | None = await Archive.find_one({"finishedAt": None}, session=session)
    return archive


async def list_archives(limit: int) -> list[Archive]:
    """The archives that were made before, the newest first."""
    found = Archive.find({"status": ArchiveStatus.DONE.value}).sort("-finishedAt")
    return await found.limit(limit).to_list()
