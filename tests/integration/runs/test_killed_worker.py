"""A bulk issue through real processes: a worker killed in the middle, another that goes on."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from bson import ObjectId

from accounting.dev.mongod import start_mongod
from accounting.dev.processes import Server
from accounting.runs.rules import LEASE_SECONDS
from accounting.worker.app import make_celery
from api_app import settings
from service import Service, running_service, service_environment, start_worker

INVOICES = 200
pytestmark = pytest.mark.real_mongo

HEADERS = {"User-Agent": "killed-worker-test", "X-Request-Id": "bulk-1"}
# A transaction whose client was killed holds its documents until the server ends it; a minute by
# default, which is long for a test.
TRANSACTION_SECONDS_MAX = 3


@pytest.fixture(scope="module")
def service(redis_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    data_dir = tmp_path_factory.mktemp("killed_worker")
    limit = f"transactionLifetimeLimitSeconds={TRANSACTION_SECONDS_MAX}"
    with start_mongod(data_dir, extra_args=("--setParameter", limit)) as mongod:
        environment = service_environment(
            mongod,
            redis_url=redis_server.uri.removesuffix("/0") + "/5",
            smtp_url="smtp://127.0.0.1:9",
            database="killed_worker",
        )
        environment["ACCOUNTING_RATE_LIMIT"] = "100000/minute"
        with running_service(environment, data_dir / "service") as running:
            yield running


def wait_for(condition: Callable[[], Any], seconds: float) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if result := condition():
            return result
        time.sleep(0.01)
    raise AssertionError("it did not happen in time")


def a_bulk_run(service: Service, count: int) -> tuple[list[ObjectId], str]:
    """Drafts over HTTP, and the run that is to issue them."""
    body = {"customerId": str(service.demo.customer_id), "totalMiners": 5, "unitPrice": "1.00"}
    ids = []
    for _ in range(count):
        created = service.api.post("/invoices", headers=service.as_admin(), json=body)
        ids.append(created.json()["id"])
    started = service.api.post(
        "/invoices/bulk-issue",
        headers=service.as_admin() | HEADERS,
        json={"invoiceIds": ids},
    )
    assert started.status_code == 202, started.text
    return [ObjectId(invoice_id) for invoice_id in ids], started.json()["runId"]


def read_run(service: Service, run_id: str) -> dict[str, Any]:
    return dict(service.api.get(f"/runs/{run_id}", headers=service.as_admin()).json())


def assert_issued_once(service: Service, ids: list[ObjectId]) -> None:
    of_these = {"$in": ids}
    invoices = list(service.mongo["invoices"].find({"_id": of_these}))
    entries = list(
        service.mongo["audit_logs"].find({"entityId": of_these, "action": "INVOICE_ISSUED"})
    )
    mails = Counter(
        row["invoiceId"]
        for row in service.mongo["invoice_notifications"].find({"invoiceId": of_these})
    )
    assert [invoice["status"] for invoice in invoices] == ["ISSUED"] * len(ids)
    assert {invoice["version"] for invoice in invoices} == {2}
    assert Counter(entry["entityId"] for entry in entries) == Counter(ids)
    assert mails == Counter(ids)
    assert {entry["userId"] for entry in entries} == {service.demo.admin_id}
    assert {entry["userAgent"] for entry in entries} == {"killed-worker-test"}
    assert {entry["requestId"] for entry in entries} == {"bulk-1"}


@pytest.mark.timeout(180)
def test_a_worker_killed_in_the_middle_issues_every_invoice_exactly_once(
    service: Service,
) -> None:
    ids, run_id = a_bulk_run(service, INVOICES)
    wait_for(lambda: read_run(service, run_id)["counts"]["done"] >= INVOICES // 5, 30)
    os.killpg(service.worker.pid, signal.SIGKILL)
    service.worker.poll()
    killed = read_run(service, run_id)
    assert killed["status"] == "RUNNING"
    assert 0 < killed["counts"]["pending"] < INVOICES

    celery = make_celery(settings(redis_url=service.environment["ACCOUNTING_REDIS_URL"]))
    with start_worker(service.environment, service.data_dir, "second_worker"):
        # What the schedule does each minute; the run is free once the dead worker's lease is over.
        def swept() -> bool:
            celery.send_task("runs.sweep")
            celery.send_task("runs.execute", args=(run_id,))
            time.sleep(1)
            return read_run(service, run_id)["status"] == "DONE"

        wait_for(swept, LEASE_SECONDS + 60)

    ended = read_run(service, run_id)
    assert ended["counts"] == {
        "total": INVOICES,
        "pending": 0,
        "done": INVOICES,
        "skipped": 0,
        "failed": 0,
    }
    assert_issued_once(service, ids)


def test_without_celery_the_command_ends_what_is_left(service: Service) -> None:
    service.worker.stop()
    ids, run_id = a_bulk_run(service, 5)

    done = service.command("jobs", "run", "runs")
    again = service.command("jobs", "run", "runs")

    assert (done.returncode, again.returncode) == (0, 0), done.stderr
    assert done.stdout == "runs: 1 worked on, 5 done, 0 skipped, 0 failed\n"
    assert f"run {run_id}" in done.stderr
    assert "5/5" in done.stderr
    assert again.stdout == "runs: nothing was to be done\n"
    assert read_run(service, run_id)["progressPercent"] == 100
    assert_issued_once(service, ids)
