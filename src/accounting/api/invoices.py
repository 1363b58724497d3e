"""`/invoices`: create, read, issue, record a payment, audit trail (spec section 5)."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Controller, Request, Response, get, post
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath, JSONBody
from litestar.status_codes import HTTP_201_CREATED
from pydantic import Field

from accounting.actor import Actor
from accounting.api.auth import CUSTOMERS_MAY
from accounting.api.invoice_views import (
    AuditTrailView,
    InvoiceDetailView,
    InvoiceView,
    view_invoice,
    view_trail,
)
from accounting.api.schemas import (
    BASE_PATH,
    AmountIn,
    BodyIn,
    DayIn,
    IdIn,
    InstantIn,
    PeriodIn,
    UnitPriceIn,
    WholeIn,
    parse_id,
    to_instant,
)
from accounting.audit.rules import EntityType
from accounting.audit.service import history
from accounting.bootstrap import Services
from accounting.clock import business_day
from accounting.ids import ObjectId
from accounting.invoices.documents import Invoice, get_invoice
from accounting.invoices.drafts import NewInvoice, create_invoice
from accounting.invoices.rules import (
    TOTAL_MINERS_MAX,
    InvoiceNotFound,
    InvoiceStatus,
)
from accounting.invoices.service import issue_invoice
from accounting.invoices.settlement import record_payment

ApiRequest = Request[Actor, str, Any]


class CreateInvoice(BodyIn):
    """A draft. Left out, miners are counted, the price is looked up, the due date follows."""

    customer_id: IdIn
    total_miners: Annotated[WholeIn, Field(ge=1, le=TOTAL_MINERS_MAX)] | None = None
    unit_price: UnitPriceIn | None = None
    due_date: DayIn | None = None
    billing_period: PeriodIn | None = None
    invoice_generated_date: DayIn | None = None


class IssueInvoice(BodyIn):
    """How to issue; the date may be given as an instant or as a day in the business zone."""

    issued_date: InstantIn | None = None
    skip_email: bool = False


class RecordPayment(BodyIn):
    """Which cost payment pays; left out, the amount is the most that both sides allow."""

    cost_payment_id: IdIn
    amount_paid: AmountIn | None = None
    paid_date: InstantIn | None = None


async def provide_invoice_id(id: FromPath[str]) -> ObjectId:  # noqa: A002  # the path says {id}
    """The invoice's id from the path. Raises Invalid naming `id`."""
    return parse_id("id", id)


class InvoiceController(Controller):
    """Invoices: admins do everything, customers read their own that are not drafts."""

    path = "/invoices"
    tags = ["Invoices"]
    dependencies = {"invoice_id": Provide(provide_invoice_id)}

    @post(summary="Create a draft", status_code=HTTP_201_CREATED)
    async def create(
        self,
        request: ApiRequest,
        services: NamedDependency[Services],
        data: JSONBody[CreateInvoice],
    ) -> Response[InvoiceView | InvoiceDetailView]:
        order = NewInvoice(
            customer_id=ObjectId(data.customer_id),
            total_miners=data.total_miners,
            unit_price=data.unit_price,
            due_date=data.due_date,
            billing_period=data.billing_period,
            generated_date=data.invoice_generated_date,
        )
        invoice = await create_invoice(
            services.db, request.user, services.platform, services.terms, order
        )
        return await _answer(request, services, invoice, status_code=HTTP_201_CREATED)

    @get("/{id:str}", summary="Read an invoice", opt={CUSTOMERS_MAY: True})
    async def read(
        self,
        request: ApiRequest,
        services: NamedDependency[Services],
        invoice_id: NamedDependency[ObjectId],
    ) -> Response[InvoiceView | InvoiceDetailView]:
        """Admins see payments and e-mails as well; a customer's own drafts are not his to see."""
        invoice = await get_invoice(invoice_id)
        actor = request.user
        is_own = invoice.user_id == actor.user_id and invoice.status is not InvoiceStatus.DRAFT
        if not (actor.is_admin or is_own):
            raise InvoiceNotFound(invoice_id)
        return await _answer(request, services, invoice)

    @post("/{id:str}/issue", summary="Issue a draft", status_code=200)
    async def issue(
        self,
        request: ApiRequest,
        services: NamedDependency[Services],
        invoice_id: NamedDependency[ObjectId],
        data: JSONBody[IssueInvoice | None] = None,
    ) -> Response[InvoiceView | InvoiceDetailView]:
        """Freezes the customer and queues the e-mail; never waits for the mail server."""
        choice = data or IssueInvoice()
        invoice = await services.db.run(
            request.user,
            issue_invoice,
            services.platform,
            services.terms,
            invoice_id,
            issued_date=to_instant(choice.issued_date, services.terms.zone),
            skip_email=choice.skip_email,
        )
        return await _answer(request, services, invoice)

    @post("/{id:str}/record-payment", summary="Apply a cost payment", status_code=200)
    async def record_payment(
        self,
        request: ApiRequest,
        services: NamedDependency[Services],
        invoice_id: NamedDependency[ObjectId],
        data: JSONBody[RecordPayment],
    ) -> Response[InvoiceView | InvoiceDetailView]:
        """Applies the amount, or the most that invoice and cost payment both allow."""
        invoice, _ = await services.db.run(
            request.user,
            record_payment,
            services.platform,
            invoice_id,
            ObjectId(data.cost_payment_id),
            amount=data.amount_paid,
            paid_date=to_instant(data.paid_date, services.terms.zone),
        )
        return await _answer(request, services, invoice)

    @get("/{id:str}/audit-log", summary="Read the audit trail of an invoice")
    async def audit_log(
        self, services: NamedDependency[Services], invoice_id: NamedDependency[ObjectId]
    ) -> AuditTrailView:
        """Who did what, oldest first, its payments and e-mails included."""
        entries = await history(EntityType.INVOICE, invoice_id)
        if not entries:
            raise InvoiceNotFound(invoice_id)
        return await view_trail(services.platform, entries)


async def _answer(
    request: ApiRequest, services: Services, invoice: Invoice, *, status_code: int = 200
) -> Response[InvoiceView | InvoiceDetailView]:
    today = business_day(services.db.clock(), services.terms.zone)
    view = await view_invoice(services.platform, request.user, invoice, today)
    headers = {"ETag": f'"{invoice.version}"'}
    if status_code == HTTP_201_CREATED:
        headers["Location"] = f"{BASE_PATH}/invoices/{invoice.id}"
    return Response(view, status_code=status_code, headers=headers)
