"""`/notifications` and `/invoices/{id}/send-email`: the e-mails about invoices (spec section 5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Annotated, Literal, TypeAlias

from litestar import Controller, Response, get, post
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath, JSONBody, QueryParameter
from litestar.status_codes import HTTP_202_ACCEPTED
from pydantic import Field

from accounting.api.auth import ApiRequest
from accounting.api.invoice_answers import provide_invoice_id
from accounting.api.invoice_views import NotificationView
from accounting.api.queries import PageCursor, PageLimit, PageNumber
from accounting.api.schemas import (
    BodyIn,
    BodyOut,
    CursorOut,
    IdOut,
    NumberOut,
    Pagination,
    check_day,
    pagination,
    parse_id,
)
from accounting.api.writes import answer_write
from accounting.bootstrap import Services
from accounting.db.database import Session
from accounting.db.paging import PAGE_LIMIT_DEFAULT, to_window
from accounting.ids import ObjectId
from accounting.invoices.documents import find_invoices, list_invoice_ids
from accounting.invoices.mailing import send_email
from accounting.invoices.rules import InvoiceStatus
from accounting.links import BASE_PATH
from accounting.notifications.documents import InvoiceNotification
from accounting.notifications.listing import NotificationFilter, list_emails
from accounting.notifications.rules import NotificationStatus, NotificationType
from accounting.reports.mailing import retry_mail

# Every kind that is an e-mail; INVOICE_VIEWED is a note.
EmailType: TypeAlias = Literal[
    NotificationType.INVOICE_ISSUED,
    NotificationType.PAYMENT_REMINDER,
    NotificationType.OVERDUE_REMINDER,
    NotificationType.PAYMENT_RECEIVED,
    NotificationType.INVOICE_CANCELLED,
]


class SendEmail(BodyIn):
    """Which e-mail to send; left out, the one that fits the invoice's status."""

    type: EmailType | None = None


class MailedInvoiceView(BodyOut):
    """The invoice that an e-mail is about."""

    id: IdOut
    invoice_number: NumberOut
    user_id: IdOut
    status: Annotated[InvoiceStatus, Field(examples=["ISSUED"])]


class NotificationDetailView(NotificationView):
    """An e-mail with the invoice that it is about."""

    invoice: MailedInvoiceView | None


class NotificationListView(BodyOut):
    """A page of e-mails, newest first."""

    notifications: list[NotificationDetailView]
    pagination: Pagination
    next_cursor: CursorOut


async def provide_notification_id(id: FromPath[str]) -> ObjectId:  # noqa: A002  # the path says {id}
    """The e-mail's id from the path. Raises Invalid naming `id`."""
    return parse_id("id", id)


class NotificationController(Controller):
    """The e-mails that were queued, and what became of each; for admins."""

    path = "/notifications"
    tags = ["E-mails"]

    @get(operation_id="listNotifications", summary="List e-mails")
    async def list_page(
        self,
        services: NamedDependency[Services],
        status: Annotated[list[NotificationStatus] | None, QueryParameter()] = None,
        notification_type: Annotated[
            list[NotificationType] | None, QueryParameter(name="notificationType")
        ] = None,
        invoice_id: Annotated[str | None, QueryParameter(name="invoiceId")] = None,
        customer_id: Annotated[str | None, QueryParameter(name="customerId")] = None,
        from_: Annotated[date | None, QueryParameter(name="from")] = None,
        to: Annotated[date | None, QueryParameter()] = None,
        page: PageNumber = None,
        limit: PageLimit = PAGE_LIMIT_DEFAULT,
        cursor: PageCursor = None,
    ) -> NotificationListView:
        """Newest first; days are inclusive, in the business time zone, and those of queuing.

        Give `nextCursor` of an answer as `cursor` to read on; it is null at the end.
        """
        wanted = NotificationFilter(
            statuses=status or (),
            notification_types=notification_type or (),
            invoice_ids=await _invoice_ids(invoice_id, customer_id),
            created_from=check_day("from", from_),
            created_to=check_day("to", to),
        )
        found = await list_emails(wanted, services.terms.zone, to_window(page, limit, cursor))
        return NotificationListView(
            notifications=await view_notifications(found.items),
            pagination=pagination(found.number, found.limit, found.total),
            next_cursor=found.next_cursor,
        )

    @post(
        "/{id:str}/retry",
        operation_id="retryNotification",
        summary="Send a failed e-mail again",
        status_code=HTTP_202_ACCEPTED,
        dependencies={"notification_id": Provide(provide_notification_id)},
    )
    async def retry(
        self,
        request: ApiRequest,
        services: NamedDependency[Services],
        notification_id: NamedDependency[ObjectId],
    ) -> Response[NotificationDetailView]:
        """Queues a FAILED or BOUNCED one anew, to the address that the customer has now."""
        return await answer_write(
            request,
            services,
            lambda db: db.run(
                request.user, retry_mail, services.platform, services.terms, notification_id
            ),
            view_notification,
            status_code=HTTP_202_ACCEPTED,
            headers=where_to_follow,
        )


class InvoiceMailController(Controller):
    """E-mails that an admin asks for."""

    path = "/invoices/{id:str}"
    tags = ["E-mails"]

    @post(
        "/send-email",
        operation_id="sendInvoiceEmail",
        summary="Send an e-mail about an invoice",
        status_code=HTTP_202_ACCEPTED,
        dependencies={"invoice_id": Provide(provide_invoice_id)},
    )
    async def send(
        self,
        request: ApiRequest,
        services: NamedDependency[Services],
        invoice_id: NamedDependency[ObjectId],
        data: JSONBody[SendEmail | None] = None,
    ) -> Response[NotificationDetailView]:
        """Queues it and answers at once; each request is an e-mail of its own."""
        kind = (data or SendEmail()).type
        return await answer_write(
            request,
            services,
            lambda db: db.run(
                request.user, send_email, services.platform, services.terms, invoice_id, kind
            ),
            view_notification,
            status_code=HTTP_202_ACCEPTED,
            headers=where_to_follow,
        )


async def view_notifications(
    rows: Sequence[InvoiceNotification], *, session: Session | None = None
) -> list[NotificationDetailView]:
    """E-mails with their invoices, all invoices in one read."""
    invoices = await find_invoices({row.invoice_id for row in rows}, session=session)
    return [
        NotificationDetailView(
            **dict(NotificationView.model_validate(row)),
            invoice=MailedInvoiceView.model_validate(invoices[row.invoice_id])
            if row.invoice_id in invoices
            else None,
        )
        for row in rows
    ]


async def view_notification(
    row: InvoiceNotification, session: Session | None
) -> NotificationDetailView:
    """One e-mail with its invoice, as a write answers it."""
    [view] = await view_notifications([row], session=session)
    return view


def where_to_follow(row: InvoiceNotification) -> Mapping[str, str]:
    """The header that leads to the log, where it is seen what became of an e-mail."""
    return {"Location": f"{BASE_PATH}/notifications?invoiceId={row.invoice_id}"}


async def _invoice_ids(invoice_id: str | None, customer_id: str | None) -> list[ObjectId] | None:
    """The invoices that both filters leave; None without a filter."""
    ids = [parse_id("invoiceId", invoice_id)] if invoice_id is not None else None
    if customer_id is None:
        return ids
    owned = await list_invoice_ids(parse_id("customerId", customer_id))
    return owned if ids is None else [found for found in owned if found in ids]
