"""An embedded MongoDB: a one-node replica set, as transactions need, or a standalone server."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from pymongo import MongoClient
from pymongo.errors import ConnectionFailure, OperationFailure

from accounting.dev.binaries import find_mongod
from accounting.dev.processes import (
    LOOPBACK,
    Child,
    Server,
    free_port,
    start_child,
    wait_until_ready,
)

ATTEMPT_LIMIT_MILLISECONDS: Final = 2000
NOT_YET_INITIALIZED: Final = 94  # MongoDB's error code of a member without a configuration

Client = MongoClient[dict[str, Any]]


def start_mongod(
    data_dir: Path,
    *,
    port: int | None = None,
    replica_set: str | None = "rs0",
    cache_gigabytes: float = 0.5,
    login: str = "",
    extra_args: Sequence[str] = (),
) -> Server:
    """Start MongoDB on the loopback interface and wait until it takes writes.

    Data stays in `data_dir/mongod`; a later start may use another port. `replica_set=None` gives a
    standalone server, which has no transactions. `login` is "NAME:PASSWORD" of an administrator
    where `extra_args` turn access control on; the address that is returned is his.
    Raises Misconfigured where no mongod can run; ChildDied; ChildNotReady.
    """
    mongod = find_mongod()
    database_path = data_dir / "mongod"
    database_path.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    address = f"{LOOPBACK}:{port}"
    child = start_child(
        "mongod",
        [
            mongod,
            *("--dbpath", database_path, "--bind_ip", LOOPBACK, "--port", str(port)),
            *("--wiredTigerCacheSizeGB", str(cache_gigabytes), "--nounixsocket"),
            *("--setParameter", "diagnosticDataCollectionEnabled=false"),
            # A primary otherwise stays for 15 seconds to let clients find another one.
            *("--setParameter", "shutdownTimeoutMillisForSignaledShutdown=0"),
            *(("--replSet", replica_set, "--oplogSize", "128") if replica_set else ()),
            *extra_args,
        ],
        data_dir=data_dir,
        is_telling=_is_error_line,
    )
    login = f"{login}@" if login else ""
    with Client(
        f"mongodb://{login}{address}/?directConnection=true",
        serverSelectionTimeoutMS=ATTEMPT_LIMIT_MILLISECONDS,
    ) as client:
        wait_until_ready(child, lambda: _is_writable(client, child, replica_set, address))
    suffix = f"?replicaSet={replica_set}" if replica_set else ""
    return Server(uri=f"mongodb://{login}{address}/{suffix}", child=child)


def _is_writable(client: Client, child: Child, replica_set: str | None, address: str) -> bool:
    """Take the server one step closer to a writable primary; true when it is one."""
    try:
        if client.admin.command("serverStatus")["pid"] != child.pid:
            return False  # a stranger has the port: ours is about to end, and says why
        if replica_set and not _is_member(client, replica_set, address):
            return False
        return bool(client.admin.command("hello")["isWritablePrimary"])
    except (ConnectionFailure, OperationFailure):
        return False  # not listening yet, or between two states: ask again


def _is_member(client: Client, replica_set: str, address: str) -> bool:
    """Whether the set knows this server under this address; if not, tell it."""
    try:
        config = client.admin.command("replSetGetConfig")["config"]
    except OperationFailure as error:
        if error.code != NOT_YET_INITIALIZED:
            raise
        first = {"_id": replica_set, "members": [{"_id": 0, "host": address}]}
        client.admin.command("replSetInitiate", first)
        return False

    member = config["members"][0]
    if member["host"] == address:
        return True
    # Started on another port than last time: the server no longer finds itself in its own set.
    member["host"] = address
    config["version"] += 1
    client.admin.command("replSetReconfig", config, force=True)
    return False


def _is_error_line(line: str) -> bool:
    """Errors and fatal lines of the JSON log, or plain text, such as a wrong option."""
    return '"s":"E"' in line or '"s":"F"' in line or not line.startswith("{")
