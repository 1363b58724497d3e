"""The audit entry as stored (spec: Model 5)."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from accounting.audit.rules import AuditAction, entry_hash
from accounting.db.document import BaseDocument, index
from accounting.db.fields import Instant, Sha256Hex, Text
from accounting.ids import ObjectId


class AuditLog(BaseDocument):
    """One action by one actor on one entity; append-only."""

    action: AuditAction
    entity_type: Annotated[str, Field(min_length=1, max_length=50)]
    entity_id: ObjectId
    user_id: ObjectId
    changes: dict[str, Any] | None = None
    description: Text
    ip_address: Annotated[str, Field(max_length=100)] | None = None
    user_agent: Annotated[str, Field(max_length=500)] | None = None
    request_id: Annotated[str, Field(max_length=100)] | None = None
    created_at: Instant
    seq: Annotated[int, Field(ge=1)]
    prev_hash: Sha256Hex
    hash: Sha256Hex

    class Settings:
        name = "audit_logs"
        indexes = [
            index("entityType", "entityId", "seq", unique=True),
            index("entityId"),
            index("entityType"),
            index("userId"),
            index("createdAt"),
            index("action"),
        ]

    def computed_hash(self) -> str:
        """What `hash` must be for this content."""
        content = {
            (field.alias or name): getattr(self, name)
            for name, field in type(self).model_fields.items()
            if name not in ("hash", "prev_hash", "revision_id")
        }
        return entry_hash(content, self.prev_hash)
