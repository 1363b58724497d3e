"""`/invoices/{id}/…`: issue, cancel, refund, record a payment; its trail and its explanation."""

from __future__ import annotations

from typing import Annotated

from litestar import Controller, get, post
from litestar.di import NamedDependency, Provide
from litestar.params import JSONBody
from pydantic import Field

from accounting.api.auth import ApiRequest
from accounting.api.invoice_answers import (
    InvoiceResponse,
    answer_invoice_write,
    itself,
    provide_invoice_id,
)
from accounting.api.invoice_views import AuditTrailView, view_trail
from accounting.api.payments import PaymentBody, apply_as_asked
from accounting.api.schemas import (
    NULL_EXAMPLE,
    BodyIn,
    BodyOut,
    DayOut,
    IdOut,
    InstantIn,
    MoneyOut,
    NumberOut,
    ReasonIn,
    to_instant,
)
from accounting.api.writes import provide_expected_version
from accounting.audit.rules import EntityType
from accounting.audit.service import history
from accounting.bootstrap import Services
from accounting.ids import ObjectId
from accounting.invoices.explanation import explain_invoice
from accounting.invoices.rules import InvoiceNotFound
from accounting.invoices.service import cancel_invoice, issue_invoice
from accounting.invoices.settlement import refund_invoice
from accounting.platform.user_directory import UserDirectory
from accounting.pricing.rules import PriceSource


class IssueInvoice(BodyIn):
    """How to issue; the date may be given as an instant or as a day in the business zone."""

    issued_date: InstantIn | None = None
    skip_email: bool = False


class EndInvoice(BodyIn):
    """Why an invoice is cancelled or refunded."""

    reason: ReasonIn


class RecordPayment(PaymentBody):
    """Which cost payment pays; left out, the amount is the most that both sides allow."""


class PriceRowView(BodyOut):
    """The row of the price list that an invoice's price came from."""

    id: IdOut
    default_unit_price: Annotated[MoneyOut, Field(examples=["100.00"])]
    effective_from: DayOut
    effective_to: Annotated[DayOut | None, NULL_EXAMPLE]


class ExplanationView(BodyOut):
    """How the amount of an invoice came about."""

    invoice_id: IdOut
    invoice_number: NumberOut
    total_miners: Annotated[int, Field(ge=1, examples=[5])]
    counted_miners: Annotated[
        int | None,
        Field(description="Active miners when the service counted them itself.", examples=[5]),
    ]
    unit_price: Annotated[MoneyOut, Field(examples=["100.00"])]
    total_amount: Annotated[MoneyOut, Field(examples=["500.00"])]
    price_source: Annotated[PriceSource, Field(examples=["PRICING_CONFIG"])]
    price_row: PriceRowView | None
    calculation: Annotated[str, Field(examples=["5 x 100.00 = 500.00"])]
    rounding: Annotated[str, Field(examples=["Whole miners times a price in whole cents."])]
    sentences: list[Annotated[str, Field(examples=["5 miners of the customer were active."])]]


class InvoiceActionController(Controller):
    """What is done with an invoice, and how it came about; for admins."""

    path = "/invoices/{id:str}"
    tags = ["Invoices"]
    dependencies = {
        "invoice_id": Provide(provide_invoice_id),
        "expected_version": Provide(provide_expected_version),
    }

    @post("/issue", operation_id="issueInvoice", summary="Issue a draft", status_code=200)
    async def issue(
        self,
        request: ApiRequest,
        services: NamedDependency[Services],
        invoice_id: NamedDependency[ObjectId],
        expected_version: NamedDependency[int | None],
        data: JSONBody[IssueInvoice | None] = None,
    ) -> InvoiceResponse:
        """Freezes the customer and queues the e-mail; never waits for the mail server."""
        choice = data or IssueInvoice()
        return await answer_invoice_write(
            request,
            services,
            lambda db: db.run(
                request.user,
                issue_invoice,
                services.platform,
                services.terms,
                invoice_id,
                issued_date=to_instant(choice.issued_date, services.terms.zone),
                skip_email=choice.skip_email,
                expected_version=expected_version,
            ),
            invoice_of=itself,
        )

    @post(
        "/cancel", operation_id="cancelInvoice", summary="Cancel an unpaid invoice", status_code=200
    )
    async def cancel(
        self,
        request: ApiRequest,
        services: NamedDependency[Services],
        invoice_id: NamedDependency[ObjectId],
        expected_version: NamedDependency[int | None],
        data: JSONBody[EndInvoice],
    ) -> InvoiceResponse:
        """Ends it for good; it keeps its number. Payments must be removed first."""
        return await answer_invoice_write(
            request,
            services,
            lambda db: db.run(
                request.user,
                cancel_invoice,
                invoice_id,
                data.reason,
                expected_version=expected_version,
            ),
            invoice_of=itself,
        )

    @post("/refund", operation_id="refundInvoice", summary="Refund a paid invoice", status_code=200)
    async def refund(
        self,
        request: ApiRequest,
        services: NamedDependency[Services],
        invoice_id: NamedDependency[ObjectId],
        expected_version: NamedDependency[int | None],
        data: JSONBody[EndInvoice],
    ) -> InvoiceResponse:
        """Ends it for good; its cost payments are free again."""
        return await answer_invoice_write(
            request,
            services,
            lambda db: db.run(
                request.user,
                refund_invoice,
                invoice_id,
                data.reason,
                expected_version=expected_version,
            ),
            invoice_of=itself,
        )

    @post(
        "/record-payment",
        operation_id="recordPayment",
        summary="Apply a cost payment",
        status_code=200,
    )
    async def record_payment(
        self,
        request: ApiRequest,
        services: NamedDependency[Services],
        invoice_id: NamedDependency[ObjectId],
        expected_version: NamedDependency[int | None],
        data: JSONBody[RecordPayment],
    ) -> InvoiceResponse:
        """Applies the amount, or the most that invoice and cost payment both allow."""
        return await answer_invoice_write(
            request,
            services,
            apply_as_asked(request, services, invoice_id, data, expected_version),
            invoice_of=lambda applied: applied[0],
        )

    @get(
        "/audit-log",
        operation_id="getInvoiceAuditLog",
        summary="Read the audit trail of an invoice",
    )
    async def audit_log(
        self, users: NamedDependency[UserDirectory], invoice_id: NamedDependency[ObjectId]
    ) -> AuditTrailView:
        """Who did what, oldest first, its payments and e-mails included."""
        entries = await history(EntityType.INVOICE, invoice_id)
        if not entries:
            raise InvoiceNotFound(invoice_id)
        return await view_trail(users, entries)

    @get("/explain", operation_id="explainInvoice", summary="Explain the amount of an invoice")
    async def explain(
        self, services: NamedDependency[Services], invoice_id: NamedDependency[ObjectId]
    ) -> ExplanationView:
        """Where the price came from, how many miners, how it was rounded."""
        return ExplanationView.model_validate(await explain_invoice(invoice_id))
