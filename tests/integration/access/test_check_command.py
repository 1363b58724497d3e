"""`accounting db check`, and the refusal to start, on a MongoDB with access control."""

from __future__ import annotations

from typing import Any

import pytest
from pymongo import MongoClient

from accounting.access.needs import OUR_COLLECTIONS, SERVICE
from accounting.dev.processes import Server, free_port
from guarded import GuardedMongod, WithRoles
from service import SECRET, clean_environment, run_command

DATABASE = "check_test"
# As nothing should start that could be refused, the port of the API is never used.
STARTS = [("serve", "--port", str(free_port())), ("worker",), ("beat",)]
A_JOB = ("jobs", "run", "overdue")


@pytest.fixture(scope="module")
def users(guarded: GuardedMongod) -> WithRoles:
    return guarded.with_roles(DATABASE)


def environment(uri: str, **settings: str) -> dict[str, str]:
    return clean_environment(
        MONGODB_URI=uri, MONGODB_DATABASE=DATABASE, JWT_SECRET=SECRET, **settings
    )


def kinds(stdout: str) -> list[str]:
    """How each line of the report begins: ok, missing, danger, too (much), next."""
    return [line.split()[0] for line in stdout.splitlines()]


def test_each_user_has_what_its_part_needs_and_no_more(users: WithRoles) -> None:
    for uri, part in ((users.service_uri, "service"), (users.setup_uri, "setup")):
        checked = run_command(("db", "check", "--strict"), environment(uri))

        assert (checked.returncode, checked.stderr) == (0, "")
        assert kinds(checked.stdout) == ["ok", "ok", "ok"]
        assert f"every right that the {part} needs, and no other" in checked.stdout


def test_the_other_part_can_be_named(users: WithRoles) -> None:
    checked = run_command(("db", "check", "--for", "setup"), environment(users.service_uri))

    assert checked.returncode == 1
    assert "missing   dropCollection, createIndex, collMod, createCollection" in checked.stdout
    assert "too much  insert, update, remove on invoices" in checked.stdout


def test_too_much_is_told_and_fails_where_it_matters(guarded: GuardedMongod) -> None:
    uri = guarded.make_user("built_in", "readWrite", database=DATABASE)

    told = run_command(("db", "check"), environment(uri))
    strict = run_command(("db", "check", "--strict"), environment(uri))
    required = run_command(("db", "check"), environment(uri, REQUIRE_LEAST_PRIVILEGE="true"))

    assert (told.returncode, told.stderr) == (0, "")
    assert kinds(told.stdout) == ["ok", "ok", "danger", "danger", "too", "too", "next"]
    for refused in (strict, required):
        assert refused.returncode == 1
        assert refused.stdout == told.stdout
        assert "2 dangerous rights" in refused.stderr


def test_rights_elsewhere_are_told_and_do_not_keep_the_service_from_starting(
    guarded: GuardedMongod, users: WithRoles
) -> None:
    other = {"role": "readWrite", "db": "somewhere_else"}
    uri = guarded.make_user("wide", SERVICE.role_name, other, database=DATABASE)

    told = run_command(("db", "check"), environment(uri, REQUIRE_LEAST_PRIVILEGE="true"))
    strict = run_command(("db", "check", "--strict"), environment(uri))

    assert told.returncode == 0
    assert "on every collection of somewhere_else" in told.stdout
    assert strict.returncode == 1
    assert "other rights beyond need" in strict.stderr


@pytest.mark.parametrize("command", STARTS, ids=lambda command: command[0])
def test_nothing_starts_as_a_user_that_could_write_to_the_platform(
    guarded: GuardedMongod, command: tuple[str, ...]
) -> None:
    uri = guarded.make_user("built_in", "readWrite", database=DATABASE)

    refused = run_command(command, environment(uri, REQUIRE_LEAST_PRIVILEGE="true"))

    assert refused.returncode == 1
    [sentence] = refused.stderr.splitlines()
    assert f"The MongoDB user built_in@{DATABASE} could write to the platform's users" in sentence
    assert "ACCOUNTING_REQUIRE_LEAST_PRIVILEGE" in sentence


def test_nothing_starts_as_a_user_that_could_alter_the_trail(
    guarded: GuardedMongod, users: WithRoles
) -> None:
    trail = {"db": DATABASE, "collection": "audit_logs"}
    altering = guarded.make_role("altering", [{"resource": trail, "actions": ["update"]}], DATABASE)
    uri = guarded.make_user("built_in", SERVICE.role_name, altering, database=DATABASE)

    refused = run_command(STARTS[0], environment(uri, REQUIRE_LEAST_PRIVILEGE="true"))

    assert refused.returncode == 1
    [sentence] = refused.stderr.splitlines()
    assert "could alter audit_logs: update" in sentence


def test_a_missing_right_is_told_before_anything_is_done(guarded: GuardedMongod) -> None:
    lacking = [
        held
        for held in SERVICE.role.privileges(DATABASE)
        if held["resource"]["collection"] != "audit_logs"
    ]
    role = guarded.make_role("lacking", lacking, DATABASE)
    uri = guarded.make_user("lacking", role, database=DATABASE)

    checked = run_command(("db", "check"), environment(uri))
    refused = [run_command(command, environment(uri)) for command in (STARTS[0], A_JOB)]

    assert checked.returncode == 1
    assert kinds(checked.stdout) == ["ok", "ok", "missing", "next"]
    for run in refused:
        assert run.returncode == 1
        [sentence] = run.stderr.splitlines()
        assert "insert, find, listIndexes on audit_logs" in sentence
        assert OUR_COLLECTIONS["audit_logs"].purpose in sentence


def test_a_server_without_access_control_restricts_nothing(mongod: Server) -> None:
    told = run_command(("db", "check"), environment(mongod.uri))
    strict = run_command(("db", "check", "--strict"), environment(mongod.uri))
    refused = run_command(
        ("serve", "--port", str(free_port())),
        environment(mongod.uri, REQUIRE_LEAST_PRIVILEGE="true"),
    )

    assert told.returncode == 0
    assert "holds nobody to his rights" in told.stdout
    assert strict.returncode == refused.returncode == 1
    [sentence] = refused.stderr.splitlines()
    assert "holds nobody to his rights" in sentence


def test_a_user_on_a_server_without_access_control_is_not_restricted_either(
    mongod: Server,
) -> None:
    with MongoClient[dict[str, Any]](mongod.uri) as client:
        users = client["named_users"]
        if not users.command("usersInfo", "somebody")["users"]:
            users.command("createUser", "somebody", pwd="x", roles=[])
    address = mongod.uri.removeprefix("mongodb://")

    told = run_command(
        ("db", "check"), environment(f"mongodb://somebody:x@{address}&authSource=named_users")
    )

    assert told.returncode == 0
    assert "user somebody@named_users (no role)" in told.stdout
    assert "holds nobody to his rights" in told.stdout
