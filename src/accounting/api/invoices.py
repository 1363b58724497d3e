"""`/invoices`: list, create, read, issue, record a payment, audit trail (spec section 5)."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Final

from litestar import Controller, Request, Response, get, post
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from litestar.status_codes import HTTP_201_CREATED
from pydantic import Field

from accounting.actor import Actor
from accounting.api.auth import CUSTOMERS_MAY
from accounting.api.invoice_views import (
    AuditTrailView,
    InvoiceDetailView,
    InvoiceListView,
    InvoiceView,
    view_invoice,
    view_invoices,
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
    SortDirection,
    UnitPriceIn,
    WholeIn,
    check_amount,
    check_day,
    pagination,
    parse_id,
    to_instant,
)
from accounting.audit.rules import EntityType
from accounting.audit.service import history
from accounting.bootstrap import Services
from accounting.clock import business_day
from accounting.ids import ObjectId
from accounting.invoices.documents import Invoice, get_invoice
from accounting.invoices.listing import InvoiceFilter, InvoiceSort, list_invoices
from accounting.invoices.rules import (
    TOTAL_MINERS_MAX,
    InvoiceNotFound,
    InvoiceStatus,
)
from accounting.invoices.service import NewInvoice, create_invoice, issue_invoice, record_payment

PAGE_LIMIT_DEFAULT: Final = 10
PAGE_LIMIT_MAX: Final = 100
PAGE_MAX: Final = 1_000_000

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

    @get(summary="List invoices", opt={CUSTOMERS_MAY: True})
    async def list_page(
        self,
        request: ApiRequest,
        services: NamedDependency[Services],
        customer_id: Annotated[str | None, QueryParameter(name="customerId")] = None,
        status: Annotated[list[InvoiceStatus] | None, QueryParameter(name="status")] = None,
        billing_period: Annotated[
            str | None,
            QueryParameter(name="billingPeriod", pattern=r"^[0-9]{4}-(0[1-9]|1[0-2])$"),
        ] = None,
        start_date: Annotated[date | None, QueryParameter(name="startDate")] = None,
        end_date: Annotated[date | None, QueryParameter(name="endDate")] = None,
        due_from: Annotated[date | None, QueryParameter(name="dueFrom")] = None,
        due_to: Annotated[date | None, QueryParameter(name="dueTo")] = None,
        min_amount: Annotated[Decimal | None, QueryParameter(name="minAmount")] = None,
        max_amount: Annotated[Decimal | None, QueryParameter(name="maxAmount")] = None,
        overdue: FromQuery[bool | None] = None,
        sort_by: Annotated[InvoiceSort, QueryParameter(name="sortBy")] = InvoiceSort.CREATED_AT,
        sort_direction: Annotated[
            SortDirection, QueryParameter(name="sortDirection")
        ] = SortDirection.DESCENDING,
        page: Annotated[int, QueryParameter(ge=1, le=PAGE_MAX)] = 1,
        limit: Annotated[int, QueryParameter(ge=1, le=PAGE_LIMIT_MAX)] = PAGE_LIMIT_DEFAULT,
    ) -> InvoiceListView:
        """Days are inclusive and in the business time zone; customers see their own only."""
        actor, zone = request.user, services.terms.zone
        today = business_day(services.db.clock(), zone)
        wanted = InvoiceFilter(
            customer_id=parse_id("customerId", customer_id) if customer_id else None,
            statuses=status or (),
            billing_period=billing_period,
            issued_from=check_day("startDate", start_date),
            issued_to=check_day("endDate", end_date),
            due_from=check_day("dueFrom", due_from),
            due_to=check_day("dueTo", due_to),
            amount_min=check_amount("minAmount", min_amount),
            amount_max=check_amount("maxAmount", max_amount),
            overdue_on=today if overdue else None,
        )
        if not actor.is_admin:
            wanted = replace(wanted, customer_id=actor.user_id, hides_drafts=True)
        invoices, total = await list_invoices(
            wanted,
            zone,
            sort_by=sort_by,
            descending=sort_direction is SortDirection.DESCENDING,
            page=page,
            limit=limit,
        )
        views = await view_invoices(services.platform, actor, invoices, today)
        return InvoiceListView(invoices=views, pagination=pagination(page, limit, total))

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
