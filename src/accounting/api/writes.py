"""How a write answers: the document as GET shows it, and the same bytes when it is sent again.

`Idempotency-Key` and `If-Match` of spec section 5, "Writes".
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, Final, TypeAlias, TypeVar

from litestar import Request, Response
from litestar.enums import MediaType
from litestar.params import HeaderParameter

from accounting.actor import Actor
from accounting.api.schemas import BodyOut
from accounting.bootstrap import Services
from accounting.db.client import DriverError
from accounting.db.database import Database, Session, Transaction
from accounting.errors import Invalid
from accounting.idempotency.rules import (
    HEADER,
    Claim,
    InvalidIdempotencyKey,
    StoredAnswer,
    request_hash,
)
from accounting.idempotency.service import claim, find_answer, finish, release

logger = logging.getLogger(__name__)

T = TypeVar("T")

REPLAYED_HEADER: Final = "Idempotent-Replayed"
# Also without quotes, as many clients send it, and weak, as proxies make it when they compress: it
# is the version of the stored document that is compared, not the bytes of an answer.
_VERSION_TAG = re.compile(r'(?:W/)?"([0-9]{1,18})"|([0-9]{1,18})')


class InvalidIfMatch(Invalid):
    """The header holds no ETag of ours."""

    def __init__(self) -> None:
        rule = 'must be one ETag of this service, such as "3", or *'
        super().__init__(f"If-Match {rule}.", errors=[("If-Match", rule)])


IfMatch: TypeAlias = Annotated[
    str | None,
    HeaderParameter(
        name="If-Match",
        description="The ETag that the change was decided on; 412 when the document has changed.",
        # For the document; the refusal of anything else is ours.
        schema_extra={"pattern": rf"^(\*|{_VERSION_TAG.pattern})$"},
    ),
]


async def provide_expected_version(if_match: IfMatch = None) -> int | None:
    """The version that the sender has seen; None when he does not say, or says `*`.

    Raises InvalidIfMatch for anything else, a list of ETags included: a document has one version.
    """
    if if_match is None or if_match.strip() == "*":
        return None
    match = _VERSION_TAG.fullmatch(if_match.strip())
    if match is None:
        raise InvalidIfMatch
    return int(match[1] or match[2])


def _no_headers(_: object) -> Mapping[str, str]:
    return {}


async def answer_write(
    request: Request[Actor, str, Any],
    services: Services,
    write: Callable[[Database], Awaitable[T]],
    view: Callable[[T, Session | None], Awaitable[BodyOut]],
    *,
    status_code: int = 200,
    headers: Callable[[T], Mapping[str, str]] = _no_headers,
) -> Response[Any]:
    """Carry out a write and answer with its view; a POST with an Idempotency-Key at most once.

    `write` runs one use case on the database that it is given and returns just what that returned:
    with a key, `view` and `headers` make the answer of it before `write` returns, inside the
    transaction (so `view` reads with its session); without one, after the commit. A refused
    request leaves its key free.
    Raises InvalidIdempotencyKey, IdempotencyKeyReused, RequestStillRunning, and what `write` does.
    """

    async def answer(result: T, session: Session | None) -> StoredAnswer:
        body = await view(result, session)
        return StoredAnswer(status_code, body.model_dump_json(by_alias=True), dict(headers(result)))

    key = _idempotency_key(request)
    if key is None:
        return _response(await answer(await _write_plainly(services.db, write), None))

    fingerprint = request_hash(
        request.method, request.url.path, request.scope["query_string"], await request.body()
    )
    claimed = await claim(services.db, request.user.user_id, key, fingerprint)
    if isinstance(claimed, StoredAnswer):
        return _response(claimed, is_replayed=True)
    try:
        first = await _write_once(services.db, request.user, claimed, write, answer)
    except Exception:  # whatever it was, the key must not stay behind
        stored = await _give_back(claimed)
        if stored is None:
            raise
        return _response(stored, is_replayed=True)
    except BaseException:  # cancelled: the effect was undone, and nobody waits for an answer
        await _give_back(claimed)
        raise
    return _response(first)


async def _write_plainly(db: Database, write: Callable[[Database], Awaitable[T]]) -> T:
    returned: list[object] = []

    async def note(_: Transaction, result: object) -> None:
        returned[:] = [result]

    result = await write(db.also(note))
    if returned and returned[0] is not result:
        # Else this would show up only when a client sends a key.
        raise TypeError("`write` has to return what its use case returned, so that `view` gets it")
    return result


async def _write_once(
    db: Database,
    actor: Actor,
    claimed: Claim,
    write: Callable[[Database], Awaitable[T]],
    answer: Callable[[T, Session | None], Awaitable[StoredAnswer]],
) -> StoredAnswer:
    stored: StoredAnswer | None = None

    async def store(tx: Transaction, result: T) -> None:
        nonlocal stored
        stored = await answer(result, tx.session)
        await finish(tx, claimed, stored)

    result = await write(db.also(store))
    if stored is None:
        # Nothing was to be written, as by a dry run: the answer alone is stored.
        await db.run(actor, store, result)
    assert stored is not None
    return stored


async def _give_back(claimed: Claim) -> StoredAnswer | None:
    """Free the key of a failed request; the answer, if it turns out that there is one.

    There is one when the commit was carried out but not confirmed, and when this request was so
    slow that another took its place.
    """
    try:
        return None if await release(claimed) else await find_answer(claimed)
    except DriverError as error:
        logger.warning("idempotency key %s waits for the end of its lease: %s", claimed.id, error)
        return None


def _idempotency_key(request: Request[Any, Any, Any]) -> str | None:
    if request.method != "POST" or HEADER not in request.headers:
        return None
    keys = request.headers.getall(HEADER)
    if len(keys) != 1:
        raise InvalidIdempotencyKey
    return keys[0]


def _response(answer: StoredAnswer, *, is_replayed: bool = False) -> Response[Any]:
    headers = dict(answer.headers)
    if is_replayed:
        headers[REPLAYED_HEADER] = "true"
    return Response(
        answer.body.encode(),
        status_code=answer.status,
        media_type=MediaType.JSON,
        headers=headers,
    )
