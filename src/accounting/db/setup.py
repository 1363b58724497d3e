"""Collections, validators and indexes on a server: plan, apply, verify (spec section 8).

Only our own collections are looked at or touched; the platform's are not even listed here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import bson
from pymongo import IndexModel
from pymongo.errors import CollectionInvalid, OperationFailure

from accounting.db.client import CODEC_OPTIONS, MongoDatabase
from accounting.db.schema import CollectionSpec

_NAMESPACE_EXISTS: Final = 48
_INDEX_NOT_FOUND: Final = 27
# What makes an index behave differently; the rest (`v`, `ns`) is the server's business.
_INDEX_OPTIONS: Final = (
    "unique",
    "sparse",
    "partialFilterExpression",
    "expireAfterSeconds",
    "collation",
)


class ChangeKind(StrEnum):
    """What `apply` would do, or, for UNKNOWN_INDEX, what it found and leaves alone."""

    CREATE_COLLECTION = "create collection"
    SET_VALIDATOR = "set validator"
    CREATE_INDEX = "create index"
    REPLACE_INDEX = "replace index"
    UNKNOWN_INDEX = "unknown index, left alone"


@dataclass(frozen=True)
class Change:
    """One difference between a collection and its specification."""

    kind: ChangeKind
    collection: str
    detail: str = ""
    index: IndexModel | None = None

    @property
    def is_needed(self) -> bool:
        return self.kind is not ChangeKind.UNKNOWN_INDEX

    def __str__(self) -> str:
        return f"{self.collection}: {self.kind}" + (f" {self.detail}" if self.detail else "")


async def plan_changes(database: MongoDatabase, specs: Iterable[CollectionSpec]) -> list[Change]:
    """Everything that differs from the specification now, in the order `apply` would do it."""
    existing = {info["name"]: info async for info in await database.list_collections()}
    changes: list[Change] = []
    for spec in specs:
        if spec.name not in existing:
            changes.append(Change(ChangeKind.CREATE_COLLECTION, spec.name))
            changes.extend(_index_changes(spec, {}))
            continue
        if not _is_validated_as(spec, existing[spec.name].get("options", {})):
            changes.append(Change(ChangeKind.SET_VALIDATOR, spec.name))
        present = await database[spec.name].index_information()
        changes.extend(_index_changes(spec, present))
    return changes


async def apply_changes(
    database: MongoDatabase,
    specs: Sequence[CollectionSpec],
    *,
    on_done: Callable[[Change], None] = lambda change: None,
) -> list[Change]:
    """Do what `plan_changes` finds; returns what was done.

    Idempotent, and safe to run twice at once: each step is one that the server itself ignores or
    refuses when it is done already. Documents are never touched.
    """
    by_name = {spec.name: spec for spec in specs}
    done = [change for change in await plan_changes(database, specs) if change.is_needed]
    for change in done:
        await _apply(database, by_name[change.collection], change)
        on_done(change)
    return done


async def is_set_up(database: MongoDatabase, specs: Iterable[CollectionSpec]) -> bool:
    """Whether every collection, validator and index is in place."""
    return not any(change.is_needed for change in await plan_changes(database, specs))


async def _apply(database: MongoDatabase, spec: CollectionSpec, change: Change) -> None:
    collection = database[spec.name]
    match change.kind:
        case ChangeKind.CREATE_COLLECTION:
            try:
                await database.create_collection(spec.name, validator=spec.validator)
            except (CollectionInvalid, OperationFailure) as error:
                # Somebody else has just created it, with this same command.
                if getattr(error, "code", None) not in (None, _NAMESPACE_EXISTS):
                    raise
        case ChangeKind.SET_VALIDATOR:
            await database.command(
                "collMod",
                spec.name,
                validator=spec.validator,
                validationLevel="strict",
                validationAction="error",
            )
        case ChangeKind.CREATE_INDEX if change.index is not None:
            await collection.create_indexes([change.index])
        case ChangeKind.REPLACE_INDEX if change.index is not None:
            try:
                await collection.drop_index(change.index.document["name"])
            except OperationFailure as error:
                if error.code != _INDEX_NOT_FOUND:
                    raise
            await collection.create_indexes([change.index])


def _index_changes(spec: CollectionSpec, present: Mapping[str, Any]) -> list[Change]:
    changes: list[Change] = []
    for wanted in spec.indexes:
        name = wanted.document["name"]
        if name not in present:
            changes.append(Change(ChangeKind.CREATE_INDEX, spec.name, name, wanted))
        elif _signature(wanted.document) != _signature(present[name]):
            changes.append(Change(ChangeKind.REPLACE_INDEX, spec.name, name, wanted))
    known = {wanted.document["name"] for wanted in spec.indexes} | {"_id_"}
    changes.extend(
        Change(ChangeKind.UNKNOWN_INDEX, spec.name, name) for name in present if name not in known
    )
    return changes


def _signature(definition: Any) -> tuple[Any, ...]:
    keys = definition["key"]
    pairs = list(keys.items()) if hasattr(keys, "items") else [tuple(pair) for pair in keys]
    return (pairs, *(definition.get(option) or None for option in _INDEX_OPTIONS))


def _is_validated_as(spec: CollectionSpec, options: dict[str, Any]) -> bool:
    return (
        _decoded(options.get("validator", {})) == _decoded(spec.validator)
        and options.get("validationLevel", "strict") == "strict"
        and options.get("validationAction", "error") == "error"
    )


def _decoded(validator: dict[str, Any]) -> dict[str, Any]:
    # Through BSON and back, so that Decimal and Decimal128 compare alike.
    encoded = bson.encode(validator, codec_options=CODEC_OPTIONS)
    return bson.decode(encoded, codec_options=CODEC_OPTIONS)
