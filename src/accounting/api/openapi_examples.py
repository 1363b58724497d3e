"""Examples of bodies, put together from the examples of their fields."""

from __future__ import annotations

from typing import Any, Final

from accounting.api.schemas import JsonObject

# A test fails where this shows up: every text without a format needs an example of its own.
NO_EXAMPLE: Final = "no example"
_FORMATS: Final = {"date": "2026-01-12", "date-time": "2026-01-12T09:30:00.000Z"}
_PLAIN: Final = {"boolean": False, "null": None}


def example_of(schema: JsonObject, schemas: JsonObject) -> Any:
    """A value that the schema allows; `schemas` are the components that it may refer to."""
    if "examples" in schema:
        return schema["examples"][0]
    if "$ref" in schema:
        return example_of(schemas[schema["$ref"].rpartition("/")[2]], schemas)
    if choices := schema.get("enum", [schema["const"]] if "const" in schema else None):
        return choices[0]
    if kinds := schema.get("anyOf"):
        # The last is the fullest: what an admin sees comes after what a customer sees.
        return example_of([kind for kind in kinds if kind != {"type": "null"}][-1], schemas)
    return _plain_example(schema, schemas)


def _plain_example(schema: JsonObject, schemas: JsonObject) -> Any:
    match schema.get("type"):
        case "object":
            fields: JsonObject = schema.get("properties", {})
            return {name: example_of(field, schemas) for name, field in fields.items()}
        case "array":
            return [example_of(schema["items"], schemas)]
        case "string":
            return _FORMATS.get(schema.get("format", ""), NO_EXAMPLE)
        case "integer" | "number":
            return schema.get("minimum", 0)
        case other:
            return _PLAIN.get(str(other))
