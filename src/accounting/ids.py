"""Identifiers: MongoDB ObjectIds, 24 hex digits outside (spec section 3)."""

from __future__ import annotations

from beanie import PydanticObjectId as ObjectId
from bson import ObjectId as StoredId  # what the driver returns; the other one is a kind of it

__all__ = ["ANY_ID", "ObjectId", "StoredId", "new_id"]

# What every id of a document fulfils and null does not. Unlike `$type`, a look-up by one id or by
# some implies it, so that a partial index on it serves them.
ANY_ID = {"$gt": StoredId("0" * 24)}


def new_id() -> ObjectId:
    """A fresh id, known before the document is written, so that one transaction can refer to it."""
    return ObjectId()
