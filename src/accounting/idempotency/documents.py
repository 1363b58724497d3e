"""A key with the answer that was given under it (spec section 3, "Auxiliary collections")."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from accounting.db.document import BaseDocument, index
from accounting.db.fields import Instant, Sha256Hex
from accounting.idempotency.rules import KEPT_SECONDS, KeyState, StoredAnswer


class IdempotencyKey(BaseDocument):
    """One key of one user, `<userId>:<key>`; the server deletes it 24 hours after its first use."""

    id: str  # type: ignore[assignment]  # a name instead of an ObjectId
    request_hash: Sha256Hex
    state: KeyState
    # Whoever holds this token may finish; a take-over replaces it.
    lock_token: Annotated[str, Field(min_length=1, max_length=64)]
    locked_until: Instant
    response_status: Annotated[int, Field(ge=200, le=599)] | None = None
    response_body: str | None = None
    response_headers: dict[str, str] | None = None
    created_at: Instant

    class Settings:
        name = "idempotency_keys"
        indexes = [index("createdAt", expire_after_seconds=KEPT_SECONDS)]

    @property
    def answer(self) -> StoredAnswer | None:
        """The stored answer; None while the first request is at work."""
        if self.state is not KeyState.DONE or self.response_status is None:
            return None
        return StoredAnswer(
            self.response_status, self.response_body or "", self.response_headers or {}
        )
