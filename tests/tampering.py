"""What someone with write access to the database could do to the stored trail."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from bson import ObjectId

from accounting.audit.findings import FindingKind, TrailReport
from accounting.audit.rules import entry_hash
from accounting.db.client import MongoDatabase

Entry = dict[str, Any]
Tamper = Callable[[MongoDatabase, list[Entry]], Awaitable[None]]
Named = tuple[FindingKind, int | None]


async def entries_of(mongo: MongoDatabase, entity_id: ObjectId) -> list[Entry]:
    return await mongo["audit_logs"].find({"entityId": entity_id}).sort("seq").to_list(None)


async def edit(mongo: MongoDatabase, entry: Entry, **changes: object) -> None:
    await mongo["audit_logs"].update_one(
        {"_id": entry["_id"]}, {"$set": changes}, bypass_document_validation=True
    )


async def delete(mongo: MongoDatabase, *entries: Entry) -> None:
    await mongo["audit_logs"].delete_many({"_id": {"$in": [entry["_id"] for entry in entries]}})


def with_its_hash(entry: Entry) -> Entry:
    """As a forger who knows the rules would finish an entry."""
    content = {name: entry[name] for name in entry.keys() - {"hash", "prevHash"}}
    return entry | {"hash": entry_hash(content, entry["prevHash"])}


def named(report: TrailReport, entity_id: ObjectId) -> list[Named]:
    """Kind and seq of each finding; they must all be about this entity."""
    assert {finding.entity_id for finding in report.findings} <= {str(entity_id)}
    assert report.finding_count == len(report.findings)
    assert all(finding.sentence.endswith(".") for finding in report.findings)
    return [(finding.kind, finding.seq) for finding in report.findings]


def about_days(report: TrailReport) -> list[tuple[FindingKind, str]]:
    return [(item.kind, str(item.day)) for item in report.findings if item.day is not None]


async def edit_description(mongo: MongoDatabase, entries: list[Entry]) -> None:
    await edit(mongo, entries[2], description=entries[2]["description"].replace("3", "4"))


async def edit_changes(mongo: MongoDatabase, entries: list[Entry]) -> None:
    await edit(mongo, entries[2], **{"changes.after.amountPaid": "4"})


async def edit_created_at(mongo: MongoDatabase, entries: list[Entry]) -> None:
    await edit(mongo, entries[2], createdAt=entries[2]["createdAt"] + timedelta(milliseconds=1))


async def edit_hash(mongo: MongoDatabase, entries: list[Entry]) -> None:
    await edit(mongo, entries[2], hash="0" * 64)


async def edit_with_its_hash(mongo: MongoDatabase, entries: list[Entry]) -> None:
    changed = with_its_hash(entries[2] | {"description": "nothing happened"})
    await mongo["audit_logs"].replace_one({"_id": changed["_id"]}, changed)


async def edit_last_with_its_hash(mongo: MongoDatabase, entries: list[Entry]) -> None:
    await edit_with_its_hash(mongo, [*entries[:2], entries[4]])


async def remove_field(mongo: MongoDatabase, entries: list[Entry]) -> None:
    await mongo["audit_logs"].update_one({"_id": entries[2]["_id"]}, {"$unset": {"ipAddress": 1}})


async def delete_middle(mongo: MongoDatabase, entries: list[Entry]) -> None:
    await delete(mongo, entries[2])


async def delete_first_two(mongo: MongoDatabase, entries: list[Entry]) -> None:
    await delete(mongo, *entries[:2])


async def delete_last(mongo: MongoDatabase, entries: list[Entry]) -> None:
    await delete(mongo, entries[4])


async def delete_all(mongo: MongoDatabase, entries: list[Entry]) -> None:
    await delete(mongo, *entries)


async def swap_two(mongo: MongoDatabase, entries: list[Entry]) -> None:
    await edit(mongo, entries[1], seq=99)
    await edit(mongo, entries[2], seq=2)
    await edit(mongo, entries[1], seq=3)


async def append_forged(mongo: MongoDatabase, entries: list[Entry]) -> None:
    forged = entries[4] | {"_id": ObjectId(), "seq": 6, "prevHash": entries[4]["hash"]}
    await mongo["audit_logs"].insert_one(with_its_hash(forged))


async def insert_forged(mongo: MongoDatabase, entries: list[Entry]) -> None:
    # Room is made by moving the later ones up, as if they had always stood there.
    for entry in reversed(entries[2:]):
        await edit(mongo, entry, seq=entry["seq"] + 1)
    forged = entries[2] | {"_id": ObjectId(), "prevHash": entries[1]["hash"]}
    await mongo["audit_logs"].insert_one(with_its_hash(forged))


async def replace_by_forged(mongo: MongoDatabase, entries: list[Entry]) -> None:
    await delete(mongo, entries[2])
    await mongo["audit_logs"].insert_one(with_its_hash(entries[2] | {"_id": ObjectId()}))


async def move_to_another_entity(mongo: MongoDatabase, entries: list[Entry]) -> None:
    await edit(mongo, entries[4], entityId=ObjectId("f" * 24))
