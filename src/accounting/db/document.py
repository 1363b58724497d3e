"""The base documents: camelCase names in storage, and the one way to change a stored document."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Final, Self, TypeAlias

from beanie import Document
from beanie.odm.utils.encoder import Encoder
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel
from pymongo import ASCENDING, DESCENDING, IndexModel, ReturnDocument, UpdateMany
from pymongo.errors import BulkWriteError, DuplicateKeyError, WriteError

from accounting.db.database import Transaction
from accounting.db.fields import Instant, Version
from accounting.errors import Conflict, PreconditionFailed
from accounting.ids import ObjectId, new_id

Indexes: TypeAlias = list[IndexModel]

_DUPLICATE_KEY_CODE: Final = 11000
# In bulk writes by a unique key: the same there as UpdateOne, which the in-memory driver of the
# unit tests does not take from this version of the real one.
_UpdateByKey = UpdateMany

_encode = Encoder(to_db=True).encode


class DocumentChanged(Conflict):
    """The stored document is no longer the one that the change was decided on."""

    def __init__(self, kind: str, document_id: object) -> None:
        super().__init__(f"{kind} {document_id} was changed by someone else; read it again.")


class StaleVersion(PreconditionFailed):
    """The sender's If-Match names an older version of the document."""

    def __init__(self, kind: str, document_id: object, current_version: int) -> None:
        super().__init__(
            f"{kind} {document_id} has changed: it is now version {current_version}; "
            "read it again.",
            currentVersion=current_version,
        )


def storage_alias(name: str) -> str:
    """The stored name of a field.

    `id` must stay `_id`, and `revision_id` must keep the name under which Beanie leaves it out;
    a bare `to_camel` would write `id: null` and `revisionId: null` into every document.
    """
    if name == "id":
        return "_id"
    return name if name == "revision_id" else to_camel(name)


class EmbeddedDocument(BaseModel):
    """A part of a document, with the same naming."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True)


class BaseDocument(Document):
    """A stored document of ours; `id` is set before it is written."""

    model_config = ConfigDict(
        alias_generator=storage_alias, populate_by_name=True, validate_assignment=False
    )
    # Bookkeeping that changes with every write and says nothing about the business.
    not_audited: ClassVar[frozenset[str]] = frozenset(
        {"id", "revision_id", "version", "created_at", "created_by", "updated_at", "updated_by"}
    )

    class Settings:
        indexes: Indexes = []

    async def add(self, tx: Transaction) -> None:
        """Insert this document. A duplicate key ends the transaction, and it runs again."""
        await self.insert(session=tx.session)

    @classmethod
    async def add_many(cls, tx: Transaction, documents: Sequence[Self]) -> None:
        """Insert these documents in their order and in one message to the server, as `add` would.

        A duplicate key ends the transaction, and it runs again.
        """
        if not documents:
            return
        with _failing_like_single_writes():
            await cls.insert_many(documents, session=tx.session)

    @classmethod
    async def put_many(
        cls,
        tx: Transaction,
        rows: Sequence[tuple[Mapping[str, object], Mapping[str, object]]],
    ) -> None:
        """Set fields of the document with each key, by stored names; one that is missing is made.

        Each row is (key, fields); a unique index over the key keeps two writers from both making
        it.
        """
        if not rows:
            return
        writes = [
            _UpdateByKey(key, {"$set": fields, "$setOnInsert": {"_id": new_id()}}, upsert=True)
            for key, fields in rows
        ]
        with _failing_like_single_writes():
            await cls.get_motor_collection().bulk_write(writes, session=tx.session)

    @classmethod
    async def hold(cls, tx: Transaction, ids: Iterable[ObjectId]) -> None:
        """Keep these documents for this transaction, before the first of many writes to them.

        A long transaction that comes to each of its documents late loses against short ones again
        and again; one that holds them all makes the short ones wait.
        """
        await cls.get_motor_collection().update_many(
            {"_id": {"$in": list(ids)}}, {"$set": {"updatedAt": tx.now}}, session=tx.session
        )

    async def change(
        self, tx: Transaction, *, expect: Mapping[str, object] | None = None, **changes: object
    ) -> Self:
        """Write these fields if the stored document still is this one; returns the new document.

        One guarded write: `expect` (stored names) is part of its filter. Raises DocumentChanged.
        """
        raw = (
            await type(self)
            .get_motor_collection()
            .find_one_and_update(
                {"_id": self.id, **self._guard(), **(expect or {})},
                self._update(tx, changes),
                return_document=ReturnDocument.AFTER,
                session=tx.session,
            )
        )
        if raw is None:
            raise DocumentChanged(type(self).__name__, self.id)
        changed: Self = type(self).model_validate(raw)
        return changed

    @classmethod
    async def change_many(
        cls, tx: Transaction, changes: Sequence[tuple[Self, Mapping[str, object]]]
    ) -> list[Self]:
        """Change each document as `change` would, in one write; returns the new ones in this order.

        Raises DocumentChanged, naming one of those that are no longer the document given here.
        """
        if not changes:
            return []
        updates = [(document.id, document._update(tx, fields)) for document, fields in changes]
        writes = [
            _UpdateByKey({"_id": document.id, **document._guard()}, update)
            for (document, _), (_, update) in zip(changes, updates, strict=True)
        ]
        with _failing_like_single_writes():
            result = await cls.get_motor_collection().bulk_write(writes, session=tx.session)
        if result.matched_count < len(writes):
            raise DocumentChanged(cls.__name__, await cls._find_unwritten(tx, updates))
        ids = [document_id for document_id, _ in updates]
        stored = cls.find({"_id": {"$in": ids}}, session=tx.session)
        by_id = {document.id: document async for document in stored}
        return [by_id[document_id] for document_id in ids]

    async def remove(self, tx: Transaction, *, expect: Mapping[str, object] | None = None) -> None:
        """Delete the stored document if it still is this one. Raises DocumentChanged."""
        deleted = (
            await type(self)
            .get_motor_collection()
            .delete_one(
                {"_id": self.id, **self._guard(), **(expect or {})},
                session=tx.session,
            )
        )
        if not deleted.deleted_count:
            raise DocumentChanged(type(self).__name__, self.id)

    def snapshot(self) -> dict[str, Any]:
        """The content by stored names, for the audit trail: without id, stamps and version."""
        return {
            (field.alias or name): _plain(getattr(self, name))
            for name, field in type(self).model_fields.items()
            if name not in self.not_audited
        }

    @classmethod
    async def _find_unwritten(
        cls, tx: Transaction, updates: Sequence[tuple[object, Mapping[str, Any]]]
    ) -> object:
        """The id of one of these updates that did not find its document.

        The server counts those that did and does not say which; what they wrote tells.
        """
        written = [{"_id": document_id, **update["$set"]} for document_id, update in updates]
        found = cls.get_motor_collection().find({"$or": written}, {"_id": 1}, session=tx.session)
        written_ids = {raw["_id"] async for raw in found}
        ids = [document_id for document_id, _ in updates]
        # All are there when one was given twice, or another has just written the very same.
        return next((missed for missed in ids if missed not in written_ids), ids[0])

    def _update(self, tx: Transaction, changes: Mapping[str, object]) -> dict[str, Any]:
        update: dict[str, Any] = {"$set": self._stored_changes(tx, changes)}
        if increments := self._increments():
            update["$inc"] = increments
        return update

    def _stored_changes(self, tx: Transaction, changes: Mapping[str, object]) -> dict[str, Any]:
        fields = type(self).model_fields
        return {(fields[name].alias or name): _encode(value) for name, value in changes.items()}

    def _guard(self) -> Mapping[str, object]:
        return {}

    def _increments(self) -> dict[str, int]:
        return {}


class StampedDocument(BaseDocument):
    """A document that remembers who made it, who changed it last, and when."""

    created_by: ObjectId
    updated_by: ObjectId | None = None
    created_at: Instant
    updated_at: Instant

    def _stored_changes(self, tx: Transaction, changes: Mapping[str, object]) -> dict[str, Any]:
        stamped = {**changes, "updated_at": tx.now, "updated_by": tx.actor.user_id}
        return super()._stored_changes(tx, stamped)


class VersionedDocument(StampedDocument):
    """A document with a version, +1 on each change: the guard of every write, and the ETag."""

    version: Version = 1

    def check_version(self, expected: int | None) -> None:
        """Raises StaleVersion when the sender expects another version; None expects none."""
        if expected is not None and expected != self.version:
            raise StaleVersion(type(self).__name__, self.id, self.version)

    def _guard(self) -> Mapping[str, object]:
        return {"version": self.version}

    def _increments(self) -> dict[str, int]:
        return {"version": 1}


@contextmanager
def _failing_like_single_writes() -> Iterator[None]:
    """A bulk write fails with the error that its first failing write would have been alone.

    `Database.run` knows a duplicate key by its class, and a bulk write hides it in its details.
    """
    try:
        yield
    except BulkWriteError as error:
        for first in error.details.get("writeErrors", ()):
            kind = DuplicateKeyError if first["code"] == _DUPLICATE_KEY_CODE else WriteError
            raise kind(first["errmsg"], first["code"], first) from error
        raise


def _plain(value: object) -> object:
    return value.model_dump(by_alias=True) if isinstance(value, BaseModel) else value


def index(
    *keys: str,
    unique: bool = False,
    only_if: Mapping[str, object] | None = None,
    expire_after_seconds: int | None = None,
    name: str | None = None,
) -> IndexModel:
    """An index over stored names; a leading `-` means descending, `only_if` makes it partial."""
    options: dict[str, Any] = {}
    if unique:
        options["unique"] = True
    if only_if is not None:
        options["partialFilterExpression"] = dict(only_if)
    if expire_after_seconds is not None:
        options["expireAfterSeconds"] = expire_after_seconds
    if name is not None:
        options["name"] = name
    return IndexModel(list(_directions(keys)), **options)


def _directions(keys: Iterable[str]) -> Iterable[tuple[str, int]]:
    for key in keys:
        yield (key[1:], DESCENDING) if key.startswith("-") else (key, ASCENDING)
