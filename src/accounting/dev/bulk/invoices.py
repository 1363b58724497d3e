"""The documents of one invoice: itself, its payments, e-mails and trail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from hashlib import blake2b
from typing import Final, TypeAlias

from bson import Decimal128, ObjectId

from accounting.audit.rules import AuditAction, EntityType
from accounting.clock import as_stored_day, instant_to_json
from accounting.dev.bulk.history import Bill, Paid
from accounting.dev.bulk.platform import Customer
from accounting.dev.bulk.trail import (
    INVOICE,
    LEDGER_ROW,
    MAIL,
    PAYMENT,
    SYSTEM_ID,
    Chain,
    Document,
    Json,
    Rows,
    make_id,
    money,
    text_of,
)
from accounting.ids import ObjectId as DocumentId
from accounting.invoices.rules import InvoiceStatus, day_of_issue
from accounting.notifications.rules import NotificationType, dedupe_key
from accounting.pricing.rules import PriceSource

Event: TypeAlias = tuple[datetime, int, Callable[[], None]]

CANCEL_REASONS: Final = ("Billed twice", "Wrong number of miners", "Contract ended before")
REFUND_REASONS: Final = ("The hall had no power for a week", "Paid by mistake")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an invoice comes from: who looks after it, its template and the price it bills."""

    staff: ObjectId
    template_id: ObjectId | None
    price_id: ObjectId | None


class InvoiceStory:
    """One invoice, told event by event: each changes the document and leaves its entries."""

    def __init__(self, rows: Rows, bill: Bill, customer: Customer, origin: Origin) -> None:
        self._rows, self._bill, self._customer, self._origin = rows, bill, customer, origin
        self._staff = origin.staff
        self._id = make_id(bill.created_at, INVOICE, bill.contract.number, bill.month)
        self._chain = Chain(rows, EntityType.INVOICE, self._id)
        self._paid_cents = 0
        self._document: Document = {}
        # The fields that change, as JSON shows them.
        self._told: Json = {"status": "DRAFT", "amountPaid": "0.00"}

    def tell(self) -> None:
        """All of its events in the order of time; then the document as they left it."""
        self._create()
        for _, _, event in sorted(self._events(), key=lambda event: event[:2]):
            event()
        self._chain.end(self._bill.created_at)
        self._rows.add("invoices", self._document)

    def _events(self) -> Iterator[Event]:
        bill = self._bill
        if bill.issued_at:
            yield bill.issued_at, 0, self._issue
        if bill.overdue_at:
            yield bill.overdue_at, 0, self._become_overdue
        for number, paid in enumerate(bill.payments):
            yield paid.at, number, partial(self._pay, paid)
        if bill.cancelled_at:
            yield bill.cancelled_at, 0, self._cancel
        if bill.refunded_at:
            yield bill.refunded_at, 0, self._refund

    def _create(self) -> None:
        bill, origin = self._bill, self._origin
        source = PriceSource.TEMPLATE if origin.template_id else PriceSource.EXPLICIT
        if origin.price_id:
            source = PriceSource.PRICING_CONFIG
        created_by = SYSTEM_ID if origin.template_id else self._staff
        facts: Json = {
            "invoiceNumber": bill.number,
            "totalMiners": bill.miners,
            "status": "DRAFT",
            "billingPeriod": f"{bill.day:%Y-%m}",
        }
        pricing = {"source": source.value, "minerIdsCount": bill.miners}
        unit, total = text_of(bill.unit_cents), text_of(bill.total_cents)
        after = facts | {
            "userId": str(self._customer.id),
            "unitPrice": unit,
            "totalAmount": total,
            "amountPaid": "0.00",
            "invoiceGeneratedDate": bill.day.isoformat(),
            "dueDate": bill.due.isoformat(),
            "pricing": pricing
            | {"pricingConfigId": str(origin.price_id) if origin.price_id else None},
        }
        if origin.template_id:
            after["recurringInvoiceId"] = str(origin.template_id)
        action, what = AuditAction.INVOICE_CREATED, f"Invoice {bill.number} created"
        self._chain.add(action, bill.created_at, created_by, what, {}, after)
        self._document = facts | {
            "_id": self._id,
            "userId": self._customer.id,
            "unitPrice": Decimal128(unit),
            "totalAmount": Decimal128(total),
            "amountPaid": Decimal128("0.00"),
            "invoiceGeneratedDate": as_stored_day(bill.day),
            "issuedDate": None,
            "issuedDay": None,
            "dueDate": as_stored_day(bill.due),
            "paidDate": None,
            "recurringInvoiceId": origin.template_id,
            "customer": None,
            "pricing": pricing | {"pricingConfigId": origin.price_id},
            "cancelledDate": None,
            "cancelReason": None,
            "refundedDate": None,
            "refundReason": None,
            "createdBy": created_by,
            "updatedBy": None,
            "createdAt": bill.created_at,
            "updatedAt": bill.created_at,
            "version": 1,
        }

    def _issue(self) -> None:
        at, customer = self._bill.issued_at, self._customer
        assert at is not None
        named = {
            "name": customer.name,
            "email": customer.email,
            "companyName": customer.company_name,
        }
        told = {"status": "ISSUED", "issuedDate": instant_to_json(at), "customer": named}
        day = as_stored_day(day_of_issue(at))
        stored = {"status": "ISSUED", "issuedDate": at, "issuedDay": day, "customer": named}
        self._change(AuditAction.INVOICE_ISSUED, at, f"issued to {customer.name}", told, stored)
        if self._bill.is_mailed:
            self._mail(NotificationType.INVOICE_ISSUED, at, 1)

    def _become_overdue(self) -> None:
        at, action = self._bill.overdue_at, AuditAction.INVOICE_OVERDUE
        assert at is not None
        status = {"status": "OVERDUE"}
        what = f"overdue since {self._bill.due}"
        self._change(action, at, what, status, status, actor=SYSTEM_ID)

    def _pay(self, paid: Paid) -> None:
        bill, row_id = self._bill, ledger_row_id(paid.row, paid.row_at)
        link_id = make_id(paid.at, PAYMENT, paid.row[0], bill.month, paid.row[2])
        before = {"amountPaid": text_of(self._paid_cents)}
        self._paid_cents += paid.cents
        after = {"amountPaid": text_of(self._paid_cents)}
        facts = _payment_facts(paid, link_id, row_id)
        description = f"Payment of {text_of(paid.cents)} applied to invoice {bill.number}"
        action = AuditAction.PAYMENT_ADDED
        self._chain.add(action, paid.at, self._staff, description, before, after | facts)
        stored: Document = {"amountPaid": money(self._paid_cents)}
        if self._paid_cents == bill.total_cents:
            told = after | {"status": "PAID", "paidDate": instant_to_json(paid.at)}
            stored |= {"status": "PAID", "paidDate": paid.at}
            self._change(AuditAction.INVOICE_PAID, paid.at, "paid in full", told, stored)
        else:
            self._told |= after
            self._store(stored, paid.at, self._staff)
        self._rows.add(
            "invoice_payments",
            {
                "_id": link_id,
                "invoiceId": self._id,
                "costPaymentId": row_id,
                "amountPaid": money(paid.cents),
                "paidDate": paid.at,
                "refundedDate": bill.refunded_at,
                "createdBy": self._staff,
                "createdAt": paid.at,
            },
        )
        if bill.is_mailed:
            kind = NotificationType.PAYMENT_RECEIVED
            self._mail(kind, paid.at, 2 + paid.row[2], str(row_id))

    def _cancel(self) -> None:
        bill, at = self._bill, self._bill.cancelled_at
        assert at is not None
        reason = CANCEL_REASONS[bill.contract.number % len(CANCEL_REASONS)]
        ended = {"status": "CANCELLED", "cancelReason": reason}
        told = ended | {"cancelledDate": instant_to_json(at)}
        stored = ended | {"cancelledDate": at}
        self._change(AuditAction.INVOICE_CANCELLED, at, f"cancelled: {reason}", told, stored)
        if bill.is_mailed:
            self._mail(NotificationType.INVOICE_CANCELLED, at, 5)

    def _refund(self) -> None:
        bill, at, left = self._bill, self._bill.refunded_at, self._paid_cents
        assert at is not None
        for paid in bill.payments:
            row_id = ledger_row_id(paid.row, paid.row_at)
            link_id = make_id(paid.at, PAYMENT, paid.row[0], bill.month, paid.row[2])
            before = {"amountPaid": text_of(left)} | _payment_facts(paid, link_id, row_id)
            left -= paid.cents
            what = f"Payment of {text_of(paid.cents)} refunded from invoice {bill.number}"
            action, after = AuditAction.PAYMENT_REFUNDED, {"amountPaid": text_of(left)}
            self._chain.add(action, at, self._staff, what, before, after)
        reason = REFUND_REASONS[bill.contract.number % len(REFUND_REASONS)]
        ended = {"status": InvoiceStatus.REFUNDED.value, "refundReason": reason}
        told = ended | {"amountPaid": text_of(left), "refundedDate": instant_to_json(at)}
        stored = ended | {"amountPaid": money(left), "refundedDate": at}
        self._change(AuditAction.INVOICE_REFUNDED, at, f"refunded: {reason}", told, stored)

    def _change(
        self,
        action: AuditAction,
        at: datetime,
        what: str,
        told: Json,
        stored: Document,
        *,
        actor: ObjectId | None = None,
    ) -> None:
        actor = actor or self._staff
        before = {name: self._told.get(name) for name in told}
        self._told |= told
        self._chain.add(action, at, actor, f"Invoice {self._bill.number} {what}", before, told)
        self._store(stored, at, actor)

    def _store(self, stored: Document, at: datetime, actor: ObjectId) -> None:
        stamps = {"updatedBy": actor, "updatedAt": at, "version": self._document["version"] + 1}
        self._document |= stored | stamps

    def _mail(
        self, kind: NotificationType, queued_at: datetime, number: int, step: str = ""
    ) -> None:
        """An e-mail that went out within a minute."""
        mail_id = make_id(queued_at, MAIL, self._bill.contract.number, self._bill.month, number)
        at = queued_at + timedelta(seconds=5 + self._bill.contract.number % 50)
        message_id = f"<{mail_id}@localhost>"
        self._chain.add(
            *(AuditAction.EMAIL_SENT, at, SYSTEM_ID),
            f"E-mail {kind} sent to {self._customer.email}",
            {"status": "PENDING", "sentAt": None, "messageId": None},
            {
                "status": "SENT",
                "sentAt": instant_to_json(at),
                "messageId": message_id,
                "notificationId": str(mail_id),
            },
        )
        self._rows.add(
            "invoice_notifications",
            {
                "_id": mail_id,
                "invoiceId": self._id,
                "notificationType": kind.value,
                "sentTo": self._customer.email,
                "ccEmails": [],
                "sentAt": at,
                "isRead": False,
                "openedAt": None,
                "status": "SENT",
                "failureReason": None,
                "retryCount": 0,
                "nextRetryAt": None,
                "leaseUntil": None,
                "handedOverAt": at,
                "runId": None,
                "dedupeKey": dedupe_key(kind, DocumentId(self._id), step),
                "messageId": message_id,
                # Not secret, as nothing in the demo is: whoever knows the seed can make it.
                "viewToken": blake2b(mail_id.binary, digest_size=24).hexdigest(),
                "createdAt": queued_at,
            },
        )


def ledger_row_id(row: tuple[int, int, int], at: datetime) -> ObjectId:
    return make_id(at, LEDGER_ROW, *row)


def _payment_facts(paid: Paid, link_id: ObjectId, row_id: ObjectId) -> Json:
    return {
        "paymentId": str(link_id),
        "costPaymentId": str(row_id),
        "appliedAmount": text_of(paid.cents),
        "paidDate": instant_to_json(paid.at),
    }
