"""Every way in which the database can be the wrong one: a clear sentence, within seconds."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from accounting.dev.binaries import find_mongod
from accounting.dev.mongod import start_mongod
from accounting.dev.processes import LOOPBACK, Server, free_port, start_child
from guarded import GuardedMongod
from service import SECRET, clean_environment, run_command
from strange_servers import listening, mute, old_mongod, web_server

# The driver by itself would wait for half a minute. Five seconds, and what a process takes to start
# on a busy machine.
SECONDS_MAX = 25
CHECK = ("db", "check")
COMMANDS = [
    CHECK,
    ("db", "plan"),
    ("db", "apply"),
    ("db", "verify"),
    ("db", "roles", "--create"),
    ("serve", "--port", str(free_port())),
    ("jobs", "run", "overdue"),
]


def refusal(uri: str, command: tuple[str, ...] = CHECK, **settings: str) -> str:
    """The one sentence with which the command fails, soon."""
    environment = {"MONGODB_URI": uri, "MONGODB_DATABASE": "failures", "JWT_SECRET": SECRET}
    started = time.monotonic()
    refused = run_command(command, clean_environment(**environment | settings))
    seconds = time.monotonic() - started
    assert refused.returncode == 1, refused.stdout
    [sentence] = refused.stderr.splitlines()
    assert sentence.startswith("accounting: ")
    assert sentence.endswith(".")
    assert refused.stdout == ""
    assert seconds < SECONDS_MAX
    return sentence


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("mongodb://127.0.0.1:99999/", "Port must be an integer between 0 and 65535"),
        ("mongodb://", "Must provide at least one hostname"),
        ("mongodb://me:p@ss@127.0.0.1/", "must be escaped"),
        ("mongodb://127.0.0.1:9/?replicaSett=rs0", "Unknown option: replicasett"),
        ("mongodb://127.0.0.1:9/?connectTimeoutMS=soon", "connecttimeoutms must be"),
        ("mongodb+srv://no.such.host.invalid/", "no.such.host.invalid"),
    ],
)
def test_a_wrong_address_is_quoted(uri: str, said: str) -> None:
    sentence = refusal(uri)

    assert "ACCOUNTING_MONGODB_URI" in sentence
    assert said in sentence


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("no.such.host.invalid:27017", "no.such.host.invalid:27017"),
        (f"127.0.0.1:{free_port()}", "Connection refused"),
    ],
    ids=["no such host", "nobody listens"],
)
def test_an_address_where_nobody_is(host: str, said: str) -> None:
    sentence = refusal(f"mongodb://{host}/?replicaSet=rs0")

    assert "MongoDB does not answer" in sentence
    assert said in sentence


def test_a_host_that_takes_connections_and_never_answers() -> None:
    with listening(mute) as port:
        sentence = refusal(f"mongodb://127.0.0.1:{port}/")

    assert "MongoDB does not answer: 127.0.0.1:" in sentence
    assert "timed out" in sentence


def test_a_wait_that_ends_before_a_host_has_failed() -> None:
    with listening(mute) as port:
        sentence = refusal(f"mongodb://127.0.0.1:{port}/?serverSelectionTimeoutMS=1000")

    assert "does not answer: none of the hosts in ACCOUNTING_MONGODB_URI said anything" in sentence


def test_a_server_that_hangs(tmp_path: Path) -> None:
    with start_mongod(tmp_path) as server:
        os.kill(server.child.pid, signal.SIGSTOP)
        try:
            sentence = refusal(server.uri)
        finally:
            os.kill(server.child.pid, signal.SIGCONT)

    assert "MongoDB does not answer" in sentence


def test_a_server_of_another_kind() -> None:
    with listening(web_server) as port:
        sentence = refusal(f"mongodb://127.0.0.1:{port}/")

    assert "is no MongoDB" in sentence


@pytest.mark.parametrize("command", COMMANDS, ids=lambda words: " ".join(words[:2]))
def test_a_wrong_password(guarded: GuardedMongod, command: tuple[str, ...]) -> None:
    uri = guarded.uri_of("administrator", "guessed", source="admin")

    sentence = refusal(uri, command)

    assert "does not take the user and password in ACCOUNTING_MONGODB_URI" in sentence
    assert "guessed" not in sentence


def test_no_user_where_one_is_needed(guarded: GuardedMongod) -> None:
    sentence = refusal(guarded.uri_of_nobody)

    assert "MongoDB wants a user and a password, and ACCOUNTING_MONGODB_URI has none" in sentence


def test_a_standalone_server_that_is_called_a_replica_set(tmp_path: Path) -> None:
    with start_mongod(tmp_path, replica_set=None) as server:
        sentence = refusal(f"{server.uri}?replicaSet=rs0")

    assert 'no member of the replica set "rs0": it is a standalone server' in sentence


def test_a_replica_set_of_another_name(mongod: Server) -> None:
    sentence = refusal(mongod.uri.replace("replicaSet=rs0", "replicaSet=rs1"))

    assert 'no member of the replica set "rs1"' in sentence
    assert "its set has another name" in sentence


@pytest.mark.parametrize("options", ["", "?replicaSet=rs0", "?directConnection=true"])
def test_a_replica_set_that_was_not_initiated(tmp_path: Path, options: str) -> None:
    port, data = free_port(), tmp_path / "data"
    data.mkdir()
    where = ["--dbpath", data, "--bind_ip", LOOPBACK, "--port", str(port), "--nounixsocket"]
    command = [find_mongod(), *where, "--replSet", "rs0"]
    with start_child("uninitiated", command, data_dir=tmp_path) as child:
        while b"Waiting for connections" not in child.log_path.read_bytes():
            child.require_running()
            time.sleep(0.05)
        sentence = refusal(f"mongodb://{LOOPBACK}:{port}/{options}")

    assert "has no primary: it was not initiated (run rs.initiate())" in sentence


def test_a_server_that_is_too_old() -> None:
    with listening(old_mongod("4.4.29", wire_version=9)) as port:
        sentence = refusal(f"mongodb://127.0.0.1:{port}/?replicaSet=rs0")

    assert "MongoDB 4.4.29 is too old; MongoDB 5.0 or newer is needed." in sentence


def test_a_server_that_is_too_old_even_for_the_driver() -> None:
    with listening(old_mongod("3.4.24", wire_version=5)) as port:
        sentence = refusal(f"mongodb://127.0.0.1:{port}/?replicaSet=rs0")

    assert "is too old; MongoDB 5.0 or newer is needed." in sentence


@pytest.mark.parametrize(
    ("role", "command", "said"),
    [
        ("read", ("db", "apply"), "lacks what the setup needs: dropCollection, createIndex"),
        ("userAdmin", ("db", "plan"), "may not run listCollections on failures"),
        ("userAdmin", ("db", "verify"), "may not run listCollections on failures"),
        ("read", ("db", "roles", "--create"), "may not make roles and users of failures"),
        ("read", ("jobs", "run", "overdue"), "lacks what the service needs: insert, update"),
    ],
)
def test_a_missing_right(
    guarded: GuardedMongod, role: str, command: tuple[str, ...], said: str
) -> None:
    uri = guarded.make_user("failing", role, database="failures")

    assert said in refusal(uri, command)
