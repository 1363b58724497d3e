"""Who is asking: the token, then the user behind it as the platform knows him now."""

from __future__ import annotations

import ipaddress
from typing import Any, Final, TypeAlias, cast

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.handlers.base import BaseRouteHandler
from litestar.middleware import AbstractAuthenticationMiddleware, AuthenticationResult

from accounting.actor import Actor, Role
from accounting.api.request_id import request_id_of
from accounting.api.tokens import InvalidToken, read_token
from accounting.bootstrap import Services
from accounting.errors import Forbidden
from accounting.platform.rules import UserId
from accounting.platform.user_directory import UserDirectory

COOKIE_NAME: Final = "token"
USER_AGENT_LENGTH_MAX: Final = 500
# The guard's opt-in: a route that says nothing is for admins alone.
CUSTOMERS_MAY: Final = "customers_may"
_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})

ApiRequest: TypeAlias = Request[Actor, str, Any]
# Before and after the user is known.
Anyone: TypeAlias = ASGIConnection[Any, Any, Any, Any]
Connection: TypeAlias = ASGIConnection[BaseRouteHandler, Actor, str, Any]


class AdminsOnly(Forbidden):
    """The route is for ADMIN and SUPER_ADMIN."""

    def __init__(self) -> None:
        super().__init__("Only an administrator may do this.")


class OriginNotAllowed(Forbidden):
    """A write by cookie came from a page that is not one of ours."""

    def __init__(self) -> None:
        super().__init__(
            "A write that is authenticated by cookie needs an Origin from "
            "ACCOUNTING_ALLOWED_ORIGINS; send the token in the Authorization header instead."
        )


class Authentication(AbstractAuthenticationMiddleware):
    """Turns the bearer token or the cookie into an Actor; raises InvalidToken for all else."""

    async def authenticate_request(self, connection: Anyone) -> AuthenticationResult:
        services = cast(Services, connection.app.state.services)
        directory = cast(UserDirectory, connection.app.state.users)
        token, is_cookie = _token_of(connection)
        user_id = read_token(token, services.settings.require_jwt_secret())
        if await services.platform.is_token_revoked(token, services.db.clock()):
            raise InvalidToken("The token was revoked; sign in again.")
        user = await directory.find_user(user_id)
        if user is None or user.is_deleted:
            raise InvalidToken("The user of this token no longer exists.")
        if is_cookie and connection.scope.get("method") not in _SAFE_METHODS:
            _check_origin(connection, services.settings.allowed_origins)
        return AuthenticationResult(user=actor_of(connection, user.id, user.role), auth=token)


def require_role(connection: Connection) -> None:
    """Admins may do everything, customers only what a route opens to them. Raises AdminsOnly."""
    if connection.scope.get("method") == "OPTIONS":  # answered without a user, and says nothing
        return
    user: Actor = connection.user
    is_opened = connection.route_handler.opt.get(CUSTOMERS_MAY)
    is_allowed_customer = user.role is Role.CLIENT and is_opened
    if not (user.is_admin or is_allowed_customer):
        raise AdminsOnly


def actor_of(connection: Anyone, user_id: UserId, role: Role) -> Actor:
    """Who acts by this request, with what the audit trail keeps about it."""
    user_agent = connection.headers.get("user-agent")
    return Actor(
        user_id=user_id,
        role=role,
        ip_address=address_of(connection),
        user_agent=user_agent[:USER_AGENT_LENGTH_MAX] if user_agent else None,
        request_id=request_id_of(connection.scope),
    )


def address_of(connection: Anyone) -> str | None:
    """The IP address that the request came from; None where it has none that is one."""
    # Behind a proxy this comes out of X-Forwarded-For, where anything may stand.
    try:
        return str(ipaddress.ip_address(connection.client.host if connection.client else ""))
    except ValueError:
        return None


def _token_of(connection: Anyone) -> tuple[str, bool]:
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip(), False
    if scheme:
        raise InvalidToken("The Authorization header must be: Bearer, a space, the token.")
    if cookie := connection.cookies.get(COOKIE_NAME):
        return cookie, True
    raise InvalidToken("No token was sent; sign in first.")


def _check_origin(connection: Anyone, allowed: tuple[str, ...]) -> None:
    origin = connection.headers.get("origin", "")
    if not origin or origin.rstrip("/") not in {item.rstrip("/") for item in allowed}:
        raise OriginNotAllowed
