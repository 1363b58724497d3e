"""How an invoice is answered: the one shape of GET and of every write, with its version."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from litestar import Response
from litestar.params import FromPath
from litestar.status_codes import HTTP_201_CREATED

from accounting.actor import Actor
from accounting.api.auth import ApiRequest
from accounting.api.invoice_views import InvoiceDetailView, InvoiceView, view_invoice
from accounting.api.schemas import parse_id
from accounting.api.writes import answer_write
from accounting.bootstrap import Services
from accounting.clock import business_day
from accounting.db.database import Database, Session
from accounting.ids import ObjectId
from accounting.invoices.documents import Invoice, get_invoice
from accounting.invoices.rules import InvoiceNotFound, InvoiceStatus
from accounting.links import BASE_PATH

T = TypeVar("T")

InvoiceResponse = Response[InvoiceView | InvoiceDetailView]


async def provide_invoice_id(id: FromPath[str]) -> ObjectId:  # noqa: A002  # the path says {id}
    """The invoice's id from the path. Raises Invalid naming `id`."""
    return parse_id("id", id)


async def get_visible_invoice(actor: Actor, invoice_id: ObjectId) -> Invoice:
    """An invoice that this actor may see: admins all, customers their own that are not drafts.

    Raises InvoiceNotFound for every other one, so that nobody learns which ids there are.
    """
    invoice = await get_invoice(invoice_id)
    is_own = invoice.user_id == actor.user_id and invoice.status is not InvoiceStatus.DRAFT
    if not (actor.is_admin or is_own):
        raise InvoiceNotFound(invoice_id)
    return invoice


async def answer_invoice(
    request: ApiRequest, services: Services, invoice: Invoice
) -> InvoiceResponse:
    """The answer of a GET."""
    view = await _view(services, request.user, invoice, None)
    return Response(view, headers=version_header(invoice))


async def answer_invoice_write(
    request: ApiRequest,
    services: Services,
    write: Callable[[Database], Awaitable[T]],
    *,
    invoice_of: Callable[[T], Invoice],
    status_code: int = 200,
) -> InvoiceResponse:
    """Run a write and answer with the whole invoice; repeated with its key, replay the answer."""

    async def view(result: T, session: Session | None) -> InvoiceView | InvoiceDetailView:
        return await _view(services, request.user, invoice_of(result), session)

    def headers(result: T) -> Mapping[str, str]:
        invoice = invoice_of(result)
        location = f"{BASE_PATH}/invoices/{invoice.id}"
        is_created = status_code == HTTP_201_CREATED
        return {**version_header(invoice), **({"Location": location} if is_created else {})}

    return await answer_write(
        request, services, write, view, status_code=status_code, headers=headers
    )


def itself(invoice: Invoice) -> Invoice:
    """For the writes whose result is the invoice."""
    return invoice


def version_header(invoice: Invoice) -> Mapping[str, str]:
    """The ETag that `If-Match` takes."""
    return {"ETag": f'"{invoice.version}"'}


async def _view(
    services: Services, actor: Actor, invoice: Invoice, session: Session | None
) -> InvoiceView | InvoiceDetailView:
    today = business_day(services.db.clock(), services.terms.zone)
    return await view_invoice(services.platform, actor, invoice, today, session=session)
