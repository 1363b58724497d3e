"""Roles and users on a server: created, brought up to date, or as a script for mongosh."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from pymongo.errors import OperationFailure, PyMongoError

from accounting.db.client import MongoDatabase
from accounting.db.failures import UNAUTHORIZED, explain
from accounting.errors import Misconfigured

_ROLE_EXISTS: Final = 51002
_USER_EXISTS: Final = 51003


class MayNotManageRoles(Misconfigured):
    """The database user may not make roles and users."""

    def __init__(self, database_name: str) -> None:
        super().__init__(
            f"This MongoDB user may not make roles and users of {database_name}: name one in "
            f"ACCOUNTING_MONGODB_URI who has the role userAdmin on {database_name}, or give the "
            "output of `accounting db roles` to whoever may."
        )


class Done(StrEnum):
    """What became of a role or a user."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class Role:
    """A role of one database: what it allows, by collection; the empty name is the database."""

    name: str
    allowed: Mapping[str, frozenset[str]]

    def privileges(self, database_name: str) -> list[dict[str, Any]]:
        """As MongoDB's commands take them."""
        return [
            {"resource": {"db": database_name, "collection": name}, "actions": sorted(actions)}
            for name, actions in self.allowed.items()
        ]


@dataclass(frozen=True, slots=True)
class MadeUser:
    """What became of a user, and which other roles it has; those are not touched."""

    done: Done
    other_roles: tuple[str, ...] = ()


async def put_role(database: MongoDatabase, role: Role) -> Done:
    """Make the role, or bring it to what it is now; two at once end with the same role.

    Raises MayNotManageRoles.
    """
    wanted = role.privileges(database.name)
    try:
        found = await _find_role(database, role.name)
        if found is None:
            try:
                await database.command("createRole", role.name, privileges=wanted, roles=[])
            except OperationFailure as error:
                if error.code != _ROLE_EXISTS:
                    raise
                found = await _find_role(database, role.name)
            else:
                return Done.CREATED
        if found is not None and _is_as_wanted(found, wanted):
            return Done.UNCHANGED
        await database.command("updateRole", role.name, privileges=wanted, roles=[])
    except PyMongoError as error:
        raise _explained(error, database.name) from None
    return Done.UPDATED


async def has_user(database: MongoDatabase, name: str) -> bool:
    """Whether there is a user of this database with this name. Raises MayNotManageRoles."""
    try:
        return await _find_user(database, name) is not None
    except PyMongoError as error:
        raise _explained(error, database.name) from None


async def put_user(database: MongoDatabase, name: str, role: Role, password: str) -> MadeUser:
    """Make the user with this role; one that exists keeps its password and other roles.

    Raises MayNotManageRoles.
    """
    try:
        try:
            await database.command("createUser", name, pwd=password, roles=[role.name])
        except OperationFailure as error:
            if error.code != _USER_EXISTS:
                raise
        else:
            return MadeUser(Done.CREATED)
        return await grant_role(database, name, role)
    except PyMongoError as error:
        raise _explained(error, database.name) from None


async def grant_role(database: MongoDatabase, name: str, role: Role) -> MadeUser:
    """Give the role to a user that exists. Raises MayNotManageRoles."""
    try:
        user = await _find_user(database, name)
        roles = user["roles"] if user else []
        ours = {"role": role.name, "db": database.name}
        if ours not in roles:
            await database.command("grantRolesToUser", name, roles=[role.name])
    except PyMongoError as error:
        raise _explained(error, database.name) from None
    others = tuple(f"{held['role']}@{held['db']}" for held in roles if held != ours)
    return MadeUser(Done.UNCHANGED if ours in roles else Done.UPDATED, others)


def mongosh_script(database_name: str, roles: Iterable[Role], users: Mapping[str, str]) -> str:
    """The same as a script for mongosh; `users` are names with their roles' names.

    It can be run again: what exists is brought up to date. It asks for passwords when it runs.
    """
    lines = [
        f"// Roles in the database {database_name}. Save this as roles.js, and run it as somebody",
        "// who may make roles there; it can be run again:",
        '//   mongosh "mongodb://ADMIN@HOST/?authSource=admin" --file roles.js',
        f"const accounting = db.getSiblingDB({json.dumps(database_name)});",
        "const putRole = (name, privileges) => {",
        "  print(`role ${name}`);",
        "  if (accounting.getRole(name)) accounting.updateRole(name, {privileges, roles: []});",
        "  else accounting.createRole({role: name, privileges, roles: []});",
        "};",
        "const putUser = (name, role) => {",
        "  print(`user ${name} with the role ${role}`);",
        "  if (accounting.getUser(name)) accounting.grantRolesToUser(name, [role]);",
        "  else accounting.createUser({user: name, pwd: passwordPrompt(), roles: [role]});",
        "};",
    ]
    for role in roles:
        privileges = [f"  {json.dumps(held)}," for held in role.privileges(database_name)]
        lines += ["", f"putRole({json.dumps(role.name)}, [", *privileges, "]);"]
    lines.append("")
    lines += [
        f"putUser({json.dumps(user)}, {json.dumps(role_name)});"
        for user, role_name in users.items()
    ]
    return "\n".join(lines)


async def _find_role(database: MongoDatabase, name: str) -> dict[str, Any] | None:
    answer = await database.command("rolesInfo", name, showPrivileges=True)
    return answer["roles"][0] if answer["roles"] else None


async def _find_user(database: MongoDatabase, name: str) -> dict[str, Any] | None:
    answer = await database.command("usersInfo", name)
    return answer["users"][0] if answer["users"] else None


def _is_as_wanted(found: Mapping[str, Any], wanted: list[dict[str, Any]]) -> bool:
    return not found["roles"] and _by_resource(found["privileges"]) == _by_resource(wanted)


def _by_resource(privileges: Iterable[Mapping[str, Any]]) -> dict[str, frozenset[str]]:
    return {
        json.dumps(privilege["resource"], sort_keys=True): frozenset(privilege["actions"])
        for privilege in privileges
    }


def _explained(error: PyMongoError, database_name: str) -> Exception:
    if getattr(error, "code", None) == UNAUTHORIZED:
        return MayNotManageRoles(database_name)
    return explain(error)
