"""The server is killed again and again while clients write; what they repeat happens once."""

from __future__ import annotations

import os
import random
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from threading import Event
from typing import Any, Final

import httpx
import pymongo
import pytest

from accounting.actor import Role
from accounting.dev.demo import load_demo_platform
from accounting.dev.mongod import start_mongod
from accounting.dev.processes import (
    LOOPBACK,
    Child,
    Server,
    free_port,
    start_child,
    wait_until_ready,
)
from accounting.idempotency.rules import LEASE_SECONDS
from integration.acceptance.books import ALLOWED
from integration.acceptance.desk import bearer
from integration.acceptance.invariants import (
    COMPANIONS,
    MAILS,
    check_invariants,
    check_outstanding,
)
from service import run_command, service_environment

pytestmark = pytest.mark.real_mongo

KILLS: Final = 30
CLIENTS: Final = 4
# From the moment when the server answers to its end.
LIFE_SECONDS: Final = (0.05, 0.6)
# A killed process leaves its transactions open, with the documents that they hold, until the
# server ends them; a minute by default, which is long for a test.
TRANSACTION_SECONDS_MAX: Final = 3
# A request without an answer is repeated while others go on; this bounds how many there are.
WAITING_MAX: Final = 12
# A killed request holds its key for the time of its lease; then everything has to be answered.
LAST_ANSWERS_SECONDS_MAX: Final = LEASE_SECONDS + 20
COST_PAYMENTS: Final = 400

# What a request that is carried out leaves in the trail.
EFFECTS: Final = {
    "create": "INVOICE_CREATED",
    "issue": "INVOICE_ISSUED",
    "record-payment": "PAYMENT_ADDED",
    "payments": "PAYMENT_ADDED",
    "cancel": "INVOICE_CANCELLED",
    "refund": "INVOICE_REFUNDED",
}


@dataclass
class MortalServer:
    """An API process that is killed and started again at the same address."""

    environment: dict[str, str]
    data_dir: Path
    port: int = field(default_factory=free_port)
    child: Child | None = None
    is_up: Event = field(default_factory=Event)

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "accounting", "serve", "--port", str(self.port)]
        self.child = start_child("serve", command, data_dir=self.data_dir, env=self.environment)
        wait_until_ready(self.child, self._is_listening)
        self.is_up.set()

    def kill(self) -> None:
        assert self.child is not None
        self.is_up.clear()
        os.killpg(self.child.pid, signal.SIGKILL)
        assert self.child.wait(10) == -signal.SIGKILL

    def stop(self) -> None:
        if self.child is not None:
            self.child.stop()

    def _is_listening(self) -> bool:
        # It listens once it has started; a request would cost more than it tells.
        try:
            socket.create_connection((LOOPBACK, self.port), timeout=1).close()
        except OSError:
            return False
        return True


@dataclass
class Wish:
    """One logical request: the same key and the same bytes until it is answered."""

    key: str
    kind: str
    path: str
    body: dict[str, Any]
    due: float = 0.0
    cuts: int = 0  # how often it was sent and never answered
    answer: httpx.Response | None = None

    @property
    def is_done(self) -> bool:
        return self.answer is not None and self.answer.is_success


class Client:
    """Makes drafts and leads them through their life, whatever happens to the server."""

    def __init__(
        self, server: MortalServer, admin_id: str, customer_id: str, rows: list[str], seed: str
    ) -> None:
        self.server = server
        self.rng = random.Random(seed)
        self.seed = seed
        self.admin_id = admin_id
        self.customer_id = customer_id
        self.rows = rows
        self.wishes: list[Wish] = []
        self.told_to_wait = 0
        self.statuses: dict[str, str] = {}
        self.api = httpx.Client(
            base_url=f"{server.url}/api/accounting",
            headers=bearer(admin_id, Role.ADMIN),
            timeout=30,
        )

    def work(self, stop: Event) -> None:
        while not stop.is_set():
            waiting = self._waiting()
            due = [wish for wish in waiting if wish.due <= time.monotonic()]
            if due:
                self._try(due[0])
            elif len(waiting) < WAITING_MAX:
                self._try(self._a_wish())
            else:
                time.sleep(0.02)
        deadline = time.monotonic() + LAST_ANSWERS_SECONDS_MAX
        while (waiting := self._waiting()) and time.monotonic() < deadline:
            wish = min(waiting, key=lambda wish: wish.due)
            time.sleep(max(0.0, wish.due - time.monotonic()))
            self._try(wish)

    def send(self, wish: Wish) -> httpx.Response:
        # Every entry of the trail carries the id of the request that made it.
        headers = {"Idempotency-Key": wish.key, "X-Request-Id": wish.key}
        return self.api.post(wish.path, json=wish.body, headers=headers)

    def _waiting(self) -> list[Wish]:
        return [wish for wish in self.wishes if wish.answer is None]

    def _try(self, wish: Wish) -> None:
        self.server.is_up.wait(1)
        try:
            answer = self.send(wish)
        except httpx.ConnectError:
            return
        except httpx.TransportError:
            wish.cuts += 1
            return
        if answer.status_code == 503 or _is_still_running(answer):
            wish.due = time.monotonic() + float(answer.headers["Retry-After"])
            self.told_to_wait += 1
            return
        wish.answer = answer
        if answer.is_success:
            shown = answer.json()
            invoice = shown["invoice"] if wish.kind == "payments" else shown
            self.statuses[invoice["id"]] = invoice["status"]

    def _a_wish(self) -> Wish:
        kind = self.rng.choice(list(EFFECTS))
        action = "record-payment" if kind == "payments" else kind
        fit = [id_ for id_, status in self.statuses.items() if action in ALLOWED[status]]
        if not fit:
            kind, fit = "create", [""]
        invoice_id = self.rng.choice(fit)
        wish = Wish(
            f"killed-{self.seed}-{len(self.wishes)}", kind, *self._content(kind, invoice_id)
        )
        self.wishes.append(wish)
        return wish

    def _content(self, kind: str, invoice_id: str) -> tuple[str, dict[str, Any]]:
        path = f"/invoices/{invoice_id}/{kind}"
        match kind:
            case "create":
                price = f"{Decimal(self.rng.randint(1, 2_000)) / 100:.2f}"
                body = {"customerId": self.customer_id, "totalMiners": 2, "unitPrice": price}
                return "/invoices", body
            case "issue":
                return path, {}
            case "record-payment":
                return path, {"costPaymentId": self.rng.choice(self.rows)}
            case "payments":
                row_id = self.rng.choice(self.rows)
                return "/payments", {"invoiceId": invoice_id, "costPaymentId": row_id}
            case _:
                return path, {"reason": "as it happens"}


def _is_still_running(answer: httpx.Response) -> bool:
    return answer.status_code == 409 and answer.json()["code"] == "request_still_running"


@pytest.fixture(scope="module")
def environment(
    redis_server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    data_dir = tmp_path_factory.mktemp("killed_server")
    limit = f"transactionLifetimeLimitSeconds={TRANSACTION_SECONDS_MAX}"
    with start_mongod(data_dir, extra_args=("--setParameter", limit)) as mongod:
        environment = service_environment(
            mongod,
            redis_url=redis_server.uri.removesuffix("/0") + "/7",
            smtp_url="smtp://127.0.0.1:9",
            database="killed_server",
        )
        environment["ACCOUNTING_RATE_LIMIT"] = "1000000/minute"
        applied = run_command(("db", "apply"), environment)
        assert applied.returncode == 0, applied.stderr
        yield environment


@contextmanager
def clients_of(
    server: MortalServer, mongo: pymongo.database.Database[Any], seed: int
) -> Iterator[list[Client]]:
    """One customer, whose wallet all clients draw from."""
    demo = load_demo_platform(server.environment["ACCOUNTING_MONGODB_URI"], mongo.name)
    row = {"userId": demo.customer_id, "amount": 30.0, "type": "PAYMENT"}
    ids = mongo["cost_payments"].insert_many([dict(row) for _ in range(COST_PAYMENTS)])
    rows = [str(row_id) for row_id in ids.inserted_ids]
    admin, customer = str(demo.admin_id), str(demo.customer_id)
    clients = [
        Client(server, admin, customer, rows, f"{seed}-{number}") for number in range(CLIENTS)
    ]
    yield clients
    for client in clients:
        client.api.close()


def kill_while_they_write(server: MortalServer, clients: list[Client], rng: random.Random) -> None:
    stop = Event()
    # Children die with the thread that started them, so this one starts and kills.
    with ThreadPoolExecutor(CLIENTS) as threads:
        work = [threads.submit(client.work, stop) for client in clients]
        try:
            for _ in range(KILLS):
                time.sleep(rng.uniform(*LIFE_SECONDS))
                server.kill()
                server.start()
        finally:
            stop.set()
        for one in work:
            one.result()


def effects_of(mongo: pymongo.database.Database[Any]) -> dict[str, list[str]]:
    """The actions in the trail by the request that made them; e-mails taken back are left out."""
    found: dict[str, list[str]] = {}
    for entry in mongo["audit_logs"].find({"action": {"$nin": sorted(COMPANIONS | MAILS)}}):
        found.setdefault(entry["requestId"], []).append(entry["action"])
    return found


def assert_replayed(client: Client, wish: Wish, mongo: pymongo.database.Database[Any]) -> None:
    assert wish.answer is not None
    stored = mongo["idempotency_keys"].find_one({"_id": f"{client.admin_id}:{wish.key}"})
    again = client.send(wish)
    assert stored is not None
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.status_code == wish.answer.status_code == stored["responseStatus"]
    assert again.text == wish.answer.text == stored["responseBody"]


def figures(clients: list[Client]) -> str:
    wishes = [wish for client in clients for wish in client.wishes]
    cut = sum(wish.cuts for wish in wishes)
    waits = sum(client.told_to_wait for client in clients)
    outcomes = Counter(
        f"{wish.kind} {wish.answer.status_code if wish.answer else 'unanswered'}" for wish in wishes
    )
    return (
        f"{KILLS} kills, {len(wishes)} requests, cut off {cut} times, told to wait {waits} times; "
        + ", ".join(f"{name}: {times}" for name, times in sorted(outcomes.items()))
    )


def assert_exactly_once(clients: list[Client], mongo: pymongo.database.Database[Any]) -> None:
    wishes = [wish for client in clients for wish in client.wishes]
    assert [wish for wish in wishes if wish.answer is None] == []
    assert [wish for wish in wishes if wish.answer and wish.answer.status_code >= 500] == []
    expected = {wish.key: [EFFECTS[wish.kind]] for wish in wishes if wish.is_done}
    assert effects_of(mongo) == expected
    assert check_invariants(mongo) == []
    api = clients[0].api
    assert check_outstanding(mongo, api, {}) == []
    created = [wish for wish in wishes if wish.is_done and wish.kind == "create"]
    assert mongo["invoices"].count_documents({}) == len(created)
    for client in clients:
        for wish in client.wishes:
            if wish.is_done:
                assert_replayed(client, wish, mongo)
    assert mongo["idempotency_keys"].count_documents({"state": "RUNNING"}) == 0
    # Else the kills came at moments when nothing was going on.
    assert sum(wish.cuts for wish in wishes) >= KILLS


@pytest.mark.timeout(300)
def test_a_server_killed_thirty_times_does_everything_that_is_repeated_exactly_once(
    environment: dict[str, str], tmp_path: Path, say: Callable[[str], None]
) -> None:
    seed = random.randrange(1_000_000)
    say(f"seed {seed}")
    uri, name = environment["ACCOUNTING_MONGODB_URI"], environment["ACCOUNTING_MONGODB_DATABASE"]
    server = MortalServer(environment, tmp_path)
    with pymongo.MongoClient[dict[str, Any]](uri, tz_aware=True) as mongo_client:
        mongo = mongo_client[name]
        try:
            server.start()
            with clients_of(server, mongo, seed) as clients:
                kill_while_they_write(server, clients, random.Random(seed))
                say(figures(clients))
                assert_exactly_once(clients, mongo)
        finally:
            server.stop()
