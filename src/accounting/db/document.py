"""The base documents: camelCase names in storage, and the one way to change a stored document."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Self, TypeAlias

from beanie import Document
from beanie.odm.utils.encoder import Encoder
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel
from pymongo import ASCENDING, DESCENDING, IndexModel, ReturnDocument

from accounting.db.database import Transaction
from accounting.db.fields import Instant, Version
from accounting.errors import Conflict, PreconditionFailed
from accounting.ids import ObjectId

Indexes: TypeAlias = list[IndexModel]

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
        update: dict[str, Any] = {"$set": self._stored_changes(tx, changes)}
        if increments := self._increments():
            update["$inc"] = increments
        raw = (
            await type(self)
            .get_motor_collection()
            .find_one_and_update(
                {"_id": self.id, **self._guard(), **(expect or {})},
                update,
                return_document=ReturnDocument.AFTER,
                session=tx.session,
            )
        )
        if raw is None:
            raise DocumentChanged(type(self).__name__, self.id)
        changed: Self = type(self).model_validate(raw)
        return changed

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
