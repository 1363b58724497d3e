"""Who gets in, and what a customer may see."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import jwt
import pytest

from accounting.actor import Role
from accounting.clock import utc_now
from accounting.ids import new_id
from accounting.platform.user_directory import UserDirectory
from api_app import SECRET, a_token, an_api
from builders import ADMIN, a_customer, a_draft, an_issued_invoice
from fakes import FakePlatform, TestDatabase

EXPIRES = utc_now() + timedelta(minutes=10)
OTHER_SECRET = "another secret, of 32 bytes and more"


@pytest.fixture
async def api(memory_db: TestDatabase, platform: FakePlatform) -> AsyncIterator[httpx.AsyncClient]:
    platform.add_user(a_customer(id=ADMIN.user_id, name="Alex Admin", role=Role.ADMIN))
    async with an_api(memory_db, platform) as client:
        yield client


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def signed(secret: str = SECRET, algorithm: str = "HS256", **claims: Any) -> str:
    facts = {"userId": str(ADMIN.user_id), "role": "ADMIN", "exp": EXPIRES} | claims
    given = {name: value for name, value in facts.items() if value is not None}
    return jwt.encode(given, secret, algorithm=algorithm)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer not.a.token"},
        {"Authorization": "Bearer \u00e9\u00e9".encode("latin-1")},
        {"Authorization": "Basic YWRtaW46YWRtaW4="},
        bearer(signed(secret=OTHER_SECRET)),
        bearer(signed(algorithm="HS512")),
        bearer(jwt.encode({"userId": str(ADMIN.user_id), "role": "ADMIN"}, SECRET)),
        bearer(signed(exp=utc_now() - timedelta(seconds=1))),
        bearer(signed(exp="soon")),
        bearer(signed(exp=str(int(EXPIRES.timestamp())))),
        bearer(signed(exp=True)),
        bearer(signed() + "="),
        bearer(signed() + "=="),
        bearer(" " + signed() + " x"),
        bearer(signed(type="refresh")),
        bearer(signed(type="2fa")),
        bearer(signed(userId=None)),
        bearer(signed(userId=7)),
        bearer(signed(userId="../../etc")),
        bearer(signed(role=None)),
        bearer(signed(userId=str(new_id()))),
        {"Cookie": "token=nonsense"},
    ],
)
async def test_whoever_is_not_known_is_turned_away(
    api: httpx.AsyncClient, headers: dict[str, Any]
) -> None:
    response = await api.get("/invoices", headers=headers)

    assert response.status_code == 401
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["www-authenticate"] == "Bearer"
    assert response.json()["code"] == "invalid_token"


async def test_an_unsigned_token_is_refused(api: httpx.AsyncClient) -> None:
    claims = {"userId": str(ADMIN.user_id), "role": "ADMIN", "exp": EXPIRES}
    unsigned = jwt.encode(claims, None, algorithm="none")

    assert (await api.get("/invoices", headers=bearer(unsigned))).status_code == 401


async def test_a_deleted_user_is_turned_away(
    api: httpx.AsyncClient, platform: FakePlatform
) -> None:
    deleted = platform.add_user(a_customer(is_deleted=True))

    response = await api.get("/invoices", headers=bearer(a_token(deleted.id, Role.CLIENT)))

    assert response.status_code == 401


async def test_a_revoked_token_is_refused(api: httpx.AsyncClient, platform: FakePlatform) -> None:
    token = a_token(ADMIN.user_id)
    platform.revoked_tokens.add(token)

    assert (await api.get("/invoices", headers=bearer(token))).status_code == 401


async def test_a_revoked_token_stays_revoked_in_every_spelling(
    api: httpx.AsyncClient, platform: FakePlatform
) -> None:
    token = signed()
    platform.revoked_tokens.add(token)
    # The last character of a 256-bit signature has two unused bits: other texts, the same bytes.
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    place = alphabet.index(token[-1]) // 4 * 4
    spellings = [token[:-1] + alphabet[place + offset] for offset in range(4)]

    for spelling in [*spellings, token + "=", token + "\t"]:
        assert (await api.get("/invoices", headers=bearer(spelling))).status_code == 401


@pytest.mark.parametrize("claims", [{"sub": 7}, {"aud": "app"}, {"jti": 7}, {"iat": EXPIRES}])
async def test_other_claims_of_the_platform_do_not_matter(
    api: httpx.AsyncClient, claims: dict[str, Any]
) -> None:
    assert (await api.get("/invoices", headers=bearer(signed(**claims)))).status_code == 200


async def test_a_role_that_we_do_not_know_may_nothing(
    api: httpx.AsyncClient, platform: FakePlatform
) -> None:
    manager = platform.add_user(a_customer(role=Role.UNKNOWN))

    response = await api.get("/invoices", headers=bearer(a_token(manager.id)))

    assert (response.status_code, response.json()["code"]) == (403, "admins_only")


async def test_options_needs_no_token(api: httpx.AsyncClient) -> None:
    assert (await api.options("/invoices")).status_code == 204


async def test_the_role_of_the_platform_counts_not_the_one_in_the_token(
    api: httpx.AsyncClient, platform: FakePlatform
) -> None:
    customer = platform.add_user(a_customer())

    response = await api.post("/invoices", headers=bearer(a_token(customer.id, Role.ADMIN)))

    assert response.status_code == 403


async def test_a_customer_may_write_nothing_and_read_no_trail(
    api: httpx.AsyncClient, memory_db: TestDatabase, platform: FakePlatform
) -> None:
    customer = platform.add_user(a_customer())
    invoice = await an_issued_invoice(memory_db, platform, customer)
    headers = bearer(a_token(customer.id, Role.CLIENT))

    for method, path in (
        ("POST", "/invoices"),
        ("POST", f"/invoices/{invoice.id}/issue"),
        ("POST", f"/invoices/{invoice.id}/record-payment"),
        ("GET", f"/invoices/{invoice.id}/audit-log"),
    ):
        response = await api.request(method, path, headers=headers)
        assert (response.status_code, response.json()["code"]) == (403, "admins_only")


async def test_a_customer_sees_own_invoices_that_are_no_drafts(
    api: httpx.AsyncClient, memory_db: TestDatabase, platform: FakePlatform
) -> None:
    customer, other = a_customer(), a_customer()
    own = await an_issued_invoice(memory_db, platform, customer)
    own_draft = await a_draft(memory_db, platform, customer)
    foreign = await an_issued_invoice(memory_db, platform, other)
    headers = bearer(a_token(customer.id, Role.CLIENT))

    listed = await api.get(f"/invoices?customerId={other.id}", headers=headers)
    read = await api.get(f"/invoices/{own.id}", headers=headers)

    assert [item["id"] for item in listed.json()["invoices"]] == [str(own.id)]
    assert read.status_code == 200
    for invoice in (own_draft, foreign):
        response = await api.get(f"/invoices/{invoice.id}", headers=headers)
        assert (response.status_code, response.json()["code"]) == (404, "invoice_not_found")


async def test_a_customer_sees_no_staff_and_no_mail_log(
    api: httpx.AsyncClient, memory_db: TestDatabase, platform: FakePlatform
) -> None:
    customer = platform.add_user(a_customer())
    invoice = await an_issued_invoice(memory_db, platform, customer)
    headers = bearer(a_token(customer.id, Role.CLIENT))

    read = await api.get(f"/invoices/{invoice.id}", headers=headers)
    listed = await api.get("/invoices", headers=headers)

    hidden = {"createdBy", "updatedBy", "createdByUser", "updatedByUser", "notifications"}
    for view in (read.json(), listed.json()["invoices"][0]):
        assert not hidden & view.keys()
    assert "Alex Admin" not in read.text + listed.text
    assert str(ADMIN.user_id) not in read.text + listed.text


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (None, 403),
        ("https://evil.example.com", 403),
        ("null", 403),
        ("http://[", 403),
        ("https://panel.example.com.evil.example", 403),
        ("https://panel.example.com", 400),  # let in, and the empty body refused
    ],
)
async def test_a_write_by_cookie_needs_an_allowed_origin(
    api: httpx.AsyncClient, origin: str | None, status: int
) -> None:
    headers = {"Cookie": f"token={a_token(ADMIN.user_id)}"}
    if origin:
        headers["Origin"] = origin

    assert (await api.post("/invoices", headers=headers)).status_code == status
    assert (await api.get("/invoices", headers=headers)).status_code == 200


async def test_a_user_is_read_again_after_five_seconds_at_most(
    memory_db: TestDatabase, platform: FakePlatform
) -> None:
    moment = 1_000.0
    users = UserDirectory(platform, monotonic=lambda: moment)
    admin = platform.add_user(a_customer(role=Role.ADMIN))
    headers = bearer(a_token(admin.id))
    async with an_api(memory_db, platform, users=users) as api:
        assert (await api.get("/invoices", headers=headers)).status_code == 200
        platform.add_user(a_customer(id=admin.id, role=Role.ADMIN, is_deleted=True))
        moment += 5.0
        assert (await api.get("/invoices", headers=headers)).status_code == 200
        moment += 0.001
        assert (await api.get("/invoices", headers=headers)).status_code == 401
