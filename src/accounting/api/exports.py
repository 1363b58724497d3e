"""`GET /invoices/export`: a whole list as a file for spreadsheets (spec section 5)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Annotated, Final

from litestar import Controller, get
from litestar.datastructures import State
from litestar.di import NamedDependency, Provide
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import OpenAPIMediaType, OpenAPIResponse, Operation, Schema
from litestar.openapi.spec.enums import OpenAPIType
from litestar.params import QueryParameter
from litestar.response.base import ASGIResponse
from litestar.status_codes import HTTP_200_OK

from accounting.api.file_stream import FileStream, FinishedFile
from accounting.api.invoice_filters import Direction, SortBy, provide_invoice_filter
from accounting.api.schemas import SortDirection
from accounting.bootstrap import Services
from accounting.clock import business_day
from accounting.errors import Unavailable
from accounting.invoices.listing import InvoiceFilter, InvoiceSort
from accounting.platform.user_book import UserBook
from accounting.reports.csv_file import CsvFile
from accounting.reports.export import Row, export_invoices
from accounting.reports.xlsx_file import write_xlsx

# Each keeps one core busy as long as its reader is fast enough.
EXPORTS_AT_ONCE_MAX: Final = 2
# So few are written in one go, some 2 ms, and then others have their turn.
ROWS_AT_ONCE: Final = 200
# Enough also for a workbook of a million rows that was about to be put together.
ENDING_SECONDS_MAX: Final = 5.0
_POLL_SECONDS: Final = 0.05
_RUNNING: Final = "exports_running"


class ExportFormat(StrEnum):
    """Which kind of file."""

    CSV = "csv"
    XLSX = "xlsx"


_CSV: Final = "text/csv"
_XLSX: Final = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"


class ExportsBusy(Unavailable):
    """As many exports as this process makes at a time are running."""

    retry_after_seconds = 30

    def __init__(self) -> None:
        super().__init__(
            f"{EXPORTS_AT_ONCE_MAX} exports are running here, and no more at a time; "
            "try again when one has ended."
        )


@dataclass
class _ExportOperation(Operation):
    """The operation as Litestar reads it off the handler, and the answer's other form."""

    def __post_init__(self) -> None:
        answer = (self.responses or {})["200"]
        assert isinstance(answer, OpenAPIResponse)
        answer.content = {
            media_type: OpenAPIMediaType(schema=Schema(type=OpenAPIType.STRING), example=example)
            for media_type, example in (
                (_CSV, "invoiceNumber,status,isOverdue\r\n2026011201,PAID,false\r\n"),
                (_XLSX, "PK and what follows"),
            )
        }


class InvoiceExportController(Controller):
    """Lists of invoices as files; for admins."""

    path = "/invoices/export"
    tags = ["Invoices"]
    dependencies = {"wanted": Provide(provide_invoice_filter)}

    @get(
        operation_id="exportInvoices",
        summary="Export invoices as a file",
        media_type=_CSV,
        operation_class=_ExportOperation,
        responses={
            HTTP_200_OK: ResponseSpec(
                str,
                generate_examples=False,
                description="A line of names, then one for each invoice.",
            ),
        },
    )
    async def export(
        self,
        services: NamedDependency[Services],
        user_book: NamedDependency[UserBook],
        state: State,
        wanted: NamedDependency[InvoiceFilter],
        sort_by: SortBy = InvoiceSort.CREATED_AT,
        sort_direction: Direction = SortDirection.DESCENDING,
        format_: Annotated[ExportFormat, QueryParameter(name="format")] = ExportFormat.CSV,
    ) -> ASGIResponse:
        """Every invoice that the list with these filters has, in its order, as CSV or XLSX.

        CSV is sent while it is read, XLSX when it is finished, with its length. A file is complete
        only if the answer ends as HTTP wants it: when something fails on the way, the connection
        breaks, and a client that does not tell must not use what it has. Texts that a spreadsheet
        would take for formulas get an apostrophe in CSV; in XLSX they are texts. Beyond 1,048,575
        invoices XLSX goes on in another sheet. Two exports run at a time in one process; another
        one is 503 `exports_busy`.
        """
        today = business_day(services.db.clock(), services.terms.zone)
        leave = take_place(state)
        try:
            # What is wrong with the request is said here, before the answer begins.
            parts = await export_invoices(
                services.platform,
                user_book,
                wanted,
                services.terms.zone,
                today,
                sort_by=sort_by,
                descending=sort_direction is SortDirection.DESCENDING,
            )
        except BaseException:  # cancelled as well: the place must not stay taken
            leave()
            raise
        filename = f"invoices-{today}.{format_}"
        if format_ is ExportFormat.XLSX:
            return FinishedFile(
                partial(write_xlsx, parts), filename=filename, media_type=_XLSX, on_end=leave
            )
        # The charset is added to the media type.
        return FileStream(_write_csv(parts), filename=filename, media_type=_CSV, on_end=leave)


def take_place(state: State) -> Callable[[], None]:
    """Take one of the places; the result gives it back. Raises ExportsBusy."""
    if state.get(_RUNNING, 0) >= EXPORTS_AT_ONCE_MAX:
        raise ExportsBusy
    state[_RUNNING] = state.get(_RUNNING, 0) + 1

    def leave() -> None:
        state[_RUNNING] -= 1

    return leave


async def let_exports_end(state: State) -> None:
    """Let the exports that a stopping server has cancelled remove their files."""
    for _ in range(int(ENDING_SECONDS_MAX / _POLL_SECONDS)):
        if not state.get(_RUNNING, 0):
            break
        await asyncio.sleep(_POLL_SECONDS)


async def _write_csv(parts: AsyncIterator[list[Row]]) -> AsyncGenerator[bytes, None]:
    file = CsvFile()
    yield file.begin()
    async for rows in parts:
        for start in range(0, len(rows), ROWS_AT_ONCE):
            yield file.add(rows[start : start + ROWS_AT_ONCE])
            await asyncio.sleep(0)
