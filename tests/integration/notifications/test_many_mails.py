"""Many e-mails in one run through four worker processes: each arrives once, progress is seen.

MANY_MAILS=1000 is the full form.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
from bson import ObjectId

from accounting.dev.processes import Server
from mail_server import MailServer
from service import Service, running_service, service_environment, start_worker

pytestmark = pytest.mark.real_mongo

MAILS = int(os.environ.get("MANY_MAILS", "200"))
WORKERS = 4
SECONDS_PER_MAIL_MAX = 0.5
POLL_SECONDS = 0.3  # reading a run of a thousand items takes the API a while itself


@pytest.fixture(scope="module")
def mail_server() -> Iterator[MailServer]:
    # As slow as others are, or a quick machine would be done before anybody could look.
    with MailServer(delay_seconds=0.005) as server:
        yield server


@pytest.fixture(scope="module")
def service(
    mongod: Server,
    redis_server: Server,
    mail_server: MailServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Service]:
    environment = service_environment(
        mongod,
        redis_url=redis_server.uri.removesuffix("/0") + "/8",
        smtp_url=f"smtp://{mail_server.address}",
        database="many_mails",
    )
    environment["ACCOUNTING_RATE_LIMIT"] = "1000000/minute"
    with ExitStack() as stack:
        data_dir = tmp_path_factory.mktemp("many_mails")
        running = stack.enter_context(running_service(environment, data_dir))
        others = start_worker(environment, data_dir, "others", concurrency=WORKERS - 1)
        stack.enter_context(others)
        yield running


def wait_for(condition: Callable[[], Any], seconds: float) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if result := condition():
            return result
        time.sleep(POLL_SECONDS)
    raise AssertionError("it did not happen in time")


def post(service: Service, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = service.api.post(path, headers=service.as_admin(), json=body)
    assert answer.is_success, answer.text
    return dict(answer.json())


def read_run(service: Service, run_id: str) -> dict[str, Any]:
    path = f"/runs/{run_id}?itemStatus=FAILED"
    return dict(service.api.get(path, headers=service.as_admin()).json())


def issued_invoices(service: Service) -> list[str]:
    """Each of a customer of its own, so that no daily cap is reached; their PDFs are made."""

    def draft(number: int) -> str:
        user = {"name": f"Ada {number}", "email": f"ada{number}@example.com", "role": "CLIENT"}
        customer_id = service.mongo["users"].insert_one(user).inserted_id
        body = {"customerId": str(customer_id), "totalMiners": 5, "unitPrice": "100.00"}
        return str(post(service, "/invoices", body)["id"])

    with ThreadPoolExecutor(4) as pool:
        ids = list(pool.map(draft, range(MAILS)))
    run_id = post(service, "/invoices/bulk-issue", {"invoiceIds": ids, "skipEmail": True})["runId"]
    patience = MAILS * SECONDS_PER_MAIL_MAX
    wait_for(lambda: read_run(service, run_id)["status"] == "DONE", patience)
    pdfs = service.mongo["invoice_pdfs.files"]
    wait_for(lambda: pdfs.count_documents({}) == MAILS, patience)
    return ids


@pytest.mark.timeout(60 + 2 * MAILS)
def test_every_mail_of_a_run_arrives_once_and_progress_is_seen(
    service: Service, mail_server: MailServer, say: Callable[[str], None]
) -> None:
    ids = issued_invoices(service)
    started = time.monotonic()
    run_id = post(service, "/invoices/bulk-send-email", {"invoiceIds": ids})["runId"]

    seen: list[int] = []

    def is_done() -> bool:
        run = read_run(service, run_id)
        seen.append(run["counts"]["done"])
        return bool(run["status"] == "DONE")

    wait_for(is_done, MAILS * SECONDS_PER_MAIL_MAX)
    took = time.monotonic() - started

    steps = sorted(set(seen) - {0, MAILS})
    say(f"{MAILS} e-mails, {WORKERS} workers: {MAILS / took:.0f} a second, progress {steps}")
    run = read_run(service, run_id)
    assert run["counts"] == {
        "total": MAILS,
        "pending": 0,
        "done": MAILS,
        "skipped": 0,
        "failed": 0,
    }
    assert seen == sorted(seen)
    assert steps, "nobody saw it go on"
    rows = list(service.mongo["invoice_notifications"].find({"runId": ObjectId(run_id)}))
    assert Counter(row["status"] for row in rows) == {"SENT": MAILS}
    assert Counter(str(row["invoiceId"]) for row in rows) == Counter(ids)
    arrived = Counter(mail["Message-ID"] for mail in mail_server.mails)
    assert arrived == Counter(row["messageId"] for row in rows)
    assert set(arrived.values()) == {1}
    readers = Counter(mail["To"] for mail in mail_server.mails)
    assert readers == Counter(f"ada{number}@example.com" for number in range(MAILS))
