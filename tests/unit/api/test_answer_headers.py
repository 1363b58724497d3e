"""What every answer carries."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from litestar import Litestar, Response, get

from accounting.api.answer_headers import AnswerHeaders
from api_app import an_api
from fakes import FakePlatform, TestDatabase

EVERYWHERE = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
}
DATA_POLICY = "default-src 'none'; frame-ancestors 'none'"


@pytest.fixture
async def api(memory_db: TestDatabase, platform: FakePlatform) -> AsyncIterator[httpx.AsyncClient]:
    async with an_api(memory_db, platform) as client:
        yield client


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("http://accounting.test/health/live", 200),
        ("http://accounting.test/nothing", 404),
        ("http://accounting.test/schema", 200),
        ("http://accounting.test/schema-assets/swagger-ui.css", 200),
        ("/health/live", 200),
        ("/invoices", 401),
    ],
)
async def test_every_answer_has_them(api: httpx.AsyncClient, url: str, status: int) -> None:
    answer = await api.get(url)

    assert answer.status_code == status
    assert EVERYWHERE.items() <= answer.headers.items()
    assert answer.headers["x-request-id"]
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]


async def test_answers_of_the_api_are_not_kept_by_caches(api: httpx.AsyncClient) -> None:
    answer = await api.get("/invoices")

    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-security-policy"] == DATA_POLICY


async def test_the_page_may_start_its_own_scripts_and_no_others(api: httpx.AsyncClient) -> None:
    policy = (await api.get("http://accounting.test/schema")).headers["content-security-policy"]

    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert directives["default-src"] == "'none'"
    assert directives["script-src"] == "'self' 'unsafe-inline'"
    assert "http" not in policy


async def test_what_a_handler_says_itself_is_left(api: httpx.AsyncClient) -> None:
    own = {"Cache-Control": "private, max-age=60", "Content-Security-Policy": "default-src 'self'"}

    @get("/api/accounting/page")
    async def page() -> Response[str]:
        return Response("", headers=own)

    app: Any = AnswerHeaders(Litestar([page], openapi_config=None))
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.get("/api/accounting/page")

    for name, value in own.items():
        assert answer.headers.get_list(name) == [value]
