"""Many entries at once on the real server: the same trail, the same faults, the same collisions."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounting.audit.documents import AuditHead, AuditLog
from accounting.audit.rules import AuditAction, EntityType
from accounting.audit.service import NewEntry, history, record, record_all
from accounting.audit.verification import verify_trail
from accounting.db.client import MongoDatabase
from accounting.db.database import Transaction
from accounting.dev.processes import Server
from accounting.ids import ObjectId, new_id
from builders import ADMIN
from commands import Commands, watched_database
from fakes import TestDatabase
from tampering import Entry, delete, edit, entries_of, with_its_hash
from trails import a_chain

CHAINS = 3
WRITERS = 6
Tamper = Callable[[MongoDatabase, list[Entry]], Awaitable[None]]


def entries_about(*entity_ids: ObjectId, what: str = "changed") -> list[NewEntry]:
    return [
        NewEntry(AuditAction.INVOICE_UPDATED, (EntityType.INVOICE, entity_id), what)
        for entity_id in entity_ids
    ]


async def record_each(tx: Transaction, entries: list[NewEntry]) -> list[AuditLog]:
    return [await record(tx, new.action, new.entity, new.description) for new in entries]


async def delete_last(mongo: MongoDatabase, entries: list[Entry]) -> None:
    await delete(mongo, entries[-1])


async def delete_first(mongo: MongoDatabase, entries: list[Entry]) -> None:
    await delete(mongo, entries[0])


async def edit_last(mongo: MongoDatabase, entries: list[Entry]) -> None:
    await edit(mongo, entries[-1], description="something else")


async def replace_last(mongo: MongoDatabase, entries: list[Entry]) -> None:
    changed = with_its_hash(entries[-1] | {"description": "something else"})
    await mongo["audit_logs"].replace_one({"_id": changed["_id"]}, changed)


async def append_forged(mongo: MongoDatabase, entries: list[Entry]) -> None:
    last = entries[-1]
    forged = last | {"_id": new_id(), "seq": last["seq"] + 1, "prevHash": last["hash"]}
    await mongo["audit_logs"].insert_one(with_its_hash(forged))


async def delete_head(mongo: MongoDatabase, entries: list[Entry]) -> None:
    await mongo["audit_heads"].delete_one({"entityId": entries[0]["entityId"]})


async def forward_head(mongo: MongoDatabase, entries: list[Entry]) -> None:
    head = {"entityId": entries[0]["entityId"]}
    await mongo["audit_heads"].update_one(head, {"$inc": {"seq": 2}})


async def exchange_head(mongo: MongoDatabase, entries: list[Entry]) -> None:
    head = {"entityId": entries[0]["entityId"]}
    await mongo["audit_heads"].update_one(head, {"$set": {"hash": "b" * 64}})


TAMPERS = (
    delete_last,
    delete_first,
    edit_last,
    replace_last,
    append_forged,
    delete_head,
    forward_head,
    exchange_head,
)


@dataclass
class Trail:
    """The same steps as in another trail, recorded in its own way."""

    mongo: MongoDatabase
    chains: list[ObjectId] = field(default_factory=lambda: [new_id() for _ in range(CHAINS)])
    names: dict[str, str] = field(default_factory=dict)

    def batch(self, numbers: list[int], step: int) -> list[NewEntry]:
        return entries_about(*(self.chains[number] for number in numbers), what=f"step {step}")

    async def tamper(self, number: int, how: Tamper) -> None:
        if entries := await entries_of(self.mongo, self.chains[number]):
            await how(self.mongo, entries)

    async def shape(self) -> list[list[tuple[object, ...]]]:
        """Every chain without what differs by nature; a hash is named after whose it was first."""
        shapes = []
        for number, entity_id in enumerate(self.chains):
            entries = await entries_of(self.mongo, entity_id)
            for entry in entries:
                self.names.setdefault(entry["hash"], f"{number}, {entry['seq']}")
            rows = [
                (entry["seq"], entry["description"], self._named(entry["prevHash"]))
                for entry in entries
            ]
            head = await self.mongo["audit_heads"].find_one({"entityId": entity_id})
            rows += [("head", head["seq"], self._named(head["hash"]))] if head else []
            shapes.append(rows)
        return shapes

    async def faults(self) -> list[tuple[object, ...]]:
        numbers = {str(entity_id): number for number, entity_id in enumerate(self.chains)}
        report = await verify_trail(self.mongo)
        return [
            (numbers[finding.entity_id], finding.kind, finding.seq)
            for finding in report.findings
            if finding.entity_id in numbers
        ]

    def _named(self, some_hash: str) -> str:
        return self.names.get(some_hash, some_hash)


batches = st.lists(st.integers(0, CHAINS - 1), min_size=1, max_size=6)
tamperings = st.tuples(st.integers(0, CHAINS - 1), st.sampled_from(TAMPERS))


@given(steps=st.lists(st.one_of(batches, batches, tamperings), min_size=1, max_size=8))
@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
async def test_any_mix_of_batches_and_tampering_leaves_the_same_trail_and_the_same_faults(
    real_db: TestDatabase, steps: list[Any]
) -> None:
    await AuditLog.find_all().delete()
    await AuditHead.find_all().delete()
    one_by_one, at_once = Trail(real_db.mongo), Trail(real_db.mongo)

    for number, step in enumerate(steps):
        if isinstance(step, tuple):
            await one_by_one.tamper(*step)
            await at_once.tamper(*step)
        else:
            await real_db.run(ADMIN, record_each, one_by_one.batch(step, number))
            await real_db.run(ADMIN, record_all, at_once.batch(step, number))
        assert await at_once.shape() == await one_by_one.shape()

    assert sorted(await at_once.faults()) == sorted(await one_by_one.faults())
    if not any(isinstance(step, tuple) for step in steps):
        assert (await verify_trail(real_db.mongo)).is_sound


@pytest.mark.parametrize("tamper", [delete_last, append_forged, replace_last, forward_head])
async def test_an_end_that_was_tampered_with_is_still_named_after_many_entries(
    real_db: TestDatabase, tamper: Tamper
) -> None:
    victim, other = await a_chain(real_db, 4), await a_chain(real_db, 4)
    await tamper(real_db.mongo, await entries_of(real_db.mongo, victim))

    await real_db.run(ADMIN, record_all, entries_about(other, victim, victim))

    findings = (await verify_trail(real_db.mongo)).findings
    assert findings
    assert {finding.entity_id for finding in findings} == {str(victim)}


@pytest.mark.parametrize("length", [0, 3])
async def test_an_entry_that_another_has_appended_meanwhile_is_continued(
    real_db: TestDatabase, length: int
) -> None:
    chain = await a_chain(real_db, length)
    attempts: Counter[str] = Counter()

    async def record_late(tx: Transaction) -> None:
        attempts["tried"] += 1
        await history(EntityType.INVOICE, chain, session=tx.session)  # what it sees is fixed now
        if attempts["tried"] == 1:
            await real_db.run(ADMIN, record_all, entries_about(chain, new_id(), what="other"))
        await record_all(tx, entries_about(new_id(), chain, chain, what="own"))

    await real_db.run(ADMIN, record_late)

    assert attempts["tried"] == 2
    whats = [entry.description for entry in await history(EntityType.INVOICE, chain)][length:]
    assert whats == ["other", "own", "own"]
    assert (await verify_trail(real_db.mongo)).is_sound


async def test_writers_of_the_same_chains_at_once_wait_for_each_other(
    real_db: TestDatabase,
) -> None:
    chains = [*[await a_chain(real_db, 2) for _ in range(5)], *[new_id() for _ in range(5)]]

    await asyncio.gather(
        *(real_db.run(ADMIN, record_all, entries_about(*chains)) for _ in range(WRITERS)),
        *(real_db.run(ADMIN, record_all, entries_about(*chains[::-1])) for _ in range(WRITERS)),
        *(real_db.run(ADMIN, record_each, entries_about(chain)) for chain in chains),
    )

    report = await verify_trail(real_db.mongo)
    assert report.is_sound
    assert (report.entries, report.chains) == (5 * 2 + 10 * (2 * WRITERS + 1), 10)


async def test_a_failure_after_it_leaves_no_entry(real_db: TestDatabase) -> None:
    chain = await a_chain(real_db, 2)

    async def fail(tx: Transaction) -> None:
        await record_all(tx, entries_about(chain, new_id(), new_id()))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await real_db.run(ADMIN, fail)

    report = await verify_trail(real_db.mongo)
    assert (report.is_sound, report.entries, report.chains) == (True, 2, 1)
    assert await AuditHead.find_all().count() == 1


@pytest.fixture
async def commands(mongod: Server, real_mongo: MongoDatabase) -> AsyncIterator[Commands]:
    async with watched_database(mongod, real_mongo.name) as watched:
        yield watched


@pytest.mark.parametrize("count", [1, 50])
async def test_the_round_trips_do_not_grow_with_the_entries(commands: Commands, count: int) -> None:
    old = [await a_chain(commands.db, 1 + number % 3) for number in range(count)]
    new = [new_id() for _ in range(count)]

    sent = await commands.sent_by(record_all, entries_about(*old, *new, *old))

    assert sent == [
        "find audit_heads",
        "find audit_logs",
        "update audit_heads",
        "insert audit_logs",
    ]


async def test_a_single_entry_takes_three_round_trips(commands: Commands) -> None:
    [entry] = entries_about(await a_chain(commands.db, 2))

    sent = await commands.sent_by(record, entry.action, entry.entity, entry.description)

    assert sent == ["find audit_logs", "findAndModify audit_heads", "insert audit_logs"]
