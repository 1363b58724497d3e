"""Errors as RFC 9457 problem documents: the one place that knows status codes (spec section 5)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from litestar import Request, Response
from litestar.exceptions import (
    ClientException,
    HTTPException,
    MethodNotAllowedException,
    NotFoundException,
    ValidationException,
)
from litestar.types import ExceptionHandlersMap
from pydantic.alias_generators import to_camel

from accounting.api.request_id import request_id_of
from accounting.db.client import ConnectionLost
from accounting.errors import (
    AccountingError,
    Conflict,
    Forbidden,
    Invalid,
    Mismatch,
    NotFound,
    PreconditionFailed,
    Unauthorized,
    Unavailable,
)
from accounting.links import PUBLIC_PATH

logger = logging.getLogger(__name__)

PROBLEM_JSON: Final = "application/problem+json"

STATUS_OF: Final[Mapping[type[AccountingError], HTTPStatus]] = {
    NotFound: HTTPStatus.NOT_FOUND,
    Invalid: HTTPStatus.BAD_REQUEST,
    Conflict: HTTPStatus.CONFLICT,
    PreconditionFailed: HTTPStatus.PRECONDITION_FAILED,
    Mismatch: HTTPStatus.UNPROCESSABLE_ENTITY,
    Forbidden: HTTPStatus.FORBIDDEN,
    Unauthorized: HTTPStatus.UNAUTHORIZED,
    Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
}

# Litestar's own refusals. Their code is not the phrase of the status: Python has changed those.
HTTP_CODE_OF: Final[Mapping[HTTPStatus, str]] = {
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "request_entity_too_large",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "unsupported_media_type",
    HTTPStatus.TOO_MANY_REQUESTS: "too_many_requests",
}

# A body of thousands of wrong fields must not make an answer larger than itself.
ERRORS_MAX: Final = 20

FieldErrors = Sequence[tuple[str, str]]


def exception_handlers() -> ExceptionHandlersMap:
    """Every kind of exception that can reach the edge, and its answer."""
    return {
        AccountingError: _broken_rule,
        ValidationException: _invalid_request,
        HTTPException: _http_exception,
        ConnectionLost: _database_away,
        RecursionError: _nested_too_deeply,
        UnicodeDecodeError: _not_unicode,
        Exception: _bug,
    }


def problem(
    request: Request[Any, Any, Any],
    status: HTTPStatus,
    code: str,
    sentence: str,
    *,
    errors: FieldErrors = (),
    facts: Mapping[str, object] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response[dict[str, Any]]:
    """The problem document; `error` repeats the sentence, which is what the screens show."""
    body: dict[str, Any] = {
        **(facts or {}),
        "type": f"urn:accounting:error:{code}",
        "title": status.phrase,
        "status": status.value,
        "detail": sentence,
        "instance": request.url.path,
        "error": sentence,
        "code": code,
        "requestId": request_id_of(request.scope),
    }
    if errors:
        body["errors"] = [{"field": field, "message": message} for field, message in errors]
    return Response(body, status_code=status, media_type=PROBLEM_JSON, headers=dict(headers or {}))


def _broken_rule(
    request: Request[Any, Any, Any], error: AccountingError
) -> Response[dict[str, Any]]:
    kind = next((kind for kind in STATUS_OF if isinstance(error, kind)), None)
    if kind is None:
        return _bug(request, error)
    return problem(
        request,
        STATUS_OF[kind],
        error.code,
        error.sentence,
        errors=error.errors if isinstance(error, Invalid) else (),
        facts=error.facts,
        headers=_headers(error),
    )


def _headers(error: AccountingError) -> dict[str, str]:
    headers = {"WWW-Authenticate": "Bearer"} if isinstance(error, Unauthorized) else {}
    if error.retry_after_seconds is not None:
        headers["Retry-After"] = str(error.retry_after_seconds)
    return headers


def _invalid_request(
    request: Request[Any, Any, Any], error: ValidationException
) -> Response[dict[str, Any]]:
    extra = error.extra if isinstance(error.extra, list) else []
    errors = [_field_error(item) for item in extra[:ERRORS_MAX]] or [("body", error.detail)]
    listed = "; ".join(f"{field}: {message}" for field, message in errors)
    sentence = f"The request is not valid: {listed}."
    return problem(request, HTTPStatus.BAD_REQUEST, "invalid_request", sentence, errors=errors)


def _field_error(item: Mapping[str, Any]) -> tuple[str, str]:
    message = str(item.get("message", "is not valid")).removeprefix("Value error, ")
    key = str(item.get("key") or "body")
    if key == "data":
        return "body", "is required"
    if message == "Extra inputs are not permitted":
        message = "is not a known field"
    # Litestar names a query parameter as the function does, in snake_case.
    # A parameter that Python keeps for itself has an underscore behind its name: `from_`.
    return (to_camel(key.rstrip("_")) if item.get("source") == "query" else key), message


def _http_exception(
    request: Request[Any, Any, Any], error: HTTPException
) -> Response[dict[str, Any]]:
    status = HTTPStatus(error.status_code)
    if isinstance(error, MethodNotAllowedException):
        sentence = f"{request.method} is not possible here."
        return problem(request, status, "method_not_allowed", sentence, headers=error.headers)
    if isinstance(error, NotFoundException):
        return problem(request, status, "not_found", "There is nothing at this address.")
    if isinstance(error, ClientException) and status is HTTPStatus.BAD_REQUEST:
        sentence = f"The request body cannot be read: {error.detail}"
        return problem(request, status, "invalid_request", sentence, errors=[("body", sentence)])
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        if error.detail == "client disconnected prematurely":  # nobody reads the answer
            return problem(request, HTTPStatus.BAD_REQUEST, "invalid_request", error.detail)
        return _bug(request, error)
    code = HTTP_CODE_OF.get(status) or status.phrase.lower().replace(" ", "_").replace("-", "_")
    return problem(request, status, code, error.detail or status.phrase, headers=error.headers)


def _nested_too_deeply(request: Request[Any, Any, Any], _: Exception) -> Response[dict[str, Any]]:
    # The JSON parser gives up on a body of thousands of brackets.
    sentence = "The request body is nested too deeply."
    errors = [("body", "is nested too deeply")]
    return problem(request, HTTPStatus.BAD_REQUEST, "invalid_request", sentence, errors=errors)


def _not_unicode(request: Request[Any, Any, Any], _: Exception) -> Response[dict[str, Any]]:
    sentence = "The request is not UTF-8."
    errors = [("body", "is not UTF-8")]
    return problem(request, HTTPStatus.BAD_REQUEST, "invalid_request", sentence, errors=errors)


def _database_away(request: Request[Any, Any, Any], error: Exception) -> Response[dict[str, Any]]:
    logger.error("database away: %s", error, extra={"requestId": request_id_of(request.scope)})
    sentence = "The database does not answer now; read again before you repeat a change."
    return problem(
        request,
        HTTPStatus.SERVICE_UNAVAILABLE,
        "database_unavailable",
        sentence,
        headers={"Retry-After": "5"},
    )


def _bug(request: Request[Any, Any, Any], error: Exception) -> Response[dict[str, Any]]:
    request_id = request_id_of(request.scope)
    logger.error(
        "unexpected error on %s %r (request %s)",
        request.method,
        _path_for_logs(request),
        request_id,
        exc_info=error,
    )
    sentence = f"Something went wrong on our side; quote request {request_id}."
    return problem(request, HTTPStatus.INTERNAL_SERVER_ERROR, "internal_error", sentence)


def _path_for_logs(request: Request[Any, Any, Any]) -> str:
    """What was asked for; on public pages without the token, which is the key to them."""
    path = request.url.path
    return str(request.scope.get("path_template")) if path.startswith(PUBLIC_PATH) else path
