"""A small application with two writes, for what is true of every write."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import httpx
from litestar import Litestar, Request, Response, post
from litestar.di import NamedDependency, Provide
from litestar.enums import ScopeType
from litestar.params import FromPath
from litestar.types import ASGIApp, Receive, Scope, Send

from accounting.actor import Actor
from accounting.api.errors import exception_handlers
from accounting.api.invoice_answers import version_header
from accounting.api.invoice_views import InvoiceDetailView, InvoiceView, view_invoice
from accounting.api.writes import answer_write, provide_expected_version
from accounting.bootstrap import Services
from accounting.db.database import Database, Session, Transaction
from accounting.ids import ObjectId
from accounting.invoices.documents import Invoice
from accounting.invoices.drafts import NewInvoice, create_invoice
from accounting.invoices.service import issue_invoice
from api_app import settings
from builders import ADMIN, TERMS, TODAY, a_customer
from fakes import FakePlatform, TestDatabase

CUSTOMER = a_customer()
DRAFT = {"totalMiners": 5}
WriteRequest = Request[Actor, str, Any]
# What a test lets happen in the transaction of an issue, after the effect.
Hook = Callable[[Transaction], Awaitable[None]]


async def _nothing(_: Transaction) -> None:
    pass


@asynccontextmanager
async def a_write_api(
    db: TestDatabase, platform: FakePlatform, after_issue: Hook = _nothing
) -> AsyncIterator[httpx.AsyncClient]:
    """POST /invoices, /invoices/{id}/issue and /changed; `X-User` says who asks, else ADMIN."""
    platform.add_user(CUSTOMER)
    services = Services(db=db, platform=platform, terms=TERMS, settings=settings())
    app: Any = _app(services, after_issue)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://writes.test") as client:
        yield client


def _app(services: Services, after_issue: Hook) -> Litestar:
    async def view(
        request: WriteRequest, invoice: Invoice, session: Session | None
    ) -> InvoiceView | InvoiceDetailView:
        return await view_invoice(services.platform, request.user, invoice, TODAY, session=session)

    async def answer(
        request: WriteRequest, write: Callable[[Database], Awaitable[Invoice]], status_code: int
    ) -> Response[Any]:
        return await answer_write(
            request,
            services,
            write,
            lambda invoice, session: view(request, invoice, session),
            status_code=status_code,
            headers=lambda invoice: {
                **version_header(invoice),
                "Location": f"/invoices/{invoice.id}",
            },
        )

    @post("/invoices")
    async def create(request: WriteRequest) -> Response[Any]:
        order = NewInvoice(
            customer_id=CUSTOMER.id,
            total_miners=(await request.json())["totalMiners"],
            unit_price=Decimal(100),
        )
        return await answer(
            request,
            lambda db: create_invoice(db, request.user, services.platform, TERMS, order),
            201,
        )

    @post("/invoices/{invoice_id:str}/issue")
    async def issue(
        request: WriteRequest,
        invoice_id: FromPath[str],
        expected_version: NamedDependency[int | None],
    ) -> Response[Any]:
        async def issue_and_more(tx: Transaction) -> Invoice:
            issued = await issue_invoice(
                tx,
                services.platform,
                TERMS,
                ObjectId(invoice_id),
                expected_version=expected_version,
            )
            await after_issue(tx)
            return issued

        return await answer(request, lambda db: db.run(request.user, issue_and_more), 200)

    @post("/changed")
    async def changed(request: WriteRequest) -> Response[Any]:
        order = NewInvoice(customer_id=CUSTOMER.id, total_miners=1, unit_price=Decimal(1))

        async def write(db: Database) -> Invoice:
            draft = await create_invoice(db, request.user, services.platform, TERMS, order)
            return draft.model_copy()

        return await answer(request, write, 201)

    return Litestar(
        [create, issue, changed],
        dependencies={"expected_version": Provide(provide_expected_version)},
        middleware=[_as_user],
        exception_handlers=exception_handlers(),
        openapi_config=None,
        logging_config=None,
    )


def _as_user(app: ASGIApp) -> ASGIApp:
    async def middleware(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.HTTP:
            name = dict(scope["headers"]).get(b"x-user")
            user_id = ObjectId(name.decode()) if name else ADMIN.user_id
            scope["user"] = Actor(user_id=user_id, role=ADMIN.role)
        await app(scope, receive, send)

    return middleware
