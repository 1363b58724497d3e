"""The rate limit on a real Redis-compatible server."""

from __future__ import annotations

from accounting.actor import Role
from accounting.dev.processes import Server
from api_app import a_token, an_api, settings
from builders import a_customer
from fakes import FakePlatform, SettableClock, TestDatabase


async def test_a_user_over_the_limit_waits_and_others_do_not(
    redis_server: Server,
    memory_db: TestDatabase,
    platform: FakePlatform,
    clock: SettableClock,
) -> None:
    limited = settings(redis_url=redis_server.uri, rate_limit="3/minute")
    admin = platform.add_user(a_customer(role=Role.ADMIN))
    other = platform.add_user(a_customer(role=Role.ADMIN))
    headers = {"Authorization": f"Bearer {a_token(admin.id)}"}
    async with an_api(memory_db, platform, limited) as api:
        statuses = [(await api.get("/invoices", headers=headers)).status_code for _ in range(3)]
        refused = await api.get("/invoices", headers=headers)
        as_other = {"Authorization": f"Bearer {a_token(other.id)}"}
        let_in = await api.get("/invoices", headers=as_other)
        clock.move(minutes=1)
        later = await api.get("/invoices", headers=headers)

    assert statuses == [200, 200, 200]
    assert refused.status_code == 429
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["code"] == "too_many_requests"
    assert refused.headers["retry-after"] == "60"
    assert (let_in.status_code, later.status_code) == (200, 200)


async def test_whoever_says_nothing_is_counted_by_his_address(
    redis_server: Server, memory_db: TestDatabase, platform: FakePlatform
) -> None:
    limited = settings(redis_url=redis_server.uri, rate_limit="2/hour")
    url = f"/public/invoices/{'x' * 43}"
    async with an_api(memory_db, platform, limited) as api:
        answers = [await api.get(url) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [404, 404, 429]
    assert int(answers[2].headers["retry-after"]) > 0
    assert answers[2].headers["content-type"].startswith("text/html")
    assert "Too many requests" in answers[2].text
