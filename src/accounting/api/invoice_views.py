"""What an invoice looks like in answers: one shape for GET and for every write."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Annotated, TypeAlias

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
)
from accounting.audit.documents import AuditLog
from accounting.audit.rules import AuditAction, EntityType
from accounting.db.database import Session
from accounting.invoices.documents import Invoice
from accounting.invoices.rules import InvoiceId, InvoiceStatus, is_overdue
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
    [view] = await view_invoices(known, actor, [invoice], today)
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
    known: UserFinder, actor: Actor, invoices: Sequence[Invoice], today: date
) -> list[InvoiceView | AdminInvoiceView]:
    """Invoices in the shape that this actor may see; all their users in one read."""
    wanted: set[UserId] = {invoice.user_id for invoice in invoices}
    if actor.is_admin:
        wanted |= {invoice.created_by for invoice in invoices}
        wanted |= {invoice.updated_by for invoice in invoices if invoice.updated_by}
    users = await known.find_users(wanted)
    build = _admin_view if actor.is_admin else _customer_view
    return [build(invoice, users, today) for invoice in invoices]


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


def _customer_view(invoice: Invoice, users: dict[UserId, PlatformUser], today: date) -> InvoiceView:
    return InvoiceView(**_content(invoice, users, today))


def _admin_view(
    invoice: Invoice, users: dict[UserId, PlatformUser], today: date
) -> AdminInvoiceView:
    created_by = users.get(invoice.created_by)
    updated_by = users.get(invoice.updated_by) if invoice.updated_by else None
    return AdminInvoiceView(
        **_content(invoice, users, today),
        created_by=invoice.created_by,
        updated_by=invoice.updated_by,
        created_by_user=StaffView.model_validate(created_by) if created_by else None,
        updated_by_user=StaffView.model_validate(updated_by) if updated_by else None,
    )


_COMPUTED = frozenset({"user", "is_overdue"})


def _content(invoice: Invoice, users: dict[UserId, PlatformUser], today: date) -> dict[str, object]:
    stored = {name: getattr(invoice, name) for name in InvoiceView.model_fields.keys() - _COMPUTED}
    user = users.get(invoice.user_id)
    return {
        **stored,
        "user": UserView.model_validate(user) if user else None,
        "is_overdue": is_overdue(invoice.status, invoice.due_date, today),
    }
