"""The daily seals: one Merkle root per business day, chained (spec section 7)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

from accounting.actor import SYSTEM
from accounting.audit.documents import AuditLog, AuditSeal
from accounting.audit.rules import (
    FIRST_PREV_HASH,
    MerkleTree,
    SealPeriod,
    first_period,
    next_period,
)
from accounting.clock import after
from accounting.db.client import MongoDatabase
from accounting.db.database import Database, Session, Transaction
from accounting.db.found import read_as_found
from accounting.ids import new_id

SEAL_JOB: Final = "audit.seal"
# An entry bears the time at which its transaction began. The server ends a transaction after a
# minute; the rest is for the clocks of several machines.
SEAL_DELAY_SECONDS: Final = 600
SEALS_PER_RUN_MAX: Final = 5_000
# An entry dated before this service was thought of would have centuries of empty days sealed.
FIRST_ENTRY_MIN: Final = datetime(2020, 1, 1, tzinfo=UTC)


async def seal_days(db: Database, zone: ZoneInfo, until: datetime) -> list[AuditSeal]:
    """Seal every day that was over SEAL_DELAY_SECONDS before `until`; returns the new seals.

    Begins after the last seal, or with the first entry; days without entries are sealed as well,
    so that a seal which was removed shows. Safe to repeat and to run twice at once. At most
    SEALS_PER_RUN_MAX days; the next run goes on. Spec: section 7.
    """
    made: list[AuditSeal] = []
    while len(made) < SEALS_PER_RUN_MAX:
        last = await _last_seal()
        period = await _period_to_seal(db.mongo, last, zone)
        if period is None or after(period.ends_at, seconds=SEAL_DELAY_SECONDS) > until:
            break
        tree = await hash_entries(db.mongo, period.starts_at, period.ends_at)
        # Reading took its time outside of any transaction; the last seal is looked at again there.
        if seal := await db.run(SYSTEM, _add_seal, period, tree):
            made.append(seal)
    return made


async def hash_entries(mongo: MongoDatabase, starts_at: datetime, ends_at: datetime) -> MerkleTree:
    """The tree over the hashes of all entries created in this time, with bounded memory."""
    tree = MerkleTree()
    created = {"createdAt": {"$gte": starts_at, "$lt": ends_at}}
    entries = read_as_found(
        mongo, AuditLog.Settings.name, created, sort=("createdAt", "_id"), fields=("hash",)
    )
    async for batch in entries:
        for entry in batch:
            tree.add(entry.get("hash"))
    return tree


async def _add_seal(tx: Transaction, period: SealPeriod, tree: MerkleTree) -> AuditSeal | None:
    """Append the seal; None when another sealer was here first."""
    last = await _last_seal(tx.session)
    if last and last.day >= period.day:
        return None
    seal: AuditSeal = AuditSeal.model_construct(
        id=new_id(),
        day=period.day,
        starts_at=period.starts_at,
        ends_at=period.ends_at,
        entry_count=tree.leaf_count,
        merkle_root=tree.root(),
        prev_hash=last.hash if last else FIRST_PREV_HASH,
        created_at=tx.now,
    )
    seal.hash = seal.computed_hash()
    await seal.add(tx)
    return seal


async def _period_to_seal(
    mongo: MongoDatabase, last: AuditSeal | None, zone: ZoneInfo
) -> SealPeriod | None:
    if last:
        return next_period(last.period, zone)
    entries = mongo[AuditLog.Settings.name]
    # A comparison with a date leaves out what is none.
    first = await entries.find_one(
        {"createdAt": {"$gte": FIRST_ENTRY_MIN}}, {"createdAt": 1}, sort=[("createdAt", 1)]
    )
    return first_period(first["createdAt"], zone) if first else None


async def _last_seal(session: Session | None = None) -> AuditSeal | None:
    return await AuditSeal.find_all(session=session).sort("-day").first_or_none()
