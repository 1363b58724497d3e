"""Many entries at once are the entries that `record` would have appended one after another."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from accounting.audit.documents import AuditHead, AuditLog
from accounting.audit.rules import FIRST_PREV_HASH, AuditAction, EntityType
from accounting.audit.service import NewEntry, history, record, record_all
from accounting.db.database import Transaction
from accounting.ids import ObjectId, new_id
from builders import ADMIN, NOW
from fakes import TestDatabase
from trails import a_chain

Tamper = Callable[[ObjectId], Awaitable[object]]


def an_update(
    entity_id: ObjectId, what: str = "changed", entity_type: EntityType = EntityType.INVOICE
) -> NewEntry:
    return NewEntry(AuditAction.INVOICE_UPDATED, (entity_type, entity_id), what, {"a": 1}, {"a": 2})


async def record_each(tx: Transaction, entries: list[NewEntry]) -> list[AuditLog]:
    return [
        await record(
            tx, new.action, new.entity, new.description, before=new.before, after=new.after
        )
        for new in entries
    ]


async def chain_of(entity_id: ObjectId) -> list[tuple[str, int]]:
    """What its entries say, with their numbers; each of them sound and linked to the one before."""
    entries = await history(EntityType.INVOICE, entity_id)
    assert all(entry.computed_hash() == entry.hash for entry in entries)
    hashes = [FIRST_PREV_HASH, *(entry.hash for entry in entries)]
    assert [entry.prev_hash for entry in entries] == hashes[:-1]
    [head] = await AuditHead.find({"entityId": entity_id}).to_list()
    assert (head.seq, head.hash) == (entries[-1].seq, entries[-1].hash)
    return [(entry.description, entry.seq) for entry in entries]


async def test_entries_of_new_and_of_long_chains_are_appended_in_their_order(
    db: TestDatabase,
) -> None:
    new, short, long = new_id(), await a_chain(db, 1), await a_chain(db, 12)
    whats = [(long, "one"), (new, "two"), (long, "three"), (short, "four"), (long, "five")]

    recorded = await db.run(ADMIN, record_all, [an_update(entity, what) for entity, what in whats])

    assert [(entry.entity_id, entry.description) for entry in recorded] == whats
    assert [entry.seq for entry in recorded] == [13, 1, 14, 2, 15]
    assert await chain_of(new) == [("two", 1)]
    assert await chain_of(short) == [("change 1", 1), ("four", 2)]
    assert (await chain_of(long))[11:] == [
        ("change 12", 12),
        ("one", 13),
        ("three", 14),
        ("five", 15),
    ]
    assert await history(EntityType.INVOICE, new) == [recorded[1]]


async def test_an_entry_has_all_that_a_single_one_has(db: TestDatabase) -> None:
    alone, among = new_id(), new_id()
    long_text = "x" * 2_001

    await db.run(ADMIN, record_all, [an_update(alone, long_text)])
    await db.run(ADMIN, record_all, [an_update(among, long_text), an_update(new_id())])

    [one], [other] = [await history(EntityType.INVOICE, entity) for entity in (alone, among)]
    own = {"id", "entity_id", "hash", "revision_id"}
    assert other.model_dump(exclude=own) == one.model_dump(exclude=own)
    assert (other.created_at, other.user_id, other.request_id) == (NOW, ADMIN.user_id, "request-1")
    assert (len(other.description), other.changes) == (
        2_000,
        {"before": {"a": 1}, "after": {"a": 2}},
    )


async def test_the_same_id_of_two_types_has_two_chains(db: TestDatabase) -> None:
    shared = await a_chain(db, 2)
    template = EntityType.RECURRING_INVOICE

    recorded = await db.run(
        ADMIN, record_all, [an_update(shared), an_update(shared, entity_type=template)]
    )

    assert [(entry.entity_type, entry.seq) for entry in recorded] == [
        ("Invoice", 3),
        ("RecurringInvoice", 1),
    ]
    assert await AuditHead.find_all().count() == 2


async def test_no_entries_are_no_write(db: TestDatabase) -> None:
    assert await db.run(ADMIN, record_all, []) == []

    assert await AuditLog.find_all().count() == 0
    assert await AuditHead.find_all().count() == 0


async def delete_last(entity_id: ObjectId) -> None:
    last = (await history(EntityType.INVOICE, entity_id))[-1]
    await AuditLog.get_motor_collection().delete_one({"_id": last.id})


async def forge_last(entity_id: ObjectId) -> None:
    last = (await history(EntityType.INVOICE, entity_id))[-1]
    forged = last.model_copy(update={"id": new_id(), "seq": last.seq + 3, "prev_hash": last.hash})
    forged.hash = forged.computed_hash()
    await forged.insert()


async def edit_last(entity_id: ObjectId) -> None:
    last = (await history(EntityType.INVOICE, entity_id))[-1]
    await AuditLog.get_motor_collection().update_one({"_id": last.id}, {"$set": {"hash": "a" * 64}})


async def delete_head(entity_id: ObjectId) -> None:
    await AuditHead.find({"entityId": entity_id}).delete()


async def edit_head(entity_id: ObjectId, **changes: object) -> None:
    await AuditHead.get_motor_collection().update_one({"entityId": entity_id}, {"$set": changes})


async def forward_head(entity_id: ObjectId) -> None:
    await edit_head(entity_id, seq=8)


async def rewind_head(entity_id: ObjectId) -> None:
    await edit_head(entity_id, seq=1)


async def exchange_head(entity_id: ObjectId) -> None:
    await edit_head(entity_id, hash="b" * 64)


@pytest.mark.parametrize(
    ("tamper", "first_seq", "prev_hash_of"),
    [
        (delete_last, 4, "head"),
        (forge_last, 7, "head"),
        (edit_last, 4, "head"),
        (delete_head, 4, "last entry"),
        (forward_head, 9, "head"),
        (rewind_head, 4, "head"),
        (exchange_head, 4, "head"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
async def test_a_chain_that_was_tampered_with_goes_on_from_what_was_recorded(
    db: TestDatabase, tamper: Tamper, first_seq: int, prev_hash_of: str
) -> None:
    by_itself, at_once = await a_chain(db, 3), await a_chain(db, 3)
    for chain in (by_itself, at_once):
        await tamper(chain)
    heads = {head.entity_id: head.hash for head in await AuditHead.find_all().to_list()}
    lasts = {chain: (await history(EntityType.INVOICE, chain))[-1].hash for chain in (at_once,)}
    expected = heads.get(at_once) if prev_hash_of == "head" else lasts[at_once]

    each = await db.run(ADMIN, record_each, [an_update(by_itself), an_update(by_itself)])
    many = await db.run(ADMIN, record_all, [an_update(at_once), an_update(at_once)])

    assert [entry.seq for entry in each] == [first_seq, first_seq + 1]
    assert [entry.seq for entry in many] == [first_seq, first_seq + 1]
    assert [entry.prev_hash for entry in many] == [expected, many[0].hash]
    if prev_hash_of == "head":
        assert each[0].prev_hash == heads[by_itself]
