"""Requests per user or address and time window, counted in Redis, for all processes together."""

from __future__ import annotations

import logging
import time
from typing import Final, TypeAlias, cast

from litestar.exceptions import TooManyRequestsException
from litestar.handlers.base import BaseRouteHandler
from redis.asyncio import Redis
from redis.exceptions import RedisError

from accounting.api.auth import Anyone, address_of
from accounting.bootstrap import Services

logger = logging.getLogger(__name__)

RedisClient: TypeAlias = Redis

REDIS_TIMEOUT_SECONDS: Final = 1.0
# After a failure nobody is counted for a while, so that a hung Redis costs one request a second
# and not every one.
REST_SECONDS: Final = 5.0


def open_redis(url: str) -> RedisClient:
    """The Redis client of the API; it connects on first use and never waits long."""
    return Redis.from_url(
        url,
        socket_timeout=REDIS_TIMEOUT_SECONDS,
        socket_connect_timeout=REDIS_TIMEOUT_SECONDS,
    )


async def limit_rate(connection: Anyone) -> None:
    """Count this request for its user; raises 429 with Retry-After over the limit.

    Without Redis nobody is turned away: the limit protects the service, it is no access rule.
    """
    if connection.scope.get("method") != "OPTIONS":
        await _count(connection, str(connection.user.user_id))


async def limit_rate_by_address(connection: Anyone, _: BaseRouteHandler) -> None:
    """A guard where nobody says who he is: all from one address are counted together."""
    await _count(connection, address_of(connection) or "unknown")


async def _count(connection: Anyone, who: str) -> None:
    services = cast(Services, connection.app.state.services)
    redis = cast(RedisClient, connection.app.state.redis)
    requests_max, window_seconds = services.settings.rate
    now = int(services.db.clock().timestamp())
    window = now // window_seconds
    key = f"accounting:rate:{who}:{window}"
    if time.monotonic() < connection.app.state.get("rate_limit_rests_until", 0.0):
        return
    try:
        count = await redis.incr(key)
        # A process that ends in between leaves a key of a few bytes, and nobody counts it again.
        if count == 1:
            await redis.expire(key, window_seconds + 1)
    except (RedisError, OSError) as error:
        logger.warning("no rate limit for %s s, Redis is away: %s", REST_SECONDS, error)
        connection.app.state["rate_limit_rests_until"] = time.monotonic() + REST_SECONDS
        return
    if count > requests_max:
        retry_after = (window + 1) * window_seconds - now
        raise TooManyRequestsException(
            f"More than {services.settings.rate_limit} requests; try again in {retry_after} s.",
            headers={"Retry-After": str(retry_after)},
        )
