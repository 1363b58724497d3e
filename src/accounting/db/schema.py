"""A document class as the database sees it: its collection, `$jsonSchema` validator and indexes.

The validator is read off the class itself (types, required fields, enums, ranges), so that the
database refuses what the class refuses and the two cannot drift apart.
"""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from bson import Decimal128, ObjectId
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pymongo import IndexModel

from accounting.db.document import BaseDocument

_BSON_TYPES: Mapping[type, tuple[str, ...]] = {
    ObjectId: ("objectId",),
    bool: ("bool",),
    int: ("int", "long"),
    Decimal: ("decimal",),
    datetime: ("date",),
    date: ("date",),
    str: ("string",),
    bytes: ("binData",),
    dict: ("object",),
}

Schema = dict[str, Any]


@dataclass(frozen=True)
class CollectionSpec:
    """What one collection of ours must look like on the server."""

    name: str
    validator: Schema
    indexes: tuple[IndexModel, ...]


def collection_spec(document: type[BaseDocument]) -> CollectionSpec:
    """The collection of a document class."""
    settings: Any = document.Settings
    return CollectionSpec(
        name=settings.name,
        validator={"$jsonSchema": object_schema(document), **getattr(settings, "rules", {})},
        indexes=tuple(getattr(settings, "indexes", ())),
    )


def object_schema(model: type[BaseModel]) -> Schema:
    """The `$jsonSchema` of a model; a field is required when it can never be null."""
    properties: Schema = {}
    required: list[str] = []
    for name, field in model.model_fields.items():
        if name == "revision_id":  # Beanie's own, never stored by us
            continue
        stored_name = field.alias or name
        properties[stored_name] = _field_schema(field, nullable_allowed=stored_name != "_id")
        if stored_name == "_id" or not _is_nullable(field.annotation):
            required.append(stored_name)
    return {
        "bsonType": "object",
        "required": sorted(required),
        "properties": properties,
        "additionalProperties": False,
    }


def _field_schema(field: FieldInfo, *, nullable_allowed: bool) -> Schema:
    schema = _type_schema(field.annotation)
    _add_limits(schema, field.metadata)
    return schema if nullable_allowed else _without_null(schema)


def _type_schema(annotation: Any) -> Schema:  # noqa: PLR0911  # one return per kind of type
    origin = get_origin(annotation)
    if origin is Annotated:
        base, *metadata = get_args(annotation)
        schema = _type_schema(base)
        _add_limits(schema, metadata)
        return schema
    if origin in (Union, types.UnionType):
        return _union_schema(get_args(annotation))
    if origin in (list, tuple):
        return {"bsonType": ["array"], "items": _type_schema(get_args(annotation)[0])}
    if origin is dict:
        return {"bsonType": ["object"]}
    if not isinstance(annotation, type):
        raise TypeError(f"no $jsonSchema for {annotation!r}")
    if issubclass(annotation, Enum):
        return {"enum": [member.value for member in annotation]}
    if issubclass(annotation, BaseModel):
        return object_schema(annotation) | {"bsonType": ["object"]}
    for python_type, bson_types in _BSON_TYPES.items():
        if issubclass(annotation, python_type):
            return {"bsonType": list(bson_types)}
    raise TypeError(f"no $jsonSchema for {annotation!r}")


def _union_schema(members: Iterable[Any]) -> Schema:
    kept = [member for member in members if member is not types.NoneType]
    if len(kept) != 1:
        raise TypeError(f"a stored field has one type, or that type and null: {kept!r}")
    schema = _type_schema(kept[0])
    if "enum" in schema:
        schema["enum"] = [*schema["enum"], None]
    else:
        schema["bsonType"] = [*schema["bsonType"], "null"]
    return schema


def _without_null(schema: Schema) -> Schema:
    return schema | {"bsonType": [name for name in schema["bsonType"] if name != "null"]}


def _is_nullable(annotation: Any) -> bool:
    if get_origin(annotation) is Annotated:
        return _is_nullable(get_args(annotation)[0])
    return types.NoneType in get_args(annotation)


def _add_limits(schema: Schema, metadata: Iterable[Any]) -> None:
    for limit in metadata:
        if isinstance(limit, FieldInfo):
            _add_limits(schema, limit.metadata)
        elif isinstance(limit, Ge):
            schema["minimum"] = _bson_number(limit.ge)
        elif isinstance(limit, Gt):
            schema |= {"minimum": _bson_number(limit.gt), "exclusiveMinimum": True}
        elif isinstance(limit, Le):
            schema["maximum"] = _bson_number(limit.le)
        elif isinstance(limit, Lt):
            schema |= {"maximum": _bson_number(limit.lt), "exclusiveMaximum": True}
        elif isinstance(limit, MinLen):
            schema["minItems" if _is_list(schema) else "minLength"] = limit.min_length
        elif isinstance(limit, MaxLen):
            schema["maxItems" if _is_list(schema) else "maxLength"] = limit.max_length
        elif pattern := getattr(limit, "pattern", None):
            # In PCRE `$` would let a trailing newline through.
            schema["pattern"] = pattern.removesuffix("$") + (r"\z" if pattern[-1] == "$" else "")
        elif (places := getattr(limit, "decimal_places", None)) is not None:
            schema["multipleOf"] = Decimal128(Decimal(1).scaleb(-places))


def _is_list(schema: Schema) -> bool:
    return "array" in schema["bsonType"]


def _bson_number(value: Any) -> Any:
    return Decimal128(value) if isinstance(value, Decimal) else value
