"""`/payments`: links of invoices to cost payments (spec section 5)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated

from litestar import Controller, Response, delete, get, post
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath, JSONBody, QueryParameter
from litestar.status_codes import HTTP_201_CREATED, HTTP_204_NO_CONTENT
from pydantic import Field

from accounting.api.auth import ApiRequest
from accounting.api.invoice_views import PaymentView
from accounting.api.schemas import (
    AmountIn,
    BodyIn,
    BodyOut,
    CursorOut,
    IdIn,
    IdOut,
    InstantIn,
    NumberOut,
    Pagination,
    pagination,
    parse_id,
    to_instant,
)
from accounting.api.writes import answer_write, provide_expected_version
from accounting.bootstrap import Services
from accounting.db.database import Database, Session
from accounting.db.paging import (
    PAGE_LIMIT_DEFAULT,
    PAGE_LIMIT_MAX,
    PAGE_MAX,
    Order,
    list_page,
    to_window,
)
from accounting.ids import ObjectId
from accounting.invoices.documents import Invoice, find_invoices
from accounting.invoices.rules import InvoiceStatus
from accounting.invoices.settlement import (
    payments_of_customer,
    record_payment,
    remove_invoice_payment,
)
from accounting.links import BASE_PATH
from accounting.payments.documents import InvoicePayment
from accounting.payments.service import get_payment


class PaymentBody(BodyIn):
    """Which cost payment pays; left out, the amount is the most that both sides allow."""

    cost_payment_id: IdIn
    amount_paid: AmountIn | None = None
    paid_date: InstantIn | None = None


class CreatePayment(PaymentBody):
    """An invoice and the cost payment that pays it."""

    invoice_id: IdIn


class PaidInvoiceView(BodyOut):
    """The invoice that a payment belongs to."""

    id: IdOut
    invoice_number: NumberOut
    user_id: IdOut
    status: Annotated[InvoiceStatus, Field(examples=["ISSUED"])]


class PaymentDetailView(PaymentView):
    """A payment with the invoice that it belongs to."""

    invoice: PaidInvoiceView | None


class PaymentListView(BodyOut):
    """A page of payments."""

    payments: list[PaymentDetailView]
    pagination: Pagination
    next_cursor: CursorOut


async def provide_payment_id(id: FromPath[str]) -> ObjectId:  # noqa: A002  # the path says {id}
    """The payment's id from the path. Raises Invalid naming `id`."""
    return parse_id("id", id)


class PaymentController(Controller):
    """Payments of invoices; for admins."""

    path = "/payments"
    tags = ["Payments"]
    dependencies = {
        "payment_id": Provide(provide_payment_id),
        "expected_version": Provide(provide_expected_version),
    }

    @get(operation_id="listPayments", summary="List payments")
    async def list_payments(
        self,
        invoice_id: Annotated[str | None, QueryParameter(name="invoiceId")] = None,
        customer_id: Annotated[str | None, QueryParameter(name="customerId")] = None,
        cost_payment_id: Annotated[str | None, QueryParameter(name="costPaymentId")] = None,
        page: Annotated[int | None, QueryParameter(ge=1, le=PAGE_MAX)] = None,
        limit: Annotated[int, QueryParameter(ge=1, le=PAGE_LIMIT_MAX)] = PAGE_LIMIT_DEFAULT,
        cursor: Annotated[str | None, QueryParameter()] = None,
    ) -> PaymentListView:
        """Newest first; refunded ones are listed too, with their `refundedDate`."""
        query: dict[str, object] = {}
        if invoice_id:
            query["invoiceId"] = parse_id("invoiceId", invoice_id)
        if cost_payment_id:
            query["costPaymentId"] = parse_id("costPaymentId", cost_payment_id)
        if customer_id:
            query |= await payments_of_customer(parse_id("customerId", customer_id))
        found = await list_page(InvoicePayment, query, Order("_id"), to_window(page, limit, cursor))
        return PaymentListView(
            payments=await view_payments(found.items),
            pagination=pagination(found.number, found.limit, found.total),
            next_cursor=found.next_cursor,
        )

    @get("/{id:str}", operation_id="getPayment", summary="Read a payment")
    async def read(self, payment_id: NamedDependency[ObjectId]) -> PaymentDetailView:
        """A payment with the invoice that it belongs to."""
        [view] = await view_payments([await get_payment(payment_id)])
        return view

    @post(
        operation_id="createPayment",
        summary="Apply a cost payment to an invoice",
        status_code=HTTP_201_CREATED,
    )
    async def create(
        self,
        request: ApiRequest,
        services: NamedDependency[Services],
        expected_version: NamedDependency[int | None],
        data: JSONBody[CreatePayment],
    ) -> Response[PaymentDetailView]:
        """The same as `/invoices/{id}/record-payment`, answered with the payment."""

        async def view(
            applied: tuple[Invoice, InvoicePayment], session: Session | None
        ) -> PaymentDetailView:
            [shown] = await view_payments([applied[1]], session=session)
            return shown

        return await answer_write(
            request,
            services,
            apply_as_asked(request, services, ObjectId(data.invoice_id), data, expected_version),
            view,
            status_code=HTTP_201_CREATED,
            headers=_location,
        )

    @delete(
        "/{id:str}",
        operation_id="deletePayment",
        summary="Remove a payment",
        status_code=HTTP_204_NO_CONTENT,
    )
    async def remove(
        self,
        request: ApiRequest,
        services: NamedDependency[Services],
        payment_id: NamedDependency[ObjectId],
    ) -> None:
        """Frees the cost payment; a paid invoice is open again."""
        await services.db.run(request.user, remove_invoice_payment, payment_id, services.terms.zone)


def apply_as_asked(
    request: ApiRequest,
    services: Services,
    invoice_id: ObjectId,
    body: PaymentBody,
    expected_version: int | None,
) -> Callable[[Database], Awaitable[tuple[Invoice, InvoicePayment]]]:
    """The write of both ways to apply a cost payment."""
    return lambda db: db.run(
        request.user,
        record_payment,
        services.platform,
        invoice_id,
        ObjectId(body.cost_payment_id),
        amount=body.amount_paid,
        paid_date=to_instant(body.paid_date, services.terms.zone),
        expected_version=expected_version,
    )


async def view_payments(
    payments: Sequence[InvoicePayment], *, session: Session | None = None
) -> list[PaymentDetailView]:
    """Payments with their invoices, all invoices in one read."""
    invoices = await find_invoices({payment.invoice_id for payment in payments}, session=session)
    return [
        PaymentDetailView(
            **dict(PaymentView.model_validate(payment)),
            invoice=PaidInvoiceView.model_validate(invoices[payment.invoice_id])
            if payment.invoice_id in invoices
            else None,
        )
        for payment in payments
    ]


def _location(applied: tuple[Invoice, InvoicePayment]) -> Mapping[str, str]:
    return {"Location": f"{BASE_PATH}/payments/{applied[1].id}"}
