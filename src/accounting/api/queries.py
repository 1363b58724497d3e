"""Query parameters that all lists share, and the refusal of those that nobody knows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Final, TypeAlias

from litestar.handlers import HTTPRouteHandler
from litestar.handlers.base import BaseRouteHandler
from litestar.params import QueryParameter

from accounting.api.auth import Connection
from accounting.db.paging import PAGE_LIMIT_MAX, PAGE_MAX
from accounting.errors import Invalid

PageNumber: TypeAlias = Annotated[
    int | None,
    QueryParameter(ge=1, le=PAGE_MAX, description="Number of the page; 1 unless a cursor is given"),
]
PageLimit: TypeAlias = Annotated[
    int, QueryParameter(ge=1, le=PAGE_LIMIT_MAX, description="Rows of a page")
]
PageCursor: TypeAlias = Annotated[
    str | None,
    QueryParameter(description="Empty for the first part of a list, then nextCursor of the answer"),
]

NAME_LENGTH_SHOWN_MAX: Final = 100
NAMES_SHOWN_MAX: Final = 10

_KNOWN_NAMES: Final[dict[BaseRouteHandler, frozenset[str]]] = {}


class UnknownParameter(Invalid):
    """The address has a parameter that this list does not know, such as `staus` for `status`."""

    def __init__(self, names: Iterable[str], known: Iterable[str]) -> None:
        shown = [name[:NAME_LENGTH_SHOWN_MAX] for name in names][:NAMES_SHOWN_MAX]
        rule = f"is not a parameter; there are: {', '.join(sorted(known))}"
        super().__init__(f"{', '.join(shown)} {rule}.", errors=[(name, rule) for name in shown])


def refuse_unknown_parameters(connection: Connection) -> None:
    """A misspelt filter is an error and not a list of everything.

    Routes without any parameter of their own let pass what proxies and browsers add.
    Raises UnknownParameter.
    """
    handler = connection.route_handler
    if not connection.scope["query_string"] or not isinstance(handler, HTTPRouteHandler):
        return
    known = _names_known_to(handler, connection)
    unknown = dict.fromkeys(name for name in connection.query_params if name not in known)
    if known and unknown:
        raise UnknownParameter(unknown, known)


def _names_known_to(handler: HTTPRouteHandler, connection: Connection) -> frozenset[str]:
    if handler not in _KNOWN_NAMES:
        path_parameters: Any = connection.path_params
        model = handler.create_kwargs_model(path_parameters)
        names = frozenset(definition.field_alias for definition in model.expected_query_params)
        _KNOWN_NAMES[handler] = names
    return _KNOWN_NAMES[handler]
