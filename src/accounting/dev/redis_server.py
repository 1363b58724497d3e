"""An embedded Redis-compatible server, in memory only: what must last is in MongoDB."""

from __future__ import annotations

from pathlib import Path

from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from accounting.dev.binaries import find_redis_server
from accounting.dev.processes import (
    LOOPBACK,
    Server,
    free_port,
    start_child,
    wait_until_ready,
)


def start_redis(data_dir: Path, *, port: int | None = None) -> Server:
    """Start Redis on the loopback interface and wait until it answers.

    Raises Misconfigured where there is no program; ChildDied; ChildNotReady.
    """
    program = find_redis_server()
    data_dir.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    child = start_child(
        "redis",
        [
            program,
            *("--bind", LOOPBACK, "--port", str(port), "--dir", data_dir),
            *("--save", "", "--appendonly", "no", "--daemonize", "no"),
        ],
        data_dir=data_dir,
    )
    uri = f"redis://{LOOPBACK}:{port}/0"
    with Redis.from_url(uri, socket_timeout=2, socket_connect_timeout=2) as client:

        def answers() -> bool:
            try:
                # The process id tells our server from another one that has the port already.
                return bool(client.ping()) and client.info("server")["process_id"] == child.pid
            except (RedisConnectionError, RedisTimeoutError):
                return False

        wait_until_ready(child, answers)
    return Server(uri=uri, child=child)
