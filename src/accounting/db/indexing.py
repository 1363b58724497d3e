"""Indexes built, changed and replaced on collections that are in use.

MongoDB builds an index without stopping the writers. What could hurt a running service is a moment
without a unique index: so one that is replaced is never dropped before another unique index, its
guard, refuses the same documents.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pymongo import IndexModel
from pymongo.errors import OperationFailure, PyMongoError

from accounting.db.backup.progress import OnProgress
from accounting.db.client import MongoDatabase
from accounting.db.comparison import (
    GUARD_SUFFIX,
    UNKNOWN_TO_SERVER,
    is_as_wanted,
    is_changed_in_place,
)
from accounting.db.turns import Turn

PROGRESS_SECONDS: Final = 0.2
_INDEX_NOT_FOUND: Final = 27
_BUILD_IS_RUNNING: Final = 12587


async def build_indexes(
    mongo: MongoDatabase, name: str, indexes: Sequence[IndexModel], on_progress: OnProgress
) -> None:
    """Build them all in one reading of the documents; those that are there already stay.

    An interrupted build goes on in the server; the next call waits for it.
    """
    building = asyncio.ensure_future(mongo[name].create_indexes(list(indexes)))
    try:
        while not (await asyncio.wait([building], timeout=PROGRESS_SECONDS))[0]:
            await _show_progress(mongo, name, on_progress)
    finally:
        building.cancel()
    await building


async def change_in_place(mongo: MongoDatabase, name: str, index: IndexModel) -> bool:
    """Change options of an index that is there; false where the server cannot do that.

    Before 6.0 none makes an index unique, nor a later one whose feature compatibility is older.
    """
    wanted = index.document
    present = (await mongo[name].index_information()).get(wanted["name"])
    if present is None or not is_changed_in_place(present, wanted):
        return False
    try:
        for options in _steps_in_place(present, wanted):
            await command_between_builds(
                mongo, "collMod", name, index={"name": wanted["name"], **options}
            )
    except OperationFailure as error:
        if present.get("unique") != wanted.get("unique"):
            await _give_up_uniqueness(mongo, name, wanted["name"])
        if error.code not in UNKNOWN_TO_SERVER:
            raise
        return False
    return True


async def replace_index(
    mongo: MongoDatabase, name: str, index: IndexModel, turn: Turn, on_progress: OnProgress
) -> None:
    """Build the index in place of another one with its name.

    Where it is to be unique a guard is built first, and stays until the new one is there. The
    server has no index of that name meanwhile: reads that need it are slow, or fail.
    """
    guard = guard_of(index)
    if guard is not None:
        await _drop_if_outdated(mongo, name, guard)
        await build_indexes(mongo, name, [guard], on_progress)
    await turn.require()
    await drop_index(mongo, name, index.document["name"])
    await build_indexes(mongo, name, [index], on_progress)
    if guard is not None:
        await drop_index(mongo, name, guard.document["name"])


def guard_of(index: IndexModel) -> IndexModel | None:
    """An index that refuses what a unique one refuses, and may stand beside it.

    Its filter holds for every document that the index has, and so makes it another index.
    """
    options = {key: value for key, value in index.document.items() if key not in ("key", "name")}
    if not options.get("unique"):
        return None
    has_id = {"_id": {"$exists": True}}
    only_if = options.get("partialFilterExpression")
    options["partialFilterExpression"] = {"$and": [only_if, has_id]} if only_if else has_id
    options.pop("expireAfterSeconds", None)
    name = index.document["name"] + GUARD_SUFFIX
    return IndexModel(list(index.document["key"].items()), name=name, **options)


async def drop_index(mongo: MongoDatabase, name: str, index_name: str) -> None:
    """Drop an index, if it is there."""
    try:
        await command_between_builds(mongo, "dropIndexes", name, index=index_name)
    except OperationFailure as error:
        if error.code != _INDEX_NOT_FOUND:
            raise


async def command_between_builds(
    mongo: MongoDatabase, command: str, name: str, **arguments: Any
) -> None:
    """Run a command that the server refuses while an index is built on the same collection.

    That may be the build of a killed `apply`, which the server goes on with, or of another one.
    """
    while True:
        try:
            await mongo.command(command, name, **arguments)
            return
        except OperationFailure as error:
            if error.code != _BUILD_IS_RUNNING:
                raise
        await asyncio.sleep(PROGRESS_SECONDS)


async def _drop_if_outdated(mongo: MongoDatabase, name: str, guard: IndexModel) -> None:
    """An interrupted apply of another version has left a guard for another index."""
    found = (await mongo[name].index_information()).get(guard.document["name"])
    if found is not None and not is_as_wanted(found, guard.document):
        await drop_index(mongo, name, guard.document["name"])


def _steps_in_place(
    present: Mapping[str, Any], wanted: Mapping[str, Any]
) -> list[dict[str, object]]:
    steps: list[dict[str, object]] = []
    if wanted.get("unique") and not present.get("unique"):
        # From the first on no duplicate comes in; the second looks at those that are there.
        steps += [{"prepareUnique": True}, {"unique": True}]
    elif present.get("prepareUnique"):
        steps.append({"prepareUnique": False})
    if (seconds := wanted.get("expireAfterSeconds")) != present.get("expireAfterSeconds"):
        steps.append({"expireAfterSeconds": seconds})
    if present.get("hidden"):
        steps.append({"hidden": False})
    return steps


async def _give_up_uniqueness(mongo: MongoDatabase, name: str, index_name: str) -> None:
    """Let duplicates in again, as before: half of a change must not refuse the service's writes."""
    try:
        await command_between_builds(
            mongo, "collMod", name, index={"name": index_name, "prepareUnique": False}
        )
    except PyMongoError:
        return  # The first failure says more.


async def _show_progress(mongo: MongoDatabase, name: str, on_progress: OnProgress) -> None:
    """How far the server is, where this user may see it (the right `inprog`)."""
    is_this_build = {"command.createIndexes": name, "command.$db": mongo.name}
    try:
        operations = await mongo.client.admin.aggregate(
            [{"$currentOp": {"allUsers": True}}, {"$match": is_this_build}]
        ).to_list(None)
    except OperationFailure:
        return
    for operation in operations:
        if progress := operation.get("progress"):
            on_progress(int(progress["done"]), int(progress["total"]))
