"""`accounting db roles` on a MongoDB with access control, as an operator uses it."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.database import Database

from accounting.access.needs import PARTS, SERVICE, SETUP
from guarded import (
    NAMED_USERS,
    SERVICE_PASSWORD,
    SERVICE_USER,
    SETUP_PASSWORD,
    SETUP_USER,
    GuardedMongod,
)
from service import clean_environment, run_command

DATABASE = "roles_test"
CREATE = ("db", "roles", "--create")
PROMPT_SECONDS_MAX = 30

Mongo = Database[dict[str, Any]]


@pytest.fixture
def environment(guarded: GuardedMongod) -> dict[str, str]:
    return clean_environment(
        MONGODB_URI=guarded.uri,
        MONGODB_DATABASE=DATABASE,
        SERVICE_USER_PASSWORD=SERVICE_PASSWORD,
        SETUP_USER_PASSWORD=SETUP_PASSWORD,
    )


@pytest.fixture
def administrator(guarded: GuardedMongod) -> Iterator[Mongo]:
    """Whoever has made the roles and users of other databases; here there are none yet."""
    with MongoClient[dict[str, Any]](guarded.uri) as client:
        mongo = client[DATABASE]
        mongo.command("dropAllUsersFromDatabase")
        mongo.command("dropAllRolesFromDatabase")
        yield mongo


def stored_privileges(mongo: Mongo, role: str) -> list[dict[str, Any]]:
    [found] = mongo.command("rolesInfo", role, showPrivileges=True)["roles"]
    assert found["roles"] == []
    return sorted(found["privileges"], key=lambda held: held["resource"]["collection"])


def wanted_privileges(part: str) -> list[dict[str, Any]]:
    wanted = PARTS[part].role.privileges(DATABASE)
    return sorted(wanted, key=lambda held: held["resource"]["collection"])


def what_was_done(stdout: str) -> list[str]:
    return [line.split()[0] for line in stdout.splitlines() if " role " in line]


def test_roles_and_users_are_made_once_and_passwords_never_printed(
    administrator: Mongo, environment: dict[str, str], guarded: GuardedMongod
) -> None:
    made = run_command((*CREATE, *NAMED_USERS), environment)
    again = run_command((*CREATE, *NAMED_USERS), environment)

    assert made.returncode == again.returncode == 0, made.stderr + again.stderr
    assert what_was_done(made.stdout) == ["created"] * 4
    assert what_was_done(again.stdout) == ["unchanged"] * 4
    for part in (SERVICE, SETUP):
        assert stored_privileges(administrator, part.role_name) == wanted_privileges(part.name)
    for run in (made, again):
        assert SERVICE_PASSWORD not in run.stdout + run.stderr
        assert SETUP_PASSWORD not in run.stdout + run.stderr
        assert f"mongodb://{SERVICE_USER}:PASSWORD@HOST/{DATABASE}" in run.stdout
    for name, password in ((SERVICE_USER, SERVICE_PASSWORD), (SETUP_USER, SETUP_PASSWORD)):
        uri = guarded.uri_of(name, password, source=DATABASE)
        checked = run_command(("db", "check", "--strict"), environment | settings_of(uri))
        assert checked.returncode == 0, checked.stdout + checked.stderr


def settings_of(uri: str) -> dict[str, str]:
    return {"ACCOUNTING_MONGODB_URI": uri}


def test_a_role_that_was_changed_is_brought_back(
    administrator: Mongo, environment: dict[str, str]
) -> None:
    run_command(CREATE, environment)
    everything = {"resource": {"db": DATABASE, "collection": ""}, "actions": ["insert", "remove"]}
    administrator.command(
        "updateRole", SERVICE.role_name, privileges=[everything], roles=["readWrite"]
    )

    brought_back = run_command(CREATE, environment)

    assert what_was_done(brought_back.stdout) == ["updated", "unchanged"]
    wanted = wanted_privileges(SERVICE.name)
    assert stored_privileges(administrator, SERVICE.role_name) == wanted


def test_two_at_once_end_with_the_same_roles_and_users(
    administrator: Mongo, environment: dict[str, str]
) -> None:
    with ThreadPoolExecutor(2) as pool:
        runs = list(pool.map(lambda _: run_command((*CREATE, *NAMED_USERS), environment), range(2)))

    assert [run.returncode for run in runs] == [0, 0], [run.stderr for run in runs]
    for part in (SERVICE, SETUP):
        assert stored_privileges(administrator, part.role_name) == wanted_privileges(part.name)
    users = administrator.command("usersInfo")["users"]
    assert {user["user"]: [role["role"] for role in user["roles"]] for user in users} == {
        SERVICE_USER: [SERVICE.role_name],
        SETUP_USER: [SETUP.role_name],
    }


def test_a_user_that_exists_keeps_its_password_and_its_other_roles(
    administrator: Mongo, environment: dict[str, str], guarded: GuardedMongod
) -> None:
    old = guarded.make_user("platform", "readWrite", database=DATABASE)

    added = run_command((*CREATE, "--service-user", "platform"), environment)

    assert added.returncode == 0, added.stderr
    assert "updated   user platform" in added.stdout
    assert f"has other roles as well, which were left alone: readWrite@{DATABASE}" in added.stdout
    with MongoClient[dict[str, Any]](old) as client:
        held = client[DATABASE].command("connectionStatus")["authInfo"]["authenticatedUserRoles"]
    assert {role["role"] for role in held} == {"readWrite", SERVICE.role_name}


def test_without_a_password_nothing_is_made(
    administrator: Mongo, environment: dict[str, str]
) -> None:
    del environment["ACCOUNTING_SETUP_USER_PASSWORD"]

    refused = run_command((*CREATE, *NAMED_USERS), environment)

    assert refused.returncode == 2
    assert "ACCOUNTING_SETUP_USER_PASSWORD" in refused.stderr
    assert administrator.command("rolesInfo")["roles"] == []
    assert administrator.command("usersInfo")["users"] == []


def test_a_password_can_be_typed_and_is_not_shown(
    administrator: Mongo, environment: dict[str, str], guarded: GuardedMongod
) -> None:
    del environment["ACCOUNTING_SERVICE_USER_PASSWORD"]

    shown = at_a_terminal(
        (*CREATE, "--service-user", SERVICE_USER), environment, ["typed", "typed"]
    )

    assert "created   user accounting" in shown
    assert "typed" not in shown
    with MongoClient[dict[str, Any]](
        guarded.uri_of(SERVICE_USER, "typed", source=DATABASE)
    ) as client:
        assert client[DATABASE].command("ping")["ok"] == 1


def at_a_terminal(
    arguments: tuple[str, ...], environment: dict[str, str], answers: list[str]
) -> str:
    """What the command shows at a terminal where these answers are typed."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "accounting", *arguments]
    with subprocess.Popen(
        command, env=environment, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    ) as process:
        os.close(theirs)
        shown, typed = b"", 0
        deadline = time.monotonic() + PROMPT_SECONDS_MAX
        while time.monotonic() < deadline:
            try:
                shown += os.read(ours, 4096)
            except OSError:  # the other side is closed
                break
            if shown.count(b": ") > typed < len(answers) and shown.endswith(b": "):
                os.write(ours, answers[typed].encode() + b"\n")
                typed += 1
        os.close(ours)
        assert process.wait(PROMPT_SECONDS_MAX) == 0, shown
    return shown.decode()


def test_whoever_may_not_make_roles_is_told_who_may(
    administrator: Mongo, environment: dict[str, str], guarded: GuardedMongod
) -> None:
    uri = guarded.make_user("reader", "read", database=DATABASE)

    refused = run_command(CREATE, environment | settings_of(uri))

    assert refused.returncode == 1
    [sentence] = refused.stderr.splitlines()
    assert f"userAdmin on {DATABASE}" in sentence
    assert administrator.command("rolesInfo")["roles"] == []


def test_a_user_administrator_of_the_database_is_enough(
    administrator: Mongo, environment: dict[str, str], guarded: GuardedMongod
) -> None:
    uri = guarded.make_user("manager", "userAdmin", database=DATABASE)

    made = run_command((*CREATE, *NAMED_USERS), environment | settings_of(uri))

    assert made.returncode == 0, made.stderr
    assert what_was_done(made.stdout) == ["created"] * 4


def test_the_script_for_mongosh_makes_the_same_roles() -> None:
    # No server is asked: the script is for whoever may make roles.
    nowhere = clean_environment(MONGODB_URI="mongodb://127.0.0.1:9", MONGODB_DATABASE=DATABASE)

    script = run_command(("db", "roles", "--service-user", 'a"b', "--setup-user", "c"), nowhere)

    assert script.returncode == 0, script.stderr
    assert f'db.getSiblingDB("{DATABASE}")' in script.stdout
    roles = re.findall(r'putRole\("(\w+)", \[\n(.*?)\n\]\);', script.stdout, re.DOTALL)
    privileges = {name: json.loads(f"[{body.rstrip(',')}]") for name, body in roles}
    assert privileges == {
        part.role_name: part.role.privileges(DATABASE) for part in (SERVICE, SETUP)
    }
    assert 'putUser("a\\"b", "accountingService");' in script.stdout
    assert "passwordPrompt()" in script.stdout


def test_one_name_for_both_users_is_refused(environment: dict[str, str]) -> None:
    refused = run_command((*CREATE, "--service-user", "x", "--setup-user", "x"), environment)

    assert refused.returncode == 2
    assert "different names" in refused.stderr
