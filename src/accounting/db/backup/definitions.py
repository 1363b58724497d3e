"""How a collection is made, apart from its documents: options and indexes, as mongodump keeps them.

Written down as canonical Extended JSON, so that 1, 1.0 and a 64-bit 1 stay what they are.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from bson import json_util
from bson.codec_options import CodecOptions, DatetimeConversion

from accounting.db.backup.failures import NotACollection
from accounting.db.client import MongoDatabase

# As the server has it: our own codec would make Decimal128 a Decimal, which is no longer Extended
# JSON's `$numberDecimal`.
_AS_STORED: Final[CodecOptions[dict[str, Any]]] = CodecOptions(
    tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_AUTO
)
_ID_INDEX: Final = "_id_"


@dataclass(frozen=True, slots=True)
class Definition:
    """A collection without its documents; `uuid` tells it from a later one of the same name."""

    name: str
    options: Mapping[str, Any]
    indexes: tuple[Mapping[str, Any], ...]
    uuid: str

    def to_json(self) -> str:
        """mongodump's metadata file."""
        fields = {
            "options": self.options,
            "indexes": list(self.indexes),
            "uuid": self.uuid,
            "collectionName": self.name,
            "type": "collection",
        }
        return json_util.dumps(
            fields, json_options=json_util.CANONICAL_JSON_OPTIONS, separators=(",", ":")
        )

    @classmethod
    def from_json(cls, text: str) -> Definition:
        """Read mongodump's metadata. Raises ValueError, TypeError or KeyError for anything else."""
        fields = json_util.loads(text, json_options=json_util.CANONICAL_JSON_OPTIONS)
        return cls(
            name=str(fields["collectionName"]),
            options=dict(fields.get("options", {})),
            indexes=tuple(dict(index) for index in fields["indexes"]),
            uuid=str(fields.get("uuid", "")),
        )

    def indexes_to_build(self) -> list[dict[str, Any]]:
        """All but the one that each collection has from the start."""
        return [
            {option: value for option, value in index.items() if option != "ns"}
            for index in self.indexes
            if index["name"] != _ID_INDEX
        ]


async def read_definitions(mongo: MongoDatabase, names: Collection[str]) -> dict[str, Definition]:
    """Those of the named collections that exist, by name. Raises NotACollection for a view."""
    as_stored = mongo.with_options(codec_options=_AS_STORED)
    listed = await as_stored.list_collections(filter={"name": {"$in": list(names)}})
    found = {info["name"]: info async for info in listed}
    definitions = {}
    for name in sorted(found, key=list(names).index):
        info = found[name]
        if info["type"] != "collection":
            raise NotACollection(name, info["type"])
        definitions[name] = Definition(
            name=name,
            options=info["options"],
            indexes=tuple([dict(index) async for index in mongo[name].list_indexes()]),
            uuid=bytes(info["info"]["uuid"]).hex(),
        )
    return definitions
