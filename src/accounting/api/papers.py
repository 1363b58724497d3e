"""`/invoices/{id}/download`: the PDF of an invoice, and how one is answered (spec section 5)."""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeAlias

from litestar import Controller, Request, Response, get
from litestar.di import NamedDependency, Provide
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example
from litestar.params import HeaderParameter
from litestar.status_codes import HTTP_200_OK, HTTP_304_NOT_MODIFIED, HTTP_409_CONFLICT

from accounting.api.auth import CUSTOMERS_MAY, ApiRequest
from accounting.api.invoice_answers import get_visible_invoice, provide_invoice_id
from accounting.bootstrap import Services
from accounting.db.files import read_file
from accounting.ids import ObjectId
from accounting.invoices.documents import Invoice
from accounting.worker.papers import kept_pdf

PDF: Final = "application/pdf"
IF_NONE_MATCH: Final = "If-None-Match"

IfNoneMatch: TypeAlias = Annotated[
    str | None,
    HeaderParameter(
        name=IF_NONE_MATCH, description="The ETag of an earlier answer; 304 when it is the same."
    ),
]


class InvoicePaperController(Controller):
    """The invoice on paper; for admins, and for the customer whose it is."""

    path = "/invoices/{id:str}"
    tags = ["Invoices"]
    dependencies = {"invoice_id": Provide(provide_invoice_id)}

    @get(
        "/download",
        operation_id="downloadInvoice",
        summary="Download an invoice as PDF",
        opt={CUSTOMERS_MAY: True},
        media_type=PDF,
        responses={
            HTTP_200_OK: ResponseSpec(
                str,
                generate_examples=False,
                media_type=PDF,
                description="The PDF; its ETag is the SHA-256 of these bytes.",
                examples=[Example(value="%PDF-1.7 and what follows")],
            ),
            HTTP_304_NOT_MODIFIED: ResponseSpec(
                None, generate_examples=False, description="What the sender has is still right."
            ),
            HTTP_409_CONFLICT: ResponseSpec(
                None, generate_examples=False, description="A draft has no PDF."
            ),
        },
    )
    async def download(
        self,
        request: ApiRequest,
        services: NamedDependency[Services],
        invoice_id: NamedDependency[ObjectId],
        if_none_match: IfNoneMatch = None,
    ) -> Response[bytes]:
        """The invoice as it was issued, the same bytes each time; payments are not on it."""
        invoice = await get_visible_invoice(request.user, invoice_id)
        return await answer_pdf(request, services, invoice)


async def answer_pdf(
    request: Request[Any, Any, Any], services: Services, invoice: Invoice
) -> Response[bytes]:
    """The PDF, or 304 when the reader has it already.

    Kept by readers alone, who ask each time whether they may still see it.
    Raises InvoiceNotIssued, InvoiceNotFound; StoredFileDamaged.
    """
    pdf = await kept_pdf(services, invoice)
    tag = f'"{pdf.metadata.sha256}"'
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
    if _is_named(tag, request.headers.getall(IF_NONE_MATCH, [])):
        return Response(b"", status_code=HTTP_304_NOT_MODIFIED, headers=headers)
    headers["Content-Disposition"] = f'attachment; filename="{pdf.filename}"'
    return Response(await read_file(pdf), media_type=PDF, headers=headers)


def _is_named(tag: str, if_none_match: list[str]) -> bool:
    """Whether one of the tags is this; proxies that compress make them weak."""
    tags = [named.strip() for header in if_none_match for named in header.split(",")]
    return any(named == "*" or named.removeprefix("W/") == tag for named in tags)
