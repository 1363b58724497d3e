"""Recording and reading the trail: `record` and `history`, and no way to alter an entry."""

from __future__ import annotations

from accounting.audit.documents import AuditLog
from accounting.audit.rules import (
    FIRST_PREV_HASH,
    AuditAction,
    EntityType,
    Snapshot,
    changed_fields,
)
from accounting.db.database import Session, Transaction
from accounting.ids import ObjectId, new_id

HISTORY_ENTRIES_MAX = 1_000


async def record(
    tx: Transaction,
    action: AuditAction,
    entity: tuple[EntityType, ObjectId],
    description: str,
    *,
    before: Snapshot | None = None,
    after: Snapshot | None = None,
) -> AuditLog:
    """Append an entry in the transaction of the change itself, so that neither exists alone.

    The entry continues its entity's chain; when two writers append at once, the unique index on
    `seq` lets one through and the other's transaction is run again. Spec: section 7.
    """
    entity_type, entity_id = entity
    last = await _last_entry(entity_type, entity_id, tx.session)
    entry: AuditLog = AuditLog.model_construct(
        id=new_id(),
        action=action,
        entity_type=entity_type.value,
        entity_id=entity_id,
        user_id=tx.actor.user_id,
        changes=changed_fields(before, after) if before or after else None,
        description=description,
        ip_address=tx.actor.ip_address,
        user_agent=tx.actor.user_agent,
        request_id=tx.actor.request_id,
        created_at=tx.now,
        seq=last.seq + 1 if last else 1,
        prev_hash=last.hash if last else FIRST_PREV_HASH,
    )
    entry.hash = entry.computed_hash()
    await entry.add(tx)
    return entry


async def history(
    entity_type: EntityType, entity_id: ObjectId, *, session: Session | None = None
) -> list[AuditLog]:
    """The entries about an entity, oldest first, at most HISTORY_ENTRIES_MAX of them."""
    return (
        await AuditLog.find({"entityType": entity_type, "entityId": entity_id}, session=session)
        .sort("seq")
        .limit(HISTORY_ENTRIES_MAX)
        .to_list()
    )


async def _last_entry(
    entity_type: EntityType, entity_id: ObjectId, session: Session | None
) -> AuditLog | None:
    return (
        await AuditLog.find({"entityType": entity_type, "entityId": entity_id}, session=session)
        .sort("-seq")
        .first_or_none()
    )
