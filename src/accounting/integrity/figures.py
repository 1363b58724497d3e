"""The figures of the dashboard: are they what counting everything gives?"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import date
from typing import Final
from zoneinfo import ZoneInfo

from accounting.clock import business_day
from accounting.db.database import Database, Session
from accounting.ids import StoredId
from accounting.integrity.findings import Finding, FindingKind, Repair
from accounting.reports.counting import Counting
from accounting.reports.documents import (
    FIRST_ID,
    PartKind,
    find_all_parts,
    find_parts_from,
    find_state,
)
from accounting.reports.figures import Figures
from accounting.reports.upkeep import forget_figures, list_unsettled

# So many are counted at one moment, which the server keeps for some minutes.
PARTS_AT_ONCE: Final = 50
FIGURES: Final = "FiguresTotal"


async def check_figures(db: Database, zone: ZoneInfo) -> AsyncIterator[Finding | int]:
    """Each part against its documents, and the total against the parts; one finding at most.

    Parts that changed in the last minutes are left out: a look counts those again anyway. Where
    nothing is counted yet, nothing can be wrong. Yields how many documents were counted.
    """
    today = business_day(db.clock(), zone)
    wrong = False
    for kind in PartKind:
        begin: StoredId | None = FIRST_ID
        while begin is not None:
            async with db.snapshot() as session:
                counted, is_wrong, begin = await _check_parts(kind, begin, zone, today, session)
            wrong |= is_wrong
            yield counted
    async with db.snapshot() as session:
        state = await find_state(session)
        sums = Figures().plus([part.figures.on(today) async for part in find_all_parts(session)])
    wrong |= state is not None and state.figures.on(today) != sums
    if wrong:
        repair = Repair("count the figures of the dashboard anew", forget_figures)
        sentence = "The figures of the dashboard are not what its invoices and templates add up to."
        yield Finding(FindingKind.FIGURES, FIGURES, "total", sentence, repair)


async def _check_parts(
    kind: PartKind, begin: StoredId, zone: ZoneInfo, today: date, session: Session | None
) -> tuple[int, bool, StoredId | None]:
    """Some parts from this id on: how much was counted, whether one is wrong, the next id."""
    state = await find_state(session)
    if state is None or state.zone != zone.key:
        return 0, False, None
    parts = await find_parts_from(kind, begin, PARTS_AT_ONCE + 1, session)
    unsettled = await list_unsettled(state, session)
    beyond = parts.pop().first_id if len(parts) > PARTS_AT_ONCE else None
    ends = [part.first_id for part in parts[1:]] + [beyond or state.ends[kind]]
    counted, is_wrong, counting = 0, False, Counting(zone, session)
    for part, end in zip(parts, ends, strict=True) if parts else ():
        if (kind, part.first_id) in unsettled:
            continue
        figures = await counting.count_figures(kind, part.first_id, end)
        counted += figures.documents
        is_wrong |= figures.on(today) != part.figures.on(today)
    return counted, is_wrong, beyond
