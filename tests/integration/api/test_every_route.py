"""Every route of the table, with every kind of caller: none can be forgotten."""

from __future__ import annotations

import pytest

from accounting.actor import Role
from accounting.ids import new_id
from api_app import a_token, an_api, api_routes
from builders import ADMIN, a_customer
from fakes import FakePlatform, TestDatabase

# What spec section 5 opens to customers; everything else is for admins.
OPEN_TO_CUSTOMERS = {
    ("GET", "/customers/{id}/balance"),
    ("GET", "/customers/{id}/statement"),
    ("GET", "/invoices"),
    ("GET", "/invoices/{id}"),
    ("GET", "/invoices/{id}/download"),
}
NEEDS_NO_TOKEN = {
    "/health/live",
    "/health/ready",
    "/metrics",
    # The link of an e-mail is the key.
    "/public/invoices/{view_token}",
    "/public/unsubscribe/{view_token}",
    "/public/resubscribe/{view_token}",
}


ROUTES = [(method, path) for method, path in api_routes() if path not in NEEDS_NO_TOKEN]


def test_the_table_was_read() -> None:
    assert len(ROUTES) > 20
    assert set(ROUTES) >= OPEN_TO_CUSTOMERS


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_every_route_asks_who_is_calling(
    memory_db: TestDatabase, platform: FakePlatform, method: str, path: str
) -> None:
    admin = platform.add_user(a_customer(id=ADMIN.user_id, role=Role.ADMIN))
    client = platform.add_user(a_customer())
    gone = platform.add_user(a_customer(is_deleted=True))
    stranger = platform.add_user(a_customer(role=Role.UNKNOWN))
    url = path.format(id=new_id())
    async with an_api(memory_db, platform) as api:

        async def status_for(token: str | None) -> int:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            return (await api.request(method, url, headers=headers)).status_code

        nobody = await status_for(None)
        deleted = await status_for(a_token(gone.id, Role.ADMIN))
        unknown = await status_for(a_token(stranger.id, Role.ADMIN))
        customer = await status_for(a_token(client.id, Role.CLIENT))
        allowed = await status_for(a_token(admin.id))

    assert (nobody, deleted, unknown) == (401, 401, 403)
    if (method, path) in OPEN_TO_CUSTOMERS:
        assert customer in (200, 404)
    else:
        assert customer == 403
    assert allowed in (200, 201, 202, 400, 404), f"{method} {path} answers {allowed}"
