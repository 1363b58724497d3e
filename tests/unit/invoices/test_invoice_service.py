"""Use cases on an in-memory MongoDB, and again on the real one."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from accounting.audit.rules import AuditAction, EntityType
from accounting.audit.service import history
from accounting.clock import as_stored_day
from accounting.ids import ObjectId, new_id
from accounting.invoices.documents import get_invoice
from accounting.invoices.rules import (
    BillingTerms,
    CostPaymentOfAnotherCustomer,
    InvalidTransition,
    InvoiceNotFound,
    InvoiceStatus,
    NoActiveMiners,
)
from accounting.invoices.service import issue_invoice
from accounting.invoices.settlement import record_payment
from accounting.money import AmountTooLarge
from accounting.notifications.documents import InvoiceNotification
from accounting.notifications.rules import NotificationStatus
from accounting.payments.documents import InvoicePayment, PaymentAllocation
from accounting.payments.rules import CostPaymentSpent, PaymentAlreadyApplied
from accounting.platform.rules import (
    CostPaymentNotFound,
    CostPaymentUnusable,
    CustomerNotFound,
)
from accounting.pricing.documents import CustomerPricingConfig
from accounting.pricing.rules import NoPriceInEffect, PriceSource
from builders import (
    ADMIN,
    NOW,
    TERMS,
    TODAY,
    a_cost_payment,
    a_customer,
    a_draft,
    an_issued_invoice,
)
from fakes import FakePlatform, JobList, SettableClock, TestDatabase


async def a_price(
    customer_id: ObjectId, price: str, start: date, end: date | None = None
) -> CustomerPricingConfig:
    config = CustomerPricingConfig(
        id=new_id(),
        user_id=customer_id,
        default_unit_price=Decimal(price),
        effective_from=start,
        effective_to=end,
        created_by=ADMIN.user_id,
        created_at=NOW,
        updated_at=NOW,
    )
    await config.insert()
    return config


async def test_a_draft_has_number_total_and_due_date(
    db: TestDatabase, platform: FakePlatform
) -> None:
    draft = await a_draft(db, platform, a_customer(), total_miners=3, unit_price=Decimal("33.33"))

    stored = await get_invoice(ObjectId(draft.id))
    assert stored == draft
    assert stored.invoice_number == "2026011201"
    assert stored.total_amount == Decimal("99.99")
    assert stored.status is InvoiceStatus.DRAFT
    assert stored.invoice_generated_date == TODAY
    assert stored.due_date == date(2026, 2, 11)
    assert stored.created_by == ADMIN.user_id
    assert stored.version == 1


async def test_numbers_of_a_day_are_consecutive_and_the_next_day_starts_anew(
    db: TestDatabase, platform: FakePlatform, clock: SettableClock
) -> None:
    customer = a_customer()
    first = await a_draft(db, platform, customer)
    second = await a_draft(db, platform, customer)
    clock.move(days=1)
    third = await a_draft(db, platform, customer)

    numbers = [first.invoice_number, second.invoice_number, third.invoice_number]
    assert numbers == ["2026011201", "2026011202", "2026011301"]


async def test_the_number_follows_the_day_of_the_business_zone(
    db: TestDatabase, platform: FakePlatform, clock: SettableClock
) -> None:
    clock.now = datetime(2026, 1, 12, 10, 0, tzinfo=UTC)
    terms = BillingTerms(zone=ZoneInfo("Pacific/Kiritimati"))

    draft = await a_draft(db, platform, a_customer(), terms=terms)

    assert draft.invoice_number == "2026011301"
    assert draft.invoice_generated_date == date(2026, 1, 13)


async def test_miners_are_counted_when_left_out(db: TestDatabase, platform: FakePlatform) -> None:
    customer = a_customer()
    platform.miner_statuses[customer.id] = ["AUTO", "ACTIVE", "OFFLINE"]

    draft = await a_draft(db, platform, customer, total_miners=None)

    assert draft.total_miners == 2
    assert draft.pricing is not None
    assert draft.pricing.miner_ids_count == 2


async def test_no_miners_at_all_is_refused_with_the_field(
    db: TestDatabase, platform: FakePlatform
) -> None:
    with pytest.raises(NoActiveMiners) as refused:
        await a_draft(db, platform, a_customer(), total_miners=None)

    assert refused.value.errors[0][0] == "totalMiners"


async def test_the_price_in_effect_is_used_when_left_out(
    db: TestDatabase, platform: FakePlatform
) -> None:
    customer = a_customer()
    await a_price(customer.id, "50.00", date(2025, 1, 1), TODAY)
    current = await a_price(customer.id, "60.00", TODAY)

    draft = await a_draft(db, platform, customer, unit_price=None)

    assert draft.unit_price == Decimal("60.00")
    assert draft.pricing is not None
    assert draft.pricing.source is PriceSource.PRICING_CONFIG
    assert draft.pricing.pricing_config_id == current.id


async def test_a_price_ends_before_its_last_day(db: TestDatabase, platform: FakePlatform) -> None:
    customer = a_customer()
    await a_price(customer.id, "50.00", date(2025, 1, 1), TODAY)

    with pytest.raises(NoPriceInEffect):
        await a_draft(db, platform, customer, unit_price=None)
    last_day = TODAY - timedelta(days=1)
    draft = await a_draft(db, platform, customer, unit_price=None, generated_date=last_day)
    assert draft.unit_price == Decimal("50.00")


@pytest.mark.parametrize("changes", [{"is_deleted": True}, {"role": ADMIN.role}])
async def test_only_living_customers_are_billed(
    db: TestDatabase, platform: FakePlatform, changes: dict[str, object]
) -> None:
    with pytest.raises(CustomerNotFound):
        await a_draft(db, platform, a_customer(**changes))


async def test_a_refused_draft_takes_no_number(db: TestDatabase, platform: FakePlatform) -> None:
    customer = a_customer()
    with pytest.raises(AmountTooLarge):
        await a_draft(db, platform, customer, total_miners=1_000, unit_price=Decimal("99999999.99"))

    draft = await a_draft(db, platform, customer)
    assert draft.invoice_number == "2026011201"


async def test_issuing_freezes_the_customer_and_queues_one_mail(
    db: TestDatabase, platform: FakePlatform, jobs: JobList
) -> None:
    customer = a_customer()
    invoice = await an_issued_invoice(db, platform, customer)
    platform.add_user(a_customer(id=customer.id, name="Renamed", email="new@example.com"))

    stored = await get_invoice(ObjectId(invoice.id))
    assert stored.status is InvoiceStatus.ISSUED
    assert stored.issued_date == NOW
    assert stored.version == 2
    assert stored.customer is not None
    assert stored.customer.name == "Ada Holm"
    [mail] = await InvoiceNotification.find_all().to_list()
    assert (mail.sent_to, mail.status) == ("ada@example.com", NotificationStatus.PENDING)
    assert [(job.name, job.args) for job in jobs.sent] == [
        ("papers.freeze", (str(invoice.id),)),
        ("notifications.deliver", (str(mail.id),)),
    ]


@pytest.mark.parametrize(
    ("due", "at_issue"),
    [(None, date(2026, 3, 28)), (date(2026, 2, 1), date(2026, 2, 1))],
)
async def test_a_default_due_date_starts_anew_at_the_issue_and_a_given_one_stays(
    db: TestDatabase,
    platform: FakePlatform,
    clock: SettableClock,
    due: date | None,
    at_issue: date,
) -> None:
    draft = await a_draft(db, platform, a_customer(), due_date=due)
    clock.move(days=45)

    issued = await db.run(ADMIN, issue_invoice, platform, TERMS, ObjectId(draft.id))

    assert issued.due_date == at_issue


async def test_no_mail_is_queued_when_it_is_not_wanted(
    db: TestDatabase, platform: FakePlatform, jobs: JobList
) -> None:
    draft = await a_draft(db, platform, a_customer())

    await db.run(ADMIN, issue_invoice, platform, TERMS, ObjectId(draft.id), skip_email=True)

    assert await InvoiceNotification.find_all().to_list() == []
    assert [job.name for job in jobs.sent] == ["papers.freeze"]


async def test_second_issue_is_refused(db: TestDatabase, platform: FakePlatform) -> None:
    invoice = await an_issued_invoice(db, platform, a_customer())

    with pytest.raises(InvalidTransition):
        await db.run(ADMIN, issue_invoice, platform, TERMS, ObjectId(invoice.id))


async def test_two_parts_settle_an_invoice(db: TestDatabase, platform: FakePlatform) -> None:
    customer = a_customer()
    invoice = await an_issued_invoice(db, platform, customer)
    first = platform.add_cost_payment(a_cost_payment(customer, "300.00"))
    second = platform.add_cost_payment(a_cost_payment(customer, "250.00"))
    invoice_id = ObjectId(invoice.id)

    part, _ = await db.run(ADMIN, record_payment, platform, invoice_id, first.id)
    assert (part.status, part.amount_paid) == (InvoiceStatus.ISSUED, Decimal("300.00"))
    paid_on = datetime(2026, 1, 20, tzinfo=UTC)
    whole, payment = await db.run(
        ADMIN, record_payment, platform, invoice_id, second.id, paid_date=paid_on
    )

    assert (whole.status, whole.amount_paid) == (InvoiceStatus.PAID, Decimal("500.00"))
    assert whole.paid_date == paid_on
    assert payment.amount_paid == Decimal("200.00")
    guard = await PaymentAllocation.get(second.id)
    assert guard is not None
    assert guard.allocated == Decimal("200.00")
    links = await InvoicePayment.find_all().to_list()
    assert sum(link.amount_paid for link in links) == whole.amount_paid


async def test_one_cost_payment_is_split_over_invoices_and_not_more(
    db: TestDatabase, platform: FakePlatform
) -> None:
    customer = a_customer()
    cost_payment = platform.add_cost_payment(a_cost_payment(customer, "700.00"))
    first = await an_issued_invoice(db, platform, customer)
    second = await an_issued_invoice(db, platform, customer)
    third = await an_issued_invoice(db, platform, customer)

    for invoice, expected in ((first, "500.00"), (second, "200.00")):
        _, payment = await db.run(
            ADMIN, record_payment, platform, ObjectId(invoice.id), cost_payment.id
        )
        assert payment.amount_paid == Decimal(expected)
    with pytest.raises(CostPaymentSpent):
        await db.run(ADMIN, record_payment, platform, ObjectId(third.id), cost_payment.id)


async def test_the_same_pair_is_linked_once(db: TestDatabase, platform: FakePlatform) -> None:
    customer = a_customer()
    invoice = await an_issued_invoice(db, platform, customer)
    cost_payment = platform.add_cost_payment(a_cost_payment(customer, "500.00"))
    arguments = (platform, ObjectId(invoice.id), cost_payment.id)
    await db.run(ADMIN, record_payment, *arguments, amount=Decimal("100.00"))

    with pytest.raises(PaymentAlreadyApplied):
        await db.run(ADMIN, record_payment, *arguments, amount=Decimal("100.00"))


async def test_a_draft_and_a_paid_invoice_take_no_payment(
    db: TestDatabase, platform: FakePlatform
) -> None:
    customer = a_customer()
    draft = await a_draft(db, platform, customer)
    paid = await an_issued_invoice(db, platform, customer)
    cost_payment = platform.add_cost_payment(a_cost_payment(customer, "900.00"))
    await db.run(ADMIN, record_payment, platform, ObjectId(paid.id), cost_payment.id)
    other = platform.add_cost_payment(a_cost_payment(customer, "900.00"))

    for invoice in (draft, paid):
        with pytest.raises(InvalidTransition):
            await db.run(ADMIN, record_payment, platform, ObjectId(invoice.id), other.id)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"type": "ADJUSTMENT"}, "cost_payment_wrong_type"),
        ({"type": "ELECTRICITY_CHARGES", "amount": "-10.00"}, "cost_payment_wrong_type"),
        ({"amount": "-500.00"}, "cost_payment_not_positive"),
        ({"amount": "0.00"}, "cost_payment_not_positive"),
        ({"is_deleted": True}, "cost_payment_deleted"),
        ({"is_readable": False}, "cost_payment_unusable"),
    ],
)
async def test_only_live_positive_payments_of_the_ledger_pay(
    db: TestDatabase, platform: FakePlatform, changes: dict[str, Any], code: str
) -> None:
    customer = a_customer()
    invoice = await an_issued_invoice(db, platform, customer)
    row = platform.add_cost_payment(a_cost_payment(customer, **changes))

    with pytest.raises(CostPaymentUnusable) as refused:
        await db.run(ADMIN, record_payment, platform, ObjectId(invoice.id), row.id)
    assert refused.value.code == code


async def test_an_unknown_and_a_foreign_cost_payment_are_refused(
    db: TestDatabase, platform: FakePlatform
) -> None:
    invoice = await an_issued_invoice(db, platform, a_customer())
    foreign = platform.add_cost_payment(a_cost_payment(a_customer(), "500.00"))

    with pytest.raises(CostPaymentOfAnotherCustomer):
        await db.run(ADMIN, record_payment, platform, ObjectId(invoice.id), foreign.id)
    with pytest.raises(CostPaymentNotFound):
        await db.run(ADMIN, record_payment, platform, ObjectId(invoice.id), new_id())


async def test_an_unknown_invoice_is_not_found(db: TestDatabase, platform: FakePlatform) -> None:
    with pytest.raises(InvoiceNotFound):
        await db.run(ADMIN, issue_invoice, platform, TERMS, new_id())


async def test_the_trail_tells_the_whole_story_as_a_chain(
    db: TestDatabase, platform: FakePlatform
) -> None:
    customer = a_customer()
    invoice = await an_issued_invoice(db, platform, customer)
    cost_payment = platform.add_cost_payment(a_cost_payment(customer, "500.00"))
    await db.run(ADMIN, record_payment, platform, ObjectId(invoice.id), cost_payment.id)

    trail = await history(EntityType.INVOICE, ObjectId(invoice.id))

    assert [entry.action for entry in trail] == [
        AuditAction.INVOICE_CREATED,
        AuditAction.INVOICE_ISSUED,
        AuditAction.PAYMENT_ADDED,
        AuditAction.INVOICE_PAID,
    ]
    assert [entry.seq for entry in trail] == [1, 2, 3, 4]
    assert all(entry.hash == entry.computed_hash() for entry in trail)
    hashes = [entry.hash for entry in trail]
    assert [entry.prev_hash for entry in trail] == ["0" * 64, *hashes[:-1]]
    issued = trail[1]
    assert issued.changes is not None
    assert issued.changes["before"]["status"] == "DRAFT"
    assert issued.changes["after"]["status"] == "ISSUED"
    assert "totalAmount" not in issued.changes["after"]
    assert (issued.user_id, issued.ip_address) == (ADMIN.user_id, "192.0.2.7")
    assert (issued.user_agent, issued.request_id) == ("tests", "request-1")


def test_a_day_is_kept_as_midnight_utc() -> None:
    assert as_stored_day(TODAY) == datetime(2026, 1, 12, tzinfo=UTC)
