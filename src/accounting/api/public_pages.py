"""`/public`: pages for whoever holds the link of an e-mail; the link is the key (spec section 5).

Nothing here asks for a token of the platform or for an Origin, and no body is read: mail programs
unsubscribe with a form of their own (RFC 8058).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from litestar import Controller, HttpMethod, Request, Response, Router, post, route
from litestar.di import NamedDependency
from litestar.enums import MediaType
from litestar.exceptions import NotFoundException
from litestar.params import FromPath
from litestar.status_codes import HTTP_200_OK
from litestar.types import ExceptionHandlersMap

from accounting.actor import Actor, Role
from accounting.api.auth import actor_of
from accounting.api.errors import exception_handlers
from accounting.api.papers import answer_pdf
from accounting.api.rate_limit import limit_rate_by_address
from accounting.api.visitors import is_person
from accounting.bootstrap import Services
from accounting.errors import AccountingError
from accounting.links import PUBLIC_PATH
from accounting.optouts.service import is_opted_out, opt_in, opt_out
from accounting.pages.hosted import (
    HostedInvoice,
    find_hosted_invoice,
    list_payments_shown,
    record_first_view,
)
from accounting.pages.rendering import CONTENT_SECURITY_POLICY, render_page
from accounting.pages.words import Words, company_words, invoice_words

logger = logging.getLogger(__name__)

PublicRequest: TypeAlias = Request[Any, Any, Any]

GET_AND_HEAD: Final = [HttpMethod.GET, HttpMethod.HEAD]
PDF_SUFFIX: Final = ".pdf"
# Whoever passes a link on does not want it to be found.
_UNLISTED: Final = {"X-Robots-Tag": "noindex, nofollow"}
_PAGE_HEADERS: Final = {**_UNLISTED, "Content-Security-Policy": CONTENT_SECURITY_POLICY}
_NOTICES: Final = {
    404: (
        "This link does not lead anywhere",
        "It may be incomplete, or what it led to is no longer there. Open it again from the e-mail "
        "you got, or ask for a new one.",
    ),
    429: ("Too many requests", "Please wait a moment, then try again."),
    503: ("We cannot show this now", "Please try again in a few minutes."),
}
_BUG: Final = ("Something went wrong on our side", "Please try again later.")


class PublicInvoiceController(Controller):
    """The invoice as it stands, and its PDF as it was issued."""

    path = "/invoices"

    @route("/{view_token:str}", http_method=GET_AND_HEAD)
    async def show(
        self,
        request: PublicRequest,
        services: NamedDependency[Services],
        view_token: FromPath[str],
    ) -> Response[Any]:
        """The page, or the PDF where `.pdf` follows the token; the first look is recorded."""
        hosted = await _get(view_token.removesuffix(PDF_SUFFIX))
        if view_token.endswith(PDF_SUFFIX):
            answer = await answer_pdf(request, services, hosted.invoice)
            answer.headers.update(_UNLISTED)
            return answer
        await _record_view(request, services, hosted)
        return await _invoice_page(services, hosted, view_token)


class ReminderController(Controller):
    """Stopping reminders, and starting them again."""

    path = "/"

    @route("/unsubscribe/{view_token:str}", http_method=GET_AND_HEAD)
    async def show(
        self, services: NamedDependency[Services], view_token: FromPath[str]
    ) -> Response[Any]:
        """A page with a button; to look at it changes nothing, since scanners look as well."""
        hosted = await _get(view_token)
        are_wanted = not await is_opted_out(hosted.invoice.user_id)
        return _reminders_page(services, hosted, view_token, are_wanted=are_wanted)

    @post("/unsubscribe/{view_token:str}", status_code=HTTP_200_OK)
    async def stop(
        self,
        request: PublicRequest,
        services: NamedDependency[Services],
        view_token: FromPath[str],
    ) -> Response[Any]:
        """One click, of the page's button or by a mail program; nothing more is asked."""
        hosted = await _get(view_token)
        await services.db.run(_reader(request, hosted), opt_out, hosted.link)
        return _reminders_page(services, hosted, view_token, are_wanted=False, is_done=True)

    @post("/resubscribe/{view_token:str}", status_code=HTTP_200_OK)
    async def start(
        self,
        request: PublicRequest,
        services: NamedDependency[Services],
        view_token: FromPath[str],
    ) -> Response[Any]:
        """Take it back."""
        hosted = await _get(view_token)
        await services.db.run(_reader(request, hosted), opt_in, hosted.link)
        return _reminders_page(services, hosted, view_token, are_wanted=True, is_done=True)


async def _get(view_token: str) -> HostedInvoice:
    hosted = await find_hosted_invoice(view_token)
    if hosted is None:
        raise NotFoundException
    return hosted


async def _record_view(request: PublicRequest, services: Services, hosted: HostedInvoice) -> None:
    headers = {name.lower(): value for name, value in request.headers.items()}
    if hosted.notification.opened_at is not None or not is_person(request.method, headers):
        return
    try:
        await services.db.run(_reader(request, hosted), record_first_view, hosted)
    except AccountingError as error:  # no reason to keep the invoice from its reader
        logger.warning("a view of %s is not noted: %s", hosted.notification.id, error.sentence)


def _reader(request: PublicRequest, hosted: HostedInvoice) -> Actor:
    """The customer: whoever holds the link acts for him, and the entry names the e-mail of it."""
    return actor_of(request, hosted.invoice.user_id, Role.CLIENT)


async def _invoice_page(
    services: Services, hosted: HostedInvoice, view_token: str
) -> Response[Any]:
    words = invoice_words(
        hosted.invoice,
        await list_payments_shown(hosted.invoice),
        services.company,
        services.terms.zone,
        services.db.clock(),
    )
    # Relative, so that they hold at whatever address a proxy has put us.
    links = {"pdf": f"{view_token}{PDF_SUFFIX}", "reminders": f"../unsubscribe/{view_token}"}
    return _page("invoice", words | links)


def _reminders_page(
    services: Services,
    hosted: HostedInvoice,
    view_token: str,
    *,
    are_wanted: bool,
    is_done: bool = False,
) -> Response[Any]:
    return _page(
        "reminders",
        {
            "company": company_words(services.company),
            "number": hosted.invoice.invoice_number,
            "are_wanted": are_wanted,
            "is_done": is_done,
            "stop": f"../unsubscribe/{view_token}",
            "start": f"../resubscribe/{view_token}",
            "invoice": f"../invoices/{view_token}",
        },
    )


def _page(
    template: str, words: Words, *, status: int = HTTP_200_OK, **headers: str
) -> Response[Any]:
    return Response(
        render_page(template, words),
        status_code=status,
        media_type=MediaType.HTML,
        headers={**_PAGE_HEADERS, **headers},
    )


def _as_page(handle: Callable[..., Response[Any]]) -> Callable[..., Response[Any]]:
    """An error as a page for people; its status, its headers and what is logged stay the same."""

    def answer(request: PublicRequest, error: Exception) -> Response[Any]:
        problem = handle(request, error)
        status = problem.status_code or 500
        heading, sentence = _NOTICES.get(status, _BUG)
        company = company_words(request.app.state.services.company)
        words = {"company": company, "heading": heading, "sentence": sentence}
        return _page("notice", words, status=status, **dict(problem.headers))

    return answer


def _exception_handlers() -> ExceptionHandlersMap:
    return {kind: _as_page(handle) for kind, handle in exception_handlers().items()}


def public_router() -> Router:
    """Not in the OpenAPI document: this is for readers of e-mails and not for programs."""
    return Router(
        PUBLIC_PATH,
        route_handlers=[PublicInvoiceController, ReminderController],
        guards=[limit_rate_by_address],
        exception_handlers=_exception_handlers(),
        include_in_schema=False,
    )
