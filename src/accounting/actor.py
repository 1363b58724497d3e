"""Who acts: an admin, a customer, or the system on its own schedule."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from accounting.ids import ObjectId


class Role(StrEnum):
    """The platform's roles, SYSTEM for scheduled work, UNKNOWN for a role that we do not know."""

    ADMIN = "ADMIN"
    SUPER_ADMIN = "SUPER_ADMIN"
    CLIENT = "CLIENT"
    SYSTEM = "SYSTEM"
    UNKNOWN = "UNKNOWN"


ADMIN_ROLES: Final = frozenset({Role.ADMIN, Role.SUPER_ADMIN})


@dataclass(frozen=True, slots=True)
class Actor:
    """The person or process behind a change, with what the audit trail keeps about the request."""

    user_id: ObjectId
    role: Role
    ip_address: str | None = None
    user_agent: str | None = None
    request_id: str | None = None

    @property
    def is_admin(self) -> bool:
        return self.role in ADMIN_ROLES


# Spec section 3: the fixed id of scheduled work.
SYSTEM_USER_ID: Final = ObjectId("000000000000000000000000")
SYSTEM: Final = Actor(user_id=SYSTEM_USER_ID, role=Role.SYSTEM)
