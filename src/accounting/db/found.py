"""Stored documents as they are found, for checks that must not stumble over what they look for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias

from bson.codec_options import DatetimeConversion

from accounting.db.client import CODEC_OPTIONS, MongoDatabase
from accounting.db.database import Session

Found: TypeAlias = dict[str, Any]

BATCH_DOCUMENTS_MAX: Final = 1_000
# A text that is not UTF-8 or a date beyond the year 9999 is an edited value, no reason to stop.
_CODEC_OPTIONS: Final = CODEC_OPTIONS.with_options(
    unicode_decode_error_handler="replace", datetime_conversion=DatetimeConversion.DATETIME_AUTO
)


async def read_as_found(
    mongo: MongoDatabase,
    collection: str,
    query: Mapping[str, object],
    *,
    sort: Sequence[str],
    fields: Sequence[str] = (),
    limit: int = 0,
) -> AsyncIterator[list[Found]]:
    """Documents in batches, ascending by stored names that have an index; all fields unless named.

    Only one batch is in memory at a time.
    """
    found = (
        mongo.get_collection(collection, codec_options=_CODEC_OPTIONS)
        .find(dict(query), list(fields) or None)
        .sort([(name, 1) for name in sort])
        .limit(limit)
        .batch_size(BATCH_DOCUMENTS_MAX)
    )
    while batch := await found.to_list(BATCH_DOCUMENTS_MAX):
        yield batch


async def find_at_one_moment(
    mongo: MongoDatabase, *wanted: tuple[str, Mapping[str, object], str]
) -> list[Found | None]:
    """The first document of each (collection, query, sort), all as they were at the same moment.

    A leading `-` of the sort means descending.
    """
    found: list[Found | None] = []
    async with await mongo.client.start_session(snapshot=True) as session:
        for name, query, sort in wanted:
            collection = mongo.get_collection(name, codec_options=_CODEC_OPTIONS)
            order = [(sort.removeprefix("-"), -1 if sort.startswith("-") else 1)]
            found.append(await collection.find_one(dict(query), sort=order, session=session))
    return found


class Snapshot:
    """The documents as they all were at one moment, whatever is written meanwhile."""

    def __init__(self, mongo: MongoDatabase, session: Session) -> None:
        self._mongo = mongo
        self._session = session

    async def find(
        self, collection: str, query: Mapping[str, object], fields: Sequence[str]
    ) -> list[Found]:
        """The documents that a bounded query finds, with these fields; all fields unless named."""
        found = self._of(collection).find(dict(query), list(fields) or None, session=self._session)
        return [raw async for raw in found]

    async def aggregate(
        self, collection: str, pipeline: Sequence[Mapping[str, Any]]
    ) -> list[Found]:
        """What a pipeline with a bounded result gives."""
        found = self._of(collection).aggregate(list(pipeline), session=self._session)
        return [raw async for raw in found]

    def _of(self, collection: str) -> Any:
        return self._mongo.get_collection(collection, codec_options=_CODEC_OPTIONS)


@asynccontextmanager
async def snapshot(mongo: MongoDatabase) -> AsyncIterator[Snapshot]:
    """All reads inside see the same moment: that of the first one."""
    async with await mongo.client.start_session(snapshot=True) as session:
        yield Snapshot(mongo, session)
