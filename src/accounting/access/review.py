"""A user's rights held against what he needs: what is missing, what is dangerous, what is too much.

A right counts where it takes effect, however it was granted: `readWrite`, `root` or a role for
every database cover the platform's collections as well.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from accounting.access.needs import AUDIT_LOGS, Part
from accounting.db.privileges import ANY_ACTION, DATABASE_ITSELF, Privilege, Reach, Rights
from accounting.errors import Misconfigured
from accounting.platform.rules import PLATFORM_COLLECTIONS, TOKEN_BLACKLIST

# Actions that leave documents and definitions as they are. Every other one, also one that a later
# server invents, counts as writing: a new index can delete documents as well (TTL).
_HARMLESS: Final = frozenset(
    {
        *("find", "listIndexes", "listCollections", "listSearchIndexes", "changeStream"),
        *("collStats", "dbStats", "dbHash", "indexStats", "storageDetails", "validate"),
        *("planCacheRead", "planCacheWrite", "planCacheIndexFilter", "killCursors"),
        *("getDatabaseVersion", "getShardVersion", "enableProfiler", "exportCollection"),
        # These are about users and roles; the dangerous ones of them are looked at by themselves.
        *("viewRole", "viewUser", "createRole", "createUser", "dropRole", "dropUser", "revokeRole"),
        *("grantRole", "changePassword", "changeCustomData", "setAuthenticationRestriction"),
        *("changeOwnPassword", "changeOwnCustomData", "listCachedAndActiveUsers"),
        # Allows no write by itself.
        "bypassDocumentValidation",
    }
)
# Whoever has one of these can give himself every other right, or become somebody who has it.
_SELF_SERVICE: Final = frozenset({"grantRole", "changePassword", ANY_ACTION})
_USERS_AND_ROLES: Final = ("system.users", "system.roles")
_FIRST_NAMED: Final = ("insert", "update", "remove", "dropCollection", "createIndex", "collMod")
_ACTIONS_NAMED_MAX: Final = 6
_RIGHTS_NAMED_MAX: Final = 3


class Kind(StrEnum):
    """What is wrong with a right."""

    MISSING = "missing"
    # Refused where least privilege is required.
    DANGEROUS = "danger"
    SURPLUS = "too much"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be."""

    kind: Kind
    sentence: str


class RightsMissing(Misconfigured):
    """The user could not do everything that will be asked of him."""


class RightsTooWide(Misconfigured):
    """The user could do what nobody wants him to, and least privilege is required."""


def review(rights: Rights, part: Part, database_name: str) -> list[Finding]:
    """Every difference between what this user may do and what the part needs, worst first."""
    if not rights.is_enforced:
        return [
            Finding(
                Kind.DANGEROUS,
                "could write to the platform's collections and alter the audit trail, as anybody "
                "could who reaches this server: it holds nobody to his rights",
            )
        ]
    missing = [
        Finding(Kind.MISSING, f"{_listed(lacking)} on {_place(name, database_name)} ({purpose})")
        for name, lacking, purpose in _missing(rights, part, database_name)
    ]
    dangers = _dangers(rights, part, database_name)
    return [*missing, *dangers, *_surplus(rights, part, database_name)]


def require_rights(
    rights: Rights, part: Part, database_name: str, *, is_least_required: bool
) -> None:
    """Raises RightsMissing; RightsTooWide where least privilege is required."""
    if not rights.is_enforced and not is_least_required:
        return
    findings = review(rights, part, database_name)
    lacking = [finding.sentence for finding in findings if finding.kind is Kind.MISSING]
    if lacking:
        raise RightsMissing(
            f"The MongoDB user {rights.user} lacks what the {part.name} needs: "
            f"{_shortened('; '.join(lacking[:_RIGHTS_NAMED_MAX]), lacking, _RIGHTS_NAMED_MAX)}; "
            "`accounting db check` lists it all."
        )
    dangers = [finding.sentence for finding in findings if finding.kind is Kind.DANGEROUS]
    if dangers and is_least_required:
        raise RightsTooWide(
            f"{_name(rights)} {dangers[0]}; ACCOUNTING_REQUIRE_LEAST_PRIVILEGE lets only a user "
            "start who cannot, such as `accounting db roles` makes."
        )


def _missing(
    rights: Rights, part: Part, database_name: str
) -> Iterator[tuple[str, list[str], str]]:
    for name, need in part.needs.items():
        lacking = [
            action
            for action in _ordered(need.actions)
            if not rights.may(database_name, name, action)
        ]
        if lacking:
            yield name, lacking, need.purpose


def _dangers(rights: Rights, part: Part, database_name: str) -> Iterator[Finding]:
    if any(
        privilege.resource.reach is Reach.EVERYTHING and ANY_ACTION in privilege.actions
        for privilege in rights.privileges
    ):
        yield Finding(Kind.DANGEROUS, "could do anything on this server: it is a superuser")
        return
    by_actions: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    for name in (*PLATFORM_COLLECTIONS, TOKEN_BLACKLIST):
        if writing := rights.actions_on(database_name, name) - _HARMLESS:
            by_actions[tuple(_ordered(writing))].append(name)
    for actions, names in by_actions.items():
        yield Finding(
            Kind.DANGEROUS,
            f"could write to the platform's {', '.join(names)}: {_listed(actions)}",
        )
    needed = part.needs[AUDIT_LOGS].actions
    if altering := rights.actions_on(database_name, AUDIT_LOGS) - _HARMLESS - needed:
        yield Finding(Kind.DANGEROUS, f"could alter {AUDIT_LOGS}: {_listed(_ordered(altering))}")
    if helping := _self_service(rights, database_name):
        yield Finding(Kind.DANGEROUS, f"could give itself any right: {_listed(_ordered(helping))}")


def _self_service(rights: Rights, database_name: str) -> frozenset[str]:
    granting = rights.actions_on(database_name, DATABASE_ITSELF) | rights.actions_on(
        "admin", DATABASE_ITSELF
    )
    stored = frozenset().union(
        *(rights.actions_on("admin", collection) for collection in _USERS_AND_ROLES)
    )
    return (granting & _SELF_SERVICE) | (stored & {"insert", "update", ANY_ACTION})


def _surplus(rights: Rights, part: Part, database_name: str) -> Iterator[Finding]:
    for privilege in rights.privileges:
        if beyond := privilege.actions - _needed_through(privilege, part, database_name):
            yield Finding(Kind.SURPLUS, f"{_listed(_ordered(beyond))} on {privilege.resource}")


def _needed_through(privilege: Privilege, part: Part, database_name: str) -> frozenset[str]:
    """What is needed of a privilege; of one over many collections, nothing is."""
    resource = privilege.resource
    if resource.reach is not Reach.COLLECTIONS or resource.database != database_name:
        return frozenset()
    need = part.needs.get(resource.collection)
    return need.actions if need else frozenset()


def _name(rights: Rights) -> str:
    return f"The MongoDB user {rights.user}" if rights.user else "A MongoDB user without a name"


def _place(name: str, database_name: str) -> str:
    return name if name != DATABASE_ITSELF else f"the database {database_name}"


def _ordered(actions: Iterable[str]) -> list[str]:
    """What people know best first, the rest by name."""
    given = set(actions)
    first = [name for name in _FIRST_NAMED if name in given]
    return first + sorted(given.difference(first))


def _listed(actions: Iterable[str]) -> str:
    names = list(actions)
    return _shortened(", ".join(names[:_ACTIONS_NAMED_MAX]), names, _ACTIONS_NAMED_MAX)


def _shortened(text: str, whole: list[str], shown_max: int) -> str:
    left = len(whole) - shown_max
    return f"{text} and {left} more" if left > 0 else text
