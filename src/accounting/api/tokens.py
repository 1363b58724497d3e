"""The platform's JSON Web Tokens (spec section 5, "Auth")."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import datetime
from typing import Any, Final

import jwt

from accounting.actor import Role
from accounting.clock import after
from accounting.errors import Unauthorized
from accounting.ids import ObjectId

ALGORITHM: Final = "HS256"
# One spelling per token: the decoder forgives padding, the list of revoked tokens does not.
_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.([A-Za-z0-9_-]+)")
# The platform's claims are userId, role and exp; what else a token says is not ours to judge.
_DECODE_OPTIONS: Final[jwt.types.Options] = {
    "require": ["exp"],
    "verify_aud": False,
    "verify_sub": False,
    "verify_jti": False,
    "verify_iat": False,
}


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
    if not _is_canonical(token):
        raise InvalidToken("The token is not valid; sign in again.")
    try:
        claims: dict[str, Any] = jwt.decode(
            token, secret, algorithms=[ALGORITHM], options=_DECODE_OPTIONS
        )
    except jwt.ExpiredSignatureError:
        raise InvalidToken("The token has expired; sign in again.") from None
    except (jwt.PyJWTError, ValueError):
        raise InvalidToken("The token is not valid; sign in again.") from None
    if isinstance(claims["exp"], bool) or not isinstance(claims["exp"], (int, float)):
        raise InvalidToken("The token's expiry is not a number; sign in again.")
    if "type" in claims:
        raise InvalidToken("This kind of token gives no access; use the access token.")
    user_id = claims.get("userId")
    if not isinstance(user_id, str) or not ObjectId.is_valid(user_id) or "role" not in claims:
        raise InvalidToken("The token does not name a user and a role.")
    return ObjectId(user_id)


def _is_canonical(token: str) -> bool:
    """Whether the token is spelled in the one way in which its signature can be written."""
    match = _COMPACT.fullmatch(token)
    if match is None:
        return False
    signature = match[1]
    try:
        raw = urlsafe_b64decode(signature + "=" * (-len(signature) % 4))
    except ValueError:
        return False
    return urlsafe_b64encode(raw).rstrip(b"=").decode() == signature
