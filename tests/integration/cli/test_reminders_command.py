"""`accounting jobs run reminders` on the running service, up to the mail that arrives."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import httpx
from bson import ObjectId

from accounting.clock import utc_now
from accounting.dev.mail_catcher import MailCatcher
from service import Service

WAIT_SECONDS_MAX = 20


def an_issued_invoice(service: Service) -> dict[str, Any]:
    body = {
        "customerId": str(service.demo.customer_id),
        "totalMiners": 5,
        "unitPrice": "100.00",
        # Far from the invoices of other tests on this service, which are not to be reminded.
        "dueDate": f"{utc_now().date() + timedelta(days=400)}",
    }
    admin = service.as_admin()
    invoice = service.api.post("/invoices", headers=admin, json=body).json()
    issued = service.api.post(
        f"/invoices/{invoice['id']}/issue", headers=admin, json={"skipEmail": True}
    )
    assert issued.status_code == 200, issued.text
    return dict(issued.json())


def remind(service: Service, invoice: dict[str, Any], days_after_due: int) -> str:
    """Run the job as of that day."""
    day = date.fromisoformat(invoice["dueDate"]) + timedelta(days=days_after_due)
    ran = service.command("jobs", "run", "reminders", "--as-of", f"{day}")
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip().removesuffix(f" queued for {day}")


def mails_about(
    service: Service, catcher: MailCatcher, invoice: dict[str, Any]
) -> list[dict[str, Any]]:
    """The mails of this invoice: other tests' services send here too, with numbers of their own."""
    rows = service.mongo["invoice_notifications"].find({"invoiceId": ObjectId(invoice["id"])})
    message_ids = {row["messageId"] for row in rows}
    listed = httpx.get(f"{catcher.list_url}mails").json()
    same_number = [mail for mail in listed if invoice["invoiceNumber"] in mail["subject"]]
    mails = [httpx.get(f"{catcher.list_url}mails/{mail['id']}").json() for mail in same_number]
    return [mail for mail in mails if mail["headers"]["Message-ID"] in message_ids]


def actions_of(service: Service, invoice: dict[str, Any]) -> list[str]:
    trail = service.api.get(f"/invoices/{invoice['id']}/audit-log", headers=service.as_admin())
    return [entry["action"] for entry in trail.json()["auditLogs"]]


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def test_each_reminder_arrives_once_until_the_invoice_is_cancelled(
    service: Service, mail_catcher: MailCatcher
) -> None:
    invoice = an_issued_invoice(service)
    number = invoice["invoiceNumber"]

    outcomes = [remind(service, invoice, day) for day in (-3, 1, 1, 7)]
    delivered = service.command("jobs", "run", "deliver")
    cancelled = service.api.post(
        f"/invoices/{invoice['id']}/cancel", headers=service.as_admin(), json={"reason": "test"}
    )
    outcomes.append(remind(service, invoice, 14))

    assert delivered.returncode == 0, delivered.stderr
    assert cancelled.status_code == 200, cancelled.text
    assert outcomes == [
        "reminders: 1 PAYMENT_REMINDER",
        "reminders: 1 OVERDUE_REMINDER",
        "reminders: none",
        "reminders: 1 OVERDUE_REMINDER",
        "reminders: none",
    ]
    wait_until(lambda: actions_of(service, invoice).count("EMAIL_SENT") == 4)
    subjects = [mail["subject"] for mail in mails_about(service, mail_catcher, invoice)]
    due = date.fromisoformat(invoice["dueDate"])
    assert sorted(subjects) == [
        f"Invoice {number} is 1 day overdue: USD 500.00",
        f"Invoice {number} is cancelled: nothing to pay",
        f"Payment needed: invoice {number} is 7 days overdue",
        f"Reminder: invoice {number}, USD 500.00 due by {due.day} {due:%B %Y}",
    ]
    assert actions_of(service, invoice).count("INVOICE_SENT_TO_CUSTOMER") == 3
