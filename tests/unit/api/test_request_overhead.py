"""What every request costs besides its own work: nothing that stays, and no thread."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator

import httpx
import pytest
from litestar.handlers import HTTPRouteHandler
from litestar.routes import HTTPRoute
from litestar.utils import is_async_callable

from accounting.actor import Role
from api_app import APP, a_token, an_api
from builders import ADMIN, a_customer
from fakes import FakePlatform, TestDatabase


@pytest.fixture
async def api(memory_db: TestDatabase, platform: FakePlatform) -> AsyncIterator[httpx.AsyncClient]:
    platform.add_user(a_customer(id=ADMIN.user_id, role=Role.ADMIN))
    async with an_api(memory_db, platform) as client:
        client.headers["Authorization"] = f"Bearer {a_token(ADMIN.user_id)}"
        yield client


def handlers_in_memory() -> int:
    gc.collect()
    return sum(isinstance(thing, HTTPRouteHandler) for thing in gc.get_objects())


async def test_requests_leave_nothing_behind_in_the_application(api: httpx.AsyncClient) -> None:
    async def ask(times: int) -> None:
        for _ in range(times):
            answer = await api.get("/invoices", params={"page": 1})
            assert answer.status_code == 200

    await ask(3)
    after_some = handlers_in_memory()
    await ask(20)

    assert handlers_in_memory() == after_some


def test_no_guard_of_any_route_runs_in_a_thread() -> None:
    routes = [route for route in APP.app.routes if isinstance(route, HTTPRoute)]
    handlers = [handler for route in routes for handler in route.route_handlers]
    guards = [guard for handler in handlers for guard in handler.resolve_guards()]

    assert guards
    assert [guard for guard in guards if not is_async_callable(guard)] == []
