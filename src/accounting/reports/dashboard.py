"""Reading the dashboard: exact, and at the same cost however many invoices there are.

Whoever asks while another's answer is being made shares the next one: an answer is made of a moment
after every question that it answers.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Final, TypeAlias
from zoneinfo import ZoneInfo

from accounting.actor import SYSTEM
from accounting.clock import business_day
from accounting.db.database import Database, Session
from accounting.db.paging import Order
from accounting.errors import Unavailable
from accounting.invoices.documents import Invoice
from accounting.invoices.list_plan import Conditions, plan_list
from accounting.reports.counting import SIZES, Sizes, estimate_documents
from accounting.reports.figures import Dashboard, draw_up_dashboard
from accounting.reports.upkeep import FiguresKeeper, Look, forget_figures

logger = logging.getLogger(__name__)

RECENT_INVOICES: Final = 10
# Shorter than proxies wait. A million invoices are counted for the first time in 10 to 20 seconds.
PATIENCE_SECONDS: Final = 25.0
# The server's own number of documents differs from ours at times while somebody writes, and after
# a crash. Counting them one by one is some 0.2 seconds at a million.
COUNT_AGAIN_AFTER_SECONDS: Final = 60.0
DOUBTS_MAX: Final = 2

OnProgress: TypeAlias = Callable[[int, int], None]
Estimate: TypeAlias = Callable[[], Awaitable[int]]


class FiguresNotReady(Unavailable):
    """The figures are being counted for the first time, or anew; each question goes on with it."""

    retry_after_seconds = 5

    def __init__(self, counted: int, total: int) -> None:
        super().__init__(
            f"The figures are being counted: {counted} of about {total} invoices and recurring "
            "invoices; try again in a moment.",
            counted=counted,
            total=total,
        )


@dataclass(frozen=True, slots=True)
class DashboardReading:
    """The dashboard and the newest invoices, both as they were at one moment, `as_of`."""

    as_of: datetime
    today: date
    dashboard: Dashboard
    recent: Sequence[Invoice]


class DashboardReader:
    """Reads the dashboard for one process."""

    def __init__(
        self,
        sizes: Sizes = SIZES,
        *,
        patience_seconds: float = PATIENCE_SECONDS,
        estimate: Estimate = estimate_documents,
    ) -> None:
        self._keeper = FiguresKeeper(sizes)
        self._patience_seconds = patience_seconds
        self._estimate = estimate
        self._turn = asyncio.Lock()
        self._begun = 0
        # The last reading that came to an end, by its number: what it read or why it could not.
        self._ended: tuple[int, DashboardReading | FiguresNotReady | None] = (0, None)
        self._counted_at: float | None = None

    async def read(self, db: Database, zone: ZoneInfo) -> DashboardReading:
        """The dashboard with everything that was committed before this call.

        Raises FiguresNotReady where the first count takes longer than the patience.
        """
        asked = self._begun
        async with self._turn:
            number, outcome = self._ended
            if number <= asked:
                self._begun = number = self._begun + 1
                outcome = await self._read(db, zone)
                self._ended = (number, outcome)
        if isinstance(outcome, DashboardReading):
            return outcome
        assert outcome is not None
        raise outcome

    async def refresh(
        self,
        db: Database,
        zone: ZoneInfo,
        *,
        seconds: float,
        on_progress: OnProgress = lambda counted, total: None,
    ) -> bool:
        """Bring the stored figures up to date; False if that needs more time than so much."""
        give_up_at = time.monotonic() + seconds
        async with self._turn:
            return (await self._look(db, zone, give_up_at, on_progress))[0].is_current

    async def _read(self, db: Database, zone: ZoneInfo) -> DashboardReading | FiguresNotReady:
        give_up_at = time.monotonic() + self._patience_seconds
        look, as_of, recent = await self._look(db, zone, give_up_at, lambda counted, total: None)
        if not look.is_current:
            return FiguresNotReady(look.state.figures.documents, await self._estimate())
        today = business_day(as_of, zone)
        return DashboardReading(as_of, today, draw_up_dashboard(look.state.figures, today), recent)

    async def _look(
        self, db: Database, zone: ZoneInfo, give_up_at: float, on_progress: OnProgress
    ) -> tuple[Look, datetime, list[Invoice]]:
        """Look until everything is counted and its number is beyond doubt, or time is up."""
        doubts = 0
        while True:
            as_of, recent = db.clock(), list[Invoice]()
            async with db.snapshot() as session:
                look = await self._keeper.look(
                    db, zone, session, counts_documents=doubts >= DOUBTS_MAX
                )
                if look.is_current:
                    recent = await _find_newest(session)
            await self._keeper.keep(db, look)
            if look.is_current and look.documents not in (None, look.state.figures.documents):
                await _drop_figures(db, look)
                look = replace(look, is_current=False)
            elif look.is_current:
                if not await self._is_doubtful(look):
                    return look, as_of, recent
                doubts += 1
            on_progress(look.state.figures.documents, await self._estimate())
            if time.monotonic() >= give_up_at:
                return look, as_of, recent

    async def _is_doubtful(self, look: Look) -> bool:
        """Whether documents may have come or gone past the audit trail, as with a restore.

        The server's own number is asked; where it differs twice, they are counted one by one.
        """
        now = time.monotonic()
        if look.documents is not None:
            self._counted_at = now
        at = self._counted_at
        if at is not None and now < at + COUNT_AGAIN_AFTER_SECONDS:
            return False
        return look.state.figures.documents != await self._estimate()


async def _drop_figures(db: Database, look: Look) -> None:
    logger.warning(
        "the figures have %s invoices and recurring invoices, the store has %s: they are made anew",
        *(look.state.figures.documents, look.documents),
    )
    await db.run(SYSTEM, forget_figures)


async def _find_newest(session: Session | None) -> list[Invoice]:
    order = Order("createdAt")
    reading = await plan_list(Conditions(), order)
    found = Invoice.get_motor_collection().find(dict(reading.query), session=session)
    newest = found.sort(order.keys).hint(reading.index).limit(RECENT_INVOICES)
    return [Invoice.model_validate(raw) async for raw in newest]
