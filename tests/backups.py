"""Databases to save and restore: with everything BSON knows, and like the one in production."""

from __future__ import annotations

import gzip
import hashlib
import random
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import bson
from bson.raw_bson import RawBSONDocument

from accounting.bootstrap import collection_specs
from accounting.db.backup.folder import SUMS_FILE
from accounting.db.client import MongoDatabase
from accounting.db.manifest import META
from accounting.db.setup import apply_changes
from accounting.platform.rules import PLATFORM_COLLECTIONS

Document = dict[str, Any]

# It has no unique index, and a validator that would refuse most of what is put into it here.
MIXED = "recurring_invoices"
# It has no index but the one of every collection, so that restoring it is quick.
MANY = "accounting_counters"
# Enough for most tests, and quickly made: the record comes first, as in every backup.
SOME_NAMES = [META, MIXED, MANY]
SAVED_PLATFORM = ("users", "cost_payments", "miners")
OUR_NAMES = [META, *(spec.name for spec in collection_specs())]
SEEN_AT = datetime(2026, 1, 12, 9, 30, 0, 123_000, tzinfo=UTC)
PLATFORM_DOCUMENTS = 50_000
# How the 50,000 are spread over the seven.
_SHARES = {
    "users": 2_000,
    "cost_payments": 20_000,
    "miners": 10_000,
    "spaces": 100,
    "hardware": 200,
    "miner_rate_history": 10_000,
    "user_activities": 7_700,
}

EVERY_TYPE: list[Document] = [
    {"_id": 1, "double": 1.5, "negative zero": -0.0, "nan": float("nan"), "infinite": float("inf")},
    {"_id": 1.5, "string": "Grüße 🧾 \u2028", "empty": "", "zero byte": "a\x00b"},
    {"_id": "text", "object": {}, "array": [], "nested": [[{"a": [None, {"b": []}]}]]},
    {"_id": {"compound": 1, "id": "x"}, "binary": b"\x00\xff", "subtype": bson.Binary(b"u", 5)},
    {"_id": bson.ObjectId("65de00000000000000000001"), "id": bson.ObjectId()},
    {"_id": True, "true": True, "false": False, "null": None},
    {"_id": SEEN_AT, "date": SEEN_AT, "far": bson.DatetimeMS(2**60), "past": bson.DatetimeMS(-1)},
    {"_id": bson.Int64(2**40), "regex": bson.Regex("^a.*$", "im"), "code": bson.Code("x = 1")},
    {"_id": bson.Decimal128("0.10"), "scoped": bson.Code("y", {"y": 1})},
    {"_id": bson.MinKey(), "int": 1, "long": bson.Int64(1), "time": bson.Timestamp(7, 8)},
    {"_id": bson.MaxKey(), "max": bson.MaxKey(), "min": bson.MinKey()},
    {"_id": bson.Decimal128("2.0"), "wide": bson.Decimal128("1E+6000"), "cents": [
        bson.Decimal128("1250.00"), bson.Decimal128("1250"), bson.Decimal128("NaN")
    ]},
    {"_id": None, "a.b": 1, "$c": 2, "": 3},
]  # fmt: skip
# Written by old drivers, and by none of today: undefined, symbol, DBPointer, and a field twice.
_OLD_TYPES = (
    b"\x10_id\x00\xff\xff\xff\x7f"
    b"\x06undefined\x00"
    b"\x0esymbol\x00\x02\x00\x00\x00s\x00"
    b"\x0cpointer\x00\x02\x00\x00\x00c\x00" + b"\x11" * 12 + b"\x08twice\x00\x01\x08twice\x00\x00"
)


async def fill_with_every_type(mongo: MongoDatabase, name: str) -> None:
    """Put everything BSON knows into a collection, whatever its validator says."""
    collection = mongo[name]
    await collection.insert_many(EVERY_TYPE, bypass_document_validation=True)
    size = len(_OLD_TYPES) + 5
    old = RawBSONDocument(size.to_bytes(4, "little") + _OLD_TYPES + b"\x00")
    await collection.insert_one(old, bypass_document_validation=True)


async def fill_ours(
    mongo: MongoDatabase, documents: int = 0, names: Sequence[str] = OUR_NAMES
) -> None:
    """Our collections as `apply` makes them: one with every type, one with so many documents, a
    file in the bucket, the others empty."""
    await apply_changes(mongo, [spec for spec in collection_specs() if spec.name in names])
    await fill_with_every_type(mongo, MIXED)
    rows = [{"seq": number, "description": f"change {number}"} for number in range(documents)]
    if rows:
        await mongo[MANY].insert_many(rows, bypass_document_validation=True)
    if "invoice_pdfs.chunks" in names:
        await _store_a_file(mongo)


async def _store_a_file(mongo: MongoDatabase) -> None:
    chunk = {"_id": 1, "files_id": 1, "n": 0, "data": random.Random(1).randbytes(200_000)}
    await mongo["invoice_pdfs.chunks"].insert_one(chunk, bypass_document_validation=True)
    file = {"_id": 1, "filename": "a.pdf", "metadata": {"invoiceId": bson.ObjectId()}}
    await mongo["invoice_pdfs.files"].insert_one(file, bypass_document_validation=True)


async def fill_platform(mongo: MongoDatabase, share: float = 1.0) -> None:
    """The seven collections of a platform, with indexes and options of its own."""
    await mongo.create_collection(
        "users",
        validator={"$jsonSchema": {"required": ["email"]}},
        validationAction="warn",
        collation={"locale": "en", "strength": 2},
    )
    await mongo.create_collection("user_activities", capped=True, size=16 * 1024 * 1024)
    await mongo["users"].create_index("email", unique=True, name="users_email_key")
    await mongo["cost_payments"].create_index([("userId", 1), ("createdAt", -1)])
    await mongo["miners"].create_index("name", partialFilterExpression={"isDeleted": False})
    await mongo["miner_rate_history"].create_index("createdAt", expireAfterSeconds=10**9)
    await mongo["spaces"].create_index([("name", "text")])
    for name in PLATFORM_COLLECTIONS:
        await mongo[name].insert_many(list(_platform_rows(name, int(_SHARES[name] * share))))


def _platform_rows(name: str, count: int) -> Iterator[Document]:
    for number in range(count):
        yield {
            "_id": bson.ObjectId(f"65df{PLATFORM_COLLECTIONS.index(name):04x}{number:016x}"),
            "name": f"{name} {number}",
            "email": f"{name}{number}@example.com",
            "password": "$2b$10$nobody-can-log-in-with-this",
            "amount": number * 0.1,
            "userId": bson.ObjectId(),
            "isDeleted": number % 7 == 0,
            "createdAt": SEEN_AT,
        }


async def state_of(mongo: MongoDatabase, names: Sequence[str]) -> dict[str, Any]:
    """Everything the server can tell of these collections: content, options and indexes."""
    listed = await mongo.list_collections(filter={"name": {"$in": list(names)}})
    options = {info["name"]: info["options"] async for info in listed}
    answer = await mongo.command("dbHash", collections=list(names))
    return {
        name: {
            "content": answer["collections"][name],
            "options": options[name],
            "indexes": [dict(index) async for index in mongo[name].list_indexes()],
        }
        for name in options
    }


def sign_again(backup: Path) -> None:
    """Give a changed backup the checksums that fit it."""
    files = sorted(path for path in backup.rglob("*") if path.is_file() and path.name != SUMS_FILE)
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(backup)}\n"
        for path in files
    ]
    (backup / SUMS_FILE).write_text("".join(lines))


def names_in(folder: Path) -> list[str]:
    """What is in a folder."""
    return sorted(path.name for path in folder.iterdir())


def stored_documents(path: Path) -> list[bytes]:
    """The documents in a file, as raw bytes."""
    content = gzip.decompress(path.read_bytes())
    return [bytes(document.raw) for document in _decode_raw(content)]


def _decode_raw(content: bytes) -> Iterable[RawBSONDocument]:
    return bson.decode_all(content, bson.CodecOptions(document_class=RawBSONDocument))  # type: ignore[type-var]
