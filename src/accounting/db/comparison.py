"""Our collections as they are on a server, held against what they must look like.

Looks only: nothing here writes, and only collections that are named are looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import bson
from bson import json_util
from pymongo import IndexModel
from pymongo.errors import OperationFailure

from accounting.db.client import CODEC_OPTIONS, MongoDatabase
from accounting.db.schema import CollectionSpec

ID_INDEX: Final = "_id_"
# What an older server answers to an option that it does not know.
UNKNOWN_TO_SERVER: Final = (2, 9, 72, 40415)
_NAMESPACE_NOT_FOUND: Final = 26
# Beside an index that is being replaced; see `indexing`.
GUARD_SUFFIX: Final = "__guard"
COLLECTION: Final = "collection"
# To the server, two indexes that agree in these are one and the same, whatever their names.
_IDENTITY: Final = ("collation", "partialFilterExpression", "unique", "sparse")
# Can be changed on the index that is there (`collMod`), without building it anew.
_CHANGED_IN_PLACE: Final = ("expireAfterSeconds", "unique", "hidden", "prepareUnique")
# What makes an index behave differently; the rest (`v`, `ns`) is the server's business.
_INDEX_OPTIONS: Final = (*_IDENTITY, "expireAfterSeconds", "hidden", "prepareUnique")


class ChangeKind(StrEnum):
    """What `apply` would do; or, for the last two, what it found and leaves alone."""

    CREATE_COLLECTION = "create collection"
    ADOPT_COLLECTION = "take into use"
    RECORD_COLLECTION = "record as ours"
    SET_VALIDATOR = "set validator"
    CREATE_INDEX = "create index"
    CHANGE_INDEX = "change index in place"
    REPLACE_INDEX = "replace index"
    DROP_GUARD = "drop index of an interrupted apply"
    FINISH_RECORD = "finish the record of an interrupted apply"
    OBSOLETE_INDEX = "index of an older version, left alone"
    UNKNOWN_INDEX = "unknown index, left alone"


_NOTES: Final = frozenset({ChangeKind.OBSOLETE_INDEX, ChangeKind.UNKNOWN_INDEX})
# Until these are done the service cannot rely on its collections.
_LACKS: Final = frozenset(
    {
        ChangeKind.CREATE_COLLECTION,
        ChangeKind.SET_VALIDATOR,
        ChangeKind.CREATE_INDEX,
        ChangeKind.CHANGE_INDEX,
        ChangeKind.REPLACE_INDEX,
    }
)


@dataclass(frozen=True)
class Change:
    """One difference between a collection and its specification; `before` and `after` in words."""

    kind: ChangeKind
    collection: str
    name: str = ""
    before: str = ""
    after: str = ""
    index: IndexModel | None = None

    @property
    def is_needed(self) -> bool:
        return self.kind not in _NOTES

    @property
    def is_lack(self) -> bool:
        """Whether the service cannot rely on the collection before this is done."""
        return self.kind in _LACKS

    def __str__(self) -> str:
        return f"{self.collection}: {self.kind}" + (f" {self.name}" if self.name else "")


@dataclass(frozen=True)
class Present:
    """A collection, view or time series as the server has it; indexes by name."""

    name: str
    type: str
    options: Mapping[str, Any]
    indexes: Mapping[str, Mapping[str, Any]]
    # Tells it from an earlier or later one of the same name.
    uuid: str

    @property
    def validator(self) -> Mapping[str, Any]:
        validator: Mapping[str, Any] = self.options.get("validator", {})
        return validator

    @property
    def is_plain_collection(self) -> bool:
        return self.type == COLLECTION and not self.options.get("capped")

    @property
    def is_bare(self) -> bool:
        """Nobody has given it options or indexes of its own."""
        return self.is_plain_collection and not self.options and set(self.indexes) == {ID_INDEX}


async def read_present(database: MongoDatabase, names: Sequence[str]) -> dict[str, Present]:
    """Those of the named that exist, by name."""
    listed = await database.list_collections(filter={"name": {"$in": list(names)}})
    found = [info async for info in listed]
    return {
        info["name"]: Present(
            name=info["name"],
            type=info["type"],
            options=info.get("options", {}),
            indexes=await _built_indexes(database, info["name"])
            if info["type"] == COLLECTION
            else {},
            uuid=bytes(info.get("info", {}).get("uuid", b"")).hex(),
        )
        for info in found
    }


async def _built_indexes(database: MongoDatabase, name: str) -> dict[str, dict[str, Any]]:
    """Those that are in use; one that is still being built refuses no duplicate yet."""
    command: dict[str, Any] = {"listIndexes": name, "includeBuildUUIDs": True}
    try:
        found = await database.command(command, codec_options=CODEC_OPTIONS)
    except OperationFailure as error:
        if error.code == _NAMESPACE_NOT_FOUND:  # dropped a moment ago
            return {}
        if error.code not in UNKNOWN_TO_SERVER:
            raise
        return dict(await database[name].index_information())
    # A server keeps 64 of a collection at most, and sends them at once.
    listed = found["cursor"]["firstBatch"]
    return {index["name"]: index for index in listed if "buildUUID" not in index}


async def find_differences(
    database: MongoDatabase, specs: Sequence[CollectionSpec]
) -> list[Change]:
    """What the collections lack, or have beyond it. Needs no right on the record of the setup."""
    present = await read_present(database, [spec.name for spec in specs])
    return [change for spec in specs for change in differences_of(spec, present.get(spec.name), ())]


def differences_of(
    spec: CollectionSpec, present: Present | None, made_by_us: Iterable[str]
) -> list[Change]:
    """The same for one collection, in the order in which they are done.

    `made_by_us` are the names of the indexes that an earlier version is known to have made.
    """
    if present is None:
        created = Change(ChangeKind.CREATE_COLLECTION, spec.name)
        return [created, *_index_changes(spec, {}, ())]
    if not present.is_plain_collection:
        return []  # An obstacle, and no work for us.
    changes = list(_index_changes(spec, present.indexes, made_by_us))
    if not has_validator(spec, present):
        changes.insert(0, Change(ChangeKind.SET_VALIDATOR, spec.name))
    return changes


def has_validator(spec: CollectionSpec, present: Present) -> bool:
    """Whether the server refuses what the specification refuses, and nothing else."""
    return (
        _decoded(present.validator) == _decoded(spec.validator)
        and present.options.get("validationLevel", "strict") == "strict"
        and present.options.get("validationAction", "error") == "error"
    )


def keys_of(definition: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The fields of an index with their directions."""
    keys = definition["key"]
    return list(keys.items()) if hasattr(keys, "items") else [tuple(pair) for pair in keys]


def is_same_index(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether the server takes them for one index, which it keeps under one name only."""
    return keys_of(one) == keys_of(other) and _agree(one, other, _IDENTITY)


def is_as_wanted(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether an index does all that is wanted of it, and nothing else."""
    return keys_of(found) == keys_of(wanted) and _agree(found, wanted, _INDEX_OPTIONS)


def is_changed_in_place(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether the index can become the other one without being built anew.

    Not if it shall stop to expire documents or stop to be unique: no server does that.
    """
    fixed = [option for option in _INDEX_OPTIONS if option not in _CHANGED_IN_PLACE]
    return (
        keys_of(before) == keys_of(after)
        and _agree(before, after, fixed)
        and not (before.get("unique") and not after.get("unique"))
        and ("expireAfterSeconds" not in before or "expireAfterSeconds" in after)
    )


def _index_changes(
    spec: CollectionSpec, present: Mapping[str, Mapping[str, Any]], made_by_us: Iterable[str]
) -> Iterator[Change]:
    known = {ID_INDEX}
    for wanted in spec.indexes:
        name = wanted.document["name"]
        known |= {name, name + GUARD_SUFFIX}
        found = present.get(name)
        if found is None:
            kind = ChangeKind.CREATE_INDEX
        elif is_as_wanted(found, wanted.document):
            continue
        elif is_changed_in_place(found, wanted.document):
            kind = ChangeKind.CHANGE_INDEX
        else:
            kind = ChangeKind.REPLACE_INDEX
        before = in_words(found) if found else ""
        yield Change(kind, spec.name, name, before, in_words(wanted.document), wanted)
    ours = set(made_by_us)
    for name, found in present.items():
        if name in known:
            if name.endswith(GUARD_SUFFIX):
                yield Change(ChangeKind.DROP_GUARD, spec.name, name, before=in_words(found))
            continue
        kind = ChangeKind.OBSOLETE_INDEX if name in ours else ChangeKind.UNKNOWN_INDEX
        yield Change(kind, spec.name, name, before=in_words(found))


def in_words(definition: Mapping[str, Any]) -> str:
    """An index as a person reads it: its fields, then what is special about it."""
    signs = {1: "", -1: "-"}
    fields = [
        f"{signs[direction]}{field}" if direction in signs else f"{field} ({direction})"
        for field, direction in keys_of(definition)
    ]
    words = [", ".join(fields)]
    for option in ("unique", "sparse", "hidden", "prepareUnique"):
        if definition.get(option):
            words.append(option)
    if "partialFilterExpression" in definition:
        words.append(f"only where {_as_text(definition['partialFilterExpression'])}")
    if "collation" in definition:
        words.append(f"collation {_as_text(definition['collation'])}")
    if "expireAfterSeconds" in definition:
        words.append(f"documents expire after {definition['expireAfterSeconds']:,} s")
    return "; ".join(words)


def _as_text(value: Mapping[str, Any]) -> str:
    return json_util.dumps(value, json_options=json_util.RELAXED_JSON_OPTIONS)


def _agree(one: Mapping[str, Any], other: Mapping[str, Any], options: Iterable[str]) -> bool:
    return all(_option(one, option) == _option(other, option) for option in options)


def _option(definition: Mapping[str, Any], option: str) -> Any:
    value = definition.get(option)
    # False is the same as nothing said; a time to live of 0 seconds is not.
    return None if value is False else value


def _decoded(validator: Mapping[str, Any]) -> dict[str, Any]:
    # Through BSON and back, so that Decimal and Decimal128 compare alike.
    encoded = bson.encode(dict(validator), codec_options=CODEC_OPTIONS)
    return bson.decode(encoded, codec_options=CODEC_OPTIONS)
