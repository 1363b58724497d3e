"""A generated invoice is what creating and issuing it one by one would have left."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from accounting.db.database import Job
from accounting.ids import ObjectId
from accounting.invoices.documents import AccountingCounter
from accounting.invoices.drafts import NewInvoice, create_invoice
from accounting.invoices.service import issue_invoice
from accounting.notifications.documents import InvoiceNotification
from accounting.notifications.service import DELIVER_JOB
from accounting.recurring.generation import NumberReserve
from builders import ADMIN, TERMS, TODAY, a_draft, a_price, a_template
from fakes import FakePlatform, JobList, TestDatabase
from generating import (
    a_miner_owner,
    day,
    generate_on,
    generated_invoices,
    id_of,
    services_of,
)

Raw = dict[str, Any]
WITH_COPIES = replace(TERMS, mail_cc=("books@example.com",), due_days=14)
OF_ITS_OWN = {"_id", "entityId", "invoiceId", "hash", "prevHash", "viewToken", "recurringInvoiceId"}


async def left_behind(db: TestDatabase, invoice_id: object) -> dict[str, list[Raw]]:
    """All that is stored about an invoice, without what is bound to be its own."""
    return {
        "invoices": await _stored(db, "invoices", {"_id": invoice_id}),
        "audit_logs": await _stored(db, "audit_logs", {"entityId": invoice_id}),
        "audit_heads": await _stored(db, "audit_heads", {"entityId": invoice_id}),
        "invoice_notifications": await _stored(
            db, "invoice_notifications", {"invoiceId": invoice_id}
        ),
    }


async def _stored(db: TestDatabase, name: str, query: Raw) -> list[Raw]:
    found = await db.mongo[name].find(query).sort("_id", 1).to_list(None)
    assert found or name == "invoice_notifications"
    return [_plain(raw) for raw in found]


def _plain(value: Any) -> Any:
    """Ids and numbers of this one invoice by what they stand for."""
    if isinstance(value, Mapping):
        return {name: _plain(found) for name, found in value.items() if name not in OF_ITS_OWN}
    if isinstance(value, str):
        return re.sub("[0-9a-f]{24}", "<id>", re.sub("2026011[0-9]{3}", "<number>", value))
    return value


@pytest.mark.parametrize("is_issued", [True, False], ids=["issued", "draft"])
@pytest.mark.parametrize("email", ["ada@example.com", ""], ids=["with mail", "without"])
async def test_it_leaves_what_creating_and_issuing_leaves(
    db: TestDatabase, platform: FakePlatform, is_issued: bool, email: str
) -> None:
    customer = a_miner_owner(platform, email=email)
    await a_price(db, platform, customer)
    services = services_of(db, platform, WITH_COPIES)
    order = NewInvoice(customer_id=customer.id, billing_period="2026-01")
    created = await create_invoice(db, ADMIN, platform, WITH_COPIES, order)
    if is_issued:
        await db.run(ADMIN, issue_invoice, platform, WITH_COPIES, id_of(created))
    by_hand = await left_behind(db, created.id)

    template = await a_template(db, platform, customer, auto_issue=is_issued)
    await generate_on(services, TODAY, ADMIN)

    [generated] = await generated_invoices()
    by_template = await left_behind(db, generated.id)
    assert by_template == by_hand
    assert generated.recurring_invoice_id == template.id
    assert len(by_template["invoice_notifications"]) == (is_issued and email != "")


async def test_an_issued_one_has_the_customer_frozen_and_its_mail_queued(
    db: TestDatabase, platform: FakePlatform, jobs: JobList
) -> None:
    customer = a_miner_owner(platform, name="Nia Okafor", company_name=None)
    await a_template(db, platform, customer, unit_price=Decimal(1), auto_issue=True)
    await a_template(db, platform, a_miner_owner(platform, email=""), unit_price=Decimal(1))

    await generate_on(services_of(db, platform, WITH_COPIES), day("2026-01-06"))

    [issued, _] = await generated_invoices()
    [mail] = await InvoiceNotification.find_all().to_list()
    assert (issued.status, issued.version) == ("ISSUED", 2)
    assert issued.customer is not None
    assert issued.customer.model_dump() == {
        "name": "Nia Okafor",
        "email": "ada@example.com",
        "company_name": None,
    }
    # Generated for the 6th and issued on the 12th: due from the day on which it is sent.
    assert (issued.invoice_generated_date, issued.due_date) == (
        day("2026-01-06"),
        day("2026-01-26"),
    )
    assert (mail.invoice_id, mail.sent_to, mail.cc_emails) == (
        issued.id,
        "ada@example.com",
        ["books@example.com"],
    )
    assert (mail.status, mail.dedupe_key) == ("PENDING", f"INVOICE_ISSUED:{issued.id}")
    assert [job for job in jobs.sent if job.name == DELIVER_JOB] == [
        Job(DELIVER_JOB, (str(mail.id),))
    ]


async def test_numbers_follow_each_other_in_one_block(
    db: TestDatabase, platform: FakePlatform
) -> None:
    await a_draft(db, platform, a_miner_owner(platform))
    for miners in (1, 0, 2):
        customer = a_miner_owner(platform, miners=miners)
        await a_template(
            db, platform, customer, unit_price=Decimal(1), start_date=day("2025-12-01")
        )

    await generate_on(services_of(db, platform), TODAY)
    by_hand = await a_draft(db, platform, a_miner_owner(platform))

    numbers = [invoice.invoice_number for invoice in await generated_invoices()]
    assert numbers == [f"20260112{serial:02d}" for serial in (2, 3, 4, 5)]
    assert by_hand.invoice_number == "2026011206", "what was skipped took no number"


async def test_a_run_that_makes_nothing_takes_no_number(
    db: TestDatabase, platform: FakePlatform
) -> None:
    await a_template(db, platform, a_miner_owner(platform))  # no price

    await generate_on(services_of(db, platform), TODAY)

    assert await AccountingCounter.find_all().count() == 0


async def test_a_counter_that_is_behind_the_invoices_is_caught_up(
    db: TestDatabase, platform: FakePlatform
) -> None:
    """As after a restore without the counters."""
    for _ in range(3):
        await a_draft(db, platform, a_miner_owner(platform))
    await AccountingCounter.find_all().delete()
    for _ in range(2):
        await a_template(db, platform, a_miner_owner(platform), unit_price=Decimal(1))

    run = await generate_on(services_of(db, platform), TODAY)

    numbers = [invoice.invoice_number for invoice in await generated_invoices()]
    assert run.counts.done == 2
    assert numbers == sorted(numbers)
    assert set(numbers).isdisjoint({"2026011201", "2026011202", "2026011203"})
    assert int(numbers[1]) == int(numbers[0]) + 1
    assert (await a_draft(db, platform, a_miner_owner(platform))).invoice_number > numbers[1]


async def test_a_batch_that_is_tried_again_keeps_its_numbers(db: TestDatabase) -> None:
    reserve = NumberReserve(width=2)
    keys = [(ObjectId(), period) for period in ("2026-01", "2026-02", "2026-03")]

    first = await reserve.take(TODAY, keys)
    again = await reserve.take(TODAY, keys)
    some = await reserve.take(TODAY, [keys[2], keys[0]])
    more = await reserve.take(TODAY, [*keys, (ObjectId(), "2026-01")])

    assert first == again == ["2026011201", "2026011202", "2026011203"]
    assert some == [first[2], first[0]]
    assert more == [*first, "2026011204"]
    assert await reserve.take(TODAY, []) == []
