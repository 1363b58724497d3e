"""Lists in pages: by number, with a count, or by cursor, without one (spec section 5, "Lists").

A cursor says after which row the next page starts: the value of the sort field and the id of the
last row shown. So a page costs the same at any depth, and rows that come and go meanwhile shift
nothing: of the rows that exist throughout and keep their sort value, none comes twice and none is
left out.
"""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, Generic, TypeAlias, TypeVar

import bson
from bson.errors import BSONError
from pymongo import ASCENDING, DESCENDING

from accounting.db.client import CODEC_OPTIONS
from accounting.db.document import BaseDocument
from accounting.db.schema import object_schema
from accounting.errors import Invalid

PAGE_LIMIT_DEFAULT: Final = 10
PAGE_LIMIT_MAX: Final = 100
PAGE_MAX: Final = 1_000_000
CURSOR_CHARACTERS_MAX: Final = 2_000
# Decoding so many takes some 7 ms, in which little else of the process goes on.
WALKED_AT_ONCE: Final = 500

Query: TypeAlias = Mapping[str, Any]
# The sort value and the id.
Row: TypeAlias = tuple[Any, Any]
D = TypeVar("D", bound=BaseDocument)
T = TypeVar("T")

_PYTHON_TYPES: Final[Mapping[str, type]] = {
    "objectId": bson.ObjectId,
    "bool": bool,
    "int": int,
    "long": int,
    "decimal": Decimal,
    "date": datetime,
    "string": str,
    "null": type(None),
}

_FIELDS_OF: Final[dict[type[BaseDocument], Mapping[str, Any]]] = {}


@dataclass(frozen=True, slots=True)
class Order:
    """By which stored field a list is sorted; the id decides between equal values.

    `is_unique` is for a field with a unique index and no null: then no two values are equal, and
    that index alone serves the order. Null is the least value, as everywhere in MongoDB.
    """

    field: str
    is_descending: bool = True
    is_unique: bool = False

    @property
    def keys(self) -> list[tuple[str, int]]:
        """The sort as the server takes it."""
        direction = DESCENDING if self.is_descending else ASCENDING
        names = [self.field] if self.is_unique or self.field == "_id" else [self.field, "_id"]
        return [(name, direction) for name in names]


@dataclass(frozen=True, slots=True)
class Window:
    """Which part of a list: page number `page`, or with `page=None` what follows the cursor.

    The empty cursor is the beginning of the list.
    """

    limit: int = PAGE_LIMIT_DEFAULT
    page: int | None = 1
    cursor: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """A query, and the name of the index that it is read from; None leaves that to the server."""

    query: Query
    index: str | None = None


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A part of a list; `number` and `total` are None when a cursor was followed.

    `next_cursor` leads on from either kind and is None at the end.
    """

    items: list[T]
    limit: int
    number: int | None
    total: int | None
    next_cursor: str | None


class CursorNotValid(Invalid):
    """The text was not given out by this list, or for another order."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"The cursor {reason}.", errors=[("cursor", reason)])


def to_window(page: int | None, limit: int, cursor: str | None) -> Window:
    """The window that a client asked for: the first page unless told otherwise.

    Raises Invalid naming `cursor` when both a page and a cursor are given.
    """
    if cursor is None:
        return Window(limit, page or 1)
    if page is not None:
        rule = "cannot be given together with page"
        raise Invalid(f"cursor {rule}.", errors=[("cursor", rule)])
    return Window(limit, None, cursor)


async def list_page(
    document: type[D],
    query: Query,
    order: Order,
    window: Window,
    *,
    hint: str | None = None,
    total: Callable[[], Awaitable[int]] | None = None,
    without: Sequence[str] = (),
) -> Page[D]:
    """The part of a list that the window shows, read from the index that `hint` names.

    `total` counts the rows where something better is known than to count what the query finds.
    `without` names fields that are left out: long ones that have a default and that no list shows.
    Raises CursorNotValid for a cursor that does not belong to this list and order.
    """
    found: int | None = None
    if window.page is not None:
        found = await (total() if total else count(document, query))
    readings = _alone(Reading(query, hint))
    page = await read_page(document, readings, order, window, total=found, without=without)
    documents = [document.model_validate(row) for row in page.items]
    return Page(documents, page.limit, page.number, page.total, page.next_cursor)


async def read_page(
    document: type[BaseDocument],
    readings: AsyncGenerator[Reading, None],
    order: Order,
    window: Window,
    *,
    total: int | None,
    without: Sequence[str] = (),
) -> Page[dict[str, Any]]:
    """The same, as stored, by the first of several readings that fills the page.

    Each finds what comes first in the list, or after the cursor; the last one finds all of it. A
    page by number needs the `total`: one far behind the end does not walk through the list.
    Raises CursorNotValid.
    """
    wanted = window.limit + 1
    fields = dict.fromkeys(without, 0)
    row, skip = row_before(document, order, window), 0
    if window.page is not None:
        assert total is not None, "pages by number are counted"
        skip = (window.page - 1) * window.limit
    items: list[dict[str, Any]] = []
    if not skip or skip < (total or 0):
        async with aclosing(readings):
            async for reading in readings:
                items = await _after(document, reading, order, row, wanted, fields, skip=skip)
                if len(items) == wanted:
                    break
    has_more = len(items) > window.limit
    items = items[: window.limit]
    last = items[-1] if has_more else None
    next_cursor = write_cursor(order, last.get(order.field), last["_id"]) if last else None
    return Page(items, window.limit, window.page, total, next_cursor)


async def _alone(reading: Reading) -> AsyncGenerator[Reading, None]:
    yield reading


def row_before(document: type[BaseDocument], order: Order, window: Window) -> Row | None:
    """The sort value and the id of the row that a window follows; None if it follows none.

    Raises CursorNotValid.
    """
    return _read_cursor(window.cursor, document, order) if window.cursor else None


async def walk(
    document: type[BaseDocument],
    reading: Reading,
    order: Order,
    *,
    fields: Sequence[str],
    at_once: int = WALKED_AT_ONCE,
) -> AsyncIterator[list[dict[str, Any]]]:
    """A whole list as stored, in its order, in parts that are read one after the other.

    Every part is a query of its own, as with cursors: the reader may take hours and holds nothing
    on the server meanwhile, and what is said of cursors above holds for the rows. Only the named
    fields are read, and the one that the list is ordered by.
    """
    wanted = dict.fromkeys((*fields, order.field), 1)
    row: Row | None = None
    while True:
        items = await _after(document, reading, order, row, at_once, wanted)
        if items:
            yield items
        if len(items) < at_once:
            return
        row = items[-1].get(order.field), items[-1]["_id"]


async def count(
    document: type[BaseDocument],
    query: Query,
    *,
    hint: str | None = None,
    limit: int | None = None,
) -> int:
    """How many rows the query finds, at most `limit`; from the index alone if it has the fields."""
    # Without a condition the server would walk through the rows instead of an index.
    hint = hint or (None if query else "_id_")
    options: dict[str, Any] = {"hint": hint} if hint else {}
    if limit is not None:
        options["limit"] = limit
    collection = document.get_motor_collection()
    return int(await collection.count_documents(dict(query), **options))


async def count_all(document: type[BaseDocument]) -> int:
    """How many rows the collection has, as the server keeps the number; nothing is read.

    After a crash of the server the number may be off until `validate` is run on the collection.
    """
    return int(await document.get_motor_collection().estimated_document_count())


async def _after(
    document: type[BaseDocument],
    reading: Reading,
    order: Order,
    row: Row | None,
    wanted: int,
    fields: Mapping[str, int],
    *,
    skip: int = 0,
) -> list[dict[str, Any]]:
    """What follows the row with this sort value and id; the beginning, if there is none."""
    if row is None:
        return await _find(document, reading, order.keys, wanted, fields, skip=skip)
    value, last_id = row
    items: list[dict[str, Any]] = []
    # One query for each stretch of the index instead of one `$or`: every plan stays a plain scan.
    # Most pages need one stretch or two.
    for stretch, keys in _stretches_after(order, value, last_id, _may_be_null(document, order)):
        narrowed = {"$and": [stretch, reading.query]} if reading.query else stretch
        part = Reading(narrowed, reading.index)
        items += await _find(document, part, keys, wanted - len(items), fields)
        if len(items) >= wanted:
            break
    return items


def _stretches_after(
    order: Order, value: object, last_id: object, may_be_null: bool
) -> Iterator[tuple[dict[str, Any], list[tuple[str, int]]]]:
    """What comes after a row, and its sort: equal values, the others, null where it is last.

    A comparison finds values of its own type only, so null needs conditions of its own. Among equal
    values the id alone is the order: named besides, the field would keep the server from merging.
    """
    beyond = "$lt" if order.is_descending else "$gt"
    by_id = order.keys[-1:]
    if order.field == "_id":
        yield {"_id": {beyond: last_id}}, by_id
        return
    if not order.is_unique:
        yield {order.field: value, "_id": {beyond: last_id}}, by_id
    if value is not None:
        yield {order.field: {beyond: value}}, order.keys
        if order.is_descending and may_be_null:
            yield {order.field: None}, by_id
    elif not order.is_descending:
        yield {order.field: {"$ne": None}}, order.keys


async def _find(
    document: type[BaseDocument],
    reading: Reading,
    keys: list[tuple[str, int]],
    limit: int,
    fields: Mapping[str, int],
    *,
    skip: int = 0,
) -> list[dict[str, Any]]:
    query, shown = dict(reading.query), dict(fields) or None
    rows = document.get_motor_collection()
    found = rows.find(query, shown, sort=keys, skip=skip, limit=limit, batch_size=limit)
    if reading.index:
        found = found.hint(reading.index)
    items: list[dict[str, Any]] = await found.to_list(limit)
    return items


def write_cursor(order: Order, value: object, last_id: object) -> str:
    """The text that leads on behind the row with this sort value and id."""
    content = {
        "field": order.field,
        "descending": order.is_descending,
        "value": value,
        "id": last_id,
    }
    encoded = bson.encode(content, codec_options=CODEC_OPTIONS)
    return urlsafe_b64encode(encoded).rstrip(b"=").decode()


def read_cursor(text: str, order: Order, fits: Callable[[Any, Any], bool]) -> tuple[Any, Any]:
    """The sort value and id in a cursor. Everything in it is a stranger's word until checked.

    `fits` says whether a row can have this value and id. Raises CursorNotValid.
    """
    content = _decode(text)
    if content.keys() != {"field", "descending", "value", "id"}:
        raise CursorNotValid("is not one that this list gave out")
    if (content["field"], content["descending"]) != (order.field, order.is_descending):
        raise CursorNotValid("belongs to another sort or direction; start again without it")
    if not fits(content["value"], content["id"]):
        raise CursorNotValid("is not one that this list gave out")
    return content["value"], content["id"]


def _read_cursor(text: str, document: type[BaseDocument], order: Order) -> tuple[Any, Any]:
    properties = _stored_fields(document)
    return read_cursor(
        text,
        order,
        lambda value, last_id: (
            _is_stored_as(properties[order.field], value)
            and _is_stored_as(properties["_id"], last_id)
        ),
    )


def _decode(text: str) -> dict[str, Any]:
    try:
        if len(text) > CURSOR_CHARACTERS_MAX:
            raise ValueError("too long")
        padded = text.encode("ascii") + b"=" * (-len(text) % 4)
        return bson.decode(urlsafe_b64decode(padded), codec_options=CODEC_OPTIONS)
    except (BSONError, binascii.Error, ValueError, TypeError, OverflowError) as error:
        raise CursorNotValid("is not one that this list gave out") from error


def _is_stored_as(schema: Mapping[str, Any], value: object) -> bool:
    """Whether the collection can hold this value in that field: no operator gets in here."""
    if "enum" in schema:
        return value in schema["enum"]
    return any(type(value) is _PYTHON_TYPES.get(name) for name in schema["bsonType"])


def _may_be_null(document: type[BaseDocument], order: Order) -> bool:
    return _is_stored_as(_stored_fields(document)[order.field], None)


def _stored_fields(document: type[BaseDocument]) -> Mapping[str, Any]:
    # Kept: reading it off the class takes longer than many a query.
    if document not in _FIELDS_OF:
        _FIELDS_OF[document] = object_schema(document)["properties"]
    return _FIELDS_OF[document]
