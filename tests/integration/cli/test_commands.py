"""The `accounting` command as operators meet it: what it says, and how it exits."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from accounting.db.client import open_client
from accounting.dev.mongod import start_mongod
from accounting.dev.processes import Server, free_port
from service import SECRET, clean_environment, run_command

SETUP_SCRIPT = Path(__file__).parents[3] / "scripts" / "setup_db.py"


def one_sentence(stderr: str) -> str:
    lines = [line for line in stderr.splitlines() if line.strip()]
    assert len(lines) == 1, stderr
    assert "Traceback" not in stderr
    return lines[0]


@pytest.fixture
def environment(mongod: Server) -> dict[str, str]:
    return clean_environment(
        MONGODB_URI=mongod.uri, MONGODB_DATABASE="commands_test", JWT_SECRET=SECRET
    )


@pytest.fixture(autouse=True)
async def _no_database(mongod: Server) -> None:
    client = open_client(mongod.uri)
    await client.drop_database("commands_test")
    client.close()


def test_the_setup_script_is_the_same_command(environment: dict[str, str]) -> None:
    planned = subprocess.run(
        [sys.executable, str(SETUP_SCRIPT), "plan"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert planned.returncode == 2
    assert planned.stdout == run_command(("db", "plan"), environment).stdout


def test_check_says_what_the_server_is(environment: dict[str, str]) -> None:
    checked = run_command(("db", "check"), environment)

    assert checked.returncode == 0
    assert "replica set rs0" in checked.stdout


@pytest.mark.parametrize("command", [("db", "check"), ("db", "apply"), ("serve",)])
def test_a_standalone_server_is_refused_in_one_sentence(
    tmp_path_factory: pytest.TempPathFactory, command: tuple[str, ...]
) -> None:
    with start_mongod(tmp_path_factory.mktemp("alone"), replica_set=None) as server:
        environment = clean_environment(
            MONGODB_URI=server.uri, MONGODB_DATABASE="any", JWT_SECRET=SECRET
        )
        refused = run_command(command, environment)

    assert refused.returncode == 1
    assert "replica set" in one_sentence(refused.stderr)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"MONGODB_URI": "mongodb://127.0.0.1:9/x?serverSelectionTimeoutMS=300"}, "MongoDB"),
        ({"MONGODB_URI": "localhost"}, "ACCOUNTING_MONGODB_URI"),
        ({}, "ACCOUNTING_MONGODB_URI"),
        (
            {"MONGODB_URI": "mongodb://127.0.0.1:9/x", "TIMEZONE": "Mars"},
            "ACCOUNTING_TIMEZONE",
        ),
        ({"MONGODB_URI": "mongodb://127.0.0.1:9"}, "ACCOUNTING_MONGODB_DATABASE"),
    ],
)
def test_a_wrong_setting_is_one_sentence_with_its_name(
    settings: dict[str, str], named: str
) -> None:
    refused = run_command(("db", "check"), clean_environment(**settings))

    assert refused.returncode == 1
    assert named in one_sentence(refused.stderr)


def test_serving_without_a_signing_secret_is_refused(environment: dict[str, str]) -> None:
    del environment["ACCOUNTING_JWT_SECRET"]

    refused = run_command(("serve", "--port", str(free_port())), environment)

    assert refused.returncode == 1
    assert "ACCOUNTING_JWT_SECRET" in one_sentence(refused.stderr)


def test_a_sender_that_is_no_address_is_refused(environment: dict[str, str]) -> None:
    refused = run_command(
        ("jobs", "run", "deliver"), environment | {"ACCOUNTING_MAIL_FROM": "nobody"}
    )

    assert refused.returncode == 1
    assert "ACCOUNTING_MAIL_FROM" in one_sentence(refused.stderr)


@pytest.mark.parametrize(
    "arguments",
    [
        ("jobs", "run", "unknown"),
        ("jobs", "run", "deliver", "--as-of", "tomorrow"),
        ("token", "--user-id", "x", "--role", "ADMIN"),
        ("token", "--user-id", "a" * 24, "--role", "ROOT"),
        ("db", "destroy"),
    ],
)
def test_a_wrong_argument_is_refused(
    environment: dict[str, str], arguments: tuple[str, ...]
) -> None:
    refused = run_command(arguments, environment)

    assert refused.returncode != 0
    assert refused.stderr
    assert "Traceback" not in refused.stderr


def test_debug_shows_the_traceback(environment: dict[str, str]) -> None:
    refused = run_command(
        ("--debug", "db", "check"), environment | {"ACCOUNTING_MONGODB_URI": "localhost"}
    )

    assert refused.returncode != 0
    assert "Traceback" in refused.stderr
