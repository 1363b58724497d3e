"""Eight clients at once on the same few invoices and cost payments."""

from __future__ import annotations

import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from itertools import count
from threading import Lock
from typing import Any, Final

import httpx
import pytest
from bson import ObjectId

from accounting.clock import utc_now
from integration.acceptance.books import ALLOWED
from integration.acceptance.desk import Desk, Ever
from integration.acceptance.invariants import CHANGES, check_invariants, check_outstanding
from service import Service

pytestmark = pytest.mark.real_mongo

CLIENTS: Final = 8
OPERATIONS: Final = 2_000
CUSTOMERS: Final = 3
COST_PAYMENTS_EACH: Final = 25
# Few enough that eight clients meet on them all the time.
HOT_INVOICES: Final = 24

WEIGHTS: Final = {
    "create": 14,
    "patch": 24,
    "issue": 12,
    "record_payment": 14,
    "add_payment": 6,
    "remove_payment": 8,
    "allocate": 1,
    "cancel": 4,
    "refund": 4,
    "delete": 3,
    "read": 5,
    "repeat": 4,
    "overdue": 1,
}


@dataclass
class Pool:
    """What the clients share, and what they were told."""

    service: Service
    run_overdue: Callable[[date], int]
    rows_of: dict[str, list[str]]
    prices: Iterator[int] = field(default_factory=lambda: count(1))
    lock: Lock = field(default_factory=Lock)
    statuses: dict[str, str] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    links: list[str] = field(default_factory=list)
    effects: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    slowest: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    versions: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    conditional: list[tuple[int, int]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def note(self, operation: str, answer: httpx.Response) -> None:
        with self.lock:
            self.answers[f"{operation} {answer.status_code}"] += 1
            seconds = answer.elapsed.total_seconds()
            self.slowest[operation] = max(seconds, self.slowest[operation])
            if answer.status_code >= 500 or answer.status_code == 429:
                self.failures.append(f"{operation}: {answer.status_code} {answer.text}")

    def done(self, *actions: str) -> None:
        with self.lock:
            self.effects.update(actions)

    def saw(self, invoice: dict[str, Any]) -> None:
        with self.lock:
            self.statuses[invoice["id"]] = invoice["status"]
            self.owners[invoice["id"]] = invoice["userId"]
            self.versions[invoice["id"]].append(invoice["version"])

    def hot(self, action: str | None, rng: random.Random) -> str:
        """One of the newest invoices; mostly one that was fit for it when last seen."""
        with self.lock:
            newest = list(self.statuses.items())[-HOT_INVOICES:]
        fit = [id_ for id_, status in newest if action is None or action in ALLOWED[status]]
        return rng.choice(fit if fit and rng.random() < 0.9 else [id_ for id_, _ in newest])


class Client:
    """One of the eight; every operation is one of the pool's weights."""

    def __init__(self, pool: Pool, seed: str) -> None:
        self.pool = pool
        self.rng = random.Random(seed)
        self.seed = seed
        self.last_keyed: tuple[dict[str, Any], dict[str, str], httpx.Response] | None = None
        self.keys = count()
        base_url, headers = pool.service.api.base_url, pool.service.as_admin()
        self.api = httpx.Client(base_url=base_url, headers=headers, timeout=30)

    def work(self, operations: int) -> None:
        with self.api:
            for name in self.rng.choices(list(WEIGHTS), list(WEIGHTS.values()), k=operations):
                getattr(self, name)()

    def create(self) -> None:
        body = {
            "customerId": self.rng.choice(list(self.pool.rows_of)),
            "totalMiners": self.rng.randint(1, 5),
            "unitPrice": self._a_price(),
        }
        has_key = self.rng.random() < 0.5
        headers = {"Idempotency-Key": f"{self.seed}-{next(self.keys)}"} if has_key else {}
        answer = self._send("create", "POST", "/invoices", json=body, headers=headers)
        assert answer.status_code == 201, answer.text
        self._changed(answer, "INVOICE_CREATED")
        if has_key:
            self.last_keyed = (body, headers, answer)

    def patch(self) -> None:
        path = f"/invoices/{self.pool.hot('update', self.rng)}"
        price, headers, named = self._a_price(), {}, None
        if self.rng.random() < 0.5:
            shown = self.api.get(path)
            named = shown.json()["version"] if shown.is_success else 1
            headers = {"If-Match": f'"{named}"'}
        answer = self._send("patch", "PATCH", path, json={"unitPrice": price}, headers=headers)
        if answer.is_success:
            invoice = self._changed(answer, "INVOICE_UPDATED")
            assert invoice["unitPrice"] == price
            if named is not None:
                self.pool.conditional.append((named, invoice["version"]))

    def issue(self) -> None:
        due = {"issuedDate": f"{utc_now().date() - timedelta(days=60)}"}
        body = due if self.rng.random() < 0.3 else {}
        self._act("issue", body, "INVOICE_ISSUED")

    def record_payment(self) -> None:
        invoice_id = self.pool.hot("record-payment", self.rng)
        path = f"/invoices/{invoice_id}/record-payment"
        answer = self._send("record-payment", "POST", path, json=self._a_payment(invoice_id))
        if answer.is_success:
            invoice = self._changed(answer, "PAYMENT_ADDED")
            self.pool.links.append(invoice["payments"][-1]["id"])

    def add_payment(self) -> None:
        invoice_id = self.pool.hot("record-payment", self.rng)
        body = self._a_payment(invoice_id) | {"invoiceId": invoice_id}
        answer = self._send("add-payment", "POST", "/payments", json=body)
        if answer.is_success:
            self.pool.done("PAYMENT_ADDED")
            self.pool.links.append(answer.json()["id"])

    def remove_payment(self) -> None:
        link_id = self.rng.choice(self.pool.links[-40:] or [str(ObjectId())])
        answer = self._send("remove-payment", "DELETE", f"/payments/{link_id}")
        if answer.is_success:
            self.pool.done("PAYMENT_REMOVED")

    def allocate(self) -> None:
        path = f"/customers/{self.rng.choice(list(self.pool.rows_of))}/allocate"
        answer = self._send("allocate", "POST", path)
        if answer.is_success:
            made = answer.json()["allocations"]
            self.pool.done(*["PAYMENT_ADDED"] * len(made))
            self.pool.links.extend(item["paymentId"] for item in made)

    def cancel(self) -> None:
        self._act("cancel", {"reason": "of no use"}, "INVOICE_CANCELLED")

    def refund(self) -> None:
        self._act("refund", {"reason": "as agreed"}, "INVOICE_REFUNDED")

    def delete(self) -> None:
        invoice_id = self.pool.hot("delete", self.rng)
        answer = self._send("delete", "DELETE", f"/invoices/{invoice_id}")
        if answer.is_success:
            self.pool.done("INVOICE_DELETED")

    def read(self) -> None:
        self._send("read", "GET", f"/invoices/{self.pool.hot(None, self.rng)}")
        self._send("list", "GET", "/invoices", params={"status": ["ISSUED", "PAID"]})
        shown = self._send("dashboard", "GET", "/dashboard").json()
        owed = sum(map(Decimal, shown["aging"].values()))
        assert owed == Decimal(shown["outstanding"]), shown

    def repeat(self) -> None:
        if self.last_keyed is None:
            return self.create()
        body, headers, first = self.last_keyed
        again = self._send("repeat", "POST", "/invoices", json=body, headers=headers)
        assert (again.status_code, again.content) == (201, first.content)
        return None

    def overdue(self) -> None:
        marked = self.pool.run_overdue(utc_now().date())
        self.pool.done(*["INVOICE_OVERDUE"] * marked)

    def _a_price(self) -> str:
        # Given out once, so that a change with it is always one.
        return f"{Decimal(next(self.pool.prices)) / 100:.2f}"

    def _a_payment(self, invoice_id: str) -> dict[str, str]:
        rows_of, owner = self.pool.rows_of, self.pool.owners[invoice_id]
        customer = owner if self.rng.random() < 0.9 else self.rng.choice(list(rows_of))
        body = {"costPaymentId": self.rng.choice(rows_of[customer])}
        if self.rng.random() < 0.5:
            body["amountPaid"] = f"{Decimal(self.rng.randint(1, 3_000)) / 100:.2f}"
        return body

    def _act(self, action: str, body: dict[str, Any], effect: str) -> None:
        invoice_id = self.pool.hot(action, self.rng)
        answer = self._send(action, "POST", f"/invoices/{invoice_id}/{action}", json=body)
        if answer.is_success:
            self._changed(answer, effect)

    def _changed(self, answer: httpx.Response, effect: str) -> dict[str, Any]:
        invoice = dict(answer.json())
        self.pool.done(effect)
        self.pool.saw(invoice)
        return invoice

    def _send(self, operation: str, method: str, path: str, **more: Any) -> httpx.Response:
        answer = self.api.request(method, path, **more)
        self.pool.note(operation, answer)
        return answer


def a_pool(service: Service, run_overdue: Callable[[date], int]) -> Pool:
    """Customers with money in their wallets, and a few drafts to begin with."""
    desk = Desk(service, Ever())
    rows_of: dict[str, list[str]] = {desk.add_user(): [] for _ in range(CUSTOMERS)}
    for customer_id in list(rows_of) * COST_PAYMENTS_EACH:
        rows_of[customer_id].append(desk.add_ledger_row(customer_id, 40.0))
    pool = Pool(service, run_overdue, rows_of)
    beginner = Client(pool, "beginner")
    for _ in range(HOT_INVOICES):
        beginner.create()
    pool.answers.clear()
    return pool


def count_effects(service: Service) -> Counter[str]:
    """How often each action stands in the trail, those that only accompany another left out."""
    wanted = sorted({*CHANGES, "INVOICE_CREATED", "INVOICE_DELETED"})
    grouped = service.mongo["audit_logs"].aggregate(
        [
            {"$match": {"action": {"$in": wanted}}},
            {"$group": {"_id": "$action", "count": {"$sum": 1}}},
        ]
    )
    return Counter({row["_id"]: row["count"] for row in grouped})


@pytest.mark.timeout(300)
def test_eight_clients_at_once_lose_no_update_and_break_no_rule(
    service: Service, run_overdue: Callable[[date], int], say: Callable[[str], None]
) -> None:
    pool = a_pool(service, run_overdue)
    seed = random.randrange(1_000_000)
    say(f"seed {seed}")
    clients = [Client(pool, f"{seed}-{number}") for number in range(CLIENTS)]

    started = time.monotonic()
    with ThreadPoolExecutor(CLIENTS) as threads:
        list(threads.map(lambda client: client.work(OPERATIONS // CLIENTS), clients))
    seconds = time.monotonic() - started

    outcomes = ", ".join(f"{name}: {times}" for name, times in sorted(pool.answers.items()))
    slowest = ", ".join(f"{name} {most:.1f} s" for name, most in sorted(pool.slowest.items()))
    say(f"{OPERATIONS} operations, {CLIENTS} clients: {OPERATIONS / seconds:.0f}/s; {outcomes}")
    say(f"slowest answers: {slowest}")
    assert pool.failures == []
    assert all(changed == named + 1 for named, changed in pool.conditional)
    twice = {id_: seen for id_, seen in pool.versions.items() if len(seen) != len(set(seen))}
    assert twice == {}
    # Each change that a client was told of is one entry of the trail, and there is no other.
    assert count_effects(service) == pool.effects
    assert check_invariants(service.mongo) == []
    assert check_outstanding(service.mongo, service.api, service.as_admin()) == []
    # Else nobody met anybody, and nothing was shown.
    assert pool.conditional
    assert pool.answers["patch 412"]
