"""`Idempotency-Key` and `If-Match` of any write."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from accounting.idempotency.documents import IdempotencyKey
from accounting.ids import ObjectId, new_id
from accounting.invoices.documents import Invoice
from fakes import FakePlatform, TestDatabase
from write_app import DRAFT, a_write_api

KEY = {"Idempotency-Key": "8e03978e"}


@pytest.fixture
async def api(db: TestDatabase, platform: FakePlatform) -> AsyncIterator[httpx.AsyncClient]:
    async with a_write_api(db, platform) as client:
        yield client


async def a_draft_id(api: httpx.AsyncClient) -> str:
    return str((await api.post("/invoices", json=DRAFT)).json()["id"])


async def test_without_a_key_each_request_has_its_effect(api: httpx.AsyncClient) -> None:
    answers = [await api.post("/invoices", json=DRAFT) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [201, 201]
    assert "idempotent-replayed" not in answers[1].headers
    assert await Invoice.find_all().count() == 2
    assert await IdempotencyKey.find_all().count() == 0


async def test_the_same_request_again_gets_the_same_answer(api: httpx.AsyncClient) -> None:
    first = await api.post("/invoices", json=DRAFT, headers=KEY)
    again = await api.post("/invoices", json=DRAFT, headers=KEY)

    assert (first.status_code, again.status_code) == (201, 201)
    assert again.content == first.content
    for name in ("content-type", "etag", "location"):
        assert again.headers[name] == first.headers[name]
    assert first.headers["etag"] == '"1"'
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert await Invoice.find_all().count() == 1


async def test_an_answer_is_the_same_with_and_without_a_key(api: httpx.AsyncClient) -> None:
    plain = (await api.post(f"/invoices/{await a_draft_id(api)}/issue")).json()
    keyed = (await api.post(f"/invoices/{await a_draft_id(api)}/issue", headers=KEY)).json()

    [notification] = keyed["notifications"]  # written by the same transaction
    assert notification["notificationType"] == "INVOICE_ISSUED"
    assert plain.keys() == keyed.keys()
    assert plain["notifications"][0].keys() == notification.keys()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/invoices", '{"totalMiners":6}'),
        ("/invoices", '{"totalMiners": 5}'),
        ("/invoices?x=1", '{"totalMiners":5}'),
        ("/invoices/66f0c0ffee00000000000101/issue", '{"totalMiners":5}'),
    ],
)
async def test_another_request_with_the_key_is_refused(
    api: httpx.AsyncClient, path: str, body: str
) -> None:
    await api.post("/invoices", content='{"totalMiners":5}', headers=KEY)

    refused = await api.post(path, content=body, headers=KEY)

    assert refused.status_code == 422
    assert refused.json()["code"] == "idempotency_key_reused"
    assert await Invoice.find_all().count() == 1


async def test_another_user_may_use_the_same_key(api: httpx.AsyncClient) -> None:
    for user_id in (new_id(), new_id()):
        answer = await api.post("/invoices", json=DRAFT, headers={**KEY, "X-User": str(user_id)})
        assert answer.status_code == 201
        assert "idempotent-replayed" not in answer.headers

    assert await Invoice.find_all().count() == 2


async def test_a_refused_request_leaves_its_key_free(api: httpx.AsyncClient) -> None:
    draft_id = await a_draft_id(api)
    stale = await api.post(f"/invoices/{draft_id}/issue", headers={**KEY, "If-Match": '"9"'})

    corrected = await api.post(f"/invoices/{draft_id}/issue", headers={**KEY, "If-Match": '"1"'})

    assert (stale.status_code, corrected.status_code) == (412, 200)
    assert (stale.json()["code"], stale.json()["currentVersion"]) == ("stale_version", 1)
    assert corrected.json()["status"] == "ISSUED"


@pytest.mark.parametrize("key", [b"", b"two words", b"k" * 201, "\u00e9".encode("latin-1")])
async def test_a_wrong_key_is_named(api: httpx.AsyncClient, key: bytes) -> None:
    headers = [(b"Idempotency-Key", key)]

    refused = await api.post("/invoices", json=DRAFT, headers=headers)

    assert refused.status_code == 400
    assert refused.json()["code"] == "invalid_idempotency_key"
    assert [error["field"] for error in refused.json()["errors"]] == ["Idempotency-Key"]


async def test_two_keys_are_refused(api: httpx.AsyncClient) -> None:
    headers = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]

    assert (await api.post("/invoices", json=DRAFT, headers=headers)).status_code == 400


async def test_a_replay_does_not_look_at_the_version(api: httpx.AsyncClient) -> None:
    path = f"/invoices/{await a_draft_id(api)}/issue"
    headers = {**KEY, "If-Match": '"1"'}

    first = await api.post(path, headers=headers)
    again = await api.post(path, headers=headers)

    assert (first.status_code, again.status_code) == (200, 200)
    assert again.content == first.content


@pytest.mark.parametrize("value", ['"1"', "1", 'W/"1"', "*", ' "1" '])
async def test_the_present_version_may_be_changed(api: httpx.AsyncClient, value: str) -> None:
    path = f"/invoices/{await a_draft_id(api)}/issue"

    assert (await api.post(path, headers={"If-Match": value})).status_code == 200


@pytest.mark.parametrize(
    "value", ["", '""', '"1', "one", '"one"', '"1", "2"', "1,1", "-1", "1.0", '"' + "9" * 19 + '"']
)
async def test_a_wrong_if_match_is_named(api: httpx.AsyncClient, value: str) -> None:
    draft_id = await a_draft_id(api)

    refused = await api.post(f"/invoices/{draft_id}/issue", headers={"If-Match": value})

    assert refused.status_code == 400
    assert refused.json()["code"] == "invalid_if_match"
    assert [error["field"] for error in refused.json()["errors"]] == ["If-Match"]
    stored = await Invoice.get(ObjectId(draft_id))
    assert stored is not None
    assert stored.version == 1


async def test_a_write_that_changes_its_result_is_found_without_a_key(
    api: httpx.AsyncClient,
) -> None:
    assert (await api.post("/changed", json={})).status_code == 500
