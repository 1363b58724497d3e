"""Audit trails for tests: through `record`, or many entries at once through the same hashes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import bson

from accounting.audit.documents import AuditHead, AuditLog
from accounting.audit.rules import FIRST_PREV_HASH, AuditAction, EntityType, changed_fields
from accounting.audit.service import record
from accounting.db.client import CODEC_OPTIONS, MongoDatabase
from accounting.db.database import Database
from accounting.ids import ObjectId, new_id
from builders import ADMIN, NOW

INSERTED_AT_ONCE = 5_000


async def a_chain(
    db: Database, entries: int = 5, entity_type: EntityType = EntityType.INVOICE
) -> ObjectId:
    """An entity with so many entries, recorded one by one; returns its id."""
    entity_id = new_id()
    for number in range(1, entries + 1):
        await an_entry(db, entity_id, number, entity_type)
    return entity_id


async def an_entry(
    db: Database,
    entity_id: ObjectId,
    number: int = 1,
    entity_type: EntityType = EntityType.INVOICE,
) -> AuditLog:
    return await db.run(
        ADMIN,
        record,
        AuditAction.INVOICE_UPDATED,
        (entity_type, entity_id),
        f"change {number}",
        before={"amountPaid": Decimal(number - 1)},
        after={"amountPaid": Decimal(number)},
    )


async def fill_trail(
    mongo: MongoDatabase, *, chains: int, entries_each: int, start: datetime = NOW, days: int = 1
) -> None:
    """Many chains at once, spread over the days, as `record` would have written them."""
    entries: list[dict[str, Any]] = []
    heads: list[dict[str, Any]] = []
    step = timedelta(days=days) / (chains * entries_each)
    for chain in range(chains):
        for entry in _links(new_id(), entries_each, start + chain * entries_each * step, step):
            entries.append(_stored(entry))
        heads.append(
            {
                "_id": new_id(),
                "entityType": entry.entity_type,
                "entityId": entry.entity_id,
                "seq": entry.seq,
                "hash": entry.hash,
            }
        )
        if len(entries) >= INSERTED_AT_ONCE or chain == chains - 1:
            await mongo[AuditLog.Settings.name].insert_many(entries)
            await mongo[AuditHead.Settings.name].insert_many(heads)
            entries, heads = [], []


def stored_chain(entries: int) -> list[dict[str, Any]]:
    """One chain as the driver would return it."""
    chain = [_stored(entry) for entry in _links(new_id(), entries, NOW, timedelta(hours=1))]
    decoded: list[dict[str, Any]] = bson.decode(
        bson.encode({"chain": chain}), codec_options=CODEC_OPTIONS
    )["chain"]
    return decoded


def _links(entity_id: ObjectId, count: int, start: datetime, step: timedelta) -> Iterator[AuditLog]:
    prev_hash = FIRST_PREV_HASH
    for seq in range(1, count + 1):
        entry: AuditLog = AuditLog.model_construct(
            id=new_id(),
            action=AuditAction.INVOICE_UPDATED,
            entity_type=EntityType.INVOICE.value,
            entity_id=entity_id,
            user_id=ADMIN.user_id,
            changes=changed_fields(
                {"status": "ISSUED", "amountPaid": Decimal(seq - 1), "paidDate": None},
                {"status": "PAID", "amountPaid": Decimal(seq), "paidDate": start},
            ),
            description=f"Invoice 20260112{seq:02} was changed",
            ip_address=ADMIN.ip_address,
            user_agent="Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
            request_id=str(entity_id),
            created_at=(start + seq * step).replace(microsecond=0),
            seq=seq,
            prev_hash=prev_hash,
        )
        entry.hash = prev_hash = entry.computed_hash()
        yield entry


def _stored(entry: AuditLog) -> dict[str, Any]:
    return {
        (field.alias or name): getattr(entry, name)
        for name, field in AuditLog.model_fields.items()
        if name != "revision_id"
    }
