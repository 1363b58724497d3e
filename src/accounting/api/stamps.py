"""What answers about a customer's documents share: the customer, who made and who changed it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from accounting.api.invoice_views import StaffView, UserView
from accounting.api.schemas import BodyOut, IdOut, InstantOut
from accounting.ids import ObjectId
from accounting.platform.reader import Platform
from accounting.platform.rules import PlatformUser, UserId


class StampedView(BodyOut):
    """A document of a customer, with who made it and who changed it last; for admins only."""

    id: IdOut
    user_id: IdOut
    user: UserView | None
    created_by: IdOut
    updated_by: IdOut | None
    created_by_user: StaffView | None
    updated_by_user: StaffView | None
    created_at: InstantOut
    updated_at: InstantOut


class Stamped(Protocol):
    """What a stored document needs for it."""

    user_id: UserId
    created_by: ObjectId
    updated_by: ObjectId | None


async def find_people(
    platform: Platform, documents: Iterable[Stamped]
) -> dict[UserId, PlatformUser]:
    """Everybody who is named in these documents, in one read."""
    wanted: set[ObjectId] = set()
    for document in documents:
        wanted |= {document.user_id, document.created_by}
        wanted |= {document.updated_by} if document.updated_by else set()
    return await platform.find_users(wanted)


def with_people(
    view: type[StampedView], document: Stamped, people: dict[UserId, PlatformUser]
) -> dict[str, Any]:
    """The fields of a view that the document holds, and the people of it."""
    computed = {"user", "created_by_user", "updated_by_user"}
    stored = {
        name: getattr(document, name)
        for name in view.model_fields.keys() - computed
        if hasattr(document, name)
    }
    user, created_by = people.get(document.user_id), people.get(document.created_by)
    updated_by = people.get(document.updated_by) if document.updated_by else None
    return {
        **stored,
        "user": UserView.model_validate(user) if user else None,
        "created_by_user": StaffView.model_validate(created_by) if created_by else None,
        "updated_by_user": StaffView.model_validate(updated_by) if updated_by else None,
    }
