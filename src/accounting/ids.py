"""Identifiers: MongoDB ObjectIds, 24 hex digits outside (spec section 3)."""

from __future__ import annotations

from beanie import PydanticObjectId as ObjectId
from bson import ObjectId as StoredId  # what the driver returns; the other one is a kind of it

__all__ = ["ObjectId", "StoredId", "new_id"]


def new_id() -> ObjectId:
    """A fresh id, known before the document is written, so that one transaction can refer to it."""
    return ObjectId()
