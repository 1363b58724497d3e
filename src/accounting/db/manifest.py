"""The setup's own record, `accounting_meta`: what it has made here, when, and in which version.

A step is written down before it is done ("intended") and confirmed after it, so that a killed
`apply` can be finished, and so that `rollback` never takes a collection for ours that was there
before us. Times are the server's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

import bson
from bson import json_util
from pymongo import UpdateMany, UpdateOne
from pymongo.errors import CollectionInvalid, OperationFailure

from accounting import __version__
from accounting.db.client import CODEC_OPTIONS, MongoDatabase
from accounting.db.comparison import Present, read_present
from accounting.db.schema import CollectionSpec

META: Final = "accounting_meta"
SETUP_ID: Final = "setup"
_NAMESPACE_EXISTS: Final = 48
_KINDS: Final = ("setup", "collection", "index", "platform", "lock")
# What tells the record from a collection of the platform with the same name.
_TITLE: Final = "What the setup of accounting has made in this database"
META_SPEC: Final = CollectionSpec(
    name=META,
    validator={
        "$jsonSchema": {
            "bsonType": "object",
            "title": _TITLE,
            "required": ["_id", "kind"],
            "properties": {"_id": {"bsonType": "string"}, "kind": {"enum": list(_KINDS)}},
        }
    },
    indexes=(),
)


class Origin(StrEnum):
    """Where a collection comes from; INTENDED is one that we were about to make."""

    INTENDED = "INTENDED"
    MADE = "MADE"
    ADOPTED = "ADOPTED"


@dataclass(frozen=True, slots=True)
class RecordedCollection:
    """A collection that `apply` has made, or has taken into use as it was there.

    Neither is true of one that somebody else has made under a name that was ours once.
    """

    name: str
    created_by_us: bool
    is_adopted: bool
    created_at: datetime
    version: str
    # What an adopted collection was before, as Extended JSON: its options, its indexes by name.
    before: str | None = None


@dataclass(frozen=True, slots=True)
class RecordedIndex:
    """An index that `apply` has made, or was about to make when it was killed."""

    collection: str
    name: str
    created_at: datetime
    version: str
    is_confirmed: bool


@dataclass(frozen=True, slots=True)
class Manifest:
    """The record as a whole; empty where `apply` never ran."""

    exists: bool = False
    is_finished: bool = False
    applied_at: datetime | None = None
    version: str = ""
    collections: tuple[RecordedCollection, ...] = ()
    indexes: tuple[RecordedIndex, ...] = ()

    @property
    def made_by_us(self) -> tuple[str, ...]:
        """The collections that a rollback may drop; the record itself is not among them."""
        return tuple(found.name for found in self.collections if found.created_by_us)

    def collection(self, name: str) -> RecordedCollection | None:
        """What is recorded of a collection."""
        return next((found for found in self.collections if found.name == name), None)

    def indexes_of(self, name: str) -> tuple[str, ...]:
        """The indexes of a collection that we have made."""
        return tuple(index.name for index in self.indexes if index.collection == name)


async def read_manifest(mongo: MongoDatabase) -> Manifest:
    """What the setup has made in this database.

    A collection that is there counts as made by us if it is the very one, or has the validator that
    we gave it: it was restored from a backup, or its `apply` was killed before it could confirm it.
    """
    present = await read_present(mongo, [META])
    if META not in present or not is_record(present[META]):
        return Manifest()
    rows = await mongo[META].find({"kind": {"$in": ["setup", "collection", "index"]}}).to_list(None)
    by_kind: dict[str, list[dict[str, Any]]] = {kind: [] for kind in _KINDS}
    for row in rows:
        by_kind[row["kind"]].append(row)
    there = await read_present(mongo, [row["name"] for row in by_kind["collection"]])
    setup = next(iter(by_kind["setup"]), {})
    return Manifest(
        exists=True,
        is_finished=setup.get("isFinished", False),
        applied_at=setup.get("appliedAt"),
        version=setup.get("version", ""),
        collections=tuple(
            _collection(row, there.get(row["name"]))
            for row in sorted(by_kind["collection"], key=_by_time)
            if row["origin"] != Origin.INTENDED.value or row["name"] in there
        ),
        indexes=tuple(_index(row) for row in sorted(by_kind["index"], key=_by_time)),
    )


def is_record(present: Present) -> bool:
    """Whether a collection named `accounting_meta` is our record, and not somebody else's."""
    schema: Mapping[str, Any] = present.validator.get("$jsonSchema", {})
    return present.is_plain_collection and schema.get("title") == _TITLE


async def begin(mongo: MongoDatabase) -> bool:
    """Make the record if there is none, and note that `apply` is at work.

    Returns whether an earlier one was not finished: it was killed, or is still at work.
    """
    try:
        await mongo.create_collection(META, validator=META_SPEC.validator)
    except (CollectionInvalid, OperationFailure) as error:
        if getattr(error, "code", None) not in (None, _NAMESPACE_EXISTS):
            raise
    before = await mongo[META].find_one_and_update(
        {"_id": SETUP_ID},
        {
            "$set": {"kind": "setup", "isFinished": False, "version": __version__},
            "$currentDate": {"startedAt": True},
        },
        upsert=True,
    )
    return before is not None and not before["isFinished"]


async def finish(mongo: MongoDatabase) -> None:
    """Note that all is in place."""
    await mongo[META].update_one(
        {"_id": SETUP_ID}, {"$set": {"isFinished": True}, "$currentDate": {"appliedAt": True}}
    )


async def intend(
    mongo: MongoDatabase, spec: CollectionSpec, *, new_collection: bool, indexes: Sequence[str]
) -> None:
    """Write down what is about to be made; what is recorded already stays as it is."""
    # What was made once and dropped by somebody is made again, whatever it was before.
    write = _renewed if new_collection else _first_write
    writes = [write(_index_id(spec.name, name), _index_row(spec, name)) for name in indexes]
    if new_collection:
        fields = {
            "kind": "collection",
            "name": spec.name,
            "origin": Origin.INTENDED.value,
            "validatorSha256": _sha256(spec.validator),
        }
        writes.insert(0, _renewed(_collection_id(spec.name), fields))
    await _write(mongo, writes)


async def confirm(mongo: MongoDatabase, spec: CollectionSpec) -> None:
    """Write down that everything that was intended of a collection is there."""
    row_id, now = _collection_id(spec.name), {"$currentDate": {"at": True}}
    names = [index.document["name"] for index in spec.indexes]
    is_unconfirmed = {"collection": spec.name, "name": {"$in": names}, "isConfirmed": False}
    there = await mongo.list_collections(filter={"name": spec.name})
    # What tells it from another collection of its name.
    marks = [
        {
            "uuid": bytes(info["info"]["uuid"]).hex(),
            "validatorSha256": _sha256(spec.validator),
        }
        async for info in there
    ]
    await _write(
        mongo,
        [
            UpdateMany({"kind": "index", **is_unconfirmed}, {"$set": {"isConfirmed": True}} | now),
            UpdateOne(
                {"_id": row_id, "origin": Origin.INTENDED.value},
                {"$set": {"origin": Origin.MADE.value}} | now,
            ),
            *(
                UpdateOne({"_id": row_id, "origin": Origin.MADE.value}, {"$set": found})
                for found in marks
            ),
        ],
    )


async def record_found(mongo: MongoDatabase, present: Present, *, created_by_us: bool) -> None:
    """Write down a collection that is there: made by us without a record, or taken into use.

    Of one that is not ours also what it was, for whoever wants to undo it by hand.
    """
    fields: dict[str, Any] = {
        "kind": "collection",
        "name": present.name,
        "origin": (Origin.MADE if created_by_us else Origin.ADOPTED).value,
    }
    if not created_by_us:
        before = {"options": present.options, "indexes": present.indexes}
        fields["before"] = _extended_json(before)
    await _write(mongo, [_renewed(_collection_id(present.name), fields)])


def _collection(row: Mapping[str, Any], present: Present | None) -> RecordedCollection:
    is_adopted = row["origin"] == Origin.ADOPTED.value
    return RecordedCollection(
        name=row["name"],
        created_by_us=not is_adopted and (present is None or _is_ours(row, present)),
        is_adopted=is_adopted,
        created_at=row["at"],
        version=row["version"],
        before=row.get("before"),
    )


def _is_ours(row: Mapping[str, Any], present: Present) -> bool:
    return row.get("uuid") == present.uuid or (
        row.get("validatorSha256") == _sha256(present.validator)
    )


def _index(row: Mapping[str, Any]) -> RecordedIndex:
    return RecordedIndex(
        collection=row["collection"],
        name=row["name"],
        created_at=row["at"],
        version=row["version"],
        is_confirmed=row["isConfirmed"],
    )


def _index_row(spec: CollectionSpec, name: str) -> dict[str, Any]:
    return {"kind": "index", "collection": spec.name, "name": name, "isConfirmed": False}


def _renewed(row_id: str, fields: Mapping[str, Any]) -> UpdateOne:
    """The row with these fields and no others."""
    row = _literal({"_id": row_id, **fields}) | _stamp()
    return UpdateOne({"_id": row_id}, [{"$replaceWith": row}], upsert=True)


def _first_write(row_id: str, fields: Mapping[str, Any]) -> UpdateOne:
    # A pipeline, for the server's time; a row that is there stays what it is.
    new = _literal({"_id": row_id, **fields}) | _stamp()
    kept = {"$replaceWith": {"$mergeObjects": [new, "$$ROOT"]}}
    return UpdateOne({"_id": row_id}, [kept], upsert=True)


def _literal(fields: Mapping[str, Any]) -> dict[str, Any]:
    # In a pipeline a text that begins with `$` would be read as the name of a field.
    return {name: {"$literal": value} for name, value in fields.items()}


def _stamp() -> dict[str, Any]:
    return {"at": "$$NOW", "version": {"$literal": __version__}}


async def _write(mongo: MongoDatabase, writes: Sequence[UpdateOne | UpdateMany]) -> None:
    if writes:
        await mongo[META].bulk_write(list(writes))


def _collection_id(name: str) -> str:
    return f"collection:{name}"


def _index_id(collection: str, name: str) -> str:
    return f"index:{collection}:{name}"


def _by_time(row: Mapping[str, Any]) -> Any:
    return row["at"], row["_id"]


def _extended_json(definition: Mapping[str, Any]) -> str:
    # As text, since field names in it may be none that a document takes; Decimals as stored.
    stored = bson.decode(bson.encode(dict(definition), codec_options=CODEC_OPTIONS))
    return json_util.dumps(stored, json_options=json_util.CANONICAL_JSON_OPTIONS)


def _sha256(validator: Mapping[str, Any]) -> str:
    return hashlib.sha256(bson.encode(dict(validator), codec_options=CODEC_OPTIONS)).hexdigest()
