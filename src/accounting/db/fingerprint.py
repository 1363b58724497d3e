"""Fingerprints of collections that are not ours: were their documents or definitions changed?

A platform goes on living, so "not the same as before" is no answer. Each document's SHA-256 is
added up in the bucket that its id falls into, in the order of the ids; and with few documents in a
bucket, a later look can tell new documents from changed ones without a hash of each being kept:

- the first documents, as many as were recorded, still have the recorded SHA-256: all of them are
  byte for byte as they were, and what follows is new;
- else the same is asked of each bucket by itself, and where new ids came in between old ones, which
  of its documents add up to the recorded sum;
- a bucket in which none do holds at least one document that was changed or removed.

What this cannot tell: which field was changed, and exactly how many documents, since two in the
same bucket count once. Fields that are left out are not proven to be the same. Whoever can change a
platform and our record of it can deceive it: it is evidence of accidents, not of an adversary.
"""

from __future__ import annotations

import asyncio
import hashlib
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from math import comb
from typing import Any, Final

from bson import json_util
from bson.codec_options import CodecOptions

from accounting.db.backup.progress import OnProgress, Progress, read_ahead, show_nothing
from accounting.db.client import MongoDatabase
from accounting.db.comparison import COLLECTION

BUCKETS_MIN: Final = 64
BUCKETS_MAX: Final = 16_384
DOCUMENTS_PER_BUCKET: Final = 4
# Beyond these, what came between old documents is not told from a change.
RECHECKED_DOCUMENTS_MAX: Final = 200_000
COMBINATIONS_PER_BUCKET_MAX: Final = 5_000
SUM_BYTES: Final = 32
_MODULUS: Final = 1 << (8 * SUM_BYTES)
_OBJECT_ID_FIRST: Final = b"\x07_id\x00"
_VALUE_START: Final = 4 + len(_OBJECT_ID_FIRST)
_OBJECT_ID_END: Final = _VALUE_START + 12
# Of BSON's types, by number; the others say their length in their first four bytes, some of them
# without the bytes beside it.
_LENGTHS: Final[Mapping[int, int]] = {
    **{0x01: 8, 0x06: 0, 0x07: 12, 0x08: 1, 0x09: 8, 0x0A: 0, 0x10: 4, 0x11: 8, 0x12: 8},
    **{0x13: 16, 0x7F: 0, 0xFF: 0},
}
_BESIDE_SAID_LENGTH: Final[Mapping[int, int]] = {0x02: 4, 0x05: 5, 0x0C: 16, 0x0D: 4, 0x0E: 4}
_AS_STORED: Final[CodecOptions[dict[str, Any]]] = CodecOptions(tz_aware=True)


@dataclass(frozen=True, slots=True)
class Definition:
    """What a collection is apart from its documents, as Extended JSON; indexes by name."""

    type: str = ""
    options: str = ""
    indexes: Mapping[str, str] = field(default_factory=dict)

    @property
    def exists(self) -> bool:
        return bool(self.type)


@dataclass(frozen=True, slots=True)
class Content:
    """What tells whether documents are the same ones: a few bytes for every four of them."""

    documents: int
    size_bytes: int
    # Over all documents in the order of their ids.
    sha256: str
    counts: tuple[int, ...]
    sums: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ContentChange:
    """What became of the recorded documents. Nothing, if all of these are 0."""

    before: int
    now: int
    # Changed or removed; two in one bucket count once.
    touched_at_least: int = 0
    # They share buckets with so many new documents that nobody can say.
    unclear: int = 0

    @property
    def is_kept(self) -> bool:
        """Whether every document that was recorded is byte for byte as it was."""
        return not self.touched_at_least and not self.unclear

    @property
    def is_grown(self) -> bool:
        return self.is_kept and self.now > self.before


async def read_definitions(mongo: MongoDatabase, names: Sequence[str]) -> dict[str, Definition]:
    """The definitions of the named collections; an empty one for each that does not exist."""
    as_stored = mongo.with_options(codec_options=_AS_STORED)
    listed = await as_stored.list_collections(filter={"name": {"$in": list(names)}})
    found = {info["name"]: info async for info in listed}
    return {
        name: await _definition(as_stored, found[name]) if name in found else Definition()
        for name in names
    }


def definition_changes(before: Definition, now: Definition) -> list[str]:
    """Every difference, in a line each; none for a collection that has come since."""
    if not before.exists:
        return []
    if not now.exists:
        return ["it was dropped"]
    lines = []
    if before.type != now.type:
        lines.append(f"it was a {before.type} and is a {now.type}")
    if before.options != now.options:
        lines.append(f"options were {before.options} and are {now.options}")
    for name in sorted(before.indexes.keys() | now.indexes.keys()):
        was, is_now = before.indexes.get(name), now.indexes.get(name)
        if was is None:
            lines.append(f"index {name} is new: {is_now}")
        elif is_now is None:
            lines.append(f"index {name} is gone: {was}")
        elif was != is_now:
            lines.append(f"index {name} was {was} and is {is_now}")
    return lines


async def take_content(
    mongo: MongoDatabase,
    name: str,
    *,
    without: Sequence[str] = (),
    on_progress: OnProgress = show_nothing,
) -> Content:
    """Read all documents once, undecoded and a batch at a time, and sum them up.

    `without` are fields that never leave the server.
    """
    estimated = await mongo[name].estimated_document_count()
    tally = _Tally(bucket_count_for(estimated))
    await _read(mongo, name, without, tally.add, Progress(on_progress, estimated))
    return tally.content()


async def compare_content(
    mongo: MongoDatabase,
    name: str,
    recorded: Content,
    *,
    without: Sequence[str] = (),
    on_progress: OnProgress = show_nothing,
) -> ContentChange:
    """Read all documents again, and tell what became of those that were recorded."""
    estimated = await mongo[name].estimated_document_count()
    tally = _Tally(len(recorded.counts), recorded)
    await _read(mongo, name, without, tally.add, Progress(on_progress, estimated))
    if tally.first_sha256 == recorded.sha256:
        return ContentChange(recorded.documents, tally.documents)
    touched, suspects = tally.suspects()
    recheck = _Recheck(suspects, len(recorded.counts))
    if suspects:
        await _read(mongo, name, without, recheck.add, Progress(on_progress, estimated))
    more, unclear = recheck.result(recorded)
    return ContentChange(recorded.documents, tally.documents, touched + more, unclear)


def bucket_count_for(documents: int) -> int:
    """A power of two, so that neither a small nor a large collection needs much room."""
    wanted = max(documents // DOCUMENTS_PER_BUCKET, 1)
    return min(max(1 << (wanted - 1).bit_length(), BUCKETS_MIN), BUCKETS_MAX)


class _Tally:
    """Sums of the documents that have come by, and how they were after the recorded number."""

    def __init__(self, bucket_count: int, recorded: Content | None = None) -> None:
        self.documents = 0
        self._size_bytes = 0
        self._sha256 = hashlib.sha256()
        self._mask = bucket_count - 1
        self._counts = [0] * bucket_count
        self._sums = [0] * bucket_count
        self._recorded = recorded
        self.first_sha256 = self._sha256.hexdigest()
        # The sum of a bucket's first documents, as many as were recorded of it.
        self._first_sums = [0] * bucket_count

    def add(self, batch: bytes) -> int:
        """Take in a batch of whole documents; returns how many they are."""
        recorded, before = self._recorded, self.documents
        for document in split_documents(batch):
            bucket = zlib.crc32(id_of(document)) & self._mask
            self._sha256.update(document)
            self._sums[bucket] += int.from_bytes(hashlib.sha256(document).digest())
            self._counts[bucket] += 1
            self.documents += 1
            if recorded is not None:
                if self._counts[bucket] == recorded.counts[bucket]:
                    self._first_sums[bucket] = self._sums[bucket] % _MODULUS
                if self.documents == recorded.documents:
                    self.first_sha256 = self._sha256.hexdigest()
        self._size_bytes += len(batch)
        return self.documents - before

    def content(self) -> Content:
        return Content(
            documents=self.documents,
            size_bytes=self._size_bytes,
            sha256=self._sha256.hexdigest(),
            counts=tuple(self._counts),
            sums=tuple(total % _MODULUS for total in self._sums),
        )

    def suspects(self) -> tuple[int, dict[int, int]]:
        """How many documents were touched for sure; the buckets that new ones may have come into,
        with the number of their documents."""
        recorded, touched, suspects = self._recorded, 0, {}
        assert recorded is not None
        for bucket, (before, now) in enumerate(zip(recorded.counts, self._counts, strict=True)):
            if now < before:
                touched += before - now
            elif self._first_sums[bucket] == recorded.sums[bucket]:
                continue
            elif now == before:
                touched += 1
            else:
                suspects[bucket] = now
        return touched, suspects


class _Recheck:
    """The single hashes of the buckets in which new documents came between the old ones."""

    def __init__(self, suspects: Mapping[int, int], bucket_count: int) -> None:
        self._mask = bucket_count - 1
        self._hashes: dict[int, list[int]] = {}
        self._left_out: list[int] = []
        kept = 0
        for bucket, documents in suspects.items():
            kept += documents
            if kept <= RECHECKED_DOCUMENTS_MAX:
                self._hashes[bucket] = []
            else:
                self._left_out.append(bucket)

    def add(self, batch: bytes) -> int:
        """Take in a batch of whole documents; returns how many they are."""
        documents = 0
        for document in split_documents(batch):
            documents += 1
            bucket = zlib.crc32(id_of(document)) & self._mask
            if bucket in self._hashes:
                self._hashes[bucket].append(int.from_bytes(hashlib.sha256(document).digest()))
        return documents

    def result(self, recorded: Content) -> tuple[int, int]:
        """How many documents were touched at least, and of how many nobody can say."""
        touched, unclear = 0, sum(recorded.counts[bucket] for bucket in self._left_out)
        for bucket, hashes in self._hashes.items():
            are_there = has_subset(hashes, recorded.counts[bucket], recorded.sums[bucket])
            if are_there is None:
                unclear += recorded.counts[bucket]
            elif not are_there:
                touched += 1
        return touched, unclear


def split_documents(batch: bytes) -> Iterator[bytes]:
    """The BSON documents that stand one after the other."""
    at = 0
    while at < len(batch):
        end = at + int.from_bytes(batch[at : at + 4], "little")
        yield batch[at:end]
        at = end


def id_of(document: bytes) -> bytes:
    """The id of a BSON document in bytes that are the same for the same id.

    The server keeps it in front of all other fields, which are not decoded: they may hold what
    Python cannot. A document without an id there, as a view may have it, gives no bytes.
    """
    if document.startswith(_OBJECT_ID_FIRST, 4):  # nearly always
        return document[4:_OBJECT_ID_END]
    if not document.startswith(b"_id\x00", 5):
        return b""
    kind = document[4]
    length = _LENGTHS.get(kind)
    if length is None:
        said = int.from_bytes(document[_VALUE_START : _VALUE_START + 4], "little")
        length = said + _BESIDE_SAID_LENGTH.get(kind, 0)
    return document[4 : _VALUE_START + length]


def has_subset(hashes: Sequence[int], size: int, wanted_sum: int) -> bool | None:
    """Whether so many of these add up to the sum; None where finding out would take too long."""
    new = len(hashes) - size
    if new < 0:
        return False
    if comb(len(hashes), size) > COMBINATIONS_PER_BUCKET_MAX:
        return None
    if new < size:  # quicker from the other side: which of them are the new ones?
        size, wanted_sum = new, (sum(hashes) - wanted_sum) % _MODULUS
    return any(sum(some) % _MODULUS == wanted_sum for some in combinations(hashes, size))


async def _read(
    mongo: MongoDatabase,
    name: str,
    without: Sequence[str],
    add: Callable[[bytes], int],
    progress: Progress,
) -> None:
    left_out = dict.fromkeys(without, 0)
    batches = mongo[name].find_raw_batches({}, left_out or None, sort=[("_id", 1)])
    async for batch in read_ahead(batches):
        progress.add(await asyncio.to_thread(add, batch))


async def _definition(mongo: MongoDatabase, info: Mapping[str, Any]) -> Definition:
    indexes = {}
    if info["type"] == COLLECTION:  # a view has none of its own
        async for index in mongo[info["name"]].list_indexes():
            said = {key: value for key, value in index.items() if key not in ("name", "ns")}
            indexes[str(index["name"])] = _extended_json(said)
    return Definition(info["type"], _extended_json(info.get("options", {})), indexes)


def _extended_json(value: Mapping[str, Any]) -> str:
    return json_util.dumps(value, json_options=json_util.RELAXED_JSON_OPTIONS)
