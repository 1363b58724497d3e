"""`/health/live`, `/health/ready` and `/metrics` for the operators' probes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import Final, Literal

from litestar import Response, get
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.enums import MediaType
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example
from prometheus_client import CONTENT_TYPE_LATEST, Gauge, generate_latest
from redis.exceptions import RedisError

from accounting.api.rate_limit import RedisClient
from accounting.api.schemas import BodyOut
from accounting.bootstrap import Services, collection_specs
from accounting.db.client import DriverError, is_primary_reachable
from accounting.db.setup import is_set_up
from accounting.integrity.findings import FindingKind
from accounting.integrity.service import find_last_examination

PROBE_TIMEOUT_SECONDS: Final = 3.0
PROBE_KEPT_SECONDS: Final = 1.0
FINDINGS: Final = Gauge(
    "accounting_integrity_findings", "What the last examination of the store found.", ["kind"]
)
EXAMINED_AT: Final = Gauge(
    "accounting_integrity_last_run_timestamp_seconds", "When the store was examined last."
)


class LiveView(BodyOut):
    """The process answers."""

    status: Literal["ok"]


class ReadyView(BodyOut):
    """What the service needs, each part `true` when it is there."""

    status: Literal["ready", "not ready"]
    mongo_primary: bool
    redis: bool
    indexes: bool


@get("/health/live", operation_id="getLiveness", summary="Is the process alive?", tags=["Health"])
async def live() -> LiveView:
    """Answers as long as the process runs; looks at nothing else."""
    return LiveView(status="ok")


@get(
    "/health/ready",
    operation_id="getReadiness",
    summary="Can the service do its work?",
    tags=["Health"],
    responses={
        503: ResponseSpec(ReadyView, generate_examples=False, description="Something lacks.")
    },
)
async def ready(
    services: NamedDependency[Services], redis: NamedDependency[RedisClient], state: State
) -> Response[ReadyView]:
    """200 with a MongoDB primary, Redis and all indexes in place, else 503 saying what lacks."""
    primary, has_redis, indexes = await _probe(services, redis, state)
    is_ready = primary and has_redis and indexes
    view = ReadyView(
        status="ready" if is_ready else "not ready",
        mongo_primary=primary,
        redis=has_redis,
        indexes=indexes,
    )
    return Response(view, status_code=200 if is_ready else 503)


@get(
    "/metrics",
    operation_id="getMetrics",
    summary="Prometheus metrics",
    tags=["Health"],
    media_type=MediaType.TEXT,
    responses={
        200: ResponseSpec(
            str,
            generate_examples=False,
            media_type=MediaType.TEXT,
            description="One line for each number.",
            examples=[Example(value='python_gc_collections_total{generation="0"} 17.0\n')],
        )
    },
)
async def metrics() -> Response[bytes]:
    """Counters of this process, and what the last examination of the store found.

    In Prometheus' text format; without the examination while the database is away.
    """
    await _in_time(_tell_of_last_examination())
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


async def _tell_of_last_examination() -> bool:
    try:
        last = await find_last_examination()
    except DriverError:
        return False
    if last is None or last.finished_at is None:
        return False
    found = last.parameters.get("findings", {})
    for kind in FindingKind:
        FINDINGS.labels(kind=kind.value).set(found.get(kind.value, 0))
    EXAMINED_AT.set(last.finished_at.timestamp())
    return True


async def _probe(services: Services, redis: RedisClient, state: State) -> tuple[bool, bool, bool]:
    # Anybody may ask, so one look serves all who ask within a moment.
    seen: tuple[bool, bool, bool]
    looked_at, seen = state.get("readiness", (float("-inf"), (False, False, False)))
    if time.monotonic() - looked_at > PROBE_KEPT_SECONDS:
        primary, has_redis, indexes = await asyncio.gather(
            _in_time(is_primary_reachable(services.db.mongo)),
            _in_time(_answers(redis)),
            _in_time(_has_indexes(services)),
        )
        seen = (primary, has_redis, indexes)
        state["readiness"] = (time.monotonic(), seen)
    return seen


async def _answers(redis: RedisClient) -> bool:
    try:
        return bool(await redis.ping())
    except (RedisError, OSError):
        return False


async def _has_indexes(services: Services) -> bool:
    try:
        return await is_set_up(services.db.mongo, collection_specs())
    except DriverError:
        return False


async def _in_time(probe: Awaitable[bool]) -> bool:
    try:
        return await asyncio.wait_for(probe, PROBE_TIMEOUT_SECONDS)
    except TimeoutError:
        return False
