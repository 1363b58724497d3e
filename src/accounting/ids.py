"""Identifiers: MongoDB ObjectIds, 24 hex digits outside (spec section 3)."""

from __future__ import annotations

from beanie import PydanticObjectId as ObjectId

__all__ = ["ObjectId", "new_id"]


def new_id() -> ObjectId:
    """A fresh id, known before the document is written, so that one transaction can refer to it."""
    return ObjectId()
