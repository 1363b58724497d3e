"""The embedded Redis-compatible server."""

from __future__ import annotations

from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from accounting.dev.processes import ChildDied, free_port
from accounting.dev.redis_server import start_redis


def test_server_answers_until_it_is_stopped(tmp_path: Path) -> None:
    port = free_port()
    with start_redis(tmp_path, port=port) as server, Redis.from_url(server.uri) as client:
        assert server.uri == f"redis://127.0.0.1:{port}/0"
        assert client.set("greeting", "hello")
        assert client.get("greeting") == b"hello"

    with Redis.from_url(server.uri) as client, pytest.raises(RedisConnectionError):
        client.ping()


def test_nothing_is_kept_on_disk(tmp_path: Path) -> None:
    with start_redis(tmp_path) as server, Redis.from_url(server.uri) as client:
        client.set("greeting", "hello")

    with start_redis(tmp_path) as server, Redis.from_url(server.uri) as client:
        assert client.get("greeting") is None
    assert [path.name for path in tmp_path.iterdir()] == ["redis.log"]


def test_port_in_use_is_quoted(tmp_path: Path) -> None:
    with start_redis(tmp_path / "first") as first:
        port = int(first.uri.rpartition(":")[2].partition("/")[0])

        with pytest.raises(ChildDied, match="Address already in use"):
            start_redis(tmp_path / "second", port=port)
