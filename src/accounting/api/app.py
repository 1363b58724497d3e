"""The application: routes, guards, error documents, OpenAPI, what lives as long as the process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, TypeAlias

from litestar import Litestar, Request, Response, Router, get
from litestar.datastructures import State
from litestar.di import Provide
from litestar.exceptions import HTTPException, NotFoundException
from litestar.handlers.base import BaseRouteHandler
from litestar.middleware import DefineMiddleware
from litestar.params import FromPath
from litestar.plugins.pydantic import PydanticPlugin
from litestar.types import ASGIApp

from accounting.api.accounts import AccountController
from accounting.api.answer_headers import AnswerHeaders
from accounting.api.audit_logs import AuditLogController
from accounting.api.auth import Authentication, Connection, require_role
from accounting.api.customer_lists import CustomerListController
from accounting.api.customers import CustomerController
from accounting.api.dashboard import DashboardController
from accounting.api.errors import exception_handlers
from accounting.api.exports import InvoiceExportController, let_exports_end
from accounting.api.generation import GenerationController
from accounting.api.health import live, metrics, ready
from accounting.api.invoice_actions import InvoiceActionController
from accounting.api.invoice_lists import InvoiceListController
from accounting.api.invoices import InvoiceController
from accounting.api.notifications import InvoiceMailController, NotificationController
from accounting.api.openapi import DOCS_ASSETS_PATH, SECURITY, openapi_config
from accounting.api.papers import InvoicePaperController
from accounting.api.payments import PaymentController
from accounting.api.pricing_configs import CustomerPriceController, PricingConfigController
from accounting.api.public_pages import public_router
from accounting.api.queries import refuse_unknown_parameters
from accounting.api.rate_limit import limit_rate, open_redis
from accounting.api.recurring_invoices import RecurringInvoiceController
from accounting.api.runs import BulkInvoiceController, RunController
from accounting.api.statements import StatementController
from accounting.bootstrap import open_services
from accounting.links import BASE_PATH
from accounting.platform.user_book import UserBook
from accounting.platform.user_directory import UserDirectory
from accounting.settings import Settings, load_settings
from accounting.worker.queue import CeleryQueue

Lifespan: TypeAlias = Callable[[Litestar], AbstractAsyncContextManager[None]]

BODY_BYTES_MAX: Final = 1_048_576
DOCS_ASSETS: Final = ("swagger-ui-bundle.js", "swagger-ui-standalone-preset.js", "swagger-ui.css")


def create_app(settings: Settings | None = None) -> ASGIApp:
    """The ASGI application over the configured servers. Raises Misconfigured."""
    configured = settings or load_settings()
    configured.require_jwt_secret()

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        queue = CeleryQueue(configured)
        redis = open_redis(configured.redis_url.get_secret_value())
        try:
            async with open_services(configured, enqueue=queue) as services:
                app.state.update(
                    {
                        "services": services,
                        "redis": redis,
                        "users": UserDirectory(services.platform),
                        "user_book": UserBook(services.platform),
                    }
                )
                yield
                await let_exports_end(app.state)
        finally:
            await queue.close()
            await redis.aclose()

    return build_app(lifespan)


def build_app(lifespan: Lifespan | None) -> ASGIApp:
    """The routes and rules; the lifespan puts `services`, `redis` and the like into the state."""
    api = Router(
        BASE_PATH,
        route_handlers=[
            InvoiceListController,
            InvoiceExportController,
            InvoiceController,
            InvoiceActionController,
            InvoiceMailController,
            InvoicePaperController,
            PaymentController,
            CustomerListController,
            CustomerController,
            PricingConfigController,
            CustomerPriceController,
            AccountController,
            StatementController,
            RecurringInvoiceController,
            GenerationController,
            BulkInvoiceController,
            NotificationController,
            RunController,
            AuditLogController,
            DashboardController,
        ],
        middleware=[DefineMiddleware(Authentication)],
        guards=[admit],
        before_request=require_json,
        security=SECURITY,
    )
    probes = [live, ready, metrics]
    # The same once more, for proxies that pass only this path on.
    probes_below_base = Router(BASE_PATH, route_handlers=probes, include_in_schema=False)
    app = Litestar(
        route_handlers=[api, public_router(), *probes, probes_below_base, _docs_assets()],
        dependencies={
            name: _of_state(name) for name in ("services", "redis", "users", "user_book")
        },
        exception_handlers=exception_handlers(),
        lifespan=[lifespan] if lifespan else [],
        openapi_config=openapi_config(),
        plugins=[PydanticPlugin(prefer_alias=True)],
        request_max_body_size=BODY_BYTES_MAX,
        logging_config=None,
    )
    return AnswerHeaders(app)


async def admit(connection: Connection, _: BaseRouteHandler) -> None:
    """The one guard: who may do this, how often, and whether he asks for what there is.

    One and asynchronous: Litestar copies the route for each guard, and runs others in a thread.
    """
    require_role(connection)
    await limit_rate(connection)
    refuse_unknown_parameters(connection)


async def require_json(request: Request[Any, Any, Any]) -> None:
    """Raises 415 for a body that does not call itself JSON."""
    content_type, _ = request.content_type
    length = request.headers.get("content-length", "0")
    has_body = length != "0" or "transfer-encoding" in request.headers
    if has_body and request.method != "GET" and content_type != "application/json":
        raise HTTPException(status_code=415, detail="The body must be application/json.")


def _of_state(name: str) -> Provide:
    """What the lifespan has put into the application's state under this name."""

    def provide(state: State) -> Any:
        return state[name]

    return Provide(provide, sync_to_thread=False)


def _docs_assets() -> Router:
    # The page's scripts come from a wheel, so that it works without the internet. A file of their
    # list or nothing: no path that a client sends ever reaches the file system.
    folder = Path(str(files("litestar_offline_docs") / "static"))
    assets = {name: (folder / name).read_bytes() for name in DOCS_ASSETS}

    @get("/{name:str}", include_in_schema=False, sync_to_thread=False)
    def asset(name: FromPath[str]) -> Response[bytes]:
        if name not in assets:
            raise NotFoundException
        media_type = "text/css" if name.endswith(".css") else "text/javascript"
        return Response(
            assets[name], media_type=media_type, headers={"Cache-Control": "max-age=86400"}
        )

    return Router(DOCS_ASSETS_PATH, route_handlers=[asset])
