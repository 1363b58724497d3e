"""`/dashboard`: where the business stands at this moment (spec section 5)."""

from __future__ import annotations

from typing import Annotated

from litestar import Controller, get
from litestar.di import NamedDependency
from pydantic import Field

from accounting.api.accounts import AgingView
from accounting.api.auth import ApiRequest
from accounting.api.invoice_views import AdminInvoiceView, InvoiceView, view_invoices
from accounting.api.schemas import BodyOut, CountOut, DayOut, InstantOut, MoneyOut, PeriodOut
from accounting.bootstrap import Services
from accounting.invoices.rules import InvoiceStatus
from accounting.recurring.rules import TemplateStatus
from accounting.reports.dashboard import DashboardReading
from accounting.reports.figures import COLLECTED_MONTHS, DUE_SOON_DAYS


class StatusSumsView(BodyOut):
    """The invoices of one status."""

    count: Annotated[CountOut, Field(examples=[3])]
    total_amount: MoneyOut
    amount_paid: Annotated[MoneyOut, Field(examples=["250.00"])]


class ByStatusView(BodyOut):
    """All invoices, by status."""

    draft: Annotated[StatusSumsView, Field(alias="DRAFT")]
    issued: Annotated[StatusSumsView, Field(alias="ISSUED")]
    overdue: Annotated[StatusSumsView, Field(alias="OVERDUE")]
    paid: Annotated[StatusSumsView, Field(alias="PAID")]
    cancelled: Annotated[StatusSumsView, Field(alias="CANCELLED")]
    refunded: Annotated[StatusSumsView, Field(alias="REFUNDED")]


class AmountsView(BodyOut):
    """So many open invoices, and what is still to be paid of them."""

    count: Annotated[CountOut, Field(examples=[2])]
    amount: MoneyOut


class CollectedView(BodyOut):
    """What was paid in a month of the business zone and is not refunded."""

    month: PeriodOut
    amount: MoneyOut


class TemplateCountsView(BodyOut):
    """How many recurring invoices stand where, and the earliest next run of the active ones."""

    active: Annotated[CountOut, Field(examples=[12])]
    paused: CountOut
    ended: CountOut
    deleted: CountOut
    next_run_date: Annotated[DayOut | None, Field(description="In the past if a month was missed.")]


class DashboardView(BodyOut):
    """The state of the business at one moment, `asOf`; days are those of the business zone.

    `outstanding` is the sum over ISSUED and OVERDUE invoices of total minus paid; `aging` divides
    it by how many days the due dates are past. `overdue` is the part whose due date has passed,
    also where the status is still ISSUED.
    """

    as_of: InstantOut
    today: DayOut
    by_status: ByStatusView
    outstanding: MoneyOut
    open_invoices: Annotated[CountOut, Field(examples=[5])]
    overdue: AmountsView
    aging: AgingView
    due_next_7_days: Annotated[
        AmountsView,
        Field(
            alias=f"dueNext{DUE_SOON_DAYS}Days",
            description=f"Not overdue, and due from today to {DUE_SOON_DAYS} days from now.",
        ),
    ]
    collected_per_month: Annotated[
        list[CollectedView],
        Field(
            description=f"The last {COLLECTED_MONTHS} months up to this one, the oldest first.",
        ),
    ]
    recent_invoices: Annotated[
        list[AdminInvoiceView], Field(description="The newest, drafts as well.")
    ]
    templates: TemplateCountsView


class DashboardController(Controller):
    """The dashboard; for admins."""

    path = "/dashboard"
    tags = ["Dashboard"]

    @get(operation_id="getDashboard", summary="Where the business stands")
    async def dashboard(
        self, request: ApiRequest, services: NamedDependency[Services]
    ) -> DashboardView:
        """Has every change that was committed before the request. All of it is of one moment.

        503 `figures_not_ready` while the figures of a large store are counted for the first time.
        """
        reading = await services.dashboard.read(services.db, services.terms.zone)
        rows = [invoice.model_dump(by_alias=True) for invoice in reading.recent]
        recent = await view_invoices(services.platform, request.user, rows, reading.today)
        return view_dashboard(reading, recent)


def view_dashboard(
    reading: DashboardReading, recent: list[InvoiceView | AdminInvoiceView]
) -> DashboardView:
    """A reading as it is answered."""
    found = reading.dashboard
    return DashboardView.model_validate(
        {
            "as_of": reading.as_of,
            "today": reading.today,
            "by_status": {
                status.value: StatusSumsView.model_validate(found.by_status[status])
                for status in InvoiceStatus
            },
            "outstanding": found.outstanding,
            "open_invoices": found.open_invoices,
            "overdue": AmountsView.model_validate(found.overdue),
            "aging": AgingView.model_validate(found.aging),
            "due_next_7_days": AmountsView.model_validate(found.due_soon),
            "collected_per_month": [
                CollectedView(month=month, amount=amount)
                for month, amount in found.collected.items()
            ],
            "recent_invoices": recent,
            "templates": TemplateCountsView(
                active=found.templates[TemplateStatus.ACTIVE],
                paused=found.templates[TemplateStatus.PAUSED],
                ended=found.templates[TemplateStatus.ENDED],
                deleted=found.templates[TemplateStatus.DELETED],
                next_run_date=found.next_run_date,
            ),
        }
    )
