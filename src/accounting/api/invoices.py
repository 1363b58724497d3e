"""`/invoices`: create, read, update and delete one (spec section 5)."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Controller, delete, get, patch, post
from litestar.di import NamedDependency, Provide
from litestar.params import JSONBody
from litestar.status_codes import HTTP_201_CREATED, HTTP_204_NO_CONTENT
from pydantic import Field, field_validator

from accounting.api.auth import CUSTOMERS_MAY, ApiRequest
from accounting.api.invoice_answers import (
    InvoiceResponse,
    answer_invoice,
    answer_invoice_write,
    get_visible_invoice,
    itself,
    provide_invoice_id,
)
from accounting.api.schemas import ONLY_WHOLE, BodyIn, DayIn, IdIn, PeriodIn, UnitPriceIn
from accounting.api.writes import provide_expected_version
from accounting.bootstrap import Services
from accounting.ids import ObjectId
from accounting.invoices.drafts import (
    DraftChanges,
    NewInvoice,
    create_invoice,
    delete_invoice,
    update_invoice,
)
from accounting.invoices.rules import TOTAL_MINERS_MAX

MinersIn = Annotated[int, Field(ge=1, le=TOTAL_MINERS_MAX, examples=[5]), ONLY_WHOLE]
# `changes` reads only what was sent, so that nobody sees this.
_LEFT_OUT: Any = None


class CreateInvoice(BodyIn):
    """A draft. Left out, miners are counted, the price is looked up, the due date follows."""

    customer_id: IdIn
    total_miners: MinersIn | None = None
    unit_price: UnitPriceIn | None = None
    due_date: DayIn | None = None
    billing_period: PeriodIn | None = None
    invoice_generated_date: DayIn | None = None


class UpdateInvoice(BodyIn):
    """The fields of a draft to change; the others stay. Only the period can be taken away."""

    total_miners: MinersIn = _LEFT_OUT
    unit_price: UnitPriceIn = _LEFT_OUT
    due_date: DayIn = _LEFT_OUT
    billing_period: PeriodIn | None = None

    @field_validator("total_miners", "unit_price", "due_date", mode="before")
    @classmethod
    def _cannot_be_taken_away(cls, value: object) -> object:
        if value is None:
            raise ValueError("cannot be null")
        return value

    def changes(self) -> DraftChanges:
        """What was sent, and nothing else."""
        return DraftChanges({name: getattr(self, name) for name in self.model_fields_set})


class InvoiceController(Controller):
    """Invoices: admins do everything, customers read their own that are not drafts."""

    path = "/invoices"
    tags = ["Invoices"]
    dependencies = {
        "invoice_id": Provide(provide_invoice_id),
        "expected_version": Provide(provide_expected_version),
    }

    @post(operation_id="createInvoice", summary="Create a draft", status_code=HTTP_201_CREATED)
    async def create(
        self,
        request: ApiRequest,
        services: NamedDependency[Services],
        data: JSONBody[CreateInvoice],
    ) -> InvoiceResponse:
        """Gives the draft the next number of its day."""
        order = NewInvoice(
            customer_id=ObjectId(data.customer_id),
            total_miners=data.total_miners,
            unit_price=data.unit_price,
            due_date=data.due_date,
            billing_period=data.billing_period,
            generated_date=data.invoice_generated_date,
        )
        return await answer_invoice_write(
            request,
            services,
            lambda db: create_invoice(db, request.user, services.platform, services.terms, order),
            invoice_of=itself,
            status_code=HTTP_201_CREATED,
        )

    @get(
        "/{id:str}", operation_id="getInvoice", summary="Read an invoice", opt={CUSTOMERS_MAY: True}
    )
    async def read(
        self,
        request: ApiRequest,
        services: NamedDependency[Services],
        invoice_id: NamedDependency[ObjectId],
    ) -> InvoiceResponse:
        """Admins see payments and e-mails as well; a customer's own drafts are not his to see."""
        invoice = await get_visible_invoice(request.user, invoice_id)
        return await answer_invoice(request, services, invoice)

    @patch("/{id:str}", operation_id="updateInvoice", summary="Change a draft")
    async def update(
        self,
        request: ApiRequest,
        services: NamedDependency[Services],
        invoice_id: NamedDependency[ObjectId],
        expected_version: NamedDependency[int | None],
        data: JSONBody[UpdateInvoice],
    ) -> InvoiceResponse:
        """Changes the fields that are sent; the total follows. Send `If-Match` to be safe."""
        return await answer_invoice_write(
            request,
            services,
            lambda db: db.run(
                request.user,
                update_invoice,
                invoice_id,
                data.changes(),
                expected_version=expected_version,
            ),
            invoice_of=itself,
        )

    @delete(
        "/{id:str}",
        operation_id="deleteInvoice",
        summary="Delete a draft",
        status_code=HTTP_204_NO_CONTENT,
    )
    async def delete(
        self,
        request: ApiRequest,
        services: NamedDependency[Services],
        invoice_id: NamedDependency[ObjectId],
        expected_version: NamedDependency[int | None],
    ) -> None:
        """Also a cancelled invoice; the audit trail keeps its last state, its number is used up."""
        await services.db.run(
            request.user, delete_invoice, invoice_id, expected_version=expected_version
        )
