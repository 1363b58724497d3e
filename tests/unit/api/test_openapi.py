"""The OpenAPI document: valid, complete, and true where a unit test can tell."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from accounting.actor import Role
from accounting.api.openapi_examples import NO_EXAMPLE
from accounting.api.schemas import ID_SCHEMA
from accounting.ids import ObjectId
from accounting.links import BASE_PATH
from api_app import APP, a_token, an_api
from builders import ADMIN, a_customer, an_issued_invoice
from fakes import FakePlatform, TestDatabase

DOCUMENT: dict[str, Any] = APP.app.openapi_schema.to_schema()
PROBLEM_JSON = "application/problem+json"
OPERATIONS = {
    operation["operationId"]: (method, path, operation)
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
}
EVERY_OPERATION = pytest.mark.parametrize("name", OPERATIONS)
WITH_BODY = [name for name, (_, _, found) in OPERATIONS.items() if "requestBody" in found]
MAY_BE_REPEATED = {"409", "429", "503"}
TAKES_IF_MATCH = {
    "updateInvoice",
    "deleteInvoice",
    "issueInvoice",
    "cancelInvoice",
    "refundInvoice",
    "recordPayment",
    "createPayment",
    "updateRecurringInvoice",
    "deleteRecurringInvoice",
    "pauseRecurringInvoice",
    "resumeRecurringInvoice",
}
# Reads that the present state can forbid.
MAY_BE_REFUSED = {"downloadInvoice", "getStatement"}
# Answers that a reader may keep; the tag stands for their content.
MAY_BE_KEPT = {"downloadInvoice"}
# Without an id in the path, and yet about something that may not exist.
NAMES_A_THING = {
    "createInvoice",
    "createPayment",
    "createPricingConfig",
    "createRecurringInvoice",
}


def resolved(part: dict[str, Any]) -> dict[str, Any]:
    found: Any = part
    while "$ref" in found:
        names = found["$ref"].removeprefix("#/").split("/")
        found = DOCUMENT
        for name in names:
            found = found[name]
    return dict(found)


def responses(name: str) -> dict[str, dict[str, Any]]:
    return {status: resolved(part) for status, part in OPERATIONS[name][2]["responses"].items()}


def parameters(name: str) -> dict[str, dict[str, Any]]:
    parts = [resolved(part) for part in OPERATIONS[name][2]["parameters"]]
    return {part["name"]: part for part in parts}


def contents(name: str) -> Iterator[dict[str, Any]]:
    operation = OPERATIONS[name][2]
    for holder in [operation.get("requestBody", {}), *responses(name).values()]:
        yield from holder.get("content", {}).values()


def example_in(content: dict[str, Any]) -> Any:
    if "example" in content:
        return content["example"]
    [named] = content["examples"].values()
    return named["value"]


def test_the_document_is_valid_openapi() -> None:
    problems = [problem.message for problem in OpenAPIV31SpecValidator(DOCUMENT).iter_errors()]

    assert DOCUMENT["openapi"].startswith("3.1")
    assert not problems


def test_paths_that_are_there_twice_are_shown_once() -> None:
    probes = [path for path in DOCUMENT["paths"] if "health" in path or "metrics" in path]

    assert probes == ["/health/live", "/health/ready", "/metrics"]


def test_every_tag_is_described() -> None:
    used = {tag for _, _, operation in OPERATIONS.values() for tag in operation["tags"]}

    assert used == {tag["name"] for tag in DOCUMENT["tags"]}
    assert all(tag["description"] for tag in DOCUMENT["tags"])


@EVERY_OPERATION
def test_every_operation_says_what_it_does(name: str) -> None:
    _, _, operation = OPERATIONS[name]

    assert re.fullmatch(r"[a-z]+([A-Z][a-z]+)*", name)
    assert not name.startswith("api"), "give the handler an operation_id"
    assert operation["summary"]
    assert operation["description"]


@EVERY_OPERATION
def test_every_body_has_an_example_that_fits_its_schema(name: str) -> None:
    for content in contents(name):
        assert NO_EXAMPLE not in repr(example_in(content)), "a field needs examples=[...]"
        schema = {**content["schema"], "components": DOCUMENT["components"]}
        Draft202012Validator(schema).validate(example_in(content))


@EVERY_OPERATION
def test_every_error_is_a_problem(name: str) -> None:
    _, path, _ = OPERATIONS[name]
    errors = {status: part for status, part in responses(name).items() if status >= "4"}
    if not path.startswith(BASE_PATH):
        return

    assert errors.keys() >= {"400", "401", "403", "429", "503"}
    for status, part in errors.items():
        assert list(part["content"]) == [PROBLEM_JSON]
        [content] = part["content"].values()
        assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
        assert content["example"]["status"] == int(status)


@EVERY_OPERATION
def test_errors_follow_from_what_an_operation_takes(name: str) -> None:
    method, path, operation = OPERATIONS[name]
    statuses, is_write = responses(name).keys(), method != "get"

    assert ("404" in statuses) == ("{id}" in path or name in NAMES_A_THING)
    assert ("409" in statuses) == (is_write or name in MAY_BE_REFUSED)
    assert ("415" in statuses) == is_write
    assert ("412" in statuses) == ("If-Match" in parameters(name)) == (name in TAKES_IF_MATCH)
    assert ("422" in statuses) == ("Idempotency-Key" in parameters(name)) == (method == "post")
    assert ("requestBody" not in operation) or "413" in statuses


@EVERY_OPERATION
def test_headers_of_answers_are_described(name: str) -> None:
    assert "X-Request-Id" in parameters(name)
    for status, part in responses(name).items():
        headers = part["headers"].keys()
        assert "X-Request-Id" in headers
        assert ("Location" in headers) == (status in {"201", "202"})
        assert ("Retry-After" in headers) == (status in MAY_BE_REPEATED and name != "getReadiness")
        shown = [example_in(content) for content in part.get("content", {}).values()]
        shows_version = any(isinstance(body, dict) and "version" in body for body in shown)
        is_kept = name in MAY_BE_KEPT and status in {"200", "304"}
        assert ("ETag" in headers) == (shows_version or is_kept)


def test_what_a_text_may_be_is_said() -> None:
    invoice = DOCUMENT["components"]["schemas"]["InvoiceDetailView"]["properties"]

    assert resolved(invoice["status"])["enum"][0] == "DRAFT"
    assert invoice["dueDate"]["format"] == "date"
    assert invoice["createdAt"]["format"] == "date-time"
    assert re.fullmatch(invoice["totalAmount"]["pattern"], "500.00")
    assert not re.fullmatch(invoice["totalAmount"]["pattern"], "500")
    assert "title" not in invoice["dueDate"]


def test_a_field_that_cannot_be_taken_away_takes_no_null() -> None:
    fields = DOCUMENT["components"]["schemas"]["UpdateInvoice"]["properties"]

    assert fields["totalMiners"]["type"] == "integer"
    assert {"type": "null"} in fields["billingPeriod"]["anyOf"]


@pytest.fixture
async def api(memory_db: TestDatabase, platform: FakePlatform) -> Any:
    platform.add_user(a_customer(id=ADMIN.user_id, role=Role.ADMIN))
    customer = platform.add_user(a_customer(id=ObjectId(ID_SCHEMA["examples"][0])))
    await an_issued_invoice(memory_db, platform, customer)
    async with an_api(memory_db, platform) as client:
        client.headers["Authorization"] = f"Bearer {a_token(ADMIN.user_id)}"
        yield client


@pytest.mark.parametrize("name", WITH_BODY)
async def test_the_example_of_a_body_is_accepted(api: httpx.AsyncClient, name: str) -> None:
    method, path, operation = OPERATIONS[name]
    example = operation["requestBody"]["content"]["application/json"]["example"]
    url = f"http://accounting.test{path}".format(id=ID_SCHEMA["examples"][0])

    answer = await api.request(method, url, json=example)

    assert answer.status_code in {200, 201, 202, 404}, answer.text


async def test_the_document_is_served(api: httpx.AsyncClient) -> None:
    answer = await api.get("http://accounting.test/schema/openapi.json")

    assert answer.status_code == 200
    assert answer.json() == DOCUMENT


@pytest.mark.parametrize("path", ["/invoices", "/invoices/7", "/nothing"])
async def test_a_real_problem_fits_the_described_one(api: httpx.AsyncClient, path: str) -> None:
    problem = (await api.post(path, json={"totalMiners": "many"})).json()

    schema = {"$ref": "#/components/schemas/Problem", "components": DOCUMENT["components"]}
    Draft202012Validator(schema).validate(problem)
