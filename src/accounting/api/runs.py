"""`/runs` and what starts one: `/invoices/bulk-issue`, `/bulk-send-email` (spec section 5)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Final, TypeAlias

from litestar import Controller, Response, get, post
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath, JSONBody, QueryParameter
from litestar.status_codes import HTTP_202_ACCEPTED
from pydantic import Field

from accounting.api.auth import ApiRequest
from accounting.api.notifications import EmailType
from accounting.api.schemas import (
    NULL_EXAMPLE,
    BodyIn,
    BodyOut,
    CountOut,
    CursorOut,
    IdIn,
    IdOut,
    InstantOut,
    JsonObject,
    Pagination,
    pagination,
    parse_id,
)
from accounting.api.writes import answer_write
from accounting.bootstrap import Services
from accounting.db.database import Session
from accounting.db.paging import (
    PAGE_LIMIT_DEFAULT,
    PAGE_LIMIT_MAX,
    PAGE_MAX,
    to_window,
)
from accounting.errors import Invalid
from accounting.ids import ObjectId
from accounting.invoices.bulk import start_bulk_issue
from accounting.invoices.bulk_mail import start_bulk_send_email
from accounting.links import BASE_PATH
from accounting.runs.documents import AccountingRun, get_run, list_runs
from accounting.runs.parts import list_items, with_progress
from accounting.runs.rules import (
    BULK_ITEMS_MAX,
    ItemStatus,
    RunKind,
    RunStatus,
    duration_seconds,
    percent_finished,
)
from accounting.runs.service import retry_failed

# A whole run of a bulk request is one page.
ITEM_LIMIT_MAX: Final = BULK_ITEMS_MAX

InvoiceIdsIn: TypeAlias = Annotated[
    list[IdIn],
    Field(min_length=1, max_length=BULK_ITEMS_MAX, json_schema_extra={"uniqueItems": True}),
]


class BulkIssue(BodyIn):
    """Which drafts to issue; each id once."""

    invoice_ids: InvoiceIdsIn
    skip_email: bool = False


class BulkSendEmail(BodyIn):
    """About which invoices to send which e-mail; left out, the one that fits each one's status."""

    invoice_ids: InvoiceIdsIn
    type: EmailType | None = None


class RunStartedView(BodyOut):
    """Where to follow what was asked for: `/runs/{runId}`."""

    run_id: IdOut


class RunCountsView(BodyOut):
    """How many items ended how."""

    total: Annotated[CountOut, Field(examples=[2])]
    pending: CountOut
    done: Annotated[CountOut, Field(examples=[1])]
    skipped: CountOut
    failed: Annotated[CountOut, Field(examples=[1])]


class RunItemView(BodyOut):
    """One item and what became of it; `resultId` is the document that it made."""

    id: IdOut
    label: Annotated[str | None, Field(examples=["2026011203"])]
    status: Annotated[ItemStatus, Field(examples=["FAILED"])]
    code: Annotated[str | None, Field(examples=["invoice_not_found"])]
    reason: Annotated[str | None, Field(examples=["There is no invoice 66f0c0ffee00000000000101."])]
    result_id: Annotated[IdOut | None, NULL_EXAMPLE]
    at: InstantOut | None


class RunView(BodyOut):
    """A run without its items; `progressPercent` is 100 once every item has its result."""

    id: IdOut
    kind: RunKind
    status: Annotated[RunStatus, Field(examples=["DONE"])]
    requested_by: IdOut
    created_at: InstantOut
    started_at: InstantOut | None
    finished_at: InstantOut | None
    duration_seconds: Annotated[float | None, Field(ge=0, examples=[1.25])]
    counts: RunCountsView
    progress_percent: Annotated[int, Field(ge=0, le=100, examples=[100])]
    parameters: Annotated[JsonObject, Field(examples=[{"skipEmail": False}])]


class RunDetailView(RunView):
    """A run with its items, in the order of the request."""

    items: list[RunItemView]
    item_pagination: Pagination


class RunListView(BodyOut):
    """A page of runs, newest first."""

    runs: list[RunView]
    pagination: Pagination
    next_cursor: CursorOut


async def provide_run_id(id: FromPath[str]) -> ObjectId:  # noqa: A002  # the path says {id}
    """The run's id from the path. Raises Invalid naming `id`."""
    return parse_id("id", id)


class BulkInvoiceController(Controller):
    """What is done with many invoices at once; for admins."""

    path = "/invoices"
    tags = ["Invoices"]

    @post(
        "/bulk-issue",
        operation_id="bulkIssueInvoices",
        summary="Issue many drafts",
        status_code=HTTP_202_ACCEPTED,
    )
    async def bulk_issue(
        self,
        request: ApiRequest,
        services: NamedDependency[Services],
        data: JSONBody[BulkIssue],
    ) -> Response[RunStartedView]:
        """Queues a run and answers at once; ids that cannot be issued become items of it."""
        invoice_ids = _distinct_ids(data.invoice_ids)
        return await answer_write(
            request,
            services,
            lambda db: db.run(
                request.user, start_bulk_issue, invoice_ids, skip_email=data.skip_email
            ),
            view_started,
            status_code=HTTP_202_ACCEPTED,
            headers=run_location,
        )

    @post(
        "/bulk-send-email",
        operation_id="bulkSendEmail",
        summary="Send an e-mail about many invoices",
        status_code=HTTP_202_ACCEPTED,
    )
    async def bulk_send_email(
        self,
        request: ApiRequest,
        services: NamedDependency[Services],
        data: JSONBody[BulkSendEmail],
    ) -> Response[RunStartedView]:
        """Queues a run and answers at once; an item of it ends when its e-mail has ended."""
        invoice_ids = _distinct_ids(data.invoice_ids)
        return await answer_write(
            request,
            services,
            lambda db: db.run(request.user, start_bulk_send_email, invoice_ids, kind=data.type),
            view_started,
            status_code=HTTP_202_ACCEPTED,
            headers=run_location,
        )


class RunController(Controller):
    """Batch runs and the result of each of their items; for admins."""

    path = "/runs"
    tags = ["Runs"]
    dependencies = {"run_id": Provide(provide_run_id)}

    @get(operation_id="listRuns", summary="List runs")
    async def list_page(
        self,
        services: NamedDependency[Services],
        kind: Annotated[list[RunKind] | None, QueryParameter(name="kind")] = None,
        status: Annotated[list[RunStatus] | None, QueryParameter(name="status")] = None,
        page: Annotated[int | None, QueryParameter(ge=1, le=PAGE_MAX)] = None,
        limit: Annotated[int, QueryParameter(ge=1, le=PAGE_LIMIT_MAX)] = PAGE_LIMIT_DEFAULT,
        cursor: Annotated[str | None, QueryParameter()] = None,
    ) -> RunListView:
        """Newest first, without their items."""
        found = await list_runs(
            to_window(page, limit, cursor), kinds=kind or (), statuses=status or ()
        )
        now = services.db.clock()
        return RunListView(
            runs=[RunView(**_content(run, now)) for run in await with_progress(found.items)],
            pagination=pagination(found.number, found.limit, found.total),
            next_cursor=found.next_cursor,
        )

    @get("/{id:str}", operation_id="getRun", summary="Read a run")
    async def read(
        self,
        services: NamedDependency[Services],
        run_id: NamedDependency[ObjectId],
        item_status: Annotated[list[ItemStatus] | None, QueryParameter(name="itemStatus")] = None,
        item_page: Annotated[int, QueryParameter(name="itemPage", ge=1, le=PAGE_MAX)] = 1,
        item_limit: Annotated[
            int, QueryParameter(name="itemLimit", ge=1, le=ITEM_LIMIT_MAX)
        ] = ITEM_LIMIT_MAX,
    ) -> RunDetailView:
        """Its progress and its items; `itemStatus=FAILED` shows what to look at."""
        [run] = await with_progress([await get_run(run_id)])
        items, total = await list_items(run, item_status or (), page=item_page, limit=item_limit)
        return RunDetailView(
            **_content(run, services.db.clock()),
            items=[RunItemView.model_validate(item) for item in items],
            item_pagination=pagination(item_page, item_limit, total),
        )

    @post(
        "/{id:str}/retry-failed",
        operation_id="retryFailedItems",
        summary="Try the failed items of a run again",
        status_code=HTTP_202_ACCEPTED,
    )
    async def retry_failed(
        self,
        request: ApiRequest,
        services: NamedDependency[Services],
        run_id: NamedDependency[ObjectId],
    ) -> Response[RunStartedView]:
        """The same run goes on, now in your name; only once it is DONE and something failed."""
        return await answer_write(
            request,
            services,
            lambda db: db.run(request.user, retry_failed, run_id),
            view_started,
            status_code=HTTP_202_ACCEPTED,
            headers=run_location,
        )


def _distinct_ids(texts: Sequence[str]) -> list[ObjectId]:
    """The ids, in order. Raises Invalid naming each place that repeats an earlier one.

    Refused and not folded, so that the items of the run are the ids of the request, one to one.
    """
    first_at: dict[ObjectId, int] = {}
    errors = []
    for at, invoice_id in enumerate(map(ObjectId, texts)):
        earlier = first_at.setdefault(invoice_id, at)
        if earlier != at:
            errors.append((f"invoiceIds.{at}", f"repeats invoiceIds.{earlier}"))
    if errors:
        raise Invalid("invoiceIds must not name an invoice twice.", errors=errors)
    return list(first_at)


async def view_started(run: AccountingRun, _: Session | None) -> RunStartedView:
    """The answer to what starts a run."""
    return RunStartedView(run_id=run.id)


def run_location(run: AccountingRun) -> dict[str, str]:
    """The header that says where to follow a run."""
    return {"Location": f"{BASE_PATH}/runs/{run.id}"}


def _content(run: AccountingRun, now: datetime) -> JsonObject:
    return {
        **{
            name: getattr(run, name)
            for name in RunView.model_fields.keys() - {"duration_seconds", "progress_percent"}
        },
        "duration_seconds": duration_seconds(run.started_at, run.finished_at, now),
        "progress_percent": percent_finished(
            run.counts.total, run.counts.pending, is_planning=run.is_planning
        ),
    }
