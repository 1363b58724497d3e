"""The HTTP application around a test's own database and platform."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
from redis.asyncio import Redis

from accounting.actor import Role
from accounting.api.app import build_app
from accounting.api.tokens import make_token
from accounting.bootstrap import UNNAMED_COMPANY, Services
from accounting.clock import utc_now
from accounting.ids import ObjectId
from accounting.links import BASE_PATH
from accounting.platform.user_book import UserBook
from accounting.platform.user_directory import UserDirectory
from accounting.printing.company import Company
from accounting.settings import Settings
from builders import TERMS
from fakes import FakePlatform, TestDatabase

SECRET = "a secret of the tests, 32 bytes and more"
# Made once; each test puts its own parts into the state.
APP: Any = build_app(lifespan=None)
# Nothing listens there: refused at once, and the rate limit lets everybody through.
NO_REDIS = "redis://127.0.0.1:9/0"


def api_routes() -> list[tuple[str, str]]:
    """Method and path of every route below the base path, as the application has them."""
    found = []
    for route in APP.app.routes:
        if route.path_format.startswith(BASE_PATH):
            path = route.path_format.removeprefix(BASE_PATH)
            found += [(method, path) for method in route.methods - {"OPTIONS", "HEAD"}]
    return sorted(found)


def settings(**changes: Any) -> Settings:
    facts = {
        "mongodb_uri": "mongodb://127.0.0.1/unused",
        "redis_url": NO_REDIS,
        "jwt_secret": SECRET,
        "allowed_origins": "https://panel.example.com",
    }
    return Settings(**facts | changes)


def a_token(user_id: ObjectId, role: Role = Role.ADMIN, ttl_seconds: int = 600) -> str:
    return make_token(SECRET, user_id, role, utc_now(), ttl_seconds)


@asynccontextmanager
async def an_api(
    db: TestDatabase,
    platform: FakePlatform,
    configured: Settings | None = None,
    users: UserDirectory | None = None,
    company: Company = UNNAMED_COMPANY,
    monotonic: Callable[[], float] = time.monotonic,
) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client of the real application; `Authorization` is the test's to set."""
    configured = configured or settings()
    services = Services(db=db, platform=platform, terms=TERMS, settings=configured, company=company)

    redis = Redis.from_url(configured.redis_url.get_secret_value())
    users = users or UserDirectory(platform)
    user_book = UserBook(platform, monotonic=monotonic)
    APP.app.state.update(
        {"services": services, "redis": redis, "users": users, "user_book": user_book}
    )
    # What an earlier test's application found out about its servers does not hold for this one.
    for remembered in ("rate_limit_rests_until", "readiness"):
        APP.app.state.pop(remembered, None)
    transport = httpx.ASGITransport(app=APP, raise_app_exceptions=False)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://accounting.test/api/accounting"
    ) as client:
        yield client
    await redis.aclose()
