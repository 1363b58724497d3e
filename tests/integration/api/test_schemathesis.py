"""Requests made out of our own OpenAPI document, and the answers held against it.

SCHEMATHESIS_EXAMPLES=200 looks longer, and elsewhere each time; without it the same requests are
made in every run.
"""

from __future__ import annotations

import os
import re
import time
import zlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from accounting.dev.mail_catcher import MailCatcher
from accounting.dev.processes import Server
from accounting.ids import ObjectId, new_id
from accounting.links import BASE_PATH
from api_app import APP
from service import Service, running_service, service_environment

EXAMPLES = os.environ.get("SCHEMATHESIS_EXAMPLES")
EXAMPLES_BY_DEFAULT = 3
CHECKS: list[Any] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
KEY = re.compile("[!-~]{1,200}")
PLAN_HASH = re.compile("[0-9a-f]{64}")
RUN_SECONDS_MAX = 30.0
PRICE = {"defaultUnitPrice": "50.00", "effectiveFrom": "2026-01-01"}
MONEY_ENOUGH = 9_999_999_999.0

schema = schemathesis.openapi.from_dict(APP.app.openapi_schema.to_schema())
# Methods that are not in the document never reach a handler.
schema.config.phases.coverage.unexpected_methods = set()


@dataclass
class Things:
    """What a request can be about: real ones, made when they are asked for."""

    service: Service
    answered: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))

    @property
    def customer_id(self) -> str:
        return str(self.service.demo.customer_id)

    def new_customer(self) -> str:
        """One with a miner and no price, so that a price or a template can be made for him."""
        user = {"name": "Ada Holm", "email": f"{new_id()}@example.com", "role": "CLIENT"}
        user_id = self.service.mongo["users"].insert_one(user).inserted_id
        self.service.mongo["miners"].insert_one({"userId": user_id, "status": "ACTIVE"})
        return str(user_id)

    def customer_with_price(self) -> str:
        customer_id = self.new_customer()
        self._post("/pricing-configs", {"customerId": customer_id, **PRICE})
        return customer_id

    def price(self) -> str:
        return self._post("/pricing-configs", {"customerId": self.new_customer(), **PRICE})["id"]

    def ended_price(self) -> str:
        price_id = self.price()
        self._post(f"/pricing-configs/{price_id}/archive", {})
        return price_id

    def template(self) -> str:
        body = {"customerId": self.new_customer(), "dayOfMonth": 5}
        return self._post("/recurring-invoices", body)["id"]

    def paused_template(self) -> str:
        template_id = self.template()
        self._post(f"/recurring-invoices/{template_id}/pause")
        return template_id

    def plan(self) -> str:
        return self._post("/recurring-invoices/run", {"dryRun": True})["planHash"]

    def draft(self) -> str:
        body = {"customerId": self.customer_id, "totalMiners": 5, "unitPrice": "100.00"}
        return self._post("/invoices", body)["id"]

    def issued(self) -> str:
        invoice_id = self.draft()
        self._post(f"/invoices/{invoice_id}/issue", {"skipEmail": True})
        return invoice_id

    def paid(self) -> str:
        return self._post("/payments", self._payment_in_full())["invoice"]["id"]

    def payment(self) -> str:
        return self._post("/payments", self._payment_in_full())["id"]

    def refunded_payment(self) -> str:
        payment = self._post("/payments", self._payment_in_full())
        self._post(f"/invoices/{payment['invoice']['id']}/refund", {"reason": "Paid twice."})
        return payment["id"]

    def bounced_mail(self) -> str:
        """What a worker has noted; a real bounce would need a mail server that refuses."""
        invoice_id = self.draft()
        self._post(f"/invoices/{invoice_id}/issue", {})
        rows = self.service.mongo["invoice_notifications"]
        bounced = {"status": "BOUNCED", "leaseUntil": None, "handedOverAt": None}
        row = rows.find_one_and_update({"invoiceId": ObjectId(invoice_id)}, {"$set": bounced})
        assert row is not None
        return str(row["_id"])

    def sent_mail(self) -> str:
        return str(self._post(f"/invoices/{self.issued()}/send-email", {})["id"])

    def failed_run(self) -> str:
        return self._run_of(str(new_id()))

    def done_run(self) -> str:
        return self._run_of(self.draft())

    def _run_of(self, invoice_id: str) -> str:
        body = {"invoiceIds": [invoice_id], "skipEmail": True}
        run_id: str = self._post("/invoices/bulk-issue", body)["runId"]
        give_up_at = time.monotonic() + RUN_SECONDS_MAX
        while self._get(f"/runs/{run_id}")["status"] != "DONE":
            assert time.monotonic() < give_up_at, "the worker does nothing"
            time.sleep(0.02)
        return run_id

    def cost_payment(self) -> str:
        row = {
            "userId": ObjectId(self.customer_id),
            "amount": MONEY_ENOUGH,
            "type": "PAYMENT",
            "isDeleted": False,
        }
        return str(self.service.mongo["cost_payments"].insert_one(row).inserted_id)

    def _payment_in_full(self) -> dict[str, str]:
        return {"invoiceId": self.issued(), "costPaymentId": self.cost_payment()}

    def _post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        return self._send("POST", path, json=body)

    def _get(self, path: str) -> Any:
        return self._send("GET", path)

    def _send(self, method: str, path: str, **more: Any) -> Any:
        answer = self.service.api.request(method, path, headers=self.service.as_admin(), **more)
        assert answer.is_success, answer.text
        return answer.json()


def _customer(things: Things) -> str:
    return things.customer_id


# The first is what the operation is for; the others, in turn with it, are in the wrong state.
OF_PATH = {
    "/invoices/{id}": (Things.draft, Things.paid),
    "/invoices/{id}/issue": (Things.draft, Things.issued),
    "/invoices/{id}/cancel": (Things.issued, Things.paid),
    "/invoices/{id}/record-payment": (Things.issued, Things.draft),
    "/invoices/{id}/refund": (Things.paid, Things.issued),
    "/invoices/{id}/send-email": (Things.issued, Things.draft),
    "/invoices/{id}/audit-log": (Things.paid,),
    "/invoices/{id}/explain": (Things.draft,),
    "/invoices/{id}/download": (Things.paid, Things.draft),
    "/payments/{id}": (Things.payment, Things.refunded_payment),
    "/customers/{id}/payments": (_customer,),
    "/customers/{id}/allocate": (_customer,),
    "/customers/{id}/balance": (_customer,),
    "/customers/{id}/statement": (_customer,),
    "/customers/{id}/statement/send-email": (_customer, Things.new_customer),
    "/customers/{id}/price": (Things.customer_with_price, Things.new_customer),
    "/pricing-configs/{id}": (Things.price,),
    "/pricing-configs/{id}/archive": (Things.price, Things.ended_price),
    "/recurring-invoices/{id}": (Things.template, Things.paused_template),
    "/recurring-invoices/{id}/pause": (Things.template, Things.paused_template),
    "/recurring-invoices/{id}/resume": (Things.paused_template, Things.template),
    "/notifications/{id}/retry": (Things.bounced_mail, Things.sent_mail),
    "/runs/{id}": (Things.failed_run,),
    "/runs/{id}/retry-failed": (Things.failed_run, Things.done_run),
}
OF_FIELD = {
    "customerId": Things.new_customer,
    "costPaymentId": Things.cost_payment,
    "invoiceId": Things.issued,
    "invoiceIds": lambda things: [things.draft()],
}


@pytest.fixture(scope="module")
def things(
    mongod: Server,
    redis_server: Server,
    mail_catcher: MailCatcher,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Things]:
    """A service of its own, which lets its only caller ask as often as he likes."""
    environment = service_environment(
        mongod, redis_url=redis_server.uri, smtp_url=mail_catcher.uri, database="schemathesis_test"
    )
    environment["ACCOUNTING_RATE_LIMIT"] = "100000/second"
    with running_service(environment, tmp_path_factory.mktemp("service")) as running:
        yield Things(running)


@schema.parametrize()
@settings(
    max_examples=int(EXAMPLES or EXAMPLES_BY_DEFAULT),
    derandomize=EXAMPLES is None,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
def test_no_answer_is_outside_the_document(case: Any, things: Things) -> None:
    make_real(case, things)
    headers = things.service.as_admin()
    answer = case.call_and_validate(things.service.root_url, headers=headers, checks=CHECKS)
    things.answered[case.operation.label].add(answer.status_code)


def test_every_operation_was_also_carried_out(things: Things) -> None:
    refused = {
        label: sorted(statuses)
        for label, statuses in things.answered.items()
        if not any(status < 300 for status in statuses)
    }

    assert not refused


def make_real(case: Any, things: Things) -> None:
    """Put ids of real things, and a new key, in place of valid ones, in three requests of four."""
    chance = zlib.crc32(repr((case.query, case.headers, case.body)).encode())
    if chance % 4 == 0:
        return
    path = case.operation.path.removeprefix(BASE_PATH)
    if path in OF_PATH and ObjectId.is_valid(case.path_parameters.get("id")):
        makers = OF_PATH[path]
        case.path_parameters["id"] = makers[chance // 4 % len(makers)](things)
    if path == "/customers/{id}/statement" and case.query:
        case.query.pop("from", None)  # two days by chance are a range of a thousand years
    if case.headers and KEY.fullmatch(str(case.headers.get("Idempotency-Key", ""))):
        case.headers["Idempotency-Key"] = str(new_id())
    if not isinstance(case.body, dict):
        return
    if PLAN_HASH.fullmatch(str(case.body.get("planHash"))) and not case.body.get("dryRun"):
        case.body = {"planHash": things.plan()}  # a day is part of its plan
    for name in case.body.keys() & OF_FIELD.keys():
        value = case.body[name]
        ids = value if isinstance(value, list) else [value]
        if ids and all(isinstance(item, str) and ObjectId.is_valid(item) for item in ids):
            case.body[name] = OF_FIELD[name](things)
