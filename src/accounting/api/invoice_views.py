"""What an invoice looks like in answers: one shape for GET and for every write."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Annotated, Any, Final, TypeAlias, TypeVar

from pydantic import Field, WithJsonSchema

from accounting.actor import SYSTEM_USER_ID, Actor
from accounting.api.schemas import (
    NULL_EXAMPLE,
    BodyOut,
    CompanyOut,
    CountOut,
    CursorOut,
    DayOut,
    EmailOut,
    IdOut,
    InstantOut,
    JsonObject,
    MoneyOut,
    NameOut,
    NumberOut,
    Pagination,
    PeriodOut,
    text_schema,
    to_day,
)
from accounting.audit.documents import AuditLog
from accounting.audit.rules import AuditAction, EntityType
from accounting.db.database import Session
from accounting.db.fields import to_decimal
from accounting.db.found import Found
from accounting.invoices.documents import Invoice
from accounting.invoices.rules import InvoiceId, InvoiceStatus, balance_due, is_overdue
from accounting.notifications.documents import list_notifications
from accounting.notifications.rules import (
    NotificationStatus,
    NotificationType,
    StatementTone,
)
from accounting.payments.service import list_payments
from accounting.platform.reader import UserFinder
from accounting.platform.rules import PlatformUser, UserId
from accounting.pricing.rules import PriceSource

NotYet: TypeAlias = Annotated[InstantOut | None, NULL_EXAMPLE]
VersionOut: TypeAlias = Annotated[int, Field(ge=1, examples=[3])]
V = TypeVar("V", bound=BodyOut)


class UserView(BodyOut):
    """The customer, as the platform knows him now."""

    id: IdOut
    name: NameOut
    email: EmailOut
    company_name: CompanyOut | None


class StaffView(BodyOut):
    """A member of staff; shown to admins only."""

    id: IdOut
    name: Annotated[str, Field(examples=["Alex Admin"])]
    email: Annotated[str, Field(examples=["alex@example.com"])]


class CustomerView(BodyOut):
    """The customer as he was called when the invoice was issued."""

    name: NameOut
    email: EmailOut
    company_name: CompanyOut | None


class PricingView(BodyOut):
    """Where the price came from."""

    source: PriceSource
    pricing_config_id: Annotated[IdOut | None, NULL_EXAMPLE]
    miner_ids_count: Annotated[CountOut | None, Field(examples=[5])]


class PaymentView(BodyOut):
    """A cost payment, or a part of it, applied to an invoice."""

    id: IdOut
    invoice_id: IdOut
    cost_payment_id: IdOut
    amount_paid: Annotated[MoneyOut, Field(examples=["250.00"])]
    paid_date: InstantOut
    refunded_date: NotYet
    created_by: IdOut | None
    created_at: InstantOut


class NotificationView(BodyOut):
    """An e-mail about an invoice."""

    id: IdOut
    invoice_id: IdOut
    notification_type: NotificationType
    statement_tone: Annotated[
        StatementTone | None,
        Field(
            description=(
                "Set where the e-mail is a statement of the customer's whole account; its invoice "
                "is only the one that it hangs on."
            ),
            examples=[None],
        ),
    ]
    sent_to: EmailOut
    cc_emails: list[Annotated[str, Field(examples=["billing@example.com"])]]
    status: Annotated[NotificationStatus, Field(examples=["SENT"])]
    sent_at: InstantOut | None
    handed_over_at: Annotated[
        InstantOut | None,
        Field(
            description=(
                "When its content went to the mail server, unless that refused it. On a FAILED one "
                "it says that nobody knows whether it has arrived."
            )
        ),
    ]
    is_read: bool
    opened_at: NotYet
    failure_reason: Annotated[str | None, NULL_EXAMPLE]
    retry_count: CountOut
    next_retry_at: NotYet
    created_at: InstantOut


class InvoiceView(BodyOut):
    """An invoice. `isOverdue` and `balanceDue` are computed at the moment of the answer."""

    id: IdOut
    invoice_number: NumberOut
    user_id: IdOut
    user: UserView | None
    total_miners: Annotated[int, Field(ge=1, examples=[5])]
    unit_price: Annotated[MoneyOut, Field(examples=["100.00"])]
    total_amount: Annotated[MoneyOut, Field(examples=["500.00"])]
    amount_paid: Annotated[MoneyOut, Field(examples=["250.00"])]
    balance_due: Annotated[MoneyOut, Field(examples=["250.00"])]
    status: Annotated[InvoiceStatus, Field(examples=["ISSUED"])]
    is_overdue: bool
    invoice_generated_date: DayOut
    issued_date: InstantOut | None
    due_date: Annotated[DayOut, Field(examples=["2026-02-11"])]
    paid_date: NotYet
    billing_period: PeriodOut | None
    recurring_invoice_id: Annotated[IdOut | None, NULL_EXAMPLE]
    customer: CustomerView | None
    pricing: PricingView | None
    cancelled_date: NotYet
    cancel_reason: Annotated[str | None, NULL_EXAMPLE]
    refunded_date: NotYet
    refund_reason: Annotated[str | None, NULL_EXAMPLE]
    created_at: InstantOut
    updated_at: InstantOut
    version: VersionOut


class AdminInvoiceView(InvoiceView):
    """What admins see besides: who on the staff made and changed it."""

    created_by: IdOut
    updated_by: IdOut | None
    created_by_user: StaffView | None
    updated_by_user: StaffView | None


class InvoiceDetailView(AdminInvoiceView):
    """A single invoice as admins see it, with its payments and e-mails."""

    payments: list[PaymentView]
    notifications: list[NotificationView]


class InvoiceListView(BodyOut):
    """A part of a list of invoices; `nextCursor` leads on and is null at the end."""

    invoices: list[InvoiceView | AdminInvoiceView]
    pagination: Pagination
    next_cursor: CursorOut


class AuditEntryView(BodyOut):
    """One entry of the audit trail."""

    id: IdOut
    seq: Annotated[int, Field(ge=1)]
    action: Annotated[AuditAction, Field(examples=["INVOICE_ISSUED"])]
    # Shown as it is stored, also when somebody has edited it: `audit verify` names that.
    entity_type: Annotated[
        str, WithJsonSchema(text_schema(enum=[item.value for item in EntityType]))
    ]
    entity_id: IdOut
    user_id: IdOut
    actor: Annotated[str, Field(examples=["Alex Admin"])]
    changes: Annotated[
        JsonObject | None,
        Field(examples=[{"before": {"status": "DRAFT"}, "after": {"status": "ISSUED"}}]),
    ]
    description: Annotated[str, Field(examples=["Invoice 2026011201 issued."])]
    ip_address: Annotated[str | None, Field(examples=["192.0.2.7"])]
    user_agent: Annotated[str | None, Field(examples=["Mozilla/5.0"])]
    request_id: Annotated[str | None, Field(examples=["8c1f0d3b5a6e4f7f9d2b7c4e1a0f3d52"])]
    created_at: InstantOut
    hash: Annotated[
        str, WithJsonSchema(text_schema(pattern="^[0-9a-f]{64}$", examples=["c3" * 32]))
    ]


class AuditTrailView(BodyOut):
    """The entries about an invoice, oldest first."""

    audit_logs: list[AuditEntryView]


async def view_invoice(
    known: UserFinder,
    actor: Actor,
    invoice: Invoice,
    today: date,
    *,
    session: Session | None = None,
) -> InvoiceView | InvoiceDetailView:
    """A single invoice in the shape that this actor may see; reads with the session, if given."""
    [view] = await view_invoices(known, actor, [invoice.model_dump(by_alias=True)], today)
    if not actor.is_admin:
        return view
    payments = await list_payments([InvoiceId(invoice.id)], session=session)
    notifications = await list_notifications([InvoiceId(invoice.id)], session=session)
    return InvoiceDetailView(
        **dict(view),
        payments=[PaymentView.model_validate(payment) for payment in payments],
        notifications=[NotificationView.model_validate(item) for item in notifications],
    )


async def view_invoices(
    known: UserFinder, actor: Actor, rows: Sequence[Found], today: date
) -> list[InvoiceView | AdminInvoiceView]:
    """Invoices as stored, in the shape that this actor may see; all their users in one read."""
    staff_ids: set[UserId] = set()
    if actor.is_admin:
        both = [row.get(name) for row in rows for name in ("createdBy", "updatedBy")]
        staff_ids = {each for each in both if each is not None}
    users = await known.find_users({row["userId"] for row in rows} | staff_ids)
    customers = _views(UserView, users, {row["userId"] for row in rows})
    if not actor.is_admin:
        return [InvoiceView.model_validate(_content(row, customers, today)) for row in rows]
    staff = _views(StaffView, users, staff_ids)
    return [
        AdminInvoiceView.model_validate(
            {
                **_content(row, customers, today),
                "createdByUser": staff.get(row["createdBy"]),
                "updatedByUser": staff.get(row.get("updatedBy")),
            }
        )
        for row in rows
    ]


async def view_trail(known: UserFinder, entries: Sequence[AuditLog]) -> AuditTrailView:
    """Audit entries with the names of their actors; scheduled work is `system`."""
    users = await known.find_users(entry.user_id for entry in entries)
    return AuditTrailView(
        audit_logs=[
            AuditEntryView(
                **{
                    name: getattr(entry, name)
                    for name in AuditEntryView.model_fields.keys() - {"actor"}
                },
                actor=_actor_name(entry.user_id, users),
            )
            for entry in entries
        ]
    )


def _actor_name(user_id: UserId, users: dict[UserId, PlatformUser]) -> str:
    if user_id == SYSTEM_USER_ID:
        return "system"
    return users[user_id].name if user_id in users else str(user_id)


def _views(
    kind: type[V], users: dict[UserId, PlatformUser], user_ids: Iterable[UserId]
) -> Mapping[Any, V]:
    return {each: kind.model_validate(users[each]) for each in user_ids if each in users}


# What an invoice that was stored before there was such a field does not have.
_ABSENT: Final[Mapping[str, None]] = {
    str(field.alias): None for field in Invoice.model_fields.values() if field.default is None
}


def _content(row: Found, customers: Mapping[UserId, UserView], today: date) -> dict[str, object]:
    """By the names of the answer, which are those of the store; it leaves out what it shows not."""
    total_amount, amount_paid = to_decimal(row["totalAmount"]), to_decimal(row["amountPaid"])
    return {
        **_ABSENT,
        **row,
        "id": row["_id"],
        "user": customers.get(row["userId"]),
        "unitPrice": to_decimal(row["unitPrice"]),
        "totalAmount": total_amount,
        "amountPaid": amount_paid,
        "balanceDue": balance_due(total_amount, amount_paid),
        "isOverdue": is_overdue(InvoiceStatus(row["status"]), to_day(row["dueDate"]), today),
    }
