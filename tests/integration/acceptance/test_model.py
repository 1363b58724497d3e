"""Random sequences of everything that can be done, against the running service and a model of it.

`ACCEPTANCE_EXAMPLES` (25) and `ACCEPTANCE_STEPS` (50) make it longer.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, TypeVar

import httpx
import pytest
from bson import ObjectId
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.database import DirectoryBasedExampleDatabase
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from integration.acceptance.books import ALLOWED, DUE_DAYS, Bill, Link, Refused
from integration.acceptance.desk import UNKNOWN, Desk, Ever, Manner, accepted, to_json
from service import Service

pytestmark = pytest.mark.real_mongo

T = TypeVar("T")

EXAMPLES: Final = int(os.environ.get("ACCEPTANCE_EXAMPLES", "25"))
STEPS: Final = int(os.environ.get("ACCEPTANCE_STEPS", "50"))

# None of these days is another's, or one beside it, so that midnight may pass during the test.
DUE_OFFSETS: Final = (-40, -3, 3, 40)
ISSUED_OFFSETS: Final = (None, -3, -45)
OVERDUE_OFFSETS: Final = (0, 10, 35)
# As the platform stores them: binary noise, more than two digits, and what rounds to a cent.
ODD_DOUBLES: Final = (0.1 + 0.2, 100.005, 1e-3, 0.005, 33.333333333333336, 1234567.89, 4.35)

PICKS = st.integers(0, 9_999)
CENTS = st.integers(1, 30_000).map(lambda cents: Decimal(cents) / 100)
PRICES = CENTS | st.sampled_from([Decimal("0.01"), Decimal("99999999.99")])
MINERS = st.integers(1, 12) | st.sampled_from([1_000_000])
PERIODS = st.sampled_from([None, "2026-01", "2025-12"])
REASONS = st.text("Wrong müniers 😀\"'<$.", min_size=1, max_size=20).filter(str.strip)
CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "miners": MINERS,
        "price": PRICES,
        "due": st.sampled_from(DUE_OFFSETS),
        "period": PERIODS,
    },
)
AMOUNTS = st.sampled_from(["most", "exact", "over", "cent", "part", "nothing"])
MANNERS = st.builds(
    Manner, st.integers(0, 1), st.sampled_from([None, None, None, 0, 0, -1, 1]), st.booleans()
)
UNUSABLE: Final[tuple[dict[str, Any], ...]] = (
    {"type": "ELECTRICITY_CHARGES"},
    {"amount": -50.0},
    {"isDeleted": True},
)


class Journeys(RuleBasedStateMachine):
    """Two admins work on the invoices of two customers; each step is held against the model."""

    service: Service
    run_overdue: Callable[[date], int]
    ever: Ever

    @initialize(
        miners=st.integers(0, 3),
        prices=st.lists(CENTS, min_size=4, max_size=6),
        deposits=st.lists(CENTS, min_size=2, max_size=6),
    )
    def open_books(self, miners: int, prices: list[Decimal], deposits: list[Decimal]) -> None:
        self.desk = Desk(self.service, self.ever)
        self.desk.clear_store()
        self.books = self.desk.books
        self.customers = [self.desk.add_user(miners), self.desk.add_user(2)]
        staff, gone = self.desk.add_user(role="ADMIN"), self.desk.add_user(isDeleted=True)
        self.nobodies = [staff, gone, UNKNOWN]
        # One of each status to begin with: a few steps from nothing do not get far.
        for number, deposit in enumerate([Decimal(2_000), Decimal(2_000), *deposits]):
            self.customer_pays_into_his_wallet(number, deposit, False)
        for number, price in enumerate(prices):
            self.create_and_issue(number % 2, 1, price, DUE_OFFSETS[number % len(DUE_OFFSETS)])
            self._create(number, 2, price, None, None, Manner(number % 2))
        self.pay_in_full(0, 0, True, 0)
        self.pay_in_full(0, 0, False, 1)
        self.refund(0, "as agreed", Manner(0, has_key=True))
        self.cancel(0, "a mistake", Manner(1))
        self.the_daily_job_marks_what_is_overdue(OVERDUE_OFFSETS[0])

    @rule(pick=PICKS, amount=CENTS | st.sampled_from(ODD_DOUBLES), is_large=st.booleans())
    def customer_pays_into_his_wallet(
        self, pick: int, amount: Decimal | float, is_large: bool
    ) -> None:
        double = float(amount) * (100 if is_large else 1)
        self.desk.add_ledger_row(self.customers[pick % 2], double)

    @rule(pick=PICKS, facts=st.sampled_from(UNUSABLE))
    def platform_books_what_cannot_pay(self, pick: int, facts: dict[str, Any]) -> None:
        self.desk.add_ledger_row(self.customers[pick % 2], 50.0, **facts)

    @precondition(lambda self: self.books.ledger)
    @rule(pick=PICKS)
    def platform_deletes_a_cost_payment(self, pick: int) -> None:
        self.desk.delete_ledger_row(nth(list(self.books.ledger.values()), pick))

    @rule(
        pick=PICKS,
        miners=st.none() | MINERS,
        price=st.none() | PRICES | PRICES,
        due=st.none() | st.sampled_from(DUE_OFFSETS),
        period=PERIODS,
        how=MANNERS,
    )
    def create(
        self,
        pick: int,
        miners: int | None,
        price: Decimal | None,
        due: int | None,
        period: str | None,
        how: Manner,
    ) -> None:
        self._create(pick, miners, price, due, period, how)

    @rule(
        pick=st.integers(0, 1),
        miners=st.integers(1, 5),
        price=CENTS,
        due=st.sampled_from(DUE_OFFSETS),
    )
    def create_and_issue(self, pick: int, miners: int, price: Decimal, due: int) -> None:
        # Most of the life cycle lies behind these two.
        how = Manner(pick % 2)
        self._create(pick, miners, price, due, None, how)
        self._issue(self.desk.bill_ids[-1], None, False, how)

    @rule(pick=PICKS, fields=CHANGES, how=MANNERS)
    def update(self, pick: int, fields: dict[str, Any], how: Manner) -> None:
        bill_id = self._a_bill(pick, "update")
        version = self.desk.version(bill_id, how)
        if "due" in fields:
            fields = fields | {"due": self.desk.day(fields["due"])}
        names = {
            "miners": "totalMiners",
            "price": "unitPrice",
            "due": "dueDate",
            "period": "billingPeriod",
        }
        body = {names[name]: to_json(new) for name, new in fields.items()}
        answer = self.desk.send("PATCH", f"/invoices/{bill_id}", body, how, version)
        actor = self.desk.actor(how)
        self.desk.compare(answer, 200, lambda: self.books.update(bill_id, version, actor, fields))

    @rule(pick=PICKS, issued=st.sampled_from(ISSUED_OFFSETS), skip_email=st.booleans(), how=MANNERS)
    def issue(self, pick: int, issued: int | None, skip_email: bool, how: Manner) -> None:
        self._issue(self._a_bill(pick, "issue"), issued, skip_email, how)

    @rule(pick=PICKS, row_pick=PICKS, amount=AMOUNTS, how=MANNERS)
    def record_payment(self, pick: int, row_pick: int, amount: str, how: Manner) -> None:
        self._pay(pick, row_pick, amount, False, how)

    @rule(pick=PICKS, row_pick=PICKS, amount=AMOUNTS, how=MANNERS)
    def add_payment(self, pick: int, row_pick: int, amount: str, how: Manner) -> None:
        self._pay(pick, row_pick, amount, True, how)

    @rule(pick=PICKS, row_pick=PICKS, is_link=st.booleans(), actor=st.integers(0, 1))
    def pay_in_full(self, pick: int, row_pick: int, is_link: bool, actor: int) -> None:
        self._pay(pick, row_pick, "most", is_link, Manner(actor, has_key=is_link))

    @rule(pick=PICKS, how=MANNERS)
    def remove_payment(self, pick: int, how: Manner) -> None:
        live = [link.id for bill in self.books.bills.values() for link in bill.links]
        known = [*self.desk.link_ids, UNKNOWN]
        link_id = nth(known if pick % 4 == 3 or not live else live, pick // 4)
        answer = self.desk.send("DELETE", f"/payments/{link_id}", None, how)
        actor = self.desk.actor(how)
        self.desk.compare(answer, 204, lambda: self.books.unlink(link_id, actor), shows_bill=False)

    @rule(pick=PICKS, how=MANNERS)
    def allocate(self, pick: int, how: Manner) -> None:
        customer_id = self._a_customer(pick)
        answer = self.desk.send("POST", f"/customers/{customer_id}/allocate", {}, how)
        self.desk.compare_allocation(answer, customer_id, how)

    @rule(pick=PICKS, reason=REASONS, how=MANNERS)
    def cancel(self, pick: int, reason: str, how: Manner) -> None:
        bill_id = self._a_bill(pick, "cancel")
        version, actor = self.desk.version(bill_id, how), self.desk.actor(how)
        path = f"/invoices/{bill_id}/cancel"
        answer = self.desk.send("POST", path, {"reason": reason}, how, version)
        reason = reason.strip()
        self.desk.compare(answer, 200, lambda: self.books.cancel(bill_id, version, actor, reason))

    @rule(pick=PICKS, reason=REASONS, how=MANNERS)
    def refund(self, pick: int, reason: str, how: Manner) -> None:
        bill_id = self._a_bill(pick, "refund")
        version, actor = self.desk.version(bill_id, how), self.desk.actor(how)
        path = f"/invoices/{bill_id}/refund"
        answer = self.desk.send("POST", path, {"reason": reason}, how, version)
        reason = reason.strip()
        self.desk.compare(answer, 200, lambda: self.books.refund(bill_id, version, actor, reason))

    @rule(pick=PICKS, how=MANNERS)
    def delete(self, pick: int, how: Manner) -> None:
        bill_id = self._a_bill(pick, "delete")
        version = self.desk.version(bill_id, how)
        answer = self.desk.send("DELETE", f"/invoices/{bill_id}", None, how, version)
        self.desk.compare_deletion(answer, bill_id, version, how)

    @rule(days=st.sampled_from(OVERDUE_OFFSETS))
    def the_daily_job_marks_what_is_overdue(self, days: int) -> None:
        marked = self.run_overdue(self.desk.day(days))
        past_due = self.books.mark_overdue(self.desk.day(days))
        assert marked == len(past_due)
        self.ever.tally["overdue"] += len(past_due)
        for bill in past_due:
            self.desk.read(bill)

    @precondition(lambda self: self.desk.kept)
    @rule(pick=PICKS)
    def repeat_with_the_same_key(self, pick: int) -> None:
        self.desk.repeat(nth(self.desk.kept, pick))

    @precondition(lambda self: self.desk.kept)
    @rule(pick=PICKS)
    def use_a_key_for_another_request(self, pick: int) -> None:
        first = nth(self.desk.kept, pick)
        # No other step sends this price.
        other = {"customerId": self.customers[0], "totalMiners": 1, "unitPrice": "98765.43"}
        answer = self.service.api.post("/invoices", json=other, headers=first.headers)
        self.desk.compare_refusal(answer, Refused(422, "idempotency_key_reused"))

    def teardown(self) -> None:
        if sys.exc_info()[0] is not None:  # a step has failed; that is what is to be reported
            return
        for customer_id in self.customers:
            self.desk.check_lists(customer_id)
        self.desk.check_store()

    # Whom and what a step is about: mostly what it makes sense for, sometimes anything at all.

    def _a_customer(self, pick: int) -> str:
        return nth(self.nobodies if pick % 10 == 9 else self.customers, pick)

    def _a_bill(self, pick: int, action: str) -> str:
        bills = self.books.bills.values()
        sensible = [bill.id for bill in bills if action in ALLOWED[bill.status]]
        anything = [*self.desk.bill_ids, UNKNOWN]
        return nth(anything if pick % 5 == 4 or not sensible else sensible, pick // 5)

    def _a_row(self, pick: int, bill_id: str) -> str:
        bill = self.books.bills.get(bill_id)
        sensible = [
            row.id
            for row in self.books.ledger.values()
            if bill and row.can_pay and row.customer_id == bill.customer_id and self.books.free(row)
        ]
        anything = [*self.books.ledger, UNKNOWN]
        return nth(anything if pick % 6 == 5 or not sensible else sensible, pick // 6)

    def _amount(self, kind: str, bill_id: str, row_id: str, pick: int) -> Decimal | None:
        bill, row = self.books.bills.get(bill_id), self.books.ledger.get(row_id)
        rest = bill.rest if bill else Decimal(1)
        free = max(self.books.free(row), Decimal(0)) if row else Decimal(1)
        cents = int(min(rest, free) * 100)
        amounts = {
            "most": None,
            "exact": rest,
            "over": (rest if pick % 2 else free) + Decimal("0.01"),
            "cent": Decimal("0.01"),
            "part": Decimal(1 + pick % cents if cents else 1) / 100,
            "nothing": Decimal(0),
        }
        return amounts[kind]

    def _create(
        self,
        pick: int,
        miners: int | None,
        price: Decimal | None,
        due: int | None,
        period: str | None,
        how: Manner,
    ) -> None:
        customer_id = self._a_customer(pick)
        facts = {
            "totalMiners": miners,
            "unitPrice": to_json(price),
            "dueDate": None if due is None else to_json(self.desk.day(due)),
            "billingPeriod": period,
        }
        body = {"customerId": customer_id} | {k: v for k, v in facts.items() if v is not None}
        answer = self.desk.send("POST", "/invoices", body, how)

        def expected() -> Bill:
            billed = self.books.price_new(customer_id, miners, price)
            assert price is not None
            shown = accepted(answer, 201)
            generated = date.fromisoformat(shown["invoiceGeneratedDate"])
            assert generated in self.desk.days_now()
            default_due = generated + timedelta(days=DUE_DAYS)
            return self._enter(
                Bill(
                    id=shown["id"],
                    number=shown["invoiceNumber"],
                    customer_id=customer_id,
                    miners=billed,
                    price=price,
                    generated=generated,
                    due=default_due if due is None else self.desk.day(due),
                    period=period,
                    counted=billed if miners is None else None,
                    created_by=self.desk.actor(how),
                )
            )

        self.desk.compare(answer, 201, expected)

    def _enter(self, bill: Bill) -> Bill:
        assert bill.id not in self.desk.bill_ids
        self.desk.bill_ids.append(bill.id)
        self.books.bills[bill.id] = bill
        return bill

    def _issue(self, bill_id: str, issued: int | None, skip_email: bool, how: Manner) -> None:
        version, actor = self.desk.version(bill_id, how), self.desk.actor(how)
        body: dict[str, Any] = {"skipEmail": skip_email}
        body |= {} if issued is None else {"issuedDate": to_json(self.desk.day(issued))}
        answer = self.desk.send("POST", f"/invoices/{bill_id}/issue", body, how, version)

        def expected() -> Bill:
            day = self._day_of_issue(answer) if issued is None else self.desk.day(issued)
            bill = self.books.issue(bill_id, version, actor, day, skip_email=skip_email)
            if skip_email:
                self.desk.without_mail.add(ObjectId(bill_id))
            return bill

        self.desk.compare(answer, 200, expected)

    def _pay(self, pick: int, row_pick: int, amount: str, is_link: bool, how: Manner) -> None:
        bill_id = self._a_bill(pick, "record-payment")
        row_id = self._a_row(row_pick, bill_id)
        asked = self._amount(amount, bill_id, row_id, pick)
        version = self.desk.version(bill_id, how)
        body = {"costPaymentId": row_id}
        body |= {} if asked is None else {"amountPaid": f"{asked:.2f}"}
        path = f"/invoices/{bill_id}/record-payment"
        if is_link:
            path, body = "/payments", body | {"invoiceId": bill_id}
        answer = self.desk.send("POST", path, body, how, version)
        status = 201 if is_link else 200

        def expected() -> Bill:
            if asked is not None and asked <= 0:
                raise Refused(400, "invalid_request")
            bill, applied = self.books.pay(bill_id, version, row_id, asked)
            shown = accepted(answer, status)
            link_id = shown["id"] if is_link else shown["payments"][-1]["id"]
            self.desk.link(bill, Link(link_id, row_id, applied), how)
            return bill

        self.desk.compare(answer, status, expected, shows_bill=not is_link)

    def _day_of_issue(self, answer: httpx.Response) -> date:
        if not answer.is_success:
            return self.books.today
        day = date.fromisoformat(answer.json()["issuedDate"][:10])
        assert day in self.desk.days_now()
        return day


def nth(items: list[T], number: int) -> T:
    return items[number % len(items)]


@pytest.mark.timeout(900)  # for the search for the shortest sequence that fails
def test_the_service_and_a_model_of_it_never_differ(
    service: Service,
    run_overdue: Callable[[date], int],
    say: Callable[[str], None],
    tmp_path: Path,
) -> None:
    ever = Ever()
    machine = type(
        "Journeys",
        (Journeys,),
        {"service": service, "run_overdue": staticmethod(run_overdue), "ever": ever},
    )
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize=False,
            print_blob=True,
            database=DirectoryBasedExampleDatabase(tmp_path / "examples"),
            suppress_health_check=list(HealthCheck),
        ),
    )

    say(
        f"{EXAMPLES} examples of up to {STEPS} steps: {ever.requests} requests, "
        f"{len(ever.tally)} different outcomes"
    )
