"""`/customers/{id}/balance` and `/statement`: where a customer stands (spec section 5)."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from litestar import Controller, get
from litestar.di import NamedDependency, Provide
from litestar.params import QueryParameter
from pydantic import Field

from accounting.actor import Actor
from accounting.api.auth import CUSTOMERS_MAY, ApiRequest
from accounting.api.customers import provide_customer_id
from accounting.api.schemas import (
    BodyOut,
    CountOut,
    DayOut,
    IdOut,
    MoneyOut,
    NumberOut,
    check_day,
)
from accounting.bootstrap import Services
from accounting.clock import business_day
from accounting.ids import ObjectId
from accounting.platform.rules import CustomerNotFound
from accounting.reports.account import read_balance, read_statement
from accounting.reports.rules import EntryKind, Statement


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


class StatementEntryView(BodyOut):
    """One movement; a positive amount is owed, a negative one takes away; the balance after it."""

    date: DayOut
    kind: EntryKind
    invoice_id: IdOut
    invoice_number: NumberOut
    due_date: DayOut
    cost_payment_id: IdOut | None
    amount: MoneyOut
    balance: MoneyOut


class StatementView(BodyOut):
    """An account from a day to a day, both included; aging is that of the closing balance."""

    customer_id: IdOut
    from_: Annotated[DayOut, Field(alias="from")]
    to: DayOut
    opening_balance: MoneyOut
    entries: list[StatementEntryView]
    closing_balance: MoneyOut
    aging: AgingView


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
        _check_own(request.user, customer_id)
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

    @get("/statement", operation_id="getStatement", summary="A customer's statement")
    async def statement(
        self,
        request: ApiRequest,
        services: NamedDependency[Services],
        customer_id: NamedDependency[ObjectId],
        from_: Annotated[date | None, QueryParameter(name="from")] = None,
        to: Annotated[date | None, QueryParameter()] = None,
    ) -> StatementView:
        """Both days are included; the current year up to today unless given."""
        _check_own(request.user, customer_id)
        today = business_day(services.db.clock(), services.terms.zone)
        last = check_day("to", to) or today
        first = check_day("from", from_) or date(last.year, 1, 1)
        statement = await read_statement(
            services.platform, customer_id, first, last, services.terms.zone
        )
        return _view_statement(customer_id, statement)


def _check_own(user: Actor, customer_id: ObjectId) -> None:
    """A customer who asks for another's account learns nothing. Raises CustomerNotFound."""
    if not user.is_admin and user.user_id != customer_id:
        raise CustomerNotFound(customer_id)


def _view_statement(customer_id: ObjectId, statement: Statement) -> StatementView:
    return StatementView.model_validate(
        {
            "customer_id": customer_id,
            "from": statement.first_day,
            "to": statement.last_day,
            "opening_balance": statement.opening_balance,
            "closing_balance": statement.closing_balance,
            "aging": AgingView.model_validate(statement.aging),
            "entries": [
                StatementEntryView(
                    date=entry.movement.day,
                    kind=entry.movement.kind,
                    invoice_id=entry.movement.invoice_id,
                    invoice_number=entry.movement.invoice_number,
                    due_date=entry.movement.due_date,
                    cost_payment_id=entry.movement.reference,
                    amount=entry.movement.amount,
                    balance=entry.balance,
                )
                for entry in statement.entries
            ],
        }
    )
