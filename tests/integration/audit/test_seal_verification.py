"""What the seals show: of forged days, and of seals that were tampered with themselves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from accounting.audit.findings import FindingKind
from accounting.audit.sealing import seal_days
from accounting.audit.verification import verify_trail
from accounting.db.client import MongoDatabase
from builders import NOW
from fakes import SettableClock, TestDatabase
from tampering import (
    Entry,
    Tamper,
    about_days,
    append_forged,
    delete_all,
    delete_last,
    edit_last_with_its_hash,
    entries_of,
    named,
    with_its_hash,
)
from trails import a_chain, fill_trail

UTC_ZONE = ZoneInfo("UTC")
AFTER_THE_DAY = NOW + timedelta(days=1)
KIND = FindingKind


@pytest.mark.parametrize("tamper", [delete_last, delete_all, append_forged])
async def test_a_sealed_day_shows_it_also_when_the_head_was_forged(
    real_db: TestDatabase, tamper: Tamper
) -> None:
    await a_chain(real_db)
    victim = await a_chain(real_db)
    await seal_days(real_db, UTC_ZONE, AFTER_THE_DAY)
    await tamper(real_db.mongo, await entries_of(real_db.mongo, victim))
    left = await entries_of(real_db.mongo, victim)
    heads = real_db.mongo["audit_heads"]
    if left:
        forged_head = {"seq": left[-1]["seq"], "hash": left[-1]["hash"]}
        await heads.update_one({"entityId": victim}, {"$set": forged_head})
    else:
        await heads.delete_one({"entityId": victim})

    report = await verify_trail(real_db.mongo)

    assert about_days(report) == [(KIND.DAY_CHANGED, "2026-01-12")]
    assert report.finding_count == 1
    assert report.findings[0].sentence.startswith("10 entries of 2026-01-12 were sealed;")


async def test_a_replaced_last_entry_of_a_sealed_day_changes_the_day(real_db: TestDatabase) -> None:
    victim = await a_chain(real_db)
    await seal_days(real_db, UTC_ZONE, AFTER_THE_DAY)
    await edit_last_with_its_hash(real_db.mongo, await entries_of(real_db.mongo, victim))

    report = await verify_trail(real_db.mongo)

    assert [(finding.kind, finding.seq) for finding in report.findings] == [
        (KIND.REPLACED, 5),
        (KIND.DAY_CHANGED, None),
    ]
    assert "others" in report.findings[1].sentence


async def test_an_entry_dated_before_the_first_sealed_day_is_found(
    real_db: TestDatabase, clock: SettableClock
) -> None:
    await a_chain(real_db)
    await seal_days(real_db, UTC_ZONE, AFTER_THE_DAY)
    clock.now = datetime(2025, 12, 31, tzinfo=UTC)
    backdated = await a_chain(real_db, entries=1)

    assert named(await verify_trail(real_db.mongo), backdated) == [(KIND.INSERTED, 1)]


@pytest.fixture
async def sealed_week(real_db: TestDatabase) -> MongoDatabase:
    """Entries on the seven days from 2026-01-12 on, all sealed."""
    start = NOW.replace(hour=0, minute=0)
    await fill_trail(real_db.mongo, chains=7, entries_each=4, start=start, days=7)
    await seal_days(real_db, UTC_ZONE, start + timedelta(days=7, hours=1))
    return real_db.mongo


async def seals_of(mongo: MongoDatabase) -> list[Entry]:
    return await mongo["audit_seals"].find().sort("day").to_list(None)


@pytest.mark.parametrize(
    "changes",
    [
        {"entryCount": 5},
        {"entryCount": 4.0},
        {"merkleRoot": "0" * 64},
        {"hash": "0" * 64},
        {"createdAt": NOW + timedelta(days=9)},
        {"startsAt": "2026-01-14"},
        {"endsAt": None},
    ],
    ids=str,
)
async def test_an_edited_seal_is_named(
    sealed_week: MongoDatabase, changes: dict[str, object]
) -> None:
    third = (await seals_of(sealed_week))[2]
    await sealed_week["audit_seals"].update_one(
        {"_id": third["_id"]}, {"$set": changes}, bypass_document_validation=True
    )

    report = await verify_trail(sealed_week)

    assert about_days(report) == [(KIND.SEAL_EDITED, "2026-01-14")]
    assert report.finding_count == 1


async def test_removed_seals_are_named(sealed_week: MongoDatabase) -> None:
    seals = await seals_of(sealed_week)
    gone = [seal["_id"] for seal in (seals[0], seals[3], seals[4])]
    await sealed_week["audit_seals"].delete_many({"_id": {"$in": gone}})

    report = await verify_trail(sealed_week)

    assert about_days(report) == [
        (KIND.SEAL_REMOVED, "2026-01-12"),
        (KIND.SEAL_REMOVED, "2026-01-15"),
    ]
    assert "2026-01-15 to 2026-01-16" in report.findings[1].sentence


async def test_a_seal_forged_over_a_forged_day_is_named(sealed_week: MongoDatabase) -> None:
    third = (await seals_of(sealed_week))[2]
    forged = third | {"entryCount": 3, "day": third["day"].date()}
    forged = with_its_hash(forged) | {"day": third["day"]}
    await sealed_week["audit_seals"].replace_one({"_id": third["_id"]}, forged)

    report = await verify_trail(sealed_week)

    assert about_days(report) == [
        (KIND.DAY_CHANGED, "2026-01-14"),
        (KIND.SEAL_REPLACED, "2026-01-14"),
    ]
