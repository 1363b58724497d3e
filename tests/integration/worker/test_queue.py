"""Sending jobs: to a real broker, and without one."""

from __future__ import annotations

import time

import pytest
from redis import Redis

from accounting.db.database import Job
from accounting.dev.processes import Server
from accounting.worker.queue import CeleryQueue
from api_app import settings


async def test_a_job_reaches_the_broker(redis_server: Server) -> None:
    url = redis_server.uri.removesuffix("/0") + "/2"
    queue = CeleryQueue(settings(redis_url=url))

    await queue([Job("notifications.deliver", ("a" * 24,))])
    await queue.close()

    with Redis.from_url(url) as redis:
        [message] = redis.lrange("accounting", 0, -1)
        assert b"notifications.deliver" in message


async def test_without_a_broker_the_caller_neither_waits_nor_fails(
    caplog: pytest.LogCaptureFixture,
) -> None:
    queue = CeleryQueue(settings())
    started = time.monotonic()

    await queue([Job("notifications.deliver", ("a" * 24,))])

    assert time.monotonic() - started < 0.5
    await queue.close()
    assert "not sent" in caplog.text
