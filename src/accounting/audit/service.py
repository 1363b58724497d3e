"""Recording and reading the trail, one entry or many; and no way to alter an entry."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from accounting.audit.documents import AuditHead, AuditLog
from accounting.audit.faults import Found, whole_number
from accounting.audit.rules import (
    FIRST_PREV_HASH,
    AuditAction,
    EntityType,
    Snapshot,
    changed_fields,
)
from accounting.db.database import Session, Transaction
from accounting.ids import ObjectId, new_id

Entity: TypeAlias = tuple[EntityType, ObjectId]

DESCRIPTION_LENGTH_MAX: Final = 2_000
HISTORY_ENTRIES_MAX: Final = 1_000
_LINK_FIELDS: Final = {"entityType": 1, "entityId": 1, "seq": 1, "hash": 1}


@dataclass(frozen=True, slots=True)
class NewEntry:
    """What an entry is made from; a creation has no `before`, a deletion no `after`."""

    action: AuditAction
    entity: Entity
    description: str
    before: Snapshot | None = None
    after: Snapshot | None = None


@dataclass(frozen=True, slots=True)
class _Link:
    """What the next entry of a chain continues."""

    seq: int
    hash: str


_NO_LINK: Final = _Link(0, FIRST_PREV_HASH)


async def record(
    tx: Transaction,
    action: AuditAction,
    entity: Entity,
    description: str,
    *,
    before: Snapshot | None = None,
    after: Snapshot | None = None,
) -> AuditLog:
    """Append an entry in the transaction of the change itself, so that neither exists alone.

    The entry continues its entity's chain. Two writers who append at once meet at the head of the
    chain: one goes through, the other's transaction is run again. Spec: section 7.
    """
    [entry] = await record_all(tx, [NewEntry(action, entity, description, before, after)])
    return entry


async def record_all(tx: Transaction, entries: Sequence[NewEntry]) -> list[AuditLog]:
    """Append many entries, as `record` one after another would, in one read and write of each kind.

    Each continues its entity's chain, also when several of them are about one entity.
    """
    match entries:
        case []:
            return []
        case [new]:
            return [await _record_one(tx, new)]
    ends = await _ends_of_chains(tx, dict.fromkeys(new.entity for new in entries))
    recorded: list[AuditLog] = []
    for new in entries:
        entry = _linked_entry(tx, new, ends[new.entity])
        ends[new.entity] = _Link(entry.seq, entry.hash)
        recorded.append(entry)
    heads = [(_chain(entity), {"seq": end.seq, "hash": end.hash}) for entity, end in ends.items()]
    # First, where two writers meet: the loser has not written its entries yet.
    await AuditHead.put_many(tx, heads)
    await AuditLog.add_many(tx, recorded)
    return recorded


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


async def _record_one(tx: Transaction, new: NewEntry) -> AuditLog:
    # In three round trips: moving the head returns what it was. Nearly every write comes here.
    last = await _last_entry(new.entity, tx.session)
    expected_end = _end_of_chain(last, None)
    entry = _linked_entry(tx, new, expected_end)
    head = await _move_head(tx, entry)
    end = _end_of_chain(last, head)
    if end != expected_end:
        entry = _linked_entry(tx, new, end)
        await _move_head(tx, entry)
    await entry.add(tx)
    return entry


def _linked_entry(tx: Transaction, new: NewEntry, end: _Link) -> AuditLog:
    entity_type, entity_id = new.entity
    entry: AuditLog = AuditLog.model_construct(
        id=new_id(),
        action=new.action,
        entity_type=entity_type.value,
        entity_id=entity_id,
        user_id=tx.actor.user_id,
        changes=changed_fields(new.before, new.after) if new.before or new.after else None,
        description=new.description[:DESCRIPTION_LENGTH_MAX],
        ip_address=tx.actor.ip_address,
        user_agent=tx.actor.user_agent,
        request_id=tx.actor.request_id,
        created_at=tx.now,
        seq=end.seq + 1,
        prev_hash=end.hash,
    )
    entry.hash = entry.computed_hash()
    return entry


def _end_of_chain(last: Found | None, head: Found | None) -> _Link:
    """What the next entry continues, from the last entry and the head as they are found.

    The two differ when somebody has removed, replaced or added entries at the end of this chain. Go
    on from what was recorded, beyond every number in use, so that the verification still finds it.
    """
    recorded = head or last
    if recorded is None:
        return _NO_LINK
    seq = max(whole_number(found["seq"]) or 0 for found in (last, head) if found)
    return _Link(seq, recorded["hash"])


async def _ends_of_chains(tx: Transaction, entities: Iterable[Entity]) -> dict[Entity, _Link]:
    chains = list(entities)
    of_these = {
        "entityType": {"$in": list({entity_type.value for entity_type, _ in chains})},
        "entityId": {"$in": [entity_id for _, entity_id in chains]},
    }
    heads_found = AuditHead.get_motor_collection().find(of_these, _LINK_FIELDS, session=tx.session)
    heads = {_entity(head): head async for head in heads_found}
    beyond = _beyond_heads((chain, heads.get(chain)) for chain in chains)
    entries = AuditLog.get_motor_collection().find(beyond, _LINK_FIELDS, session=tx.session)
    # In ascending order, so that the last one of each chain stays.
    lasts = {_entity(entry): entry async for entry in entries.sort("seq", 1)}
    return {chain: _end_of_chain(lasts.get(chain), heads.get(chain)) for chain in chains}


def _beyond_heads(chains: Iterable[tuple[Entity, Found | None]]) -> dict[str, object]:
    """The entries after the heads of these chains: none, unless somebody has added them.

    Of a chain without a head it is all of them. Chains of the same length are one condition.
    """
    ids: defaultdict[tuple[str, int], list[ObjectId]] = defaultdict(list)
    for (entity_type, entity_id), head in chains:
        length = whole_number(head["seq"]) if head else None
        ids[entity_type.value, length or 0].append(entity_id)
    return {
        "$or": [
            {"entityType": entity_type, "entityId": {"$in": among}, "seq": {"$gt": length}}
            for (entity_type, length), among in ids.items()
        ]
    }


async def _last_entry(entity: Entity, session: Session | None) -> Found | None:
    # A comparison with a number leaves out what is none.
    query = {**_chain(entity), "seq": {"$gt": 0}}
    last: Found | None = await AuditLog.get_motor_collection().find_one(
        query, _LINK_FIELDS, sort=[("seq", -1)], session=session
    )
    return last


async def _move_head(tx: Transaction, entry: AuditLog) -> Found | None:
    """Let the chain end with this entry; returns the head as it was, None for a first entry."""
    head: Found | None = await AuditHead.get_motor_collection().find_one_and_update(
        {"entityType": entry.entity_type, "entityId": entry.entity_id},
        {"$set": {"seq": entry.seq, "hash": entry.hash}, "$setOnInsert": {"_id": new_id()}},
        upsert=True,
        session=tx.session,
    )
    return head


def _chain(entity: Entity) -> dict[str, object]:
    entity_type, entity_id = entity
    return {"entityType": entity_type.value, "entityId": entity_id}


def _entity(found: Found) -> Entity:
    return EntityType(found["entityType"]), found["entityId"]
