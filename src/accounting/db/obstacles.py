"""What stands in the way of the setup, found before anything is changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from pymongo import IndexModel
from pymongo.errors import OperationFailure

from accounting.db.client import MongoDatabase
from accounting.db.comparison import COLLECTION, Present, is_same_index, keys_of
from accounting.db.schema import CollectionSpec
from accounting.errors import AccountingError

GROUPS_SHOWN_MAX: Final = 20
IDS_SHOWN_MAX: Final = 20
IDS_PER_GROUP_MAX: Final = 5
_DUPLICATE_KEY: Final = 11000
_CANNOT_BECOME_UNIQUE: Final = 359

OnCheck = Callable[[str], None]


class ObstacleKind(StrEnum):
    """Why `apply` cannot, or should not, go on."""

    NAME_TAKEN = "name taken"
    NOT_A_COLLECTION = "no ordinary collection"
    DUPLICATES = "duplicates"
    REFUSED_DOCUMENTS = "refused documents"
    INDEX_UNDER_ANOTHER_NAME = "index under another name"


@dataclass(frozen=True, slots=True)
class Obstacle:
    """One reason in a sentence, and the offending documents; an operator may allow some."""

    kind: ObstacleKind
    collection: str
    sentence: str
    details: tuple[str, ...] = ()
    is_blocking: bool = True


class SetupError(AccountingError):
    """The setup was not done, or not finished; no HTTP request ever meets one."""


class SetupObstructed(SetupError):
    """Something stands in the way; nothing was changed."""

    def __init__(self, obstacles: Sequence[Obstacle]) -> None:
        more = len(obstacles) - 1
        others = f" ({more} more: see `accounting db plan`)" if more else ""
        super().__init__(f"Nothing was changed. {obstacles[0].sentence}{others}")
        self.obstacles = tuple(obstacles)


class DuplicatesCame(SetupError):
    """Documents with the same value were written between our check and the unique index."""

    def __init__(self, obstacle: Obstacle) -> None:
        super().__init__(
            f"{obstacle.sentence} They came while apply was at work: run it again then."
        )
        self.obstacle = obstacle


def name_taken(present: Present, documents: int) -> Obstacle:
    """A collection with the name of one of ours, that we have not made."""
    return Obstacle(
        ObstacleKind.NAME_TAKEN,
        present.name,
        f"{present.name} is there with {counted(documents, 'document')}, and accounting has not "
        "made it: rename it if it is the platform's; if accounting shall use it as it is, run "
        f"`accounting db apply --adopt {present.name}`.",
    )


def record_taken(name: str) -> Obstacle:
    """Somebody else's collection has the name of our record, without which nothing is done."""
    return Obstacle(
        ObstacleKind.NAME_TAKEN,
        name,
        f"{name} is there and is not the record that accounting keeps under this name: rename it.",
    )


def unusual_kind(present: Present) -> Obstacle:
    """A view, a time series or a capped collection with one of our names."""
    kind = "capped collection" if present.type == COLLECTION else present.type
    return Obstacle(
        ObstacleKind.NOT_A_COLLECTION,
        present.name,
        f"{present.name} is a {kind}, and accounting needs an ordinary collection of this name: "
        "rename it.",
    )


def index_under_another_name(spec: CollectionSpec, present: Present) -> Iterator[Obstacle]:
    """The server keeps an index under one name only, and ours are asked for by their names."""
    for wanted in spec.indexes:
        for name, found in present.indexes.items():
            if name != wanted.document["name"] and is_same_index(found, wanted.document):
                yield Obstacle(
                    ObstacleKind.INDEX_UNDER_ANOTHER_NAME,
                    spec.name,
                    f"{spec.name} has the index {wanted.document['name']} under the name {name}, "
                    "and MongoDB does not keep one twice: drop it with "
                    f"db.getCollection({spec.name!r}).dropIndex({name!r}), then apply again.",
                )


async def find_duplicates(
    mongo: MongoDatabase, name: str, index: IndexModel, on_check: OnCheck
) -> Obstacle | None:
    """Documents that a unique index could not hold, the first groups of them with their ids."""
    definition = index.document
    fields = [field for field, _ in keys_of(definition)]
    on_check(f"looking for duplicates in {name}: {', '.join(fields)}")
    within = dict(definition.get("partialFilterExpression", {}))
    # To a unique index a missing value is null.
    values = {str(number): {"$ifNull": [f"${field}", None]} for number, field in enumerate(fields)}
    groups = mongo[name].aggregate(
        [
            {"$match": within},
            {"$group": {"_id": values, "count": {"$sum": 1}}},
            {"$match": {"count": {"$gt": 1}}},
            {"$sort": {"_id": 1}},
            {"$limit": GROUPS_SHOWN_MAX + 1},
        ],
        allowDiskUse=True,
        **_collation(definition),
    )
    found = [group async for group in groups]
    if not found:
        return None
    lines = []
    for group in found[:GROUPS_SHOWN_MAX]:
        same = {field: group["_id"][str(number)] for number, field in enumerate(fields)}
        query = {"$and": [within, same]}
        some = mongo[name].find(query, {"_id": 1}, **_collation(definition))
        ids = [str(raw["_id"]) async for raw in some.limit(IDS_PER_GROUP_MAX)]
        more = ", …" if group["count"] > len(ids) else ""
        said = ", ".join(f"{field} {value}" for field, value in same.items())
        lines.append(f"{said}: {counted(group['count'], 'document')}, ids {', '.join(ids)}{more}")
    count = counted(len(lines), "value")
    if len(found) > GROUPS_SHOWN_MAX:
        count = f"more than {count}"
    return Obstacle(
        ObstacleKind.DUPLICATES,
        name,
        f"{name} has {count} of {', '.join(fields)} in more than one document, so that its "
        f"unique index {definition['name']} cannot be built: change or remove all but one document "
        "of each.",
        tuple(lines),
    )


async def find_refused(
    mongo: MongoDatabase, spec: CollectionSpec, on_check: OnCheck, *, is_accepted: bool
) -> Obstacle | None:
    """Documents that the validator would refuse. They can be read, but not be changed any more."""
    on_check(f"holding the documents of {spec.name} against its rules")
    query: Mapping[str, Any] = {"$nor": [spec.validator]}
    count = await mongo[spec.name].count_documents(query)
    if not count:
        return None
    some = mongo[spec.name].find(query, {"_id": 1}).limit(IDS_SHOWN_MAX)
    ids = tuple([f"_id {raw['_id']}" async for raw in some])
    return Obstacle(
        ObstacleKind.REFUSED_DOCUMENTS,
        spec.name,
        f"{spec.name} has {counted(count, 'document')} that its new rules refuse; such a document "
        "can be read, and every change to it will fail: correct it, or run `accounting db apply "
        "--keep-refused`.",
        ids if count <= len(ids) else (*ids, f"and {count - len(ids):,} more"),
        is_blocking=not is_accepted,
    )


def counted(count: int, thing: str) -> str:
    """So many of a thing, in words."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def is_duplicate(error: OperationFailure) -> bool:
    """Whether a unique index was not built for the documents that are there."""
    return error.code in (_DUPLICATE_KEY, _CANNOT_BECOME_UNIQUE)


def _collation(definition: Mapping[str, Any]) -> dict[str, Any]:
    return {"collation": definition["collation"]} if "collation" in definition else {}
