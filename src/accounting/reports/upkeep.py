"""Keeping the figures up to date without a write in the transactions that change them.

The audit trail tells what has changed: every change of an invoice, of its payments or of a template
has an entry in its own transaction. A look reads, all at one moment, the stored total, the entries
that it does not have yet, and the parts with what these are about, counted again. So its answer is
right whatever becomes of the attempt to store it: each stored total follows the one that its look
has seen, or is refused.

An entry bears the time at which its transaction began and comes to light with the commit. So the
entries of the last SETTLED_SECONDS are looked at again and again; their number tells whether there
are new ones, and each process remembers which it has counted.

The first count goes through all ids in steps, each a look of its own that is stored, so that
whoever comes next goes on where it stopped.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final, NamedTuple, TypeAlias
from zoneinfo import ZoneInfo

from accounting.actor import SYSTEM
from accounting.audit.documents import AuditLog
from accounting.audit.rules import AuditAction, EntityType
from accounting.clock import after, business_day
from accounting.db.database import Database, OutcomeUnknown, Session, TooBusy, Transaction
from accounting.db.document import DocumentChanged
from accounting.ids import StoredId, new_id
from accounting.reports.counting import Counting, Sizes, count_documents
from accounting.reports.documents import (
    FIRST_ID,
    TOTAL,
    FiguresPart,
    FiguresTotal,
    Part,
    PartKind,
    State,
    find_first_ids,
    find_parts,
    find_state,
    stored_state,
    to_rows,
)

# The server ends a transaction after a minute; the other one is for the clocks of several machines.
SETTLED_SECONDS: Final = 120
# `since` follows time in steps: each costs a write, and each entry after it a look.
SINCE_STEP_SECONDS: Final = 60
# Where nobody has looked for so long, more entries than this are more work than all invoices.
OLD_SECONDS: Final = 3_600
ENTRIES_MAX: Final = 50_000
# A process that was killed while it stored is in the way for a minute; answers do without.
STORE_SECONDS_MAX: Final = 0.5
_FETCHED_AT_ONCE: Final = 1_000
_BY_TIME: Final = "createdAt_1__id_1"

_KIND_OF: Final[Mapping[str, PartKind]] = {
    EntityType.INVOICE.value: PartKind.INVOICES,
    EntityType.RECURRING_INVOICE.value: PartKind.TEMPLATES,
}
# About e-mails: they change neither an invoice nor its payments.
CHANGES_NO_FIGURES: Final = frozenset(
    {
        AuditAction.EMAIL_SENT,
        AuditAction.EMAIL_FAILED,
        AuditAction.EMAIL_RETRY,
        AuditAction.INVOICE_SENT_TO_CUSTOMER,
    }
)

# An entry's document: what it is about; None where that changes no figures.
Changed: TypeAlias = tuple[PartKind, StoredId] | None


class Place(NamedTuple):
    """The stretch of ids of a part: `first_id <= _id < end`."""

    kind: PartKind
    first_id: StoredId
    end: StoredId | None


@dataclass(frozen=True, slots=True)
class Look:
    """The figures at one moment, and what of them is not stored yet.

    `is_current`: they have everything that was committed by then; else there is more to count.
    `entries` are those that are in them, by the time they were created. `documents` is how many
    there are, counted one by one, where that was asked for.
    """

    state: State
    is_current: bool
    is_stored: bool = True
    is_anew: bool = False
    parts: Sequence[Part] = ()
    entries: Mapping[StoredId, datetime] = field(default_factory=dict)
    documents: int | None = None


class FiguresKeeper:
    """Looks at the figures for one process, and remembers which entries are in them."""

    def __init__(self, sizes: Sizes) -> None:
        self._sizes = sizes
        self._counted: dict[StoredId, datetime] = {}

    async def look(
        self,
        db: Database,
        zone: ZoneInfo,
        session: Session | None,
        *,
        counts_documents: bool = False,
    ) -> Look:
        """Count what has changed, at the moment of the session; writes nothing."""
        now, counting = db.clock(), Counting(zone, session, self._sizes)
        stored = await find_state(session)
        documents = await count_documents(session) if counts_documents else None
        if stored is None or stored.zone != zone.key or await _is_too_old(stored, now, session):
            revision = stored.revision if stored else None
            fresh = State(revision, zone.key, _settled_before(now))
            entries = await _list_entries(fresh.since, session)
            look = await _count_on(fresh, entries, {}, now, counting)
            return replace(look, is_anew=True, documents=documents)
        known = await _count_entries(stored.since, session)
        if known == stored.entries and stored.is_whole:
            look = await _move_on(stored, known, now, session)
            return replace(look, documents=documents)
        entries = await _list_entries(stored.since, session)
        new = await _list_changed(entries.keys() - self._counted.keys(), session)
        look = await _count_on(stored, entries, new, now, counting)
        return replace(look, documents=documents)

    async def keep(self, db: Database, look: Look) -> bool:
        """Store what a look has counted; False if somebody else has stored something since.

        Or if he is still at it; what was not stored is counted again by the next look.
        """
        if look.is_stored:
            return True
        try:
            await db.with_patience(STORE_SECONDS_MAX).run(SYSTEM, _store, look)
        except (DocumentChanged, TooBusy, OutcomeUnknown):
            return False
        known = {**self._counted, **look.entries}
        self._counted = {key: at for key, at in known.items() if at >= look.state.since}
        return True


async def forget_figures(tx: Transaction) -> None:
    """Drop what was counted, so that the next look begins anew.

    For whoever has changed invoices, payments or templates past the audit trail.
    """
    await FiguresTotal.get_motor_collection().delete_one({"_id": TOTAL}, session=tx.session)
    await FiguresPart.get_motor_collection().delete_many({}, session=tx.session)


async def list_unsettled(state: State, session: Session | None) -> set[tuple[PartKind, StoredId]]:
    """The parts that entries since `since` are about, by kind and first id: they may be behind."""
    changed = await _list_changed((await _list_entries(state.since, session)).keys(), session)
    places = (await _find_places(state, changed, session)).values()
    return {(place.kind, place.first_id) for place in places if place is not None}


async def _count_on(
    state: State,
    entries: Mapping[StoredId, datetime],
    new: Mapping[StoredId, Changed],
    now: datetime,
    counting: Counting,
) -> Look:
    """Count the parts that have changed and, while not all are there, the next ones.

    As many as one look may; entries whose parts are not there yet are in them when they come.
    """
    place_of = await _find_places(state, new, counting.session)
    places = sorted({place for place in place_of.values() if place is not None})
    taken, left = places[: counting.sizes.parts], frozenset(places[counting.sizes.parts :])
    counted, gone = await _count_again(taken, counting)
    if not state.is_whole:
        state, next_parts = await _count_next(state, counting)
        counted += next_parts
    today = business_day(now, counting.zone)
    figures = state.figures.on(today).minus(part.figures.on(today) for part in gone)
    figures = figures.plus(part.figures.on(today) for part in counted)
    is_current = not left and state.is_whole
    done = {key: at for key, at in entries.items() if place_of.get(key) not in left}
    state = replace(state, figures=figures, entries=None)
    if is_current:
        since = max(state.since, _settled_before(now))
        state = replace(state, since=since, entries=sum(at >= since for at in done.values()))
    return Look(state, is_current, is_stored=False, parts=counted, entries=done)


async def _count_again(
    places: Sequence[Place], counting: Counting
) -> tuple[list[Part], list[Part]]:
    """These parts as they are now, and as they are stored."""
    counted: list[Part] = []
    gone: list[Part] = []
    for kind in PartKind:
        if first_ids := [place.first_id for place in places if place.kind is kind]:
            gone += await find_parts(kind, first_ids, counting.session)
    for place in places:
        counted += await counting.count_part(*place)
    return counted, gone


async def _count_next(state: State, counting: Counting) -> tuple[State, list[Part]]:
    """The next parts of the first kind of which not all are there."""
    kind = next(kind for kind in PartKind if state.ends[kind] is not None)
    begin = state.ends[kind] or FIRST_ID
    first_ids, end = await counting.find_cuts(kind, begin, None)
    return state.ending(kind, end), await counting.count_parts(kind, first_ids, end)


async def _move_on(state: State, known: int, now: datetime, session: Session | None) -> Look:
    """The same figures; `since` follows time, so that old entries are not counted for ever."""
    since = _settled_before(now)
    if not known or since < after(state.since, seconds=SINCE_STEP_SECONDS):
        return Look(state, is_current=True)
    moved = replace(state, since=since, entries=await _count_entries(since, session))
    return Look(moved, is_current=True, is_stored=False)


async def _is_too_old(state: State, now: datetime, session: Session | None) -> bool:
    """Whether so much has happened since anybody looked that it is less to count everything."""
    if after(state.since, seconds=OLD_SECONDS) > now:
        return False
    return await _count_entries(state.since, session, limit=ENTRIES_MAX + 1) > ENTRIES_MAX


async def _find_places(
    state: State, changed: Mapping[StoredId, Changed], session: Session | None
) -> dict[StoredId, Place | None]:
    """The part that each entry's document belongs to; None where there is none, or not yet."""
    places: dict[StoredId, Place | None] = dict.fromkeys(changed)
    for kind in PartKind:
        about = {key: what[1] for key, what in changed.items() if what and what[0] is kind}
        if not about:
            continue
        first_ids, end = await find_first_ids(kind, session), state.ends[kind]
        for key, document_id in about.items():
            if end is None or document_id < end:
                after_it = bisect_right(first_ids, document_id)
                next_id = first_ids[after_it] if after_it < len(first_ids) else end
                places[key] = Place(kind, first_ids[after_it - 1], next_id)
    return places


async def _count_entries(
    since: datetime, session: Session | None, *, limit: int | None = None
) -> int:
    options: dict[str, Any] = {"hint": _BY_TIME} | ({"limit": limit} if limit else {})
    entries = AuditLog.get_motor_collection()
    query = {"createdAt": {"$gte": since}}
    return int(await entries.count_documents(query, session=session, **options))


async def _list_entries(since: datetime, session: Session | None) -> dict[StoredId, datetime]:
    """The entries created since then, by their time; read from the index alone."""
    found = AuditLog.get_motor_collection().find(
        {"createdAt": {"$gte": since}}, {"_id": 1, "createdAt": 1}, session=session
    )
    return {raw["_id"]: raw["createdAt"] async for raw in found.hint(_BY_TIME)}


async def _list_changed(
    entry_ids: Iterable[StoredId], session: Session | None
) -> dict[StoredId, Changed]:
    """What each of these entries is about."""
    ids = list(entry_ids)
    changed: dict[StoredId, Changed] = {}
    for start in range(0, len(ids), _FETCHED_AT_ONCE):
        found = AuditLog.get_motor_collection().find(
            {"_id": {"$in": ids[start : start + _FETCHED_AT_ONCE]}},
            {"action": 1, "entityType": 1, "entityId": 1},
            session=session,
        )
        async for raw in found:
            kind = None if raw["action"] in CHANGES_NO_FIGURES else _KIND_OF.get(raw["entityType"])
            changed[raw["_id"]] = None if kind is None else (kind, raw["entityId"])
    return changed


async def _store(tx: Transaction, look: Look) -> None:
    """Put a look in the place of the total that it has seen. Raises DocumentChanged."""
    before, stored = look.state.revision, stored_state(look.state, new_id())
    totals = FiguresTotal.get_motor_collection()
    if before is None:
        if await find_state(tx.session) is not None:
            raise DocumentChanged(FiguresTotal.__name__, TOTAL)
        await totals.insert_one(stored, session=tx.session)
    else:
        # By a revision that is random: a total that was dropped and made anew is another one.
        seen = {"_id": TOTAL, "revision": before}
        replaced = await totals.replace_one(seen, stored, session=tx.session)
        if not replaced.matched_count:
            raise DocumentChanged(FiguresTotal.__name__, TOTAL)
    if look.is_anew:
        await FiguresPart.get_motor_collection().delete_many({}, session=tx.session)
    rows = [
        ({"kind": part.kind.value, "firstId": part.first_id}, to_rows(part.figures))
        for part in look.parts
    ]
    await FiguresPart.put_many(tx, rows)


def _settled_before(now: datetime) -> datetime:
    return after(now, seconds=-SETTLED_SECONDS)
