"""`/recurring-invoices`: the templates of monthly invoices (spec section 5)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated, Any

from litestar import Controller, Response, delete, get, patch, post
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath, JSONBody, QueryParameter
from litestar.status_codes import HTTP_200_OK, HTTP_201_CREATED
from pydantic import Field, field_validator

from accounting.api.auth import ApiRequest
from accounting.api.invoice_views import VersionOut
from accounting.api.queries import PageCursor, PageLimit, PageNumber
from accounting.api.schemas import (
    NULL_EXAMPLE,
    ONLY_WHOLE,
    BodyIn,
    BodyOut,
    CountOut,
    CursorOut,
    DayIn,
    DayOut,
    IdIn,
    MoneyOut,
    Pagination,
    UnitPriceIn,
    pagination,
    parse_id,
)
from accounting.api.stamps import StampedView, find_people, with_people
from accounting.api.writes import answer_write, provide_expected_version
from accounting.bootstrap import Services
from accounting.clock import business_day
from accounting.db.database import Database, Session
from accounting.db.paging import PAGE_LIMIT_DEFAULT, to_window
from accounting.ids import ObjectId
from accounting.links import BASE_PATH
from accounting.recurring.documents import RecurringInvoice, get_recurring_invoice
from accounting.recurring.rules import (
    DAY_OF_MONTH_MAX,
    DAY_OF_MONTH_MIN,
    TemplateStatus,
    next_run_date,
    template_status,
)
from accounting.recurring.service import (
    NewTemplate,
    TemplateChanges,
    create_recurring_invoice,
    delete_recurring_invoice,
    list_recurring_invoices,
    pause_recurring_invoice,
    resume_recurring_invoice,
    update_recurring_invoice,
)

DayOfMonthIn = Annotated[
    int, Field(ge=DAY_OF_MONTH_MIN, le=DAY_OF_MONTH_MAX, examples=[5]), ONLY_WHOLE
]
# `changes` reads only what was sent, so that nobody sees this.
_LEFT_OUT: Any = None


class CreateRecurringInvoice(BodyIn):
    """A template. Without a price it bills the price list, without a start it starts today."""

    customer_id: IdIn
    day_of_month: DayOfMonthIn
    unit_price: UnitPriceIn | None = None
    start_date: DayIn | None = None
    end_date: DayIn | None = None
    auto_issue: bool = False


class UpdateRecurringInvoice(BodyIn):
    """The fields of a template to change; the others stay. Null takes price and end away."""

    day_of_month: DayOfMonthIn = _LEFT_OUT
    unit_price: UnitPriceIn | None = None
    start_date: DayIn = _LEFT_OUT
    end_date: DayIn | None = None
    auto_issue: bool = _LEFT_OUT

    @field_validator("day_of_month", "start_date", "auto_issue", mode="before")
    @classmethod
    def _cannot_be_taken_away(cls, value: object) -> object:
        if value is None:
            raise ValueError("cannot be null")
        return value

    def changes(self) -> TemplateChanges:
        """What was sent, and nothing else."""
        return TemplateChanges({name: getattr(self, name) for name in self.model_fields_set})


class RecurringInvoiceView(StampedView):
    """A template of monthly invoices; both dates are inclusive.

    `status` is about the day of the answer. `nextRunDate` is the scheduled date of the next invoice
    while the template is active, in the past if one was missed. `lastGeneratedDate` is the
    scheduled date of the last one, `lastSkippedDate` that of the last month that was passed over.
    `parkedReason` says why it was paused when it failed in three runs.
    """

    day_of_month: Annotated[int, Field(ge=DAY_OF_MONTH_MIN, le=DAY_OF_MONTH_MAX, examples=[5])]
    unit_price: Annotated[MoneyOut | None, Field(examples=["100.00"])]
    start_date: DayOut
    end_date: Annotated[DayOut | None, NULL_EXAMPLE]
    is_active: Annotated[bool, Field(examples=[True])]
    status: TemplateStatus
    auto_issue: bool
    last_generated_date: Annotated[DayOut | None, NULL_EXAMPLE]
    last_skipped_date: Annotated[DayOut | None, NULL_EXAMPLE]
    failed_runs: CountOut
    parked_reason: Annotated[str | None, NULL_EXAMPLE]
    next_run_date: Annotated[DayOut | None, Field(examples=["2026-02-05"])]
    version: VersionOut


class RecurringInvoiceListView(BodyOut):
    """A page of templates, newest first."""

    recurring_invoices: list[RecurringInvoiceView]
    pagination: Pagination
    next_cursor: CursorOut


RecurringInvoiceResponse = Response[RecurringInvoiceView]


async def provide_template_id(id: FromPath[str]) -> ObjectId:  # noqa: A002  # the path says {id}
    """The template's id from the path. Raises Invalid naming `id`."""
    return parse_id("id", id)


class RecurringInvoiceController(Controller):
    """Templates of monthly invoices; for admins."""

    path = "/recurring-invoices"
    tags = ["Recurring invoices"]
    dependencies = {
        "template_id": Provide(provide_template_id),
        "expected_version": Provide(provide_expected_version),
    }

    @get(operation_id="listRecurringInvoices", summary="List recurring invoices")
    async def list_page(
        self,
        services: NamedDependency[Services],
        customer_id: Annotated[str | None, QueryParameter(name="customerId")] = None,
        is_active: Annotated[bool | None, QueryParameter(name="isActive")] = None,
        page: PageNumber = None,
        limit: PageLimit = PAGE_LIMIT_DEFAULT,
        cursor: PageCursor = None,
    ) -> RecurringInvoiceListView:
        """Newest first; paused, ended and deleted ones too, see their `status`."""
        found = await list_recurring_invoices(
            to_window(page, limit, cursor),
            user_id=parse_id("customerId", customer_id) if customer_id is not None else None,
            is_active=is_active,
        )
        return RecurringInvoiceListView(
            recurring_invoices=await view_templates(services, found.items),
            pagination=pagination(found.number, found.limit, found.total),
            next_cursor=found.next_cursor,
        )

    @post(
        operation_id="createRecurringInvoice",
        summary="Create a recurring invoice",
        status_code=HTTP_201_CREATED,
    )
    async def create(
        self,
        request: ApiRequest,
        services: NamedDependency[Services],
        data: JSONBody[CreateRecurringInvoice],
    ) -> RecurringInvoiceResponse:
        """A start date in the past makes the next run generate the months since."""
        order = NewTemplate(
            customer_id=ObjectId(data.customer_id),
            day_of_month=data.day_of_month,
            unit_price=data.unit_price,
            start_date=data.start_date,
            end_date=data.end_date,
            auto_issue=data.auto_issue,
        )
        return await _answer_write(
            request,
            services,
            lambda db: db.run(
                request.user,
                create_recurring_invoice,
                services.platform,
                services.terms.zone,
                order,
            ),
            status_code=HTTP_201_CREATED,
        )

    @get("/{id:str}", operation_id="getRecurringInvoice", summary="Read a recurring invoice")
    async def read(
        self, services: NamedDependency[Services], template_id: NamedDependency[ObjectId]
    ) -> RecurringInvoiceResponse:
        """A template, also a deleted one."""
        template = await get_recurring_invoice(template_id)
        [view] = await view_templates(services, [template])
        return Response(view, headers=_version_header(template))

    @patch("/{id:str}", operation_id="updateRecurringInvoice", summary="Change a recurring invoice")
    async def update(
        self,
        request: ApiRequest,
        services: NamedDependency[Services],
        template_id: NamedDependency[ObjectId],
        expected_version: NamedDependency[int | None],
        data: JSONBody[UpdateRecurringInvoice],
    ) -> RecurringInvoiceResponse:
        """Changes the fields that are sent; the start only until something was generated."""
        return await _answer_write(
            request,
            services,
            lambda db: db.run(
                request.user,
                update_recurring_invoice,
                template_id,
                services.terms.zone,
                data.changes(),
                expected_version=expected_version,
            ),
        )

    @delete(
        "/{id:str}",
        operation_id="deleteRecurringInvoice",
        summary="Delete a recurring invoice",
        status_code=HTTP_200_OK,
    )
    async def delete(
        self,
        request: ApiRequest,
        services: NamedDependency[Services],
        template_id: NamedDependency[ObjectId],
        expected_version: NamedDependency[int | None],
    ) -> RecurringInvoiceResponse:
        """Ends it for good, today at the latest; it stays readable, and its invoices stay."""
        return await _answer_write(
            request,
            services,
            lambda db: db.run(
                request.user,
                delete_recurring_invoice,
                template_id,
                services.terms.zone,
                expected_version=expected_version,
            ),
        )

    @post(
        "/{id:str}/pause",
        operation_id="pauseRecurringInvoice",
        summary="Pause a recurring invoice",
        status_code=HTTP_200_OK,
    )
    async def pause(
        self,
        request: ApiRequest,
        services: NamedDependency[Services],
        template_id: NamedDependency[ObjectId],
        expected_version: NamedDependency[int | None],
    ) -> RecurringInvoiceResponse:
        """Nothing is generated until it is resumed, and nothing of the pause is made up for."""
        return await _answer_write(
            request,
            services,
            lambda db: db.run(
                request.user,
                pause_recurring_invoice,
                template_id,
                services.terms.zone,
                expected_version=expected_version,
            ),
        )

    @post(
        "/{id:str}/resume",
        operation_id="resumeRecurringInvoice",
        summary="Resume a recurring invoice",
        status_code=HTTP_200_OK,
    )
    async def resume(
        self,
        request: ApiRequest,
        services: NamedDependency[Services],
        template_id: NamedDependency[ObjectId],
        expected_version: NamedDependency[int | None],
    ) -> RecurringInvoiceResponse:
        """It starts anew today: `startDate` becomes today unless it is later."""
        return await _answer_write(
            request,
            services,
            lambda db: db.run(
                request.user,
                resume_recurring_invoice,
                services.platform,
                template_id,
                services.terms.zone,
                expected_version=expected_version,
            ),
        )


async def view_templates(
    services: Services, templates: Sequence[RecurringInvoice]
) -> list[RecurringInvoiceView]:
    """Templates with their people, all in one read, as they are today."""
    people = await find_people(services.platform, templates)
    today = business_day(services.db.clock(), services.terms.zone)
    return [
        RecurringInvoiceView(
            **with_people(RecurringInvoiceView, template, people),
            status=template_status(template.is_active, template.end_date, today),
            next_run_date=next_run_date(template.schedule) if template.is_active else None,
        )
        for template in templates
    ]


async def _answer_write(
    request: ApiRequest,
    services: Services,
    write: Callable[[Database], Awaitable[RecurringInvoice]],
    *,
    status_code: int = HTTP_200_OK,
) -> RecurringInvoiceResponse:
    async def view(template: RecurringInvoice, _: Session | None) -> RecurringInvoiceView:
        [shown] = await view_templates(services, [template])
        return shown

    def headers(template: RecurringInvoice) -> Mapping[str, str]:
        location = f"{BASE_PATH}/recurring-invoices/{template.id}"
        is_created = status_code == HTTP_201_CREATED
        return {**_version_header(template), **({"Location": location} if is_created else {})}

    return await answer_write(
        request, services, write, view, status_code=status_code, headers=headers
    )


def _version_header(template: RecurringInvoice) -> Mapping[str, str]:
    return {"ETag": f'"{template.version}"'}
