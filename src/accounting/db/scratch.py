"""A database for a while, beside the real one: made, marked, and dropped at the end.

What is dropped must be ours beyond doubt. Its name is that of the real database with a purpose and
a random number, and a mark inside it, the first thing that is written, names the real database as
well. Times are the server's, so that the machines of two operators need not agree on them.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pymongo.errors import OperationFailure, PyMongoError

from accounting.db.client import MongoDatabase, open_database
from accounting.db.failures import UNAUTHORIZED
from accounting.errors import Misconfigured

logger = logging.getLogger(__name__)

MARK_COLLECTION: Final = "accounting_scratch"
MARK_ID: Final = "mark"
SIGN_OF_LIFE_SECONDS: Final = 30
# Whoever has shown no sign of life for so long was killed.
SILENT_SECONDS_MAX: Final = 180
NAME_BYTES_MAX: Final = 63  # MongoDB's limit
_RANDOM_BYTES: Final = 6


class MayNotMakeDatabase(Misconfigured):
    """The database user lacks the rights on databases that do not exist yet."""

    def __init__(self, purpose: str) -> None:
        super().__init__(
            f"A {purpose} needs a database of its own, and this MongoDB user may not make and drop "
            "one: give it the roles readWriteAnyDatabase and dbAdminAnyDatabase, or set "
            "ACCOUNTING_MONGODB_URI to a user who has them."
        )


@dataclass(frozen=True, slots=True)
class ScratchDatabase:
    """One that exists, by its mark; in use as long as its maker shows signs of life."""

    name: str
    created_at: datetime
    is_in_use: bool


@asynccontextmanager
async def scratch_database(
    mongo: MongoDatabase, purpose: str, *, sign_of_life_seconds: float = SIGN_OF_LIFE_SECONDS
) -> AsyncIterator[MongoDatabase]:
    """An empty database on the same server, which is dropped at the end, also after a failure.

    Only the end of the process itself leaves it behind; `list_scratch_databases` finds it then.
    Raises MayNotMakeDatabase.
    """
    name = f"{_stem(mongo.name, purpose)}{secrets.token_hex(_RANDOM_BYTES)}"
    scratch = open_database(mongo.client, name)
    await _mark(scratch, mongo.name, purpose)
    signs_of_life = asyncio.create_task(_show_signs_of_life(scratch, sign_of_life_seconds))
    try:
        yield scratch
    finally:
        signs_of_life.cancel()
        try:
            await scratch.client.drop_database(name)
        except PyMongoError as error:  # what led here says more, and must not be hidden by it
            logger.warning("The scratch database %s was left behind: %s", name, error)


async def list_scratch_databases(mongo: MongoDatabase, purpose: str) -> list[ScratchDatabase]:
    """Those of this database and purpose, in use or left behind, as far as this user sees them."""
    ours = re.compile(f"{re.escape(_stem(mongo.name, purpose))}[0-9a-f]{{{2 * _RANDOM_BYTES}}}")
    names = await mongo.client.list_database_names()
    found = [await _find_marked(mongo, name) for name in sorted(names) if ours.fullmatch(name)]
    return [scratch for scratch in found if scratch is not None]


async def drop_left_behind(mongo: MongoDatabase, purpose: str) -> list[ScratchDatabase]:
    """Drop what killed processes have left behind; returns what was dropped."""
    listed = await list_scratch_databases(mongo, purpose)
    left_behind = [scratch for scratch in listed if not scratch.is_in_use]
    for scratch in left_behind:
        await mongo.client.drop_database(scratch.name)
    return left_behind


def _stem(name: str, purpose: str) -> str:
    """The name without its random number; a long name loses its end, and the mark has it whole."""
    middle = f"_{purpose}_"
    kept = NAME_BYTES_MAX - len(middle) - 2 * _RANDOM_BYTES
    return name.encode()[:kept].decode(errors="ignore") + middle


async def _mark(scratch: MongoDatabase, of_database: str, purpose: str) -> None:
    try:
        # The right to drop comes first: without it this database would stay.
        await scratch.client.drop_database(scratch.name)
        await scratch[MARK_COLLECTION].update_one(
            {"_id": MARK_ID},
            {
                "$set": {"ofDatabase": of_database},
                "$currentDate": {"createdAt": True, "aliveAt": True},
            },
            upsert=True,
        )
    except OperationFailure as error:
        if error.code != UNAUTHORIZED:
            raise
        raise MayNotMakeDatabase(purpose) from error


async def _show_signs_of_life(scratch: MongoDatabase, every_seconds: float) -> None:
    while True:
        await asyncio.sleep(every_seconds)
        try:
            await scratch[MARK_COLLECTION].update_one(
                {"_id": MARK_ID}, {"$currentDate": {"aliveAt": True}}
            )
        except PyMongoError as error:  # the work itself will say that the server is away
            logger.info("no sign of life of %s: %s", scratch.name, error)


async def _find_marked(mongo: MongoDatabase, name: str) -> ScratchDatabase | None:
    silent_milliseconds = {"$subtract": ["$$NOW", "$aliveAt"]}
    is_in_use = {"$lt": [silent_milliseconds, SILENT_SECONDS_MAX * 1000]}
    marks = open_database(mongo.client, name)[MARK_COLLECTION].aggregate(
        [
            {"$match": {"_id": MARK_ID, "ofDatabase": mongo.name}},
            {"$project": {"createdAt": 1, "isInUse": is_in_use}},
        ]
    )
    for mark in await marks.to_list(1):
        return ScratchDatabase(name, mark["createdAt"], mark["isInUse"])
    return None
