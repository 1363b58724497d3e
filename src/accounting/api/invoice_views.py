"""What an invoice looks like in answers: one shape for GET and for every write."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from accounting.actor import SYSTEM_USER_ID, Actor
from accounting.api.schemas import (
    BodyOut,
    DayOut,
    EnumOut,
    IdOut,
    InstantOut,
    JsonObject,
    MoneyOut,
    Pagination,
)
from accounting.audit.documents import AuditLog
from accounting.db.database import Session
from accounting.invoices.documents import Invoice
from accounting.invoices.rules import InvoiceId, is_overdue
from accounting.notifications.service import list_notifications
from accounting.payments.service import list_payments
from accounting.platform.reader import Platform
from accounting.platform.rules import PlatformUser, UserId


class UserView(BodyOut):
    """The customer, as the platform knows him now."""

    id: IdOut
    name: str
    email: str
    company_name: str | None


class StaffView(BodyOut):
    """A member of staff; shown to admins only."""

    id: IdOut
    name: str
    email: str


class CustomerView(BodyOut):
    """The customer as he was called when the invoice was issued."""

    name: str
    email: str
    company_name: str | None


class PricingView(BodyOut):
    """Where the price came from."""

    source: EnumOut
    pricing_config_id: IdOut | None
    miner_ids_count: int | None


class PaymentView(BodyOut):
    """A cost payment, or a part of it, applied to an invoice."""

    id: IdOut
    invoice_id: IdOut
    cost_payment_id: IdOut
    amount_paid: MoneyOut
    paid_date: InstantOut
    refunded_date: InstantOut | None
    created_by: IdOut | None
    created_at: InstantOut


class NotificationView(BodyOut):
    """An e-mail about an invoice."""

    id: IdOut
    invoice_id: IdOut
    notification_type: EnumOut
    sent_to: str
    cc_emails: list[str]
    status: EnumOut
    sent_at: InstantOut | None
    is_read: bool
    opened_at: InstantOut | None
    failure_reason: str | None
    retry_count: int
    next_retry_at: InstantOut | None
    created_at: InstantOut


class InvoiceView(BodyOut):
    """An invoice. `isOverdue` and `balanceDue` are computed at the moment of the answer."""

    id: IdOut
    invoice_number: str
    user_id: IdOut
    user: UserView | None
    total_miners: int
    unit_price: MoneyOut
    total_amount: MoneyOut
    amount_paid: MoneyOut
    balance_due: MoneyOut
    status: EnumOut
    is_overdue: bool
    invoice_generated_date: DayOut
    issued_date: InstantOut | None
    due_date: DayOut
    paid_date: InstantOut | None
    billing_period: str | None
    recurring_invoice_id: IdOut | None
    customer: CustomerView | None
    pricing: PricingView | None
    cancelled_date: InstantOut | None
    cancel_reason: str | None
    refunded_date: InstantOut | None
    refund_reason: str | None
    created_at: InstantOut
    updated_at: InstantOut
    version: int


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
    """A page of invoices."""

    invoices: list[InvoiceView | AdminInvoiceView]
    pagination: Pagination


class AuditEntryView(BodyOut):
    """One entry of the audit trail."""

    id: IdOut
    seq: int
    action: EnumOut
    entity_type: str
    entity_id: IdOut
    user_id: IdOut
    actor: str
    changes: JsonObject | None
    description: str
    ip_address: str | None
    user_agent: str | None
    request_id: str | None
    created_at: InstantOut
    hash: str


class AuditTrailView(BodyOut):
    """The entries about an invoice, oldest first."""

    audit_logs: list[AuditEntryView]


async def view_invoice(
    platform: Platform,
    actor: Actor,
    invoice: Invoice,
    today: date,
    *,
    session: Session | None = None,
) -> InvoiceView | InvoiceDetailView:
    """A single invoice in the shape that this actor may see; reads with the session, if given."""
    [view] = await view_invoices(platform, actor, [invoice], today)
    if not actor.is_admin:
        return view
    payments = await list_payments([InvoiceId(invoice.id)], session=session)
    notifications = await list_notifications(InvoiceId(invoice.id), session=session)
    return InvoiceDetailView(
        **dict(view),
        payments=[PaymentView.model_validate(payment) for payment in payments],
        notifications=[NotificationView.model_validate(item) for item in notifications],
    )


async def view_invoices(
    platform: Platform, actor: Actor, invoices: Sequence[Invoice], today: date
) -> list[InvoiceView | AdminInvoiceView]:
    """Invoices in the shape that this actor may see; all their users in one read."""
    wanted: set[UserId] = {invoice.user_id for invoice in invoices}
    if actor.is_admin:
        wanted |= {invoice.created_by for invoice in invoices}
        wanted |= {invoice.updated_by for invoice in invoices if invoice.updated_by}
    users = await platform.find_users(wanted)
    build = _admin_view if actor.is_admin else _customer_view
    return [build(invoice, users, today) for invoice in invoices]


async def view_trail(platform: Platform, entries: Sequence[AuditLog]) -> AuditTrailView:
    """Audit entries with the names of their actors; scheduled work is `system`."""
    users = await platform.find_users(entry.user_id for entry in entries)
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
