"""One request sent many times, and by a process that dies: one effect, one answer."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from accounting.audit.documents import AuditLog
from accounting.db.database import Transaction
from accounting.idempotency.documents import IdempotencyKey
from accounting.idempotency.rules import LEASE_SECONDS, Claim, KeyState, request_hash
from accounting.idempotency.service import claim
from accounting.ids import ObjectId
from accounting.invoices.documents import Invoice
from accounting.invoices.rules import InvoiceStatus
from accounting.notifications.documents import InvoiceNotification
from builders import ADMIN, a_draft
from fakes import FakePlatform, JobList, SettableClock, TestDatabase
from write_app import CUSTOMER, DRAFT, a_write_api

KEY = {"Idempotency-Key": "one-invoice"}


class ForcedFailure(Exception):
    """Thrown by a test at the last step of a transaction."""


async def fail(_: Transaction) -> None:
    raise ForcedFailure


async def stored_key() -> IdempotencyKey | None:
    return await IdempotencyKey.find_one({"_id": f"{ADMIN.user_id}:one-invoice"})


async def test_twenty_times_at_once_makes_one_invoice(
    real_db: TestDatabase, platform: FakePlatform
) -> None:
    async with a_write_api(real_db, platform) as api:
        answers = await asyncio.gather(
            *(api.post("/invoices", json=DRAFT, headers=KEY) for _ in range(20))
        )
        later = await api.post("/invoices", json=DRAFT, headers=KEY)

    done = [answer for answer in answers if answer.status_code == 201]
    running = [answer for answer in answers if answer.status_code == 409]
    assert len(done) + len(running) == 20
    assert len({answer.content for answer in [*done, later]}) == 1
    assert sum("idempotent-replayed" not in answer.headers for answer in done) == 1
    assert {answer.json()["code"] for answer in running} <= {"request_still_running"}
    assert all(answer.headers["retry-after"] == "1" for answer in running)
    assert await Invoice.find_all().count() == 1
    assert await AuditLog.find_all().count() == 1


async def test_clients_that_repeat_until_they_are_answered_all_get_the_same(
    real_db: TestDatabase, platform: FakePlatform
) -> None:
    async def send_until_done(api: httpx.AsyncClient) -> bytes:
        while True:
            answer = await api.post("/invoices", json=DRAFT, headers=KEY)
            if answer.status_code != 409:
                return answer.content
            await asyncio.sleep(0.02)

    async with a_write_api(real_db, platform) as api:
        bodies = await asyncio.gather(*(send_until_done(api) for _ in range(20)))

    assert len(set(bodies)) == 1
    assert await Invoice.find_all().count() == 1


async def test_an_effect_that_fails_late_leaves_neither_itself_nor_an_answer(
    real_db: TestDatabase, platform: FakePlatform, jobs: JobList
) -> None:
    draft = await a_draft(real_db, platform, CUSTOMER)
    async with a_write_api(real_db, platform, after_issue=fail) as api:
        failed = await api.post(f"/invoices/{draft.id}/issue", headers=KEY)

    stored = await Invoice.get(draft.id)
    assert failed.status_code == 500
    assert stored is not None
    assert stored.status is InvoiceStatus.DRAFT
    assert await stored_key() is None
    assert jobs.sent == []

    async with a_write_api(real_db, platform) as api:
        repeated = await api.post(f"/invoices/{draft.id}/issue", headers=KEY)
    assert repeated.json()["status"] == "ISSUED"


async def test_an_answer_whose_sender_died_is_replayed(
    real_db: TestDatabase, platform: FakePlatform, jobs: JobList
) -> None:
    """The process dies between the commit and the answer; the queue's message is lost as well."""

    async def die(_: list[Any]) -> None:
        raise ForcedFailure

    draft = await a_draft(real_db, platform, CUSTOMER)
    dying = TestDatabase(real_db.mongo, clock=real_db.clock, enqueue=die)
    async with a_write_api(dying, platform) as api:
        await api.post(f"/invoices/{draft.id}/issue", headers=KEY)
    async with a_write_api(real_db, platform) as api:
        repeated = await api.post(f"/invoices/{draft.id}/issue", headers=KEY)

    assert repeated.status_code == 200
    assert repeated.headers["idempotent-replayed"] == "true"
    assert repeated.json()["status"] == "ISSUED"
    assert await InvoiceNotification.find_all().count() == 1
    assert jobs.sent == []


async def test_a_request_whose_process_was_killed_completes_once_its_lease_has_ended(
    real_db: TestDatabase, platform: FakePlatform, clock: SettableClock
) -> None:
    body = b'{"totalMiners":5}'
    fingerprint = request_hash("POST", "/invoices", b"", body)
    assert isinstance(await claim(real_db, ADMIN.user_id, "one-invoice", fingerprint), Claim)

    async with a_write_api(real_db, platform) as api:
        early = await api.post("/invoices", content=body, headers=KEY)
        clock.move(seconds=LEASE_SECONDS)
        answers = await asyncio.gather(
            *(api.post("/invoices", content=body, headers=KEY) for _ in range(10))
        )

    assert (early.status_code, early.headers["retry-after"]) == (409, "1")
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert len({answer.content for answer in answers if answer.status_code == 201}) == 1
    assert await Invoice.find_all().count() == 1


async def test_a_request_that_was_overtaken_is_undone_and_gets_the_others_answer(
    real_db: TestDatabase, platform: FakePlatform, clock: SettableClock
) -> None:
    draft = await a_draft(real_db, platform, CUSTOMER)
    path = f"/invoices/{draft.id}/issue"
    overtaking: list[httpx.Response] = []

    async def be_overtaken(_: Transaction) -> None:
        if not overtaking:
            clock.move(seconds=LEASE_SECONDS)
            # The slow one holds the invoice: of the two, it is the other that waits.
            overtaking.append(await fast.post("/invoices", json=DRAFT, headers=KEY))
            overtaking.append(await fast.post(path, headers=KEY))

    hasty = TestDatabase(real_db.mongo, clock=clock, patience_seconds=0.1)
    async with (
        a_write_api(hasty, platform) as fast,
        a_write_api(real_db, platform, after_issue=be_overtaken) as slow,
    ):
        answer = await slow.post(path, headers=KEY)
        later = await fast.post(path, headers=KEY)

    other_request, too_busy = overtaking
    assert other_request.status_code == 422
    assert (too_busy.status_code, too_busy.json()["code"]) == (503, "too_busy")
    assert too_busy.headers["retry-after"] == "5"
    # The overtaker gave the key back, so that the slow one lost it, and its effect with it.
    assert (answer.status_code, answer.json()["code"]) == (409, "request_still_running")
    assert later.json()["status"] == "ISSUED"
    assert await InvoiceNotification.find_all().count() == 1


async def test_a_slow_request_and_its_overtaker_have_one_effect_between_them(
    real_db: TestDatabase, platform: FakePlatform, clock: SettableClock
) -> None:
    """Creations do not meet on any document but the key: only the guard of the claim decides."""
    slow_enqueued: list[httpx.Response] = []

    async with a_write_api(real_db, platform) as fast:

        async def overtake(_: Transaction, __: object) -> None:
            if not slow_enqueued:
                clock.move(seconds=LEASE_SECONDS)
                slow_enqueued.append(await fast.post("/invoices", json=DRAFT, headers=KEY))

        slow_db = real_db.also(overtake)
        async with a_write_api(slow_db, platform) as slow:
            answer = await slow.post("/invoices", json=DRAFT, headers=KEY)

    [overtaker] = slow_enqueued
    assert overtaker.status_code == 201
    assert answer.status_code == 201
    assert answer.headers["idempotent-replayed"] == "true"
    assert answer.content == overtaker.content
    assert await Invoice.find_all().count() == 1


@pytest.mark.parametrize("has_stored_its_answer", [False, True])
async def test_an_open_transaction_of_a_dead_process_is_waited_for_briefly(
    real_db: TestDatabase, platform: FakePlatform, clock: SettableClock, has_stored_its_answer: bool
) -> None:
    """The server keeps it open for a minute or more; a client gets an answer long before."""
    draft = await a_draft(real_db, platform, CUSTOMER)
    path = f"/invoices/{draft.id}/issue"
    await claim(real_db, ADMIN.user_id, "one-invoice", request_hash("POST", path, b"", b""))
    clock.move(seconds=LEASE_SECONDS)
    hasty = TestDatabase(real_db.mongo, clock=clock, patience_seconds=0.2)

    async with (
        a_write_api(hasty, platform) as api,
        await real_db.mongo.client.start_session() as dead,
    ):
        dead.start_transaction()
        bump = {"$inc": {"version": 1}}
        await real_db.mongo["invoices"].update_one({"_id": draft.id}, bump, session=dead)
        if has_stored_its_answer:
            done = {"$set": {"state": "DONE"}}
            await real_db.mongo["idempotency_keys"].update_one({}, done, session=dead)
        meanwhile = await api.post(path, headers=KEY)
        await dead.abort_transaction()
        afterwards = await api.post(path, headers=KEY)

    if has_stored_its_answer:
        assert (meanwhile.status_code, meanwhile.json()["code"]) == (409, "request_still_running")
    else:
        assert (meanwhile.status_code, meanwhile.json()["code"]) == (503, "too_busy")
    assert meanwhile.headers["retry-after"]
    assert afterwards.json()["status"] == "ISSUED"


async def test_a_cancelled_request_gives_its_key_back(
    real_db: TestDatabase, platform: FakePlatform
) -> None:
    draft = await a_draft(real_db, platform, CUSTOMER)
    reached = asyncio.Event()

    async def wait(_: Transaction) -> None:
        reached.set()
        await asyncio.sleep(60)

    async with a_write_api(real_db, platform, after_issue=wait) as api:
        request = asyncio.create_task(api.post(f"/invoices/{draft.id}/issue", headers=KEY))
        await reached.wait()
        running = await stored_key()
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request

    assert running is not None
    assert running.state is KeyState.RUNNING
    assert await stored_key() is None
    stored = await Invoice.get(ObjectId(draft.id))
    assert stored is not None
    assert stored.status is InvoiceStatus.DRAFT
