"""A small set of collections to set up, as an older version left them and as they shall be."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from accounting.db.client import MongoDatabase, open_client, open_database
from accounting.db.document import index
from accounting.db.manifest import META
from accounting.db.schema import CollectionSpec
from accounting.db.setup import apply_changes
from accounting.db.turns import LOCK_ID
from backups import state_of

SHEETS, PAGES = "sheets", "pages"
LATE = {"kind": "late"}
# One index of each fate: replaced, changed where it is (twice), kept, and new.
OLD_INDEXES = (
    index("number", unique=True, only_if=LATE, name="number"),
    index("code", name="code"),
    index("seenAt", expire_after_seconds=10**8),
    index("kept"),
)
NEW_INDEXES = (
    index("number", unique=True, name="number"),
    index("code", unique=True, name="code"),
    index("seenAt", expire_after_seconds=10**9),
    index("kept"),
    index("kind"),
)


def rules(*required: str) -> dict[str, Any]:
    return {"$jsonSchema": {"bsonType": "object", "required": ["_id", *required]}}


OLD_SPECS = [CollectionSpec(SHEETS, rules("number"), OLD_INDEXES)]
NEW_SPECS = [
    CollectionSpec(SHEETS, rules("number", "code"), NEW_INDEXES),
    CollectionSpec(PAGES, rules("sheet"), (index("sheet", unique=True),)),
]
NAMES = [SHEETS, PAGES]


async def set_up_old(mongo: MongoDatabase, documents: int = 200) -> None:
    """As an older version has set it up, with documents."""
    await apply_changes(mongo, OLD_SPECS)
    rows = [{"_id": at, "number": at, "code": at, "kind": "late"} for at in range(documents)]
    await mongo[SHEETS].insert_many(rows)


def apply_work(uri: str, database: str, _: Path) -> None:
    """`apply` in a process of its own."""
    asyncio.run(_apply(uri, database))


def nothing_work(uri: str, database: str, _: Path) -> None:
    """What every process needs before it can begin."""


async def _apply(uri: str, database: str) -> None:
    client = open_client(uri)
    await apply_changes(open_database(client, database), NEW_SPECS)
    client.close()


async def everything_of(mongo: MongoDatabase) -> dict[str, Any]:
    """Documents, options and indexes, and the record without its times and marks."""
    by_name = await state_of(mongo, NAMES)
    for found in by_name.values():
        found["indexes"] = sorted(found["indexes"], key=lambda found: str(found["name"]))
    rows = (
        await mongo[META]
        .find({}, {"at": 0, "uuid": 0, "startedAt": 0, "appliedAt": 0})
        .to_list(None)
    )
    return {**by_name, META: sorted(rows, key=lambda row: str(row["_id"]))}


async def forget_the_killed(mongo: MongoDatabase) -> None:
    """As it is when the one who was killed has been silent for long enough."""
    await mongo[META].update_one(
        {"_id": LOCK_ID}, [{"$set": {"aliveAt": {"$subtract": ["$aliveAt", 3_600_000]}}}]
    )
