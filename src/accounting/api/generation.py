"""`POST /recurring-invoices/run`: generate what is due, plan it, or carry out a plan (spec 5)."""

from __future__ import annotations

from datetime import date, datetime
from enum import StrEnum
from typing import Annotated, Any, Final

from litestar import Controller, Response, post
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import JSONBody
from litestar.status_codes import HTTP_200_OK, HTTP_202_ACCEPTED
from pydantic import Field, model_validator

from accounting.api.auth import ApiRequest
from accounting.api.invoice_views import UserView
from accounting.api.runs import RunStartedView, run_location, view_started
from accounting.api.schemas import (
    NULL_EXAMPLE,
    BodyIn,
    BodyOut,
    CountOut,
    DayIn,
    DayOut,
    IdOut,
    InstantOut,
    MoneyOut,
    NumberOut,
    PeriodOut,
)
from accounting.api.writes import answer_write
from accounting.bootstrap import Services
from accounting.clock import business_day
from accounting.db.database import Database, Session
from accounting.platform.rules import PlatformUser
from accounting.pricing.rules import PriceSource
from accounting.recurring.billing import Charge, NothingToBill
from accounting.recurring.comparison import Bill, GoneBill, PlanFlag
from accounting.recurring.generation import start_generation
from accounting.recurring.plan import Plan, PlannedMonth, make_plan, run_plan, save_plan
from accounting.runs.documents import AccountingRun

# Of a larger plan the first are shown; its counts, sum and hash are those of all.
PLAN_ITEMS_MAX: Final = 10_000
_HASH_EXAMPLE: Final = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


class RunGeneration(BodyIn):
    """What to generate: everything due on `asOf`, today unless given; `planHash` just a plan."""

    as_of: DayIn | None = None
    dry_run: bool = False
    plan_hash: Annotated[str | None, Field(pattern=r"^[0-9a-f]{64}$"), NULL_EXAMPLE] = None

    @model_validator(mode="after")
    def _plans_or_runs(self) -> RunGeneration:
        if self.dry_run and self.plan_hash is not None:
            raise ValueError("dryRun makes a plan and planHash carries one out: give one of them")
        return self


class PlanAction(StrEnum):
    """What a run of the plan would do with a month of a template."""

    CREATE = "CREATE"
    SKIP = "SKIP"
    FAIL = "FAIL"


class BillView(BodyOut):
    """The last bill of the template before this one; without a number it is in this plan too."""

    billing_period: PeriodOut
    total_miners: CountOut
    unit_price: MoneyOut
    total_amount: MoneyOut
    invoice_number: NumberOut | None


class PlanItemView(BodyOut):
    """One month of a template; amounts only for CREATE, code and reason only otherwise."""

    recurring_invoice_id: IdOut
    customer_id: IdOut | None
    user: UserView | None
    billing_period: PeriodOut
    scheduled_date: DayOut
    action: PlanAction
    code: Annotated[str | None, NULL_EXAMPLE]
    reason: Annotated[str | None, NULL_EXAMPLE]
    total_miners: CountOut | None
    unit_price: MoneyOut | None
    total_amount: MoneyOut | None
    price_source: PriceSource | None
    auto_issue: bool | None
    previous: BillView | None
    flags: list[PlanFlag]


class GoneView(BodyOut):
    """A template that billed the month before and was paused, deleted or has ended."""

    recurring_invoice_id: IdOut
    customer_id: IdOut
    user: UserView | None
    previous: BillView


class PlanCountsView(BodyOut):
    """How many months end how."""

    create: CountOut
    skip: CountOut
    fail: CountOut


class PlanView(BodyOut):
    """A dry run. `planHash` names it for a day; `items` are at most the first 10,000."""

    plan_hash: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", examples=[_HASH_EXAMPLE])]
    as_of: DayOut
    expires_at: InstantOut
    counts: PlanCountsView
    total_amount: MoneyOut
    items: list[PlanItemView]
    gone: list[GoneView]


class GenerationController(Controller):
    """Generating invoices from templates; for admins."""

    path = "/recurring-invoices"
    tags = ["Recurring invoices"]

    @post(
        "/run",
        operation_id="runGeneration",
        summary="Generate what is due, or plan it",
        status_code=HTTP_202_ACCEPTED,
        responses={
            HTTP_200_OK: ResponseSpec(
                PlanView, description="The plan, with dryRun", generate_examples=False
            )
        },
    )
    async def run(
        self,
        request: ApiRequest,
        services: NamedDependency[Services],
        data: JSONBody[RunGeneration | None] = None,
    ) -> Response[RunStartedView]:
        """Queues a run and answers 202 with its id; with `dryRun` answers 200 with the plan.

        With `planHash` the run does exactly what the plan says, or it is 409 with what is different
        now. Asked for twice, a run that is not over yet goes on and is not started again.
        """
        choice = data or RunGeneration()
        as_of = choice.as_of or business_day(services.db.clock(), services.terms.zone)
        if choice.dry_run:
            return await _answer_plan(request, services, as_of)

        async def write(db: Database) -> AccountingRun:
            if choice.plan_hash is None:
                return await db.run(request.user, start_generation, as_of)
            return await run_plan(
                db, request.user, services.platform, services.terms, choice.plan_hash, choice.as_of
            )

        return await answer_write(
            request,
            services,
            write,
            view_started,
            status_code=HTTP_202_ACCEPTED,
            headers=run_location,
        )


async def _answer_plan(request: ApiRequest, services: Services, as_of: date) -> Response[Any]:
    plan: Plan | None = None

    async def write(db: Database) -> AccountingRun:
        nonlocal plan
        plan = await make_plan(services.platform, services.terms, as_of)
        return await db.run(request.user, save_plan, plan)

    async def view(kept: AccountingRun, _: Session | None) -> PlanView:
        assert plan is not None
        assert kept.expires_at is not None
        return _view_plan(plan, kept.expires_at)

    return await answer_write(request, services, write, view, status_code=HTTP_200_OK)


def _view_plan(plan: Plan, expires_at: datetime) -> PlanView:
    actions = [_action(line) for line in plan.months]
    return PlanView(
        plan_hash=plan.plan_hash,
        as_of=plan.as_of,
        expires_at=expires_at,
        counts=PlanCountsView(
            create=actions.count(PlanAction.CREATE),
            skip=actions.count(PlanAction.SKIP),
            fail=actions.count(PlanAction.FAIL),
        ),
        total_amount=plan.total_amount,
        items=[_view_item(line) for line in plan.months[:PLAN_ITEMS_MAX]],
        gone=[_view_gone(gone) for gone in plan.gone],
    )


def _action(line: PlannedMonth) -> PlanAction:
    if isinstance(line.decision, Charge):
        return PlanAction.CREATE
    return PlanAction.SKIP if isinstance(line.decision, NothingToBill) else PlanAction.FAIL


def _view_item(line: PlannedMonth) -> PlanItemView:
    charge = line.decision if isinstance(line.decision, Charge) else None
    refusal = line.decision if not isinstance(line.decision, Charge) else None
    return PlanItemView(
        recurring_invoice_id=line.template_id,
        customer_id=line.customer_id,
        user=_view_user(line.customer),
        billing_period=line.billing_period,
        scheduled_date=line.scheduled_date,
        action=_action(line),
        code=refusal and refusal.code,
        reason=refusal and refusal.reason,
        total_miners=charge and charge.total_miners,
        unit_price=charge and charge.unit_price,
        total_amount=charge and charge.total_amount,
        price_source=charge and charge.source,
        auto_issue=charge and charge.is_issued,
        previous=_view_bill(line.previous) if line.previous else None,
        flags=list(line.flags),
    )


def _view_gone(gone: GoneBill) -> GoneView:
    return GoneView(
        recurring_invoice_id=gone.template_id,
        customer_id=gone.customer_id,
        user=_view_user(gone.customer),
        previous=_view_bill(gone.previous),
    )


def _view_user(user: PlatformUser | None) -> UserView | None:
    return UserView.model_validate(user) if user else None


def _view_bill(bill: Bill) -> BillView:
    return BillView.model_validate(bill)
