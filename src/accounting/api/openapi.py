"""Where the OpenAPI document and its page are, and what they begin with."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Final

from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import SwaggerRenderPlugin
from litestar.openapi.spec import Components, OpenAPI, SecurityRequirement, SecurityScheme, Tag

from accounting import __version__
from accounting.api.answer_headers import DOCS_PATH
from accounting.api.auth import COOKIE_NAME
from accounting.api.openapi_document import complete

DOCS_ASSETS_PATH: Final = "/schema-assets"
# What a request needs: one of the two.
SECURITY: Final[list[SecurityRequirement]] = [{"BearerToken": []}, {"CookieToken": []}]

_DESCRIPTION: Final = (
    "Invoices, payments and audit trail of the hosting platform. Money is a string with two "
    "decimals in USD; days are YYYY-MM-DD in the business time zone; instants are ISO 8601 with Z. "
    "Errors are RFC 9457 problem documents: `code` is for programs, `error` is the sentence for "
    "people, `errors` names each wrong field. Every write answers with the whole document and "
    "its version as `ETag`; every POST takes an `Idempotency-Key`."
)
_TAGS: Final = {
    "Invoices": "From draft to paid: create, issue, settle, cancel, refund; and how it came about.",
    "Payments": "Cost payments of the platform's wallet ledger, applied to invoices.",
    "Customers": "Who they are and what each owes; his payments, and settling his invoices.",
    "Prices": "What a customer pays per miner, from a day on; history, never edited.",
    "Recurring invoices": "Templates that bill a customer on a day of each month.",
    "Dashboard": "Where the business stands at this moment.",
    "E-mails": "What was sent to customers about their invoices, what failed, and trying again.",
    "Runs": "Work on many invoices at once, done by the workers, with a result for each item.",
    "Audit": "Who did what, when and from where; append-only.",
    "Health": "For the operators' probes; no token is needed.",
}


class _Document(OpenAPI):
    """What Litestar reads off the handlers, completed once, when it is asked for first."""

    def to_schema(self) -> dict[str, Any]:
        return complete(super().to_schema())


@dataclass
class _Config(OpenAPIConfig):
    def to_openapi_schema(self) -> OpenAPI:
        plain = super().to_openapi_schema()
        return _Document(**{field.name: getattr(plain, field.name) for field in fields(plain)})


def openapi_config() -> OpenAPIConfig:
    """The document at `/schema/openapi.json` and the page at `/schema`."""
    return _Config(
        title="Accounting",
        version=__version__,
        description=_DESCRIPTION,
        path=DOCS_PATH,
        use_handler_docstrings=True,
        tags=[Tag(name=name, description=text) for name, text in _TAGS.items()],
        components=Components(
            security_schemes={
                "BearerToken": SecurityScheme(
                    type="http", scheme="bearer", bearer_format="JWT", description="Platform JWT"
                ),
                "CookieToken": SecurityScheme(
                    type="apiKey",
                    name=COOKIE_NAME,
                    security_scheme_in="cookie",
                    description="The same token as a cookie; writes need an allowed `Origin`.",
                ),
            }
        ),
        render_plugins=[
            SwaggerRenderPlugin(
                path="/",
                favicon="<link rel='icon' href='data:,'>",
                js_url=f"{DOCS_ASSETS_PATH}/swagger-ui-bundle.js",
                css_url=f"{DOCS_ASSETS_PATH}/swagger-ui.css",
                standalone_preset_js_url=f"{DOCS_ASSETS_PATH}/swagger-ui-standalone-preset.js",
            )
        ],
    )
