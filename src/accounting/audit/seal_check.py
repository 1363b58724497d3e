"""The seals against one another and against the entries of their days."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta

from accounting.audit.chains import chain_of
from accounting.audit.documents import AuditLog, AuditSeal
from accounting.audit.faults import Found, seal_day, seal_fault, whole_number
from accounting.audit.findings import FINDINGS_SHOWN_MAX, Finding, FindingKind, TrailReport
from accounting.audit.rules import FIRST_PREV_HASH
from accounting.audit.sealing import hash_entries
from accounting.db.client import MongoDatabase
from accounting.db.found import read_as_found

ONE_DAY = timedelta(days=1)


async def check_seals(
    mongo: MongoDatabase, report: TrailReport, on_read: Callable[[int], None]
) -> None:
    """Follow the seals day by day; `on_read` gets the number of entries read so far."""
    last: Found | None = None
    is_last_sound = True
    read = 0
    async for batch in read_as_found(mongo, AuditSeal.Settings.name, {}, sort=("day",)):
        for seal in batch:
            report.seals += 1
            if fault := seal_fault(seal):
                report.add(_edited(seal, fault))
                last, is_last_sound = seal, False
                continue
            if last is None and seal["prevHash"] == FIRST_PREV_HASH:
                await _find_dated_before(mongo, report, seal)
            if finding := _broken_link(last, seal, is_last_sound=is_last_sound):
                report.add(finding)
            read += await _check_day(mongo, report, seal)
            report.sealed_until = seal_day(seal)
            last, is_last_sound = seal, True
            on_read(read)


async def _check_day(mongo: MongoDatabase, report: TrailReport, seal: Found) -> int:
    """Compare a sealed day with its seal; returns how many entries it has now."""
    tree = await hash_entries(mongo, seal["startsAt"], seal["endsAt"])
    sealed, found = seal["entryCount"], tree.leaf_count
    if (found, tree.root()) != (sealed, seal["merkleRoot"]):
        now = f"{found} are there" if found != sealed else "as many are there, but others"
        day = seal_day(seal)
        sentence = f"{sealed} entries of {day} were sealed; {now}."
        report.add(Finding(FindingKind.DAY_CHANGED, sentence, day=day))
    return found


async def _find_dated_before(mongo: MongoDatabase, report: TrailReport, first: Found) -> None:
    """Report entries dated before the first seal, which began with the first entry there was."""
    found = read_as_found(
        mongo,
        AuditLog.Settings.name,
        {"createdAt": {"$lt": first["startsAt"]}},
        sort=("createdAt", "_id"),
        fields=("entityType", "entityId", "seq"),
        limit=FINDINGS_SHOWN_MAX,
    )
    async for batch in found:
        for entry in batch:
            chain, seq = chain_of(entry), whole_number(entry.get("seq"))
            sentence = f"{' '.join(chain)} seq {seq} is dated before the first sealed day."
            report.add(Finding(FindingKind.INSERTED, sentence, *chain, seq, str(entry["_id"])))


def _broken_link(last: Found | None, seal: Found, *, is_last_sound: bool) -> Finding | None:
    """What is wrong between two neighbours; `seal` is sound by itself, `last` may not be."""
    day = seal["day"].date()
    if last is None:
        if seal["prevHash"] == FIRST_PREV_HASH:
            return None
        sentence = f"The seals before {day} are missing."
        return Finding(FindingKind.SEAL_REMOVED, sentence, day=day - ONE_DAY)
    day_before = seal_day(last)
    if day_before is not None and day > day_before + ONE_DAY:
        first, until = day_before + ONE_DAY, day - ONE_DAY
        sentence = f"The seals of {_days(first, until)} are missing."
        return Finding(FindingKind.SEAL_REMOVED, sentence, day=first)
    if seal["prevHash"] != last.get("hash") and is_last_sound:
        sentence = f"The seal of {day_before} is not the one that the seal of {day} follows."
        return Finding(FindingKind.SEAL_REPLACED, sentence, day=day_before)
    return None


def _edited(seal: Found, fault: str) -> Finding:
    day = seal_day(seal)
    return Finding(FindingKind.SEAL_EDITED, f"The seal of {day} was edited: {fault}.", day=day)


def _days(first: date, last: date) -> str:
    return str(first) if first == last else f"{first} to {last}"
