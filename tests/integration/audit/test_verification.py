"""Tampering with the entries on the real server, and what the verification names."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from zoneinfo import ZoneInfo

import bson
import pytest
from bson import Int64, ObjectId
from bson.raw_bson import RawBSONDocument

from accounting.audit.findings import Finding, FindingKind
from accounting.audit.rules import EntityType
from accounting.audit.sealing import seal_days
from accounting.audit.verification import verify_trail
from accounting.ids import new_id
from builders import ADMIN, NOW
from fakes import TestDatabase
from tampering import (
    Named,
    Tamper,
    append_forged,
    delete_all,
    delete_first_two,
    delete_last,
    delete_middle,
    edit,
    edit_changes,
    edit_created_at,
    edit_description,
    edit_hash,
    edit_last_with_its_hash,
    edit_with_its_hash,
    entries_of,
    insert_forged,
    move_to_another_entity,
    named,
    remove_field,
    replace_by_forged,
    swap_two,
    with_its_hash,
)
from trails import a_chain, an_entry, fill_trail

UTC_ZONE = ZoneInfo("UTC")
AFTER_THE_DAY = NOW + timedelta(days=1)
KIND = FindingKind


async def test_an_untouched_trail_is_sound(real_db: TestDatabase) -> None:
    for entity_type in EntityType:
        await a_chain(real_db, 3, entity_type)
    await seal_days(real_db, UTC_ZONE, AFTER_THE_DAY)

    shown: list[tuple[int, int]] = []
    report = await verify_trail(
        real_db.mongo, on_progress=lambda done, total: shown.append((done, total))
    )

    assert report.is_sound
    chains = len(EntityType)
    assert (report.entries, report.chains, report.seals) == (3 * chains, chains, 1)
    assert report.sealed_until == NOW.date()
    assert shown[-1] == (6 * chains, 6 * chains)


async def test_an_empty_trail_is_sound(real_db: TestDatabase) -> None:
    report = await verify_trail(real_db.mongo)

    assert (report.is_sound, report.entries, report.sealed_until) == (True, 0, None)


@pytest.mark.parametrize(
    ("tamper", "expected"),
    [
        (edit_description, [(KIND.EDITED, 3)]),
        (edit_changes, [(KIND.EDITED, 3)]),
        (edit_created_at, [(KIND.EDITED, 3)]),
        (edit_hash, [(KIND.EDITED, 3)]),
        (edit_with_its_hash, [(KIND.REPLACED, 3)]),
        (edit_last_with_its_hash, [(KIND.REPLACED, 5)]),
        (remove_field, [(KIND.EDITED, 3)]),
        (delete_middle, [(KIND.REMOVED, 3)]),
        (delete_first_two, [(KIND.REMOVED, 1)]),
        (delete_last, [(KIND.REMOVED, 5)]),
        (delete_all, [(KIND.REMOVED, 1)]),
        (
            swap_two,
            [
                (KIND.EDITED, 2),
                (KIND.OUT_OF_PLACE, 2),
                (KIND.EDITED, 3),
                (KIND.OUT_OF_PLACE, 3),
            ],
        ),
        (append_forged, [(KIND.INSERTED, 6)]),
        (
            insert_forged,
            [
                (KIND.EDITED, 4),
                (KIND.OUT_OF_PLACE, 4),
                (KIND.EDITED, 5),
                (KIND.EDITED, 6),
                (KIND.INSERTED, 6),
            ],
        ),
        (replace_by_forged, [(KIND.REPLACED, 3)]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
async def test_tampering_is_found_and_named_before_the_day_is_sealed(
    real_db: TestDatabase, tamper: Tamper, expected: list[Named]
) -> None:
    await a_chain(real_db)
    victim = await a_chain(real_db)
    await a_chain(real_db)

    await tamper(real_db.mongo, await entries_of(real_db.mongo, victim))

    assert named(await verify_trail(real_db.mongo), victim) == expected


async def test_the_finding_says_which_entry_it_is(real_db: TestDatabase) -> None:
    victim = await a_chain(real_db)
    entries = await entries_of(real_db.mongo, victim)
    await edit_description(real_db.mongo, entries)

    [finding] = (await verify_trail(real_db.mongo)).findings

    assert finding == Finding(
        KIND.EDITED,
        f"Invoice {victim} seq 3 was edited: its content does not give its hash.",
        "Invoice",
        str(victim),
        3,
        str(entries[2]["_id"]),
    )


async def test_an_entry_moved_to_another_entity_is_missed_and_found(real_db: TestDatabase) -> None:
    victim = await a_chain(real_db)
    await move_to_another_entity(real_db.mongo, await entries_of(real_db.mongo, victim))

    report = await verify_trail(real_db.mongo)

    assert {(finding.kind, finding.entity_id, finding.seq) for finding in report.findings} == {
        (KIND.REMOVED, str(victim), 5),
        (KIND.EDITED, "f" * 24, 5),
        (KIND.REMOVED, "f" * 24, 1),
        (KIND.INSERTED, "f" * 24, 5),
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"seq": 3.0},
        {"seq": Int64(3)},
        {"seq": "3"},
        {"seq": None},
        {"seq": True},
        {"seq": float("nan")},
        {"description": 5},
        {"description": None},
        {"createdAt": "2026-01-12T09:30:00.000Z"},
        {"createdAt": bson.DatetimeMS(2**55)},
        {"createdAt": None},
        {"userId": str(ADMIN.user_id)},
        {"changes": None},
        {"changes": "nothing"},
        {"changes.after.amountPaid": bson.Decimal128("3")},
        {"changes.after.amountPaid": 3},
        {"changes.after.amountPaid": bson.Regex("3")},
        {"changes.after.amountPaid": ADMIN.user_id},
        {"prevHash": None},
        {"hash": b"hash"},
        {"hash": 5},
        {"extra": 1},
        {"requestId": bson.Code(str(ADMIN.request_id))},
    ],
    ids=str,
)
async def test_a_value_of_another_type_is_an_edit_and_never_a_crash(
    real_db: TestDatabase, changes: dict[str, object]
) -> None:
    victim = await a_chain(real_db)
    entry = (await entries_of(real_db.mongo, victim))[2]
    await edit(real_db.mongo, entry, **changes)
    await seal_days(real_db, UTC_ZONE, AFTER_THE_DAY)

    report = await verify_trail(real_db.mongo)

    edited = [finding for finding in report.findings if finding.kind is KIND.EDITED]
    assert [finding.entry_id for finding in edited] == [str(entry["_id"])]


async def test_a_byte_that_is_no_text_is_an_edit(real_db: TestDatabase) -> None:
    victim = await a_chain(real_db)
    entry = (await entries_of(real_db.mongo, victim))[2]
    encoded = bson.encode(entry | {"_id": entry["_id"]})
    broken = RawBSONDocument(encoded.replace(b"change 3", b"change \xff"))
    collection = real_db.mongo.get_collection(
        "audit_logs", codec_options=bson.CodecOptions(RawBSONDocument)
    )
    await collection.delete_one({"_id": entry["_id"]})
    await collection.insert_one(broken, bypass_document_validation=True)  # type: ignore[arg-type]

    assert named(await verify_trail(real_db.mongo), victim) == [(KIND.EDITED, 3)]


async def test_a_forged_chain_is_found(real_db: TestDatabase) -> None:
    original = await a_chain(real_db, entries=1)
    [entry] = await entries_of(real_db.mongo, original)
    forged = entry | {"_id": ObjectId(), "entityId": ObjectId("f" * 24)}
    await real_db.mongo["audit_logs"].insert_one(with_its_hash(forged))

    assert named(await verify_trail(real_db.mongo), ObjectId("f" * 24)) == [(KIND.INSERTED, 1)]


async def test_a_head_that_was_removed_or_edited_is_found(real_db: TestDatabase) -> None:
    removed, edited = await a_chain(real_db), await a_chain(real_db)
    heads = real_db.mongo["audit_heads"]
    await heads.delete_one({"entityId": removed})
    await heads.update_one(
        {"entityId": edited}, {"$set": {"seq": "5"}}, bypass_document_validation=True
    )

    report = await verify_trail(real_db.mongo)

    found = {(finding.kind, finding.entity_id) for finding in report.findings}
    assert found == {
        (KIND.INSERTED, str(removed)),
        (KIND.HEAD_EDITED, str(edited)),
        (KIND.INSERTED, str(edited)),
    }


async def test_a_trail_that_is_being_written_is_sound(real_db: TestDatabase) -> None:
    await fill_trail(real_db.mongo, chains=300, entries_each=5)
    invoices = [new_id() for _ in range(8)]
    is_done = False

    async def write(invoice: ObjectId) -> int:
        number = 0
        while not is_done:
            number += 1
            await an_entry(real_db, invoice, number)  # type: ignore[arg-type]
        return number

    writers = [asyncio.create_task(write(invoice)) for invoice in invoices]
    reports = [await verify_trail(real_db.mongo) for _ in range(10)]
    is_done = True
    written = sum(await asyncio.gather(*writers))

    assert [report.findings for report in reports] == [[]] * 10
    assert written > 20
    assert (await verify_trail(real_db.mongo)).entries == 1500 + written


async def test_writers_of_one_chain_wait_for_each_other(real_db: TestDatabase) -> None:
    invoice = new_id()

    await asyncio.gather(*(an_entry(real_db, invoice, number) for number in range(24)))

    report = await verify_trail(real_db.mongo)
    assert report.is_sound
    assert (report.entries, report.chains) == (24, 1)
