"""`/customers/{id}/statement`: an account over some days as JSON, as PDF, by e-mail (section 5)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any, Final

from litestar import Controller, Response, get, post
from litestar.di import NamedDependency, Provide
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import OpenAPIMediaType, OpenAPIResponse, Operation, Schema
from litestar.openapi.spec.enums import OpenAPIType
from litestar.params import JSONBody, QueryParameter
from litestar.status_codes import HTTP_202_ACCEPTED, HTTP_409_CONFLICT
from pydantic import Field

from accounting.api.accounts import AgingView, check_own
from accounting.api.auth import CUSTOMERS_MAY, ApiRequest
from accounting.api.customers import provide_customer_id
from accounting.api.negotiation import ACCEPT, prefers
from accounting.api.notifications import (
    NotificationDetailView,
    view_notification,
    where_to_follow,
)
from accounting.api.papers import PDF
from accounting.api.schemas import BodyIn, BodyOut, DayOut, IdOut, MoneyOut, NumberOut, check_day
from accounting.api.writes import answer_write
from accounting.bootstrap import Services
from accounting.clock import business_day
from accounting.ids import ObjectId
from accounting.notifications.rules import StatementTone
from accounting.platform.reader import get_customer
from accounting.reports.account import read_statement
from accounting.reports.mailing import send_statement
from accounting.reports.paper import name_of_file, print_statement
from accounting.reports.rules import EntryKind, Statement, range_of_statement

_JSON: Final = "application/json"


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


class SendStatement(BodyIn):
    """How plainly to write: FIRM and FINAL ask for what is overdue."""

    tone: StatementTone


@dataclass
class _StatementOperation(Operation):
    """The operation as Litestar reads it off the handler, and the answer's other form."""

    def __post_init__(self) -> None:
        answer = (self.responses or {})["200"]
        assert isinstance(answer, OpenAPIResponse)
        assert answer.content is not None
        schema = Schema(type=OpenAPIType.STRING)
        answer.content[PDF] = OpenAPIMediaType(schema, example="%PDF-1.7 and what follows")


class StatementController(Controller):
    """A customer's statement; customers read their own, admins send them."""

    path = "/customers/{id:str}/statement"
    dependencies = {"customer_id": Provide(provide_customer_id)}

    @get(
        operation_id="getStatement",
        summary="A customer's statement",
        tags=["Customers"],
        opt={CUSTOMERS_MAY: True},
        operation_class=_StatementOperation,
        responses={
            HTTP_409_CONFLICT: ResponseSpec(
                None, generate_examples=False, description="Too much for a PDF, or archived."
            )
        },
    )
    async def read(
        self,
        request: ApiRequest,
        services: NamedDependency[Services],
        customer_id: NamedDependency[ObjectId],
        from_: Annotated[date | None, QueryParameter(name="from")] = None,
        to: Annotated[date | None, QueryParameter()] = None,
    ) -> Response[StatementView]:
        """Both days are included; the current year up to today unless given.

        With `Accept: application/pdf` it is a PDF, for print and archive.
        """
        check_own(request.user, customer_id)
        today = business_day(services.db.clock(), services.terms.zone)
        first, last = range_of_statement(check_day("from", from_), check_day("to", to), today)
        statement = await read_statement(
            services.platform, customer_id, first, last, services.terms.zone
        )
        if prefers(PDF, _JSON, request):
            return await _answer_pdf(services, customer_id, statement, today)
        return Response(_view_statement(customer_id, statement), headers={"Vary": ACCEPT})

    @post(
        "/send-email",
        operation_id="sendStatement",
        summary="Send a customer's statement by e-mail",
        tags=["E-mails"],
        status_code=HTTP_202_ACCEPTED,
    )
    async def send(
        self,
        request: ApiRequest,
        services: NamedDependency[Services],
        customer_id: NamedDependency[ObjectId],
        data: JSONBody[SendStatement],
    ) -> Response[NotificationDetailView]:
        """Queues it and answers at once; while one of this tone waits, that is the answer.

        The e-mail shows what is outstanding when it is written, with this year's statement as PDF.
        """
        return await answer_write(
            request,
            services,
            lambda db: db.run(
                request.user,
                send_statement,
                services.platform,
                services.terms,
                customer_id,
                data.tone,
            ),
            view_notification,
            status_code=HTTP_202_ACCEPTED,
            headers=where_to_follow,
        )


async def _answer_pdf(
    services: Services, customer_id: ObjectId, statement: Statement, today: date
) -> Response[Any]:
    """Raises CustomerNotFound, StatementTooLong."""
    customer = await get_customer(services.platform, customer_id)
    pdf = await print_statement(customer, statement, services.company, made_on=today)
    headers = {
        "Vary": ACCEPT,
        "Content-Disposition": f'attachment; filename="{name_of_file(statement)}"',
    }
    return Response(pdf, media_type=PDF, headers=headers)


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
