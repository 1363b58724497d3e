"""Recording and reading the trail: `record` and `history`, and no way to alter an entry."""

from __future__ import annotations

from typing import Any, Final

from accounting.audit.documents import AuditHead, AuditLog
from accounting.audit.rules import (
    FIRST_PREV_HASH,
    AuditAction,
    EntityType,
    Snapshot,
    changed_fields,
)
from accounting.db.database import Session, Transaction
from accounting.ids import ObjectId, new_id

DESCRIPTION_LENGTH_MAX: Final = 2_000
HISTORY_ENTRIES_MAX: Final = 1_000


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

    The entry continues its entity's chain. Two writers who append at once meet at the head of the
    chain: one goes through, the other's transaction is run again. Spec: section 7.
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
        description=description[:DESCRIPTION_LENGTH_MAX],
        ip_address=tx.actor.ip_address,
        user_agent=tx.actor.user_agent,
        request_id=tx.actor.request_id,
        created_at=tx.now,
    )
    _link(entry, last.seq if last else 0, last.hash if last else FIRST_PREV_HASH)
    head = await _move_head(tx, entry)
    if head and head["hash"] != entry.prev_hash:
        # Somebody has removed, replaced or added entries at the end of this chain. Go on from what
        # was recorded, beyond every number in use, so that the verification still finds it.
        _link(entry, max(entry.seq - 1, head["seq"]), head["hash"])
        await _move_head(tx, entry)
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


def _link(entry: AuditLog, seq_before: int, hash_before: str) -> None:
    entry.seq = seq_before + 1
    entry.prev_hash = hash_before
    entry.hash = entry.computed_hash()


async def _move_head(tx: Transaction, entry: AuditLog) -> dict[str, Any] | None:
    """Let the chain end with this entry; returns the head as it was, None for a first entry."""
    head: dict[str, Any] | None = await AuditHead.get_motor_collection().find_one_and_update(
        {"entityType": entry.entity_type, "entityId": entry.entity_id},
        {"$set": {"seq": entry.seq, "hash": entry.hash}, "$setOnInsert": {"_id": new_id()}},
        upsert=True,
        session=tx.session,
    )
    return head
