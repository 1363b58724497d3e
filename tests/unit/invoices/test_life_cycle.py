"""Update, delete, cancel, refund, overdue, reopen: in memory, and again on the real server."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest

from accounting.audit.rules import AuditAction, EntityType
from accounting.audit.service import history
from accounting.db.document import StaleVersion
from accounting.ids import ObjectId, new_id
from accounting.invoices.documents import Invoice, get_invoice
from accounting.invoices.drafts import DraftChanges, delete_invoice, update_invoice
from accounting.invoices.rules import (
    HasPayments,
    InvalidTransition,
    InvoiceNotFound,
    InvoiceStatus,
)
from accounting.invoices.service import cancel_invoice, issue_invoice, mark_overdue
from accounting.invoices.settlement import (
    allocate_payments,
    record_payment,
    refund_invoice,
    remove_invoice_payment,
)
from accounting.money import AmountTooLarge
from accounting.notifications.documents import InvoiceNotification
from accounting.payments.documents import InvoicePayment, PaymentAllocation
from accounting.payments.rules import PaymentNotFound, PaymentRefunded
from accounting.platform.rules import PlatformUser
from accounting.pricing.rules import PriceSource
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
from fakes import FakePlatform, SettableClock, TestDatabase


async def pay(
    db: TestDatabase, platform: FakePlatform, invoice: Invoice, amount: str = "500.00"
) -> InvoicePayment:
    customer = platform.users[invoice.user_id]
    row = platform.add_cost_payment(a_cost_payment(customer, amount))
    _, payment = await db.run(ADMIN, record_payment, platform, ObjectId(invoice.id), row.id)
    return payment


async def actions_of(invoice: Invoice) -> list[AuditAction]:
    return [entry.action for entry in await history(EntityType.INVOICE, ObjectId(invoice.id))]


async def allocated_of(payment: InvoicePayment) -> Decimal:
    guard = await PaymentAllocation.get(payment.cost_payment_id)
    assert guard is not None
    return guard.allocated


async def test_a_draft_changes_and_its_total_follows(
    db: TestDatabase, platform: FakePlatform
) -> None:
    draft = await a_draft(db, platform, a_customer())
    changes = DraftChanges({"total_miners": 3, "unit_price": Decimal("33.33")})

    changed = await db.run(ADMIN, update_invoice, ObjectId(draft.id), changes)

    assert await get_invoice(ObjectId(draft.id)) == changed
    assert (changed.total_miners, changed.total_amount) == (3, Decimal("99.99"))
    assert (changed.version, changed.updated_by) == (2, ADMIN.user_id)
    assert changed.pricing is not None
    assert changed.pricing.source is PriceSource.EXPLICIT
    entry = (await history(EntityType.INVOICE, ObjectId(draft.id)))[-1]
    assert entry.action is AuditAction.INVOICE_UPDATED
    assert entry.changes is not None
    assert entry.changes["before"]["totalAmount"] == "500.00"
    assert entry.changes["after"]["totalAmount"] == "99.99"
    assert "dueDate" not in entry.changes["after"]


async def test_an_update_that_changes_nothing_leaves_no_trace(
    db: TestDatabase, platform: FakePlatform
) -> None:
    draft = await a_draft(db, platform, a_customer())
    changes = DraftChanges({"total_miners": 5, "due_date": draft.due_date})

    unchanged = await db.run(ADMIN, update_invoice, ObjectId(draft.id), changes)

    assert unchanged == draft
    assert await actions_of(draft) == [AuditAction.INVOICE_CREATED]


async def test_an_update_over_the_largest_amount_changes_nothing(
    db: TestDatabase, platform: FakePlatform
) -> None:
    draft = await a_draft(db, platform, a_customer())
    changes = DraftChanges({"total_miners": 1_000_000, "unit_price": Decimal("99999999.99")})

    with pytest.raises(AmountTooLarge):
        await db.run(ADMIN, update_invoice, ObjectId(draft.id), changes)

    assert await get_invoice(ObjectId(draft.id)) == draft


async def test_a_stale_version_is_refused(db: TestDatabase, platform: FakePlatform) -> None:
    draft = await a_draft(db, platform, a_customer())
    changes = DraftChanges({"total_miners": 3})
    await db.run(ADMIN, update_invoice, ObjectId(draft.id), changes, expected_version=1)

    with pytest.raises(StaleVersion) as refused:
        await db.run(ADMIN, update_invoice, ObjectId(draft.id), changes, expected_version=1)

    assert refused.value.facts == {"currentVersion": 2}


async def test_an_issued_invoice_is_neither_updated_nor_deleted(
    db: TestDatabase, platform: FakePlatform
) -> None:
    invoice = await an_issued_invoice(db, platform, a_customer())

    with pytest.raises(InvalidTransition):
        await db.run(ADMIN, update_invoice, ObjectId(invoice.id), DraftChanges({"total_miners": 3}))
    with pytest.raises(InvalidTransition):
        await db.run(ADMIN, delete_invoice, ObjectId(invoice.id))


async def test_a_deleted_draft_is_gone_and_its_last_state_is_told(
    db: TestDatabase, platform: FakePlatform
) -> None:
    customer = a_customer()
    draft = await a_draft(db, platform, customer)

    await db.run(ADMIN, delete_invoice, ObjectId(draft.id))

    with pytest.raises(InvoiceNotFound):
        await get_invoice(ObjectId(draft.id))
    entry = (await history(EntityType.INVOICE, ObjectId(draft.id)))[-1]
    assert entry.action is AuditAction.INVOICE_DELETED
    assert entry.changes is not None
    assert entry.changes["before"]["invoiceNumber"] == "2026011201"
    assert entry.changes["after"] == {}
    assert (await a_draft(db, platform, customer)).invoice_number == "2026011202"


async def test_a_deleted_cancelled_invoice_takes_its_mails_along(
    db: TestDatabase, platform: FakePlatform
) -> None:
    invoice = await an_issued_invoice(db, platform, a_customer())
    await db.run(ADMIN, cancel_invoice, ObjectId(invoice.id), "wrong customer")

    await db.run(ADMIN, delete_invoice, ObjectId(invoice.id))

    assert await InvoiceNotification.find_all().count() == 0
    assert await Invoice.find_all().count() == 0


async def test_cancelling_keeps_number_and_reason_and_is_final(
    db: TestDatabase, platform: FakePlatform
) -> None:
    invoice = await an_issued_invoice(db, platform, a_customer())

    cancelled = await db.run(ADMIN, cancel_invoice, ObjectId(invoice.id), "wrong customer")

    assert cancelled.status is InvoiceStatus.CANCELLED
    assert (cancelled.cancelled_date, cancelled.cancel_reason) == (NOW, "wrong customer")
    assert cancelled.invoice_number == invoice.invoice_number
    with pytest.raises(InvalidTransition):
        await db.run(ADMIN, issue_invoice, platform, TERMS, ObjectId(invoice.id))


async def test_an_invoice_with_payments_is_not_cancelled(
    db: TestDatabase, platform: FakePlatform
) -> None:
    invoice = await an_issued_invoice(db, platform, a_customer())
    await pay(db, platform, invoice, "0.01")

    with pytest.raises(HasPayments, match=r"payments of 0\.01"):
        await db.run(ADMIN, cancel_invoice, ObjectId(invoice.id), "wrong customer")


async def test_a_refund_frees_every_payment_and_is_final(
    db: TestDatabase, platform: FakePlatform
) -> None:
    invoice = await an_issued_invoice(db, platform, a_customer())
    payments = [await pay(db, platform, invoice, amount) for amount in ("300.00", "200.00")]

    refunded = await db.run(ADMIN, refund_invoice, ObjectId(invoice.id), "never hosted")

    assert refunded.status is InvoiceStatus.REFUNDED
    assert (refunded.refunded_date, refunded.refund_reason) == (NOW, "never hosted")
    assert refunded.amount_paid == Decimal("0.00")
    for payment in payments:
        assert await allocated_of(payment) == Decimal("0.00")
        stored = await InvoicePayment.get(payment.id)
        assert stored is not None
        assert stored.refunded_date == NOW
        with pytest.raises(PaymentRefunded):
            await db.run(ADMIN, remove_invoice_payment, ObjectId(payment.id), TERMS.zone)
    assert (await actions_of(invoice))[-3:] == [
        AuditAction.PAYMENT_REFUNDED,
        AuditAction.PAYMENT_REFUNDED,
        AuditAction.INVOICE_REFUNDED,
    ]
    with pytest.raises(InvalidTransition):
        await db.run(ADMIN, refund_invoice, ObjectId(invoice.id), "again")


async def test_a_refunded_cost_payment_can_pay_again(
    db: TestDatabase, platform: FakePlatform
) -> None:
    customer = a_customer()
    first = await an_issued_invoice(db, platform, customer)
    payment = await pay(db, platform, first)
    await db.run(ADMIN, refund_invoice, ObjectId(first.id), "never hosted")
    second = await an_issued_invoice(db, platform, customer)

    paid, _ = await db.run(
        ADMIN, record_payment, platform, ObjectId(second.id), payment.cost_payment_id
    )

    assert paid.status is InvoiceStatus.PAID


@pytest.mark.parametrize(
    ("days", "status"), [(30, InvoiceStatus.ISSUED), (31, InvoiceStatus.OVERDUE)]
)
async def test_removing_a_payment_opens_a_paid_invoice_again(
    db: TestDatabase,
    platform: FakePlatform,
    clock: SettableClock,
    days: int,
    status: InvoiceStatus,
) -> None:
    invoice = await an_issued_invoice(db, platform, a_customer())
    await pay(db, platform, invoice, "300.00")
    last = await pay(db, platform, invoice, "200.00")
    clock.move(days=days)

    opened, _ = await db.run(ADMIN, remove_invoice_payment, ObjectId(last.id), TERMS.zone)

    assert (opened.status, opened.paid_date) == (status, None)
    assert opened.amount_paid == Decimal("300.00")
    assert await allocated_of(last) == Decimal("0.00")
    assert await InvoicePayment.get(last.id) is None
    assert (await actions_of(invoice))[-2:] == [
        AuditAction.PAYMENT_REMOVED,
        AuditAction.INVOICE_REOPENED,
    ]
    with pytest.raises(PaymentNotFound):
        await db.run(ADMIN, remove_invoice_payment, ObjectId(last.id), TERMS.zone)


async def test_removing_a_part_payment_reopens_nothing(
    db: TestDatabase, platform: FakePlatform
) -> None:
    invoice = await an_issued_invoice(db, platform, a_customer())
    part = await pay(db, platform, invoice, "300.00")

    left, _ = await db.run(ADMIN, remove_invoice_payment, ObjectId(part.id), TERMS.zone)

    assert (left.status, left.amount_paid) == (InvoiceStatus.ISSUED, Decimal("0.00"))
    assert (await actions_of(invoice))[-1] is AuditAction.PAYMENT_REMOVED


async def test_invoices_are_overdue_from_the_day_after_their_due_date_once(
    db: TestDatabase, platform: FakePlatform, clock: SettableClock
) -> None:
    customer = a_customer()
    due_today = await an_issued_invoice(db, platform, customer, due_date=TODAY)
    paid = await an_issued_invoice(db, platform, customer, due_date=TODAY)
    await pay(db, platform, paid)
    draft = await a_draft(db, platform, customer, due_date=TODAY)
    later = await an_issued_invoice(db, platform, customer, due_date=TODAY + timedelta(days=1))

    assert await mark_overdue(db, clock().date()) == 0
    clock.move(days=1)
    assert await mark_overdue(db, clock().date()) == 1
    assert await mark_overdue(db, clock().date()) == 0

    statuses = {
        name: (await get_invoice(ObjectId(invoice.id))).status
        for name, invoice in (("due", due_today), ("paid", paid), ("draft", draft), ("l", later))
    }
    assert statuses == {
        "due": InvoiceStatus.OVERDUE,
        "paid": InvoiceStatus.PAID,
        "draft": InvoiceStatus.DRAFT,
        "l": InvoiceStatus.ISSUED,
    }
    entry = (await history(EntityType.INVOICE, ObjectId(due_today.id)))[-1]
    assert entry.action is AuditAction.INVOICE_OVERDUE
    assert str(entry.user_id) == "0" * 24


async def test_an_overdue_invoice_can_be_paid(
    db: TestDatabase, platform: FakePlatform, clock: SettableClock
) -> None:
    invoice = await an_issued_invoice(db, platform, a_customer())
    clock.move(days=31)
    await mark_overdue(db, clock().date())

    await pay(db, platform, invoice)

    assert (await get_invoice(ObjectId(invoice.id))).status is InvoiceStatus.PAID


async def open_invoices(
    db: TestDatabase, platform: FakePlatform, customer: PlatformUser, due: list[date]
) -> list[Invoice]:
    facts: dict[str, Any] = {"total_miners": 1, "unit_price": Decimal("100.00")}
    return [await an_issued_invoice(db, platform, customer, due_date=day, **facts) for day in due]


async def test_all_free_payments_settle_the_oldest_due_first(
    db: TestDatabase, platform: FakePlatform
) -> None:
    customer = a_customer()
    due = [TODAY + timedelta(days=days) for days in (30, 10, 20)]
    late, early, middle = await open_invoices(db, platform, customer, due)
    for amount in ("60.00", "90.00"):
        platform.add_cost_payment(a_cost_payment(customer, amount))
    platform.add_cost_payment(a_cost_payment(a_customer(), "999.00"))

    made = await db.run(ADMIN, allocate_payments, platform, customer.id)

    assert [(item.invoice.id, str(item.payment.amount_paid)) for item in made] == [
        (early.id, "60.00"),
        (early.id, "40.00"),
        (middle.id, "50.00"),
    ]
    paid = {
        name: (await get_invoice(ObjectId(invoice.id))).amount_paid
        for name, invoice in (("early", early), ("middle", middle), ("late", late))
    }
    assert [str(amount) for amount in paid.values()] == ["100.00", "50.00", "0.00"]
    assert await db.run(ADMIN, allocate_payments, platform, customer.id) == []


async def test_a_pair_that_is_linked_already_is_passed_over(
    db: TestDatabase, platform: FakePlatform
) -> None:
    customer = a_customer()
    due = [TODAY + timedelta(days=days) for days in (10, 20)]
    first, second = await open_invoices(db, platform, customer, due)
    row = platform.add_cost_payment(a_cost_payment(customer, "80.00"))
    await db.run(
        ADMIN, record_payment, platform, ObjectId(first.id), row.id, amount=Decimal("30.00")
    )

    made = await db.run(ADMIN, allocate_payments, platform, customer.id)

    assert [(item.invoice.id, str(item.payment.amount_paid)) for item in made] == [
        (second.id, "50.00")
    ]


async def test_an_unknown_payment_is_not_found(db: TestDatabase) -> None:
    with pytest.raises(PaymentNotFound):
        await db.run(ADMIN, remove_invoice_payment, new_id(), TERMS.zone)
