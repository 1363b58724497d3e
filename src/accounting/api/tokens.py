"""The platform's JSON Web Tokens (spec section 5, "Auth")."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import jwt

from accounting.actor import Role
from accounting.clock import after
from accounting.errors import Unauthorized
from accounting.ids import ObjectId

ALGORITHM: Final = "HS256"


class InvalidToken(Unauthorized):
    """The token is missing, malformed, forged, expired, revoked or of another kind."""


def make_token(secret: str, user_id: ObjectId, role: Role, now: datetime, ttl_seconds: int) -> str:
    """A token as the platform signs it, valid for so many seconds from `now`."""
    claims = {"userId": str(user_id), "role": role.value, "exp": after(now, seconds=ttl_seconds)}
    return jwt.encode(claims, secret, algorithm=ALGORITHM)


def read_token(token: str, secret: str) -> ObjectId:
    """The user that a token names. Raises InvalidToken.

    The role in the token is not believed: it is read from the platform's users.
    """
    try:
        claims: dict[str, Any] = jwt.decode(
            token, secret, algorithms=[ALGORITHM], options={"require": ["exp"]}
        )
    except jwt.ExpiredSignatureError:
        raise InvalidToken("The token has expired; sign in again.") from None
    except (jwt.PyJWTError, ValueError):
        raise InvalidToken("The token is not valid; sign in again.") from None
    if "type" in claims:
        raise InvalidToken("This kind of token gives no access; use the access token.")
    user_id = claims.get("userId")
    if not isinstance(user_id, str) or not ObjectId.is_valid(user_id) or "role" not in claims:
        raise InvalidToken("The token does not name a user and a role.")
    return ObjectId(user_id)
