"""Files in GridFS: stored once, never changed, and checked whenever they are read.

GridFS takes no part in transactions, so it stores the chunks first and the document that names them
last: what a killed process leaves behind are chunks that nothing names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, TypeVar

from bson import ObjectId as StoredId
from gridfs.errors import CorruptGridFile, FileExists, NoFile
from motor.motor_asyncio import AsyncIOMotorGridFSBucket
from pydantic import Field

from accounting.db.database import Transaction
from accounting.db.document import BaseDocument, EmbeddedDocument, Indexes, index
from accounting.db.fields import Count, Instant, Name, Sha256Hex
from accounting.ids import ObjectId, new_id

F = TypeVar("F", bound="StoredFile")

# What GridFS itself wants to be there; it looks for them before its first write.
FILE_INDEXES: Indexes = [index("filename", "uploadDate")]
CHUNK_INDEXES: Indexes = [index("files_id", "n", unique=True)]


class StoredFileDamaged(Exception):
    """What is stored is not what was stored; it must not be served."""

    def __init__(self, file: StoredFile, why: str) -> None:
        name = type(file).get_motor_collection().name
        super().__init__(f"{name} {file.id} ({file.filename}) is damaged: {why}")


class FileMetadata(EmbeddedDocument):
    """What we note about a file; `sha256` is the one of its content."""

    sha256: Sha256Hex


class StoredFile(BaseDocument):
    """A document of a bucket's `files`; a unique index over `metadata` can allow one of a kind."""

    filename: Name
    length: Count
    chunk_size: Count
    upload_date: Instant
    metadata: FileMetadata


class StoredChunk(BaseDocument):
    """A part of a file; the last one is shorter than the others."""

    files_id: Annotated[ObjectId, Field(alias="files_id")]  # as GridFS writes it
    n: Count
    data: bytes


def sha256_of(content: bytes) -> str:
    """The fingerprint that a file's metadata keeps."""
    return hashlib.sha256(content).hexdigest()


async def store_file(
    kind: type[F], filename: str, content: bytes, metadata: Mapping[str, object]
) -> bool:
    """Store a file with this metadata and its SHA-256; False when a unique index has its like.

    Then nothing of this one stays behind.
    """
    facts = {**metadata, "sha256": sha256_of(content)}
    upload = _bucket(kind).open_upload_stream_with_id(new_id(), filename, metadata=facts)
    try:
        await upload.write(content)
        await upload.close()
    except FileExists:
        await upload.abort()
        return False
    return True


async def read_file(file: StoredFile) -> bytes:
    """The content, which is what was stored. Raises StoredFileDamaged."""
    try:
        stored = await _bucket(type(file)).open_download_stream(file.id)
        content: bytes = await stored.read()
    except (CorruptGridFile, NoFile) as error:
        raise StoredFileDamaged(file, str(error)) from error
    sha256 = sha256_of(content)
    if sha256 != file.metadata.sha256:
        raise StoredFileDamaged(file, f"its SHA-256 is {sha256}, not {file.metadata.sha256}")
    return content


async def delete_file(tx: Transaction, chunks: type[StoredChunk], file: StoredFile) -> None:
    """Delete a file and its chunks. To the server they are documents like any others."""
    await chunks.find({"files_id": file.id}, session=tx.session).delete(session=tx.session)
    await file.remove(tx)


async def delete_orphaned_chunks(
    files: type[StoredFile], chunks: type[StoredChunk], *, since: datetime, until: datetime
) -> int:
    """Delete the chunks that were stored in `since <= then < until` and belong to no file.

    Uploads end within seconds, so `until` must be longer ago. Returns of how many files they were.
    """
    stored = {"$gte": StoredId.from_datetime(since), "$lt": StoredId.from_datetime(until)}
    orphans = chunks.get_motor_collection().aggregate(
        [
            {"$match": {"_id": stored}},
            {"$group": {"_id": "$files_id"}},
            {
                "$lookup": {
                    "from": files.get_motor_collection().name,
                    "localField": "_id",
                    "foreignField": "_id",
                    "as": "files",
                }
            },
            {"$match": {"files": []}},
        ]
    )
    ids = [found["_id"] async for found in orphans]
    if ids:
        await chunks.get_motor_collection().delete_many({"files_id": {"$in": ids}})
    return len(ids)


def _bucket(kind: type[StoredFile]) -> AsyncIOMotorGridFSBucket:
    files = kind.get_motor_collection()
    database: Any = files.database  # Motor's own types call it a collection
    return AsyncIOMotorGridFSBucket(database, files.name.removesuffix(".files"))
