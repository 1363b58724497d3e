"""`/customers/{id}/balance`: where a customer stands (spec section 5)."""

from __future__ import annotations

from typing import Annotated

from litestar import Controller, get
from litestar.di import NamedDependency, Provide
from pydantic import Field

from accounting.actor import Actor
from accounting.api.auth import CUSTOMERS_MAY, ApiRequest
from accounting.api.customers import provide_customer_id
from accounting.api.schemas import BodyOut, CountOut, DayOut, IdOut, MoneyOut
from accounting.bootstrap import Services
from accounting.clock import business_day
from accounting.ids import ObjectId
from accounting.platform.rules import CustomerNotFound
from accounting.reports.account import read_balance


class AgingView(BodyOut):
    """Open amounts by how many days their due date is past."""

    current: MoneyOut
    days_1_30: Annotated[MoneyOut, Field(alias="1-30")]
    days_31_60: Annotated[MoneyOut, Field(alias="31-60")]
    days_61_90: Annotated[MoneyOut, Field(alias="61-90")]
    days_over_90: Annotated[MoneyOut, Field(alias="90+")]


class BalanceView(BodyOut):
    """What a customer owes, and beside it what the platform's wallet holds for him."""

    customer_id: IdOut
    outstanding: MoneyOut
    overdue: MoneyOut
    open_invoices: CountOut
    aging: AgingView
    next_due_date: DayOut | None
    wallet_balance: MoneyOut


class AccountController(Controller):
    """A customer's account; customers see their own."""

    path = "/customers/{id:str}"
    tags = ["Customers"]
    opt = {CUSTOMERS_MAY: True}
    dependencies = {"customer_id": Provide(provide_customer_id)}

    @get("/balance", operation_id="getBalance", summary="What a customer owes")
    async def balance(
        self,
        request: ApiRequest,
        services: NamedDependency[Services],
        customer_id: NamedDependency[ObjectId],
    ) -> BalanceView:
        """Outstanding is the sum over ISSUED and OVERDUE invoices of total minus paid."""
        check_own(request.user, customer_id)
        today = business_day(services.db.clock(), services.terms.zone)
        balance = await read_balance(services.platform, customer_id, today)
        return BalanceView(
            customer_id=customer_id,
            outstanding=balance.outstanding,
            overdue=balance.overdue,
            open_invoices=balance.open_invoices,
            aging=AgingView.model_validate(balance.aging),
            next_due_date=balance.next_due_date,
            wallet_balance=balance.wallet_balance,
        )


def check_own(user: Actor, customer_id: ObjectId) -> None:
    """A customer who asks for another's account learns nothing. Raises CustomerNotFound."""
    if not user.is_admin and user.user_id != customer_id:
        raise CustomerNotFound(customer_id)
