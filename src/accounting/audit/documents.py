"""The audit entry, the head of its chain and the daily seal (spec: Model 5, section 7)."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import Field

from accounting.audit.rules import AuditAction, SealPeriod, entry_hash
from accounting.db.document import BaseDocument, index
from accounting.db.fields import Count, Day, Instant, Sha256Hex, Text
from accounting.ids import ObjectId

BY_DELETED_NUMBER: Final = "deletedNumber"

EntityTypeName = Annotated[str, Field(min_length=1, max_length=50)]
Seq = Annotated[int, Field(ge=1)]


class ChainedDocument(BaseDocument):
    """A link of a chain: its hash covers its content and the hash of the link before it."""

    prev_hash: Sha256Hex
    hash: Sha256Hex

    def computed_hash(self) -> str:
        """What `hash` must be for this content."""
        content = {
            (field.alias or name): getattr(self, name)
            for name, field in type(self).model_fields.items()
            if name not in ("hash", "prev_hash", "revision_id")
        }
        return entry_hash(content, self.prev_hash)


class AuditLog(ChainedDocument):
    """One action by one actor on one entity; append-only."""

    action: AuditAction
    entity_type: EntityTypeName
    entity_id: ObjectId
    user_id: ObjectId
    changes: dict[str, Any] | None = None
    description: Text
    ip_address: Annotated[str, Field(max_length=100)] | None = None
    user_agent: Annotated[str, Field(max_length=500)] | None = None
    request_id: Annotated[str, Field(max_length=100)] | None = None
    created_at: Instant
    seq: Seq

    class Settings:
        name = "audit_logs"
        indexes = [
            index("entityType", "entityId", "seq", unique=True),
            index("entityId"),
            index("entityType"),
            index("userId"),
            index("createdAt"),
            index("action"),
            # A day's entries in the order of its seal; and the list, newest first, for each filter
            # without a sort in memory. The four below cost a hundredth of a millisecond per entry.
            index("createdAt", "_id"),
            index("entityId", "createdAt", "_id"),
            index("entityType", "createdAt", "_id"),
            index("userId", "createdAt", "_id"),
            index("action", "createdAt", "_id"),
            # Which numbers have no invoice any more: one deletion in many entries.
            index(
                "changes.before.invoiceNumber",
                only_if={"action": AuditAction.INVOICE_DELETED.value},
                name=BY_DELETED_NUMBER,
            ),
        ]


class AuditHead(BaseDocument):
    """Where the chain of an entity ends: the last entry that was recorded.

    A chain cannot witness its own end. Without the head an entry that was the last of its chain
    could be deleted unseen until the day is sealed, and the next entry would take its place.
    """

    entity_type: EntityTypeName
    entity_id: ObjectId
    seq: Seq
    hash: Sha256Hex

    class Settings:
        name = "audit_heads"
        indexes = [index("entityType", "entityId", unique=True)]


class AuditSeal(ChainedDocument):
    """The Merkle root over all entries of one business day, chained to the seal of the day before.

    The leaves are the entries' hashes in order of (createdAt, _id).
    """

    day: Day
    starts_at: Instant
    ends_at: Instant
    entry_count: Count
    merkle_root: Sha256Hex
    created_at: Instant

    class Settings:
        name = "audit_seals"
        # Two sealers may race: this index lets one seal per day through.
        indexes = [index("day", unique=True)]

    @property
    def period(self) -> SealPeriod:
        return SealPeriod(self.day, self.starts_at, self.ends_at)
