"""One setup command at a time, for the few steps that two at once would spoil for each other.

Whoever has the turn shows signs of life; a killed one loses it after some seconds of silence. All
times are the server's.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from pymongo.errors import DuplicateKeyError

from accounting.db.client import MongoDatabase
from accounting.db.manifest import META
from accounting.db.obstacles import SetupError

LOCK_ID: Final = "lock"
SIGN_OF_LIFE_SECONDS: Final = 2.0
SILENT_SECONDS_MAX: Final = 15
_ASK_AGAIN_SECONDS: Final = 0.5
_SILENT_MILLISECONDS: Final = {"$subtract": ["$$NOW", "$aliveAt"]}
_IF_SILENT: Final[dict[str, Any]] = {
    "_id": LOCK_ID,
    "$expr": {"$gt": [_SILENT_MILLISECONDS, SILENT_SECONDS_MAX * 1000]},
}


class TurnLost(SetupError):
    """This process was away for so long that another one has taken over."""

    def __init__(self) -> None:
        super().__init__(
            "Another `accounting db apply` has taken over, since this one gave no sign of life; "
            "run it again when the other one is done."
        )


class Turn:
    """The right to do such a step, as long as it is held."""

    def __init__(self, mongo: MongoDatabase, holder: str) -> None:
        self._mongo = mongo
        self._holder = holder

    async def require(self) -> None:
        """Show a sign of life. Raises TurnLost."""
        kept = await self._mongo[META].update_one(
            {"_id": LOCK_ID, "holder": self._holder}, {"$currentDate": {"aliveAt": True}}
        )
        if not kept.matched_count:
            raise TurnLost


@asynccontextmanager
async def my_turn(mongo: MongoDatabase, on_wait: Callable[[str], None]) -> AsyncIterator[Turn]:
    """Wait until nobody else has the turn; `on_wait` is told on which host somebody has it."""
    holder = secrets.token_hex(8)
    told = None
    while (other := await _take(mongo, holder)) is not None:
        if other != told:
            told = other
            on_wait(other)
        await asyncio.sleep(_ASK_AGAIN_SECONDS)
    turn = Turn(mongo, holder)
    signs_of_life = asyncio.create_task(_show_signs_of_life(turn))
    try:
        yield turn
    finally:
        signs_of_life.cancel()
        await mongo[META].delete_one({"_id": LOCK_ID, "holder": holder})


async def forget_silent(mongo: MongoDatabase) -> None:
    """Remove the turn of one who was killed; nobody may have needed it since."""
    await mongo[META].delete_one(_IF_SILENT)


async def _take(mongo: MongoDatabase, holder: str) -> str | None:
    """Take the turn; where somebody has it, the name of his host."""
    row = {"kind": "lock", "holder": holder, "host": socket.gethostname()}
    try:
        await mongo[META].update_one(
            {"_id": LOCK_ID, "holder": holder},
            {"$set": row, "$currentDate": {"aliveAt": True}},
            upsert=True,
        )
    except DuplicateKeyError:
        taken = await mongo[META].update_one(
            _IF_SILENT,
            {"$set": row, "$currentDate": {"aliveAt": True}},
        )
        if not taken.modified_count:
            found: dict[str, Any] | None = await mongo[META].find_one({"_id": LOCK_ID})
            return str(found["host"]) if found else ""
    return None


async def _show_signs_of_life(turn: Turn) -> None:
    while True:
        await asyncio.sleep(SIGN_OF_LIFE_SECONDS)
        try:
            await turn.require()
        except TurnLost:
            return  # The step itself asks again before it drops anything.
