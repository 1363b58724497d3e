"""The embedded MongoDB: replica set, second start on another port, standalone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from accounting.dev.mongod import start_mongod
from accounting.dev.processes import ChildDied, free_port


def client_of(uri: str) -> MongoClient[dict[str, Any]]:
    return MongoClient(uri, serverSelectionTimeoutMS=5000)


def insert_in_transaction(client: MongoClient[dict[str, Any]]) -> None:
    with client.start_session() as session, session.start_transaction():
        client["shop"]["orders"].insert_one({"number": 1}, session=session)


def test_replica_set_takes_transactions(tmp_path: Path) -> None:
    with start_mongod(tmp_path) as server, client_of(server.uri) as client:
        insert_in_transaction(client)

        assert client["shop"]["orders"].count_documents({}) == 1
        assert client.admin.command("hello")["setName"] == "rs0"
        assert server.uri.startswith("mongodb://127.0.0.1:")
        assert server.uri.endswith("/?replicaSet=rs0")


def test_second_start_on_another_port_finds_the_data(tmp_path: Path) -> None:
    with start_mongod(tmp_path) as first, client_of(first.uri) as client:
        insert_in_transaction(client)

    with start_mongod(tmp_path, port=free_port()) as second, client_of(second.uri) as client:
        insert_in_transaction(client)

        assert second.uri != first.uri
        assert client["shop"]["orders"].count_documents({}) == 2


def test_second_start_on_the_same_port_needs_no_change(tmp_path: Path) -> None:
    port = free_port()
    with start_mongod(tmp_path, port=port) as server, client_of(server.uri) as client:
        version = client.admin.command("replSetGetConfig")["config"]["version"]

    with start_mongod(tmp_path, port=port) as server, client_of(server.uri) as client:
        assert client.admin.command("replSetGetConfig")["config"]["version"] == version


def test_data_survives_a_kill(tmp_path: Path) -> None:
    with start_mongod(tmp_path) as server:
        with client_of(server.uri) as client:
            client["shop"]["orders"].insert_one({"number": 1})
        server.child.stop(limit_seconds=0)

    with start_mongod(tmp_path) as server, client_of(server.uri) as client:
        assert client["shop"]["orders"].count_documents({}) == 1


def test_standalone_server_has_no_transactions(tmp_path: Path) -> None:
    with (
        start_mongod(tmp_path, replica_set=None) as server,
        client_of(server.uri) as client,
    ):
        assert "setName" not in client.admin.command("hello")
        with pytest.raises(OperationFailure, match="replica set"):
            insert_in_transaction(client)


def test_port_of_another_server_is_refused_and_that_server_left_alone(tmp_path: Path) -> None:
    port = free_port()
    with (
        start_mongod(tmp_path / "first", port=port) as first,
        client_of(first.uri) as client,
    ):
        with pytest.raises(ChildDied, match="Address already in use"):
            start_mongod(tmp_path / "second", port=port)

        assert client.admin.command("replSetGetConfig")["config"]["version"] == 1


def test_wrong_option_is_quoted(tmp_path: Path) -> None:
    with pytest.raises(ChildDied, match="unrecognised option '--no-such-option'"):
        start_mongod(tmp_path, extra_args=["--no-such-option"])


def test_data_directory_in_use_is_refused(tmp_path: Path) -> None:
    with start_mongod(tmp_path), pytest.raises(ChildDied, match="Another mongod instance"):
        start_mongod(tmp_path)
