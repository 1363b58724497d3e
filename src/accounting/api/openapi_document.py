"""What is true of all operations, added to the OpenAPI document that Litestar reads off them.

Litestar knows paths, parameters and types. The schemas of bodies are taken from Pydantic, which
checks and writes them; headers, error answers and examples follow here from rules, so that no
handler has to repeat them and none can forget them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from http import HTTPStatus
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from accounting.api.openapi_examples import example_of
from accounting.api.openapi_parts import ERROR_ANSWERS, HEADERS, PARAMETERS, RESPONSES, Problem
from accounting.api.schemas import DAY_SCHEMA, ID_SCHEMA, BodyIn, BodyOut, JsonObject

IF_MATCH: Final = "If-Match"
_JSON: Final = "application/json"
_SCHEMAS: Final = "#/components/schemas/"
_WRITES: Final = frozenset({"post", "put", "patch", "delete"})


def complete(document: JsonObject) -> JsonObject:
    """The document with schemas, headers, error answers and examples; changes what it is given."""
    components = document["components"]
    components["schemas"].update(_schemas_of_bodies(components["schemas"].keys()))
    components.update(headers=HEADERS, parameters=PARAMETERS, responses=RESPONSES)
    for path in document["paths"].values():
        for method, operation in path.items():
            _complete_operation(method, operation, components["schemas"])
    return document


class _BodySchemas(GenerateJsonSchema):
    def field_title_should_be_set(self, schema: Any) -> bool:
        return False  # "Customerid" says nothing that customerId does not

    def default_schema(self, schema: Any) -> JsonObject:
        described = super().default_schema(schema)
        if described.get("default") is None:  # no default, but Python's way to say "left out"
            described.pop("default", None)
        return described


def _schemas_of_bodies(names: Iterable[str]) -> JsonObject:
    used = set(names)
    wanted: list[tuple[type[BaseModel], Any]] = [(Problem, "serialization")]
    wanted += [(model, "validation") for model in _below(BodyIn) if model.__name__ in used]
    wanted += [(model, "serialization") for model in _below(BodyOut) if model.__name__ in used]
    _, schemas = models_json_schema(
        wanted, ref_template=_SCHEMAS + "{model}", schema_generator=_BodySchemas
    )
    definitions: JsonObject = schemas["$defs"]
    return definitions


def _below(base: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for model in base.__subclasses__():
        yield model
        yield from _below(model)


def _complete_operation(method: str, operation: JsonObject, schemas: JsonObject) -> None:
    is_secured = "security" in operation
    parameters = [_parameter(item) for item in operation.get("parameters", ())]
    shared = ["RequestId", "IdempotencyKey"] if method == "post" and is_secured else ["RequestId"]
    operation["parameters"] = parameters + [
        {"$ref": f"#/components/parameters/{name}"} for name in shared
    ]
    if "requestBody" in operation:
        _complete_body(operation["requestBody"], schemas)

    responses = operation["responses"]
    for status, response in responses.items():
        _complete_answer(method, status, response, schemas)
    if "304" in responses:  # its content is what the tag stands for, and no version
        for status in ("200", "304"):
            responses[status]["headers"]["ETag"] = {"$ref": "#/components/headers/ContentETag"}
    for error in _errors_of(method, operation):
        name = ERROR_ANSWERS[error].name
        responses[str(error.value)] = {"$ref": f"#/components/responses/{name}"}
    operation["responses"] = dict(sorted(responses.items()))


def _parameter(parameter: JsonObject) -> JsonObject:
    """Without the null that Python needs for "left out", and without defaults of OpenAPI."""
    kept = {name: value for name, value in parameter.items() if value is not False}
    kept["schema"] = _without_null(kept["schema"])
    name: str = kept["name"]
    if (kept["in"], name) == ("path", "id") or (kept["in"] == "query" and name.endswith("Id")):
        kept["schema"] = ID_SCHEMA
    if kept["schema"].get("format") == "date":
        kept["schema"] = DAY_SCHEMA
    return kept


def _without_null(schema: JsonObject) -> JsonObject:
    """`X | None` as X: what may be left out is said elsewhere."""
    rest = {name: value for name, value in schema.items() if name != "oneOf"}
    kinds = [kind for kind in schema.get("oneOf", ()) if kind != {"type": "null"}]
    return {**kinds[0], **rest} if len(kinds) == 1 else schema


def _complete_body(body: JsonObject, schemas: JsonObject) -> None:
    content = body["content"][_JSON]
    schema = _without_null(content["schema"])
    body["required"] = schema == content["schema"]
    body["content"][_JSON] = {"schema": schema, "example": example_of(schema, schemas)}


def _complete_answer(method: str, status: str, response: JsonObject, schemas: JsonObject) -> None:
    headers = ["X-Request-Id"]
    if status.startswith("2"):
        headers += ["Location"] if status in ("201", "202") else []
        headers += ["Idempotent-Replayed"] if method == "post" else []
    for media_type, content in response.get("content", {}).items():
        if media_type != _JSON:
            continue
        if "oneOf" in content["schema"]:  # an admin's view is a customer's view and more
            content["schema"] = {"anyOf": content["schema"]["oneOf"]}
        content["example"] = example_of(content["schema"], schemas)
        headers += ["ETag"] if "version" in content["example"] else []
    response["headers"] = {
        name: {"$ref": f"#/components/headers/{name}"} for name in sorted(headers)
    }


def _errors_of(method: str, operation: JsonObject) -> Iterator[HTTPStatus]:
    """The errors that an operation can answer with, by what it is and takes."""
    is_secured = "security" in operation
    is_write = is_secured and method in _WRITES
    has_parameters = "400" in operation["responses"]
    names = {item.get("name") for item in operation["parameters"]}
    names_a_thing = any(item.get("in") == "path" for item in operation["parameters"])
    if "requestBody" in operation:
        example = operation["requestBody"]["content"][_JSON]["example"]
        names_a_thing = names_a_thing or any(name.endswith("Id") for name in example)

    applies = {
        HTTPStatus.BAD_REQUEST: is_secured or has_parameters,
        HTTPStatus.UNAUTHORIZED: is_secured,
        HTTPStatus.FORBIDDEN: is_secured,
        HTTPStatus.NOT_FOUND: names_a_thing,
        HTTPStatus.CONFLICT: is_write or "409" in operation["responses"],
        HTTPStatus.PRECONDITION_FAILED: IF_MATCH in names,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE: is_write and method != "delete",
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE: is_write,
        HTTPStatus.UNPROCESSABLE_ENTITY: is_write and method == "post",
        HTTPStatus.TOO_MANY_REQUESTS: is_secured,
        HTTPStatus.SERVICE_UNAVAILABLE: is_secured or has_parameters,
    }
    return (status for status, does in applies.items() if does)
