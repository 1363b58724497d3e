"""Workers that are killed before, during and after they send: nothing twice, nothing lost."""

from __future__ import annotations

import os
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from bson import ObjectId

from accounting.clock import utc_now
from accounting.dev.mongod import start_mongod
from accounting.dev.processes import Child, Server
from accounting.notifications.rules import DIED_AFTER_HANDOVER, outcome_unknown
from accounting.worker.app import make_celery
from api_app import settings
from mail_server import END, MailServer
from service import Service, running_service, service_environment, start_worker

pytestmark = pytest.mark.real_mongo

# A transaction whose client was killed holds its documents until the server ends it; a minute by
# default, which is long for a test.
TRANSACTION_SECONDS_MAX = 3
WAIT_SECONDS_MAX = 40
CHAOS_MAILS = 40
CHAOS_KILLS = 3  # fewer than the deaths after which a row itself is to blame
MESSAGE_ID = re.compile(rb"^Message-ID: <([0-9a-f]{24})@", re.MULTILINE)
UNKNOWN = outcome_unknown(DIED_AFTER_HANDOVER)


@dataclass
class Post:
    """The service, the server that it sends to, and whoever works at the moment."""

    service: Service
    server: MailServer
    worker: Child
    workers: int = 1

    @property
    def rows(self) -> Any:
        return self.service.mongo["invoice_notifications"]

    def issue(self) -> dict[str, Any]:
        """A new invoice; returns the row of its e-mail."""
        customer = {"name": "Ada Holm", "email": f"{ObjectId()}@example.com", "role": "CLIENT"}
        customer_id = self.service.mongo["users"].insert_one(customer).inserted_id
        body = {"customerId": str(customer_id), "totalMiners": 1, "unitPrice": "1.00"}
        admin = self.service.as_admin()
        draft = self.service.api.post("/invoices", headers=admin, json=body).json()
        issued = self.service.api.post(f"/invoices/{draft['id']}/issue", headers=admin)
        assert issued.status_code == 200, issued.text
        row = self.rows.find_one({"invoiceId": ObjectId(draft["id"])})
        assert row is not None
        return dict(row)

    def kill_worker(self) -> None:
        os.killpg(self.worker.pid, signal.SIGKILL)
        self.worker.poll()

    def start_worker(self) -> None:
        self.workers += 1
        name = f"worker_{self.workers}"
        self.worker = start_worker(self.service.environment, self.service.data_dir, name)

    def let_leases_end(self) -> None:
        """As two minutes would; only while no worker lives."""
        past = utc_now() - timedelta(seconds=1)
        self.rows.update_many({"leaseUntil": {"$ne": None}}, {"$set": {"leaseUntil": past}})

    def sweep(self) -> None:
        """What the schedule does each minute."""
        redis_url = self.service.environment["ACCOUNTING_REDIS_URL"]
        make_celery(settings(redis_url=redis_url)).send_task("notifications.sweep")

    def read(self, row: dict[str, Any]) -> dict[str, Any]:
        found = self.rows.find_one({"_id": row["_id"]})
        assert found is not None
        return dict(found)

    def end_of(self, row: dict[str, Any]) -> dict[str, Any]:
        """The row, once it is no longer pending."""

        def ended() -> dict[str, Any] | None:
            found = self.read(row)
            return found if found["status"] != "PENDING" else None

        self.sweep()
        return dict(wait_for(ended))

    def arrived(self) -> Counter[ObjectId]:
        """How often each e-mail was accepted."""
        return Counter(
            ObjectId(match[1].decode())
            for content in list(self.server.contents)
            for match in MESSAGE_ID.finditer(content)
        )

    def actions(self, row: dict[str, Any]) -> list[str]:
        entries = self.service.mongo["audit_logs"].find({"entityId": row["invoiceId"]}).sort("seq")
        return [entry["action"] for entry in entries if entry["action"].startswith("EMAIL_")]


def wait_for(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while time.monotonic() < deadline:
        if result := condition():
            return result
        time.sleep(0.01)
    raise AssertionError("it did not happen in time")


@pytest.fixture(scope="module")
def post(redis_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Post]:
    data_dir = tmp_path_factory.mktemp("killed_sender")
    limit = f"transactionLifetimeLimitSeconds={TRANSACTION_SECONDS_MAX}"
    with (
        MailServer() as server,
        start_mongod(data_dir, extra_args=("--setParameter", limit)) as mongod,
    ):
        environment = service_environment(
            mongod,
            redis_url=redis_server.uri.removesuffix("/0") + "/7",
            smtp_url=f"smtp://{server.address}",
            database="killed_sender",
        )
        environment["ACCOUNTING_RATE_LIMIT"] = "100000/minute"
        with running_service(environment, data_dir / "service") as service:
            post = Post(service, server, service.worker)
            yield post
            post.worker.stop()


@contextmanager
def audit_head_held(post: Post, invoice_id: ObjectId) -> Iterator[None]:
    """While this lasts nobody can add an entry to the invoice's trail, and so store an outcome."""
    client = post.service.mongo.client
    with client.start_session() as session, session.start_transaction():
        heads = post.service.mongo["audit_heads"]
        assert heads.update_one(
            {"entityId": invoice_id}, {"$inc": {"seq": 1}}, session=session
        ).matched_count
        yield
        session.abort_transaction()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("stage", ["greeting", "RCPT", "DATA"])
def test_a_worker_killed_before_the_handover_loses_nothing(post: Post, stage: str) -> None:
    post.server.hold(stage)
    row = post.issue()
    post.server.wait_for(stage)
    post.kill_worker()
    post.server.release(stage)
    left = post.read(row)
    assert (left["status"], left["handedOverAt"]) == ("PENDING", None)
    assert left["leaseUntil"] is not None

    post.let_leases_end()
    post.start_worker()
    ended = post.end_of(row)

    assert (ended["status"], ended["retryCount"]) == ("SENT", 1)
    assert post.arrived()[row["_id"]] == 1
    assert post.actions(row) == ["EMAIL_SENT"]


@pytest.mark.timeout(120)
def test_a_worker_killed_while_it_waits_for_the_verdict_sends_nothing_twice(post: Post) -> None:
    post.server.hold(END)
    row = post.issue()
    post.server.wait_for(END)
    post.kill_worker()
    post.server.release(END)
    wait_for(lambda: post.arrived()[row["_id"]])  # the server takes it: the customer has it
    left = post.read(row)
    assert (left["status"], left["handedOverAt"] is None) == ("PENDING", False)

    post.let_leases_end()
    post.start_worker()
    ended = post.end_of(row)

    assert (ended["status"], ended["failureReason"]) == ("FAILED", UNKNOWN)
    assert post.actions(row) == ["EMAIL_FAILED"]
    post.sweep()
    time.sleep(1)
    assert post.arrived()[row["_id"]] == 1


@pytest.mark.timeout(120)
def test_a_worker_killed_between_the_acceptance_and_its_note_sends_nothing_twice(
    post: Post,
) -> None:
    post.server.hold("RCPT")
    row = post.issue()
    post.server.wait_for("RCPT")
    with audit_head_held(post, row["invoiceId"]):
        post.server.release("RCPT")
        wait_for(lambda: post.arrived()[row["_id"]])
        time.sleep(0.2)  # it tries to store the outcome, again and again
        post.kill_worker()
    left = post.read(row)
    assert (left["status"], left["handedOverAt"] is None) == ("PENDING", False)

    post.let_leases_end()
    post.start_worker()
    ended = post.end_of(row)

    assert (ended["status"], ended["failureReason"]) == ("FAILED", UNKNOWN)
    assert post.arrived()[row["_id"]] == 1

    # Only by hand it is sent once more, under the same Message-ID.
    retried = post.service.api.post(
        f"/notifications/{row['_id']}/retry", headers=post.service.as_admin()
    )
    assert retried.status_code == 202, retried.text
    assert post.end_of(row)["status"] == "SENT"
    assert post.arrived()[row["_id"]] == 2
    assert post.actions(row) == ["EMAIL_FAILED", "EMAIL_RETRY", "EMAIL_SENT"]


@pytest.mark.timeout(180)
def test_workers_killed_at_any_moment_send_nothing_twice_and_lose_nothing(
    post: Post, say: Callable[[str], None]
) -> None:
    seed = random.randrange(1_000_000)
    dice = random.Random(seed)
    post.server.delay_seconds = 0.01  # so that a kill hits a conversation more often than not
    rows = [post.issue() for _ in range(CHAOS_MAILS)]

    for _ in range(CHAOS_KILLS):
        time.sleep(dice.uniform(0.1, 0.6))
        post.kill_worker()
        post.let_leases_end()
        post.start_worker()
        post.sweep()
    post.server.delay_seconds = 0
    ends = [post.end_of(row) for row in rows]

    arrived = post.arrived()
    statuses = Counter(end["status"] for end in ends)
    say(f"seed {seed}: {dict(statuses)} in {post.server.log.count('DATA')} conversations")
    assert statuses["SENT"] + statuses["FAILED"] == CHAOS_MAILS
    assert statuses["SENT"] > 0
    for end in ends:
        if end["status"] == "SENT":
            assert arrived[end["_id"]] == 1
        else:
            assert end["failureReason"] == UNKNOWN
            assert arrived[end["_id"]] <= 1
