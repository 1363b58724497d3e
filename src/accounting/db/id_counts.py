"""How many rows have each id in a field: all are read at once, behind the scenes.

So the rows of some hundred ids are added up in the process, where counting them would look at tens
of thousands of index keys, and anew for each other set of ids.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final

from accounting.db.client import DriverError
from accounting.db.document import BaseDocument
from accounting.ids import ANY_ID, ObjectId

# 100 bytes each.
IDS_MAX: Final = 100_000
READ_AT_ONCE: Final = 1_000
# Reading all takes half a second of the database a million rows, and no more than this of its time.
SHARE_OF_TIME_MAX: Final = 0.02


class IdCounts:
    """The counts of one field that has an index of its own, in one process."""

    def __init__(
        self,
        document: type[BaseDocument],
        field: str,
        *,
        renewed_seconds: float,
        remembered_seconds: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._document = document
        self._field = field
        self._renewed_seconds = renewed_seconds
        self._remembered_seconds = remembered_seconds
        self._monotonic = monotonic
        # By the bytes of the ids, which are found much faster than ids.
        self._rows: dict[bytes, int] = {}
        self._read_at = float("-inf")
        self._read_again_at = float("-inf")
        self._reading: asyncio.Task[None] | None = None

    def count(self, ids: Sequence[ObjectId]) -> int | None:
        """How many rows have one of these ids, none of which comes twice; None if not known yet."""
        now = self._monotonic()
        if now >= self._read_again_at and (self._reading is None or self._reading.done()):
            self._reading = asyncio.create_task(self._read())
        if now >= self._read_at + self._remembered_seconds:
            return None
        return sum([self._rows.get(each.binary, 0) for each in ids])

    async def close(self) -> None:
        """Give up what is being read."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    async def _read(self) -> None:
        begun_at = self._monotonic()
        found = self._document.get_motor_collection().aggregate(
            [
                {"$match": {self._field: ANY_ID}},
                {"$group": {"_id": f"${self._field}", "rows": {"$sum": 1}}},
            ],
            hint=f"{self._field}_1",
            batchSize=READ_AT_ONCE,
        )
        rows: dict[bytes, int] = {}
        try:
            while len(rows) <= IDS_MAX and (batch := await found.to_list(READ_AT_ONCE)):
                rows |= {row["_id"].binary: row["rows"] for row in batch}
        except DriverError:
            return  # whoever asks next counts by himself, and is told what is wrong
        took = self._monotonic() - begun_at
        self._read_again_at = begun_at + max(self._renewed_seconds, took / SHARE_OF_TIME_MAX)
        if len(rows) <= IDS_MAX:
            self._rows, self._read_at = rows, begun_at
