"""The parts of the OpenAPI document that operations share: headers, error answers, the problem."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field

from accounting.api.errors import PROBLEM_JSON
from accounting.api.schemas import JsonObject
from accounting.idempotency.rules import KEPT_SECONDS, KEY_LENGTH_MAX
from accounting.links import BASE_PATH

_INVOICE: Final = "66f0c0ffee00000000000101"
_REQUEST_ID: Final = "8c1f0d3b5a6e4f7f9d2b7c4e1a0f3d52"
_SHA256: Final = "e5d3791aee6662cec166a49ec72bfe96096bd1a195757f6d2039c0125d72b037"
_HOURS_KEPT: Final = KEPT_SECONDS // 3_600


class FieldProblem(BaseModel):
    """A field of the request and the rule that it breaks."""

    field: str
    message: str


class Problem(BaseModel):
    """An RFC 9457 problem document; some codes add the facts as members, such as `invoiceNumber`.

    Described here for the document only: `api/errors.py` writes it.
    """

    model_config = ConfigDict(extra="allow")

    type: Annotated[str, Field(pattern=r"^urn:accounting:error:[a-z_]+$")]
    title: str
    status: Annotated[int, Field(ge=400, le=599)]
    detail: str
    instance: Annotated[str, Field(description="The path of the request.")]
    error: Annotated[str, Field(description="The same sentence as `detail`.")]
    code: Annotated[str, Field(pattern=r"^[a-z_]+$", description="Stable; for programs.")]
    request_id: Annotated[str, Field(alias="requestId")]
    errors: Annotated[list[FieldProblem], Field(min_length=1)] | None = None


@dataclass(frozen=True)
class ErrorAnswer:
    """One status of errors: its component's name, what it means, and an example of it."""

    name: str
    description: str
    code: str
    sentence: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    headers: tuple[str, ...] = ()


ERROR_ANSWERS: Final[Mapping[HTTPStatus, ErrorAnswer]] = {
    HTTPStatus.BAD_REQUEST: ErrorAnswer(
        "Invalid",
        "The request breaks a rule by itself; `errors` names each field.",
        "invalid_request",
        "The request is not valid: totalMiners: must be a whole number.",
        {"errors": [{"field": "totalMiners", "message": "must be a whole number"}]},
    ),
    HTTPStatus.UNAUTHORIZED: ErrorAnswer(
        "Unauthorized",
        "No token, or one that is not accepted.",
        "invalid_token",
        "The token has expired; sign in again.",
        headers=("WWW-Authenticate",),
    ),
    HTTPStatus.FORBIDDEN: ErrorAnswer(
        "Forbidden",
        "The caller may not do this, or a write by cookie came from another origin.",
        "admins_only",
        "Only an administrator may do this.",
    ),
    HTTPStatus.NOT_FOUND: ErrorAnswer(
        "NotFound",
        "What the request names does not exist, or not for this caller.",
        "invoice_not_found",
        f"There is no invoice {_INVOICE}.",
        {"invoiceId": _INVOICE},
    ),
    HTTPStatus.CONFLICT: ErrorAnswer(
        "Conflict",
        "The present state does not allow it. With `Retry-After`, the same request may succeed.",
        "invalid_transition",
        "Invoice 2026011201 is PAID: cancel is not allowed; allowed now: remove-payment, refund.",
        {
            "invoiceNumber": "2026011201",
            "invoiceStatus": "PAID",
            "allowedActions": ["remove-payment", "refund"],
        },
        headers=("Retry-After",),
    ),
    HTTPStatus.PRECONDITION_FAILED: ErrorAnswer(
        "StaleVersion",
        "`If-Match` names an older version than the present one: read again, then decide.",
        "stale_version",
        "It has version 3 now, not 2; read it again.",
    ),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: ErrorAnswer(
        "TooLarge",
        "The body is larger than 1 MiB.",
        "request_entity_too_large",
        "Request Entity Too Large",
    ),
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: ErrorAnswer(
        "NotJson",
        "The body does not call itself JSON.",
        "unsupported_media_type",
        "The body must be application/json.",
    ),
    HTTPStatus.UNPROCESSABLE_ENTITY: ErrorAnswer(
        "KeyReused",
        "The `Idempotency-Key` was used for another request.",
        "idempotency_key_reused",
        "Idempotency-Key order-17 was used for another request; a new request needs a new key.",
    ),
    HTTPStatus.TOO_MANY_REQUESTS: ErrorAnswer(
        "TooManyRequests",
        "The caller's limit of requests is used up for now.",
        "too_many_requests",
        "More than 600/minute requests; try again in 12 s.",
        headers=("Retry-After",),
    ),
    HTTPStatus.SERVICE_UNAVAILABLE: ErrorAnswer(
        "Unavailable",
        "A server that this service depends on does not answer.",
        "database_unavailable",
        "The database does not answer now; read again before you repeat a change.",
        headers=("Retry-After",),
    ),
}


def _header(description: str, example: str, **schema: Any) -> JsonObject:
    text = {"type": "string", **schema}
    return {"description": description, "schema": text, "example": example}


HEADERS: Final[JsonObject] = {
    "X-Request-Id": _header(
        "The id of this request, as it is in logs and in the audit trail.", _REQUEST_ID
    ),
    "ETag": _header("The version of the document, for `If-Match`.", '"3"', pattern=r'^"[0-9]+"$'),
    "ContentETag": _header(
        "The SHA-256 of the content, for `If-None-Match`.",
        f'"{_SHA256}"',
        pattern=r'^"[0-9a-f]{64}"$',
    ),
    "Location": _header("Where what was made can be read.", f"{BASE_PATH}/invoices/{_INVOICE}"),
    "Idempotent-Replayed": _header(
        "Present when this is the stored answer of the first request with the same key.",
        "true",
        enum=["true"],
    ),
    "Retry-After": _header("Seconds to wait.", "12", pattern=r"^[0-9]+$"),
    "WWW-Authenticate": _header("How to identify oneself.", "Bearer"),
}

PARAMETERS: Final[JsonObject] = {
    "RequestId": {
        "name": "X-Request-Id",
        "in": "header",
        "description": (
            "An id for this request in logs, audit trail and answer: up to 100 letters, digits "
            "and . _ : - in it. One is made if it is left out or has another form."
        ),
        "schema": {"type": "string"},
    },
    "IdempotencyKey": {
        "name": "Idempotency-Key",
        "in": "header",
        "description": (
            "A new key for every new request. The same request with the same key is carried out "
            f"once and gets the first answer again, for {_HOURS_KEPT} hours."
        ),
        "schema": {"type": "string", "pattern": f"^[!-~]{{1,{KEY_LENGTH_MAX}}}$"},
    },
}


def _error_response(status: HTTPStatus, answer: ErrorAnswer) -> JsonObject:
    example = {
        **answer.facts,
        "type": f"urn:accounting:error:{answer.code}",
        "title": status.phrase,
        "status": status.value,
        "detail": answer.sentence,
        "instance": f"{BASE_PATH}/invoices",
        "error": answer.sentence,
        "code": answer.code,
        "requestId": _REQUEST_ID,
    }
    content = {"schema": {"$ref": "#/components/schemas/Problem"}, "example": example}
    headers = sorted(("X-Request-Id", *answer.headers))
    return {
        "description": answer.description,
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in headers},
        "content": {PROBLEM_JSON: content},
    }


RESPONSES: Final[JsonObject] = {
    answer.name: _error_response(status, answer) for status, answer in ERROR_ANSWERS.items()
}
