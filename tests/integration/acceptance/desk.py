"""Where requests are sent from, and where each answer is held against the model of the books."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Any, Final

import httpx
from bson import ObjectId

from accounting.actor import Role
from accounting.api.tokens import make_token
from accounting.bootstrap import DOCUMENTS
from accounting.clock import utc_now
from integration.acceptance.books import ALLOWED, Bill, Books, Customer, LedgerRow, Link, Refused
from integration.acceptance.invariants import (
    check_invariants,
    check_outstanding,
    ledger_cents,
    read_by_cursor,
    read_by_pages,
)
from service import SECRET, TOKEN_SECONDS, Service

UNKNOWN: Final = "f" * 24
REQUESTS_BETWEEN_CHECKS: Final = 50
# Mails first: a worker that ends one writes to the trail, but only if the mail is still there.
OURS: Final = ("invoice_notifications", *(d.Settings.name for d in DOCUMENTS))
# What a worker changes in an answer between two reads.
MAIL_FIELDS: Final = (
    *("status", "sentAt", "handedOverAt"),
    *("failureReason", "retryCount", "nextRetryAt"),
)


@dataclass(frozen=True)
class Manner:
    """Who sends a request and with which headers; `if_match` is relative to the true version."""

    actor: int
    if_match: int | None = None
    has_key: bool = False


@dataclass(frozen=True)
class Kept:
    """A request that was carried out under a key, and its answer."""

    path: str
    body: Any
    headers: Mapping[str, str]
    answer: httpx.Response


@dataclass
class Ever:
    """What is remembered beyond one example."""

    requests: int = 0
    tally: Counter[str] = field(default_factory=Counter)
    keys: count[int] = field(default_factory=count)


class Desk:
    """Two admins at work on the books of a few customers."""

    def __init__(self, service: Service, ever: Ever) -> None:
        self.service = service
        self.ever = ever
        self.books = Books(utc_now().date())
        self.kept: list[Kept] = []
        self.bill_ids: list[str] = []
        self.link_ids: list[str] = []
        self.without_mail: set[ObjectId] = set()
        self.requests = 0
        self._checked_at = 0
        self._free_keys: list[tuple[int, str]] = []

    def clear_store(self) -> None:
        """Each example begins with empty books, so that it can be repeated."""
        for name in OURS:
            self.service.mongo[name].delete_many({})

    def send(
        self, method: str, path: str, body: Any, how: Manner, version: int | None = None
    ) -> httpx.Response:
        """One request; under a key it is kept, to be repeated later."""
        headers = bearer(self.actor(how), Role.ADMIN)
        if version is not None:
            headers["If-Match"] = f'"{version}"'
        key = self._a_key(how) if method == "POST" and how.has_key else None
        if key:
            headers["Idempotency-Key"] = key
        sent = {} if body is None else {"json": body}
        answer = self.service.api.request(method, path, headers=headers, **sent)
        self.requests += 1
        self.ever.requests += 1
        assert answer.status_code < 500, answer.text
        if key and answer.is_success:
            self.kept.append(Kept(path, body, headers, answer))
        elif key:
            self._free_keys.append((how.actor, key))
        return answer

    def repeat(self, first: Kept) -> None:
        """The same request again has the same answer, whatever has happened since."""
        again = self.service.api.post(first.path, json=first.body, headers=first.headers)
        self._count(again, " (replayed)")
        assert again.status_code == first.answer.status_code
        assert again.content == first.answer.content
        assert again.headers["Idempotent-Replayed"] == "true"
        for name in ("ETag", "Location", "Content-Type"):
            assert again.headers.get(name) == first.answer.headers.get(name)

    def compare(
        self,
        answer: httpx.Response,
        status: int,
        expected: Callable[[], Bill],
        *,
        shows_bill: bool = True,
    ) -> Bill | None:
        """The answer is what the model says, and so is what GET shows afterwards."""
        try:
            bill = expected()
        except Refused as refused:
            self.compare_refusal(answer, refused)
            return None
        self._count(answer)
        assert answer.status_code == status, answer.text
        shown = self.read(bill)
        if shows_bill:
            assert answer.headers["ETag"] == f'"{bill.version}"'
            assert _steady(answer.json()) == _steady(shown)
        if self.requests - self._checked_at >= REQUESTS_BETWEEN_CHECKS:
            self.check_store()
        return bill

    def compare_refusal(self, answer: httpx.Response, refused: Refused) -> None:
        """Refused for this very reason, as a problem document."""
        problem = answer.json() if answer.content else {}
        self._count(answer, f" {problem.get('code')}")
        assert (answer.status_code, problem.get("code")) == (refused.status, refused.code)
        assert answer.headers["Content-Type"].startswith("application/problem+json")
        if refused.code == "invalid_transition":
            assert set(problem["allowedActions"]) == ALLOWED[problem["invoiceStatus"]]

    def compare_allocation(self, answer: httpx.Response, customer_id: str, how: Manner) -> None:
        """What one call has settled, payment by payment."""
        try:
            plan = list(self.books.plan_allocation(customer_id))
        except Refused as refused:
            self.compare_refusal(answer, refused)
            return
        self._count(answer)
        made = accepted(answer, 200)["allocations"]
        told = [(x["invoiceId"], x["costPaymentId"], Decimal(x["amount"])) for x in made]
        assert told == plan
        for item, (bill_id, row_id, amount) in zip(made, plan, strict=True):
            bill = self.books.bills[bill_id]
            self.link(bill, Link(item["paymentId"], row_id, amount), how)
            assert item["invoiceStatus"] == bill.status
        for bill_id in {bill_id for bill_id, _, _ in plan}:
            self.read(self.books.bills[bill_id])

    def compare_deletion(
        self, answer: httpx.Response, bill_id: str, version: int | None, how: Manner
    ) -> None:
        """Gone with the answer, or still there."""
        try:
            self.books.delete(bill_id, version)
        except Refused as refused:
            self.compare_refusal(answer, refused)
            return
        self._count(answer)
        assert answer.status_code == 204, answer.text
        gone = self.send("GET", f"/invoices/{bill_id}", None, how)
        assert (gone.status_code, gone.json()["code"]) == (404, "invoice_not_found")

    def read(self, bill: Bill) -> dict[str, Any]:
        """An admin reads what the model says; a customer reads his own that are no drafts."""
        path = f"/invoices/{bill.id}"
        answer = self.service.api.get(path, headers=self.service.as_admin())
        shown = accepted(answer, 200)
        self._compare_shown(bill, shown)
        assert answer.headers["ETag"] == f'"{bill.version}"'
        customer_id = list(self.books.customers)[self.requests % 2]
        as_customer = bearer(customer_id, Role.CLIENT)
        is_his = customer_id == bill.customer_id and bill.status != "DRAFT"
        status = self.service.api.get(path, headers=as_customer).status_code
        assert status == (200 if is_his else 404)
        return shown

    def _compare_shown(self, bill: Bill, shown: dict[str, Any]) -> None:
        facts = [bill.facts(day) for day in self.days_now()]
        assert {name: shown[name] for name in facts[0]} in facts
        links = [(x.id, x.cost_payment_id, f"{x.amount:.2f}", x.is_refunded) for x in bill.links]
        assert links == [
            (x["id"], x["costPaymentId"], x["amountPaid"], x["refundedDate"] is not None)
            for x in shown["payments"]
        ]
        kinds = [row["notificationType"] for row in shown["notifications"]]
        # A cancellation is told to those whom an e-mail had reached before: the worker's speed
        # decides.
        may_tell = bill.has_mail and bill.status == "CANCELLED"
        assert kinds in (bill.mails, bill.mails + ["INVOICE_CANCELLED"] * may_tell)
        assert (shown["issuedDate"] is not None) == (bill.issued is not None)
        assert (shown["customer"] is not None) == (bill.issued is not None)
        assert (shown["paidDate"] is not None) == (bill.status in ("PAID", "REFUNDED"))
        assert (shown["cancelledDate"] is not None) == (bill.status == "CANCELLED")
        assert (shown["refundedDate"] is not None) == (bill.status == "REFUNDED")
        assert shown["pricing"]["minerIdsCount"] == bill.counted

    def check_lists(self, customer_id: str) -> None:
        """Both kinds of pages show each of the customer's invoices once, and his free payments."""
        api, admin = self.service.api, self.service.as_admin()
        bills = [b for b in self.books.bills.values() if b.customer_id == customer_id]
        versions = sorted((bill.id, bill.version) for bill in bills)
        for read in (read_by_pages, read_by_cursor):
            rows = read(api, admin, {"customerId": customer_id})
            assert sorted((row["id"], row["version"]) for row in rows) == versions
        late = read_by_pages(api, admin, {"customerId": customer_id, "overdue": "true"})
        assert {row["id"] for row in late} in [
            {bill.id for bill in bills if bill.is_overdue(day)} for day in self.days_now()
        ]
        path = f"/customers/{customer_id}/payments"
        rows = api.get(path, params={"limit": 100}, headers=admin).json()["payments"]
        assert {row["id"]: Decimal(row["unallocated"]) for row in rows} == {
            row.id: self.books.free(row)
            for row in self.books.ledger.values()
            if row.can_pay and row.customer_id == customer_id
        }

    def check_store(self) -> None:
        """The invariants, and the one definition of outstanding."""
        mongo, self._checked_at = self.service.mongo, self.requests
        assert check_invariants(mongo, without_mail=self.without_mail) == []
        assert check_outstanding(mongo, self.service.api, self.service.as_admin()) == []

    def link(self, bill: Bill, link: Link, how: Manner) -> None:
        """A payment that the service has made."""
        self.books.link(bill, self.actor(how), link)
        self.link_ids.append(link.id)

    def actor(self, how: Manner) -> str:
        demo = self.service.demo
        return str((demo.admin_id, demo.super_admin_id)[how.actor])

    def version(self, bill_id: str, how: Manner) -> int | None:
        """What the request says in If-Match."""
        if how.if_match is None:
            return None
        bill = self.books.bills.get(bill_id)
        return (bill.version if bill else 1) + how.if_match

    def day(self, offset: int) -> date:
        return self.books.today + timedelta(days=offset)

    def days_now(self) -> list[date]:
        """Today, and the day on which the example began if midnight has passed since."""
        return sorted({self.books.today, utc_now().date()})

    # What the platform does, written by the tests in the platform's place.

    def add_user(self, miners: int = 0, **facts: Any) -> str:
        """A customer, unless `facts` make something else of him."""
        user_id = ObjectId()
        user = {"name": "Mia Ōta", "email": f"{user_id}@example.com", "role": "CLIENT"}
        self.service.mongo["users"].insert_one({"_id": user_id, **user, **facts})
        if miners:
            rows = [{"userId": user_id, "name": "m", "status": "AUTO"} for _ in range(miners)]
            self.service.mongo["miners"].insert_many(rows)
        self.books.customers[str(user_id)] = Customer(str(user_id), miners, not facts)
        return str(user_id)

    def add_ledger_row(self, customer_id: str, amount: float, /, **facts: Any) -> str:
        """A payment into the customer's wallet, unless `facts` make something else of it."""
        row: dict[str, Any] = {
            "_id": ObjectId(),
            "userId": ObjectId(customer_id),
            "amount": amount,
            "type": "PAYMENT",
            "createdAt": _in_order(len(self.books.ledger)),
        }
        row |= facts
        self.service.mongo["cost_payments"].insert_one(row)
        cents = ledger_cents(row["amount"])
        row_id = str(row["_id"])
        self.books.ledger[row_id] = LedgerRow(row_id, customer_id, cents, refusal_of(row, cents))
        return row_id

    def delete_ledger_row(self, row: LedgerRow) -> None:
        """What it has paid stays paid; it can pay nothing more."""
        row.refusal = "cost_payment_deleted"
        deleted = {"$set": {"isDeleted": True}}
        self.service.mongo["cost_payments"].update_one({"_id": ObjectId(row.id)}, deleted)

    def _a_key(self, how: Manner) -> str:
        # The key of a request that was refused is free for another one.
        free = [key for owner, key in self._free_keys if owner == how.actor]
        if not free:
            return f"model-{next(self.ever.keys)}"
        self._free_keys.remove((how.actor, free[0]))
        return free[0]

    def _count(self, answer: httpx.Response, code: str = "") -> None:
        path = answer.request.url.path.removeprefix("/api/accounting")
        parts = ["{id}" if len(part) == len(UNKNOWN) else part for part in path.split("/")]
        route = f"{answer.request.method} {'/'.join(parts)}"
        self.ever.tally[f"{route} {answer.status_code}{code}"] += 1


def bearer(user_id: str, role: Role) -> dict[str, str]:
    """The headers of someone who has signed in at the platform."""
    token = make_token(SECRET, ObjectId(user_id), role, utc_now(), TOKEN_SECONDS)
    return {"Authorization": f"Bearer {token}"}


def accepted(answer: httpx.Response, status: int) -> dict[str, Any]:
    """The body of an answer that says yes."""
    assert answer.status_code == status, answer.text
    return dict(answer.json())


def to_json(value: object) -> object:
    """A value of the model as a request says it."""
    if isinstance(value, Decimal):
        return f"{value:.2f}"
    return value.isoformat() if isinstance(value, date) else value


def _in_order(number: int) -> datetime:
    return utc_now() - timedelta(days=1) + timedelta(seconds=number)


def _steady(shown: dict[str, Any]) -> dict[str, Any]:
    """An invoice without what a worker may change while nobody asks for it."""
    mails = [
        {name: value for name, value in mail.items() if name not in MAIL_FIELDS}
        for mail in shown["notifications"]
    ]
    return {**shown, "notifications": mails}


def refusal_of(row: dict[str, Any], cents: Decimal) -> str | None:
    """The code with which a ledger row is refused; None for one that can pay."""
    if row.get("isDeleted"):
        return "cost_payment_deleted"
    if row["type"] != "PAYMENT":
        return "cost_payment_wrong_type"
    return None if cents > 0 else "cost_payment_not_positive"
