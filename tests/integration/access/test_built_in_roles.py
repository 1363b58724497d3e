"""MongoDB's own roles, as the server states them: each is recognised for what it can do to us."""

from __future__ import annotations

import pytest

from accounting.access.needs import SERVICE
from accounting.access.review import Kind, review
from accounting.db.client import open_client, open_database
from accounting.db.privileges import Rights, read_rights
from guarded import GuardedMongod

DATABASE = "built_in_roles"


async def rights_of(guarded: GuardedMongod, database: str, *roles: object) -> Rights:
    client = open_client(guarded.make_user("built_in", *roles, database=database))
    try:
        return await read_rights(open_database(client, DATABASE))
    finally:
        client.close()


def sentences(rights: Rights, kind: Kind) -> list[str]:
    findings = review(rights, SERVICE, DATABASE)
    return [finding.sentence for finding in findings if finding.kind is kind]


def assert_begin_with(found: list[str], dangers: list[str]) -> None:
    assert len(found) == len(dangers), found
    for sentence, danger in zip(found, dangers, strict=True):
        assert sentence.startswith(f"could {danger}")


@pytest.mark.parametrize(
    ("database", "role", "dangers"),
    [
        (DATABASE, "readWrite", ["write to the platform's users", "alter audit_logs"]),
        (DATABASE, "dbOwner", ["write to", "alter audit_logs", "give itself any right"]),
        ("admin", "readWriteAnyDatabase", ["write to", "alter audit_logs"]),
        ("admin", "root", ["write to", "alter audit_logs", "give itself any right"]),
        ("admin", "__system", ["do anything on this server: it is a superuser"]),
    ],
)
async def test_a_role_that_suffices_is_too_much(
    guarded: GuardedMongod, database: str, role: str, dangers: list[str]
) -> None:
    rights = await rights_of(guarded, database, role)

    assert rights.is_enforced
    assert rights.roles == (f"{role}@{database}",)
    assert sentences(rights, Kind.MISSING) == []
    assert_begin_with(sentences(rights, Kind.DANGEROUS), dangers)
    assert sentences(rights, Kind.SURPLUS)


@pytest.mark.parametrize(
    ("database", "role", "dangers"),
    [
        (DATABASE, "read", []),
        ("admin", "readAnyDatabase", []),
        ("admin", "backup", []),
        ("admin", "clusterMonitor", []),
        (DATABASE, "dbAdmin", ["write to", "alter audit_logs"]),
        (DATABASE, "userAdmin", ["give itself any right"]),
        ("admin", "userAdminAnyDatabase", ["give itself any right"]),
        ("admin", "restore", ["write to", "alter audit_logs", "give itself any right"]),
    ],
)
async def test_a_role_that_does_not_suffice_can_be_dangerous_as_well(
    guarded: GuardedMongod, database: str, role: str, dangers: list[str]
) -> None:
    rights = await rights_of(guarded, database, role)

    assert sentences(rights, Kind.MISSING)
    assert_begin_with(sentences(rights, Kind.DANGEROUS), dangers)


async def test_a_right_of_another_database_is_no_right_here(guarded: GuardedMongod) -> None:
    rights = await rights_of(guarded, DATABASE, {"role": "readWrite", "db": "elsewhere"})

    assert len(sentences(rights, Kind.MISSING)) == len(SERVICE.needs)
    assert sentences(rights, Kind.DANGEROUS) == []


async def test_a_user_without_any_role_may_do_nothing(guarded: GuardedMongod) -> None:
    rights = await rights_of(guarded, DATABASE)

    assert rights.is_enforced
    assert rights.privileges == ()
    assert len(sentences(rights, Kind.MISSING)) == len(SERVICE.needs)
