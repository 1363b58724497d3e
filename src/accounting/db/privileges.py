"""What the connected MongoDB user may do, as the server itself states it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Self

from pymongo.errors import OperationFailure, PyMongoError

from accounting.db.client import MongoDatabase
from accounting.db.failures import explain

ANY_ACTION: Final = "anyAction"
# In the place of a collection's name: the database itself.
DATABASE_ITSELF: Final = ""


class Reach(StrEnum):
    """What kind of thing a resource is."""

    EVERYTHING = "everything"
    CLUSTER = "the cluster"
    COLLECTIONS = "collections"
    # Of time series, which are stored under other names.
    BUCKETS = "buckets"


@dataclass(frozen=True, slots=True)
class Resource:
    """On what a privilege holds; an empty name stands for every database or collection."""

    reach: Reach
    database: str = ""
    collection: str = ""

    @classmethod
    def of(cls, stated: Mapping[str, Any]) -> Self:
        """The resource as the server states it."""
        if stated.get("anyResource"):
            return cls(Reach.EVERYTHING)
        if stated.get("cluster"):
            return cls(Reach.CLUSTER)
        database = stated.get("db", "")
        if "collection" in stated:
            return cls(Reach.COLLECTIONS, database, stated["collection"])
        return cls(Reach.BUCKETS, database, stated.get("system_buckets", ""))

    def covers(self, database: str, collection: str) -> bool:
        """Whether what is allowed here is allowed on this collection, or the database itself."""
        if self.reach is Reach.EVERYTHING:
            return True
        if self.reach is not Reach.COLLECTIONS or self.database not in ("", database):
            return False
        if self.collection:
            return self.collection == collection
        return not collection.startswith("system.")

    def __str__(self) -> str:
        match self.reach:
            case Reach.EVERYTHING:
                return "everything on the server"
            case Reach.CLUSTER:
                return "the server itself"
        collection = self.collection or "every collection"
        where = f"of {self.database}" if self.database else "of every database"
        buckets = " (time series)" if self.reach is Reach.BUCKETS else ""
        return f"{collection} {where}{buckets}"


@dataclass(frozen=True, slots=True)
class Privilege:
    """Actions that are allowed on a resource."""

    resource: Resource
    actions: frozenset[str]


@dataclass(frozen=True, slots=True)
class Rights:
    """What a user may do. Where nothing is enforced anybody may do anything, whatever is stated."""

    user: str
    roles: tuple[str, ...]
    privileges: tuple[Privilege, ...]
    is_enforced: bool = True

    def actions_on(self, database: str, collection: str) -> frozenset[str]:
        """Every action that some privilege allows there; `anyAction` among them is all of them."""
        covering = [held for held in self.privileges if held.resource.covers(database, collection)]
        return frozenset().union(*(privilege.actions for privilege in covering))

    def may(self, database: str, collection: str, action: str) -> bool:
        """Whether the server would let him do this."""
        actions = self.actions_on(database, collection)
        return not self.is_enforced or action in actions or ANY_ACTION in actions


async def read_rights(database: MongoDatabase) -> Rights:
    """The rights of the user of this connection."""
    try:
        status = await database.client.admin.command("connectionStatus", showPrivileges=True)
        stated = status["authInfo"]
        # Without a user `check_server` has seen that the server asks for none.
        is_enforced = bool(stated["authenticatedUsers"]) and await _is_enforced(database)
    except PyMongoError as error:
        raise explain(error) from None
    held = [
        Privilege(Resource.of(privilege["resource"]), frozenset(privilege["actions"]))
        for privilege in stated["authenticatedUserPrivileges"]
    ]
    return Rights(
        user=", ".join(f"{user['user']}@{user['db']}" for user in stated["authenticatedUsers"]),
        roles=tuple(f"{role['role']}@{role['db']}" for role in stated["authenticatedUserRoles"]),
        # The server has no order of its own.
        privileges=tuple(sorted(held, key=lambda privilege: str(privilege.resource))),
        is_enforced=is_enforced,
    )


async def _is_enforced(database: MongoDatabase) -> bool:
    """Whether the server holds its users to their rights; one without access control does not.

    A user who is refused this question has the answer as well.
    """
    try:
        options = await database.client.admin.command("getCmdLineOpts")
    except OperationFailure:
        return True
    security = options.get("parsed", {}).get("security", {})
    if security.get("transitionToAuth"):
        return False
    # A key file or certificates between the members turn it on as well.
    return (
        security.get("authorization") == "enabled"
        or "keyFile" in security
        or "clusterAuthMode" in security
    )
