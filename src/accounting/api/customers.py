"""`/customers/{id}/…`: a customer's cost payments, and settling invoices with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from litestar import Controller, Response, get, post
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath, QueryParameter
from pydantic import Field

from accounting.api.auth import ApiRequest
from accounting.api.schemas import (
    BodyOut,
    IdOut,
    InstantOut,
    MoneyOut,
    NumberOut,
    Pagination,
    pagination,
    parse_id,
)
from accounting.api.writes import answer_write
from accounting.bootstrap import Services
from accounting.db.database import Session
from accounting.db.paging import PAGE_LIMIT_DEFAULT, PAGE_LIMIT_MAX, PAGE_MAX
from accounting.ids import ObjectId
from accounting.invoices.rules import InvoiceStatus
from accounting.invoices.settlement import Allocation, allocate_payments
from accounting.money import ZERO
from accounting.payments.service import list_allocated
from accounting.platform.reader import get_customer


class CostPaymentView(BodyOut):
    """A payment in the platform's wallet ledger, and what of it is not applied to invoices."""

    id: IdOut
    amount: Annotated[MoneyOut, Field(examples=["500.00"])]
    allocated: Annotated[MoneyOut, Field(examples=["250.00"])]
    unallocated: Annotated[MoneyOut, Field(examples=["250.00"])]
    narration: Annotated[str | None, Field(examples=["Deposit January"])]
    created_at: InstantOut | None


class CostPaymentListView(BodyOut):
    """A page of cost payments."""

    payments: list[CostPaymentView]
    pagination: Pagination


class AllocationView(BodyOut):
    """One payment that was made, and its invoice after it."""

    payment_id: IdOut
    cost_payment_id: IdOut
    invoice_id: IdOut
    invoice_number: NumberOut
    amount: Annotated[MoneyOut, Field(examples=["250.00"])]
    invoice_status: Annotated[InvoiceStatus, Field(examples=["PAID"])]
    balance_due: Annotated[MoneyOut, Field(examples=["0.00"])]


class AllocationsView(BodyOut):
    """What was settled in one call; empty when there was nothing to settle or to settle with."""

    allocations: list[AllocationView]
    total: Annotated[MoneyOut, Field(examples=["250.00"])]


async def provide_customer_id(id: FromPath[str]) -> ObjectId:  # noqa: A002  # the path says {id}
    """The customer's id from the path. Raises Invalid naming `id`."""
    return parse_id("id", id)


class CustomerController(Controller):
    """A customer's money; for admins."""

    path = "/customers/{id:str}"
    tags = ["Customers"]
    dependencies = {"customer_id": Provide(provide_customer_id)}

    @get(
        "/payments", operation_id="listCustomerPayments", summary="List a customer's cost payments"
    )
    async def list_cost_payments(
        self,
        services: NamedDependency[Services],
        customer_id: NamedDependency[ObjectId],
        page: Annotated[int, QueryParameter(ge=1, le=PAGE_MAX)] = 1,
        limit: Annotated[int, QueryParameter(ge=1, le=PAGE_LIMIT_MAX)] = PAGE_LIMIT_DEFAULT,
    ) -> CostPaymentListView:
        """Those that can pay invoices, newest first, with what is left of each."""
        await get_customer(services.platform, customer_id)
        rows, total = await services.platform.page_of_payments(customer_id, page=page, limit=limit)
        allocated = await list_allocated(row.id for row in rows)
        return CostPaymentListView(
            payments=[
                CostPaymentView(
                    id=row.id,
                    amount=row.amount,
                    allocated=allocated.get(row.id, ZERO),
                    unallocated=row.amount - allocated.get(row.id, ZERO),
                    narration=row.narration,
                    created_at=row.created_at,
                )
                for row in rows
            ],
            pagination=pagination(page, limit, total),
        )

    @post(
        "/allocate",
        operation_id="allocatePayments",
        summary="Settle a customer's invoices",
        status_code=200,
    )
    async def allocate(
        self,
        request: ApiRequest,
        services: NamedDependency[Services],
        customer_id: NamedDependency[ObjectId],
    ) -> Response[AllocationsView]:
        """Oldest due first, with all free payments, in one transaction."""
        return await answer_write(
            request,
            services,
            lambda db: db.run(request.user, allocate_payments, services.platform, customer_id),
            _view_allocations,
        )


async def _view_allocations(made: Sequence[Allocation], _: Session | None) -> AllocationsView:
    return AllocationsView(
        allocations=[
            AllocationView(
                payment_id=item.payment.id,
                cost_payment_id=item.payment.cost_payment_id,
                invoice_id=item.invoice.id,
                invoice_number=item.invoice.invoice_number,
                amount=item.payment.amount_paid,
                invoice_status=item.invoice.status,
                balance_due=item.invoice.balance_due,
            )
            for item in made
        ],
        total=sum((item.payment.amount_paid for item in made), ZERO),
    )
