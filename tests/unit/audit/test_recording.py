"""Appending to a chain, also behind the back of someone who tampered with its end."""

from __future__ import annotations

from accounting.audit.documents import AuditHead, AuditLog
from accounting.audit.rules import FIRST_PREV_HASH, AuditAction, EntityType
from accounting.audit.service import history, record
from accounting.db.database import Transaction
from accounting.ids import new_id
from builders import ADMIN
from fakes import TestDatabase
from trails import a_chain, an_entry


async def test_entries_of_one_and_of_several_transactions_are_one_chain(db: TestDatabase) -> None:
    invoice = new_id()

    async def two_entries(tx: Transaction) -> None:
        for what in ("one", "two"):
            await record(tx, AuditAction.INVOICE_UPDATED, (EntityType.INVOICE, invoice), what)

    await db.run(ADMIN, two_entries)
    await db.run(ADMIN, two_entries)

    entries = await history(EntityType.INVOICE, invoice)
    assert [entry.seq for entry in entries] == [1, 2, 3, 4]
    hashes = [FIRST_PREV_HASH, *(entry.hash for entry in entries)]
    assert [entry.prev_hash for entry in entries] == hashes[:-1]
    assert all(entry.computed_hash() == entry.hash for entry in entries)


async def test_the_head_is_the_last_entry(db: TestDatabase) -> None:
    invoice = await a_chain(db, entries=3)

    [head] = await AuditHead.find_all().to_list()
    last = (await history(EntityType.INVOICE, invoice))[-1]
    assert (head.entity_id, head.seq, head.hash) == (invoice, 3, last.hash)


async def test_a_deleted_last_entry_is_not_replaced_by_the_next_one(db: TestDatabase) -> None:
    invoice = await a_chain(db, entries=3)
    last = (await history(EntityType.INVOICE, invoice))[-1]
    await AuditLog.get_motor_collection().delete_one({"_id": last.id})

    entry = await an_entry(db, invoice)

    assert (entry.seq, entry.prev_hash) == (4, last.hash)


async def test_a_forged_last_entry_is_not_continued(db: TestDatabase) -> None:
    invoice = await a_chain(db, entries=3)
    last = (await history(EntityType.INVOICE, invoice))[-1]
    forged = last.model_copy(update={"id": new_id(), "seq": 4, "prev_hash": last.hash})
    forged.hash = forged.computed_hash()
    await forged.insert()

    entry = await an_entry(db, invoice)

    assert (entry.seq, entry.prev_hash) == (5, last.hash)
