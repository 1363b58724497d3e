"""One use case, one transaction: the place that opens sessions and sends jobs after the commit."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from copy import copy
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Concatenate, Final, ParamSpec, Protocol, Self, TypeAlias, TypeVar

from motor.motor_asyncio import AsyncIOMotorClientSession
from pymongo.errors import ConnectionFailure, DuplicateKeyError, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from accounting.actor import Actor
from accounting.clock import Clock, utc_now
from accounting.db.client import MongoDatabase
from accounting.errors import Conflict, Unavailable

P = ParamSpec("P")
T = TypeVar("T")

Session: TypeAlias = AsyncIOMotorClientSession
DuplicateKey = DuplicateKeyError

DUPLICATE_KEY_ATTEMPTS_MAX: Final = 4
BACKOFF_SECONDS_FIRST: Final = 0.004
BACKOFF_SECONDS_MAX: Final = 0.25
# Far longer than writers who meet need, and shorter than the patience of an HTTP client: what is
# still in the way then belongs to a client that died, which the server keeps for a minute.
PATIENCE_SECONDS: Final = 10.0
_WRITERS_MET: Final = "TransientTransactionError"
_COMMIT_UNKNOWN: Final = "UnknownTransactionCommitResult"


class DuplicateValue(Conflict):
    """A unique index refused the write, also after the use case was run again."""

    def __init__(self, fields: tuple[str, ...]) -> None:
        names = ", ".join(fields) or "a unique value"
        super().__init__(f"Another document already has this {names}.", fields=list(fields))
        self.fields = fields


class TooBusy(Unavailable):
    """Other writers were in the way each time until the patience ended; nothing was changed."""

    retry_after_seconds = 5

    def __init__(self) -> None:
        super().__init__("Someone else is changing the same things; try again in a moment.")


class OutcomeUnknown(Unavailable):
    """The commit was sent and never confirmed: the change is there as a whole, or not at all."""

    retry_after_seconds = 5

    def __init__(self) -> None:
        super().__init__(
            "The database did not confirm the change; read again before you repeat it."
        )


@dataclass(frozen=True, slots=True)
class Job:
    """A message for the workers: a task name and plain arguments."""

    name: str
    args: tuple[str, ...]


class Enqueue(Protocol):
    """Where jobs go after the commit: Celery in the service, a list in tests. Must not raise."""

    async def __call__(self, jobs: list[Job]) -> None: ...


async def drop_jobs(jobs: list[Job]) -> None:
    """For commands that have no queue: the minute sweep finds the work in the database."""


@dataclass(slots=True)
class Transaction:
    """What a use case works with: the session, who acts, the present instant, jobs for later."""

    session: Session | None
    actor: Actor
    now: datetime
    jobs: list[Job] = field(default_factory=list)

    def enqueue(self, name: str, *args: str) -> None:
        """Ask for a job once this transaction is committed; a rolled back one sends nothing."""
        self.jobs.append(Job(name, args))


# What `also` takes: it gets the transaction and what the use case returned.
InTransaction: TypeAlias = Callable[[Transaction, Any], Awaitable[None]]


class Database:
    """The service's database: runs use cases, each in its own transaction."""

    def __init__(
        self,
        mongo: MongoDatabase,
        *,
        clock: Clock = utc_now,
        enqueue: Enqueue = drop_jobs,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self.mongo = mongo
        self.clock = clock
        self.enqueue = enqueue
        self.patience_seconds = patience_seconds
        self._in_transaction: tuple[InTransaction, ...] = ()

    def also(self, in_transaction: InTransaction) -> Self:
        """A database like this one which does something more in each transaction that it runs.

        It happens after the use case and before the commit, at each retry as well: it is stored
        together with the effect or not at all, and what it raises undoes the effect.
        """
        extended = copy(self)
        extended._in_transaction = (*self._in_transaction, in_transaction)
        return extended

    def with_patience(self, seconds: float) -> Self:
        """A database like this one which gives up sooner, or later, when others are in the way."""
        other = copy(self)
        other.patience_seconds = seconds
        return other

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Session | None]:
        """A session whose reads all see the store as it was at the first of them; for reading."""
        async with await self.mongo.client.start_session(snapshot=True) as session:
            yield session

    async def run(
        self,
        actor: Actor,
        use_case: Callable[Concatenate[Transaction, P], Awaitable[T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run a use case for an actor in a transaction, then send its jobs.

        It is run again on a transient error (two writers met) and on a duplicate key, since the
        second look finds the other's document and can say what is wrong; so it must have no effect
        outside `tx`. Raises DuplicateValue when a unique index still refuses, TooBusy when other
        writers are still in the way after `patience_seconds`, OutcomeUnknown.
        """
        # Not the driver's `with_transaction`: it goes on for two minutes, and Motor's commits in
        # a place where its own retries cannot see a failure (3.7, `_MotorTransactionContext`).
        give_up_at = time.monotonic() + self.patience_seconds
        attempt = duplicates = 0
        async with await self.mongo.client.start_session() as session:
            while True:
                try:
                    tx = Transaction(session, actor, self.clock())
                    result = await self._try(tx, session, use_case(tx, *args, **kwargs))
                    await _commit(session, give_up_at)
                    break
                except DuplicateKeyError as error:
                    duplicates += 1
                    if duplicates >= DUPLICATE_KEY_ATTEMPTS_MAX:
                        raise DuplicateValue(_fields_of(error)) from error
                except PyMongoError as error:
                    _check_worth_a_retry(error, give_up_at)
                # Writers that wait a random moment get out of each other's way. Nothing is held
                # on the server at this point.
                attempt += 1
                await asyncio.sleep(_backoff_seconds(attempt))
        if tx.jobs:
            await self.enqueue(tx.jobs)
        return result

    async def _try(self, tx: Transaction, session: Session, work: Awaitable[T]) -> T:
        session.start_transaction(
            read_concern=ReadConcern("snapshot"), write_concern=WriteConcern("majority")
        )
        try:
            result = await work
            await self._do_also(tx, result)
        except BaseException:
            await session.abort_transaction()
            raise
        return result

    async def _do_also(self, tx: Transaction, result: object) -> None:
        for in_transaction in self._in_transaction:
            await in_transaction(tx, result)


async def _commit(session: Session, give_up_at: float) -> None:
    attempt = 0
    while True:
        try:
            await session.commit_transaction()
            return
        except PyMongoError as error:
            # The same commit may be sent again: the server carries it out once.
            if not error.has_error_label(_COMMIT_UNKNOWN):
                raise
            if time.monotonic() >= give_up_at:
                raise OutcomeUnknown from error
        attempt += 1
        await asyncio.sleep(_backoff_seconds(attempt))


def _check_worth_a_retry(error: PyMongoError, give_up_at: float) -> None:
    if not error.has_error_label(_WRITERS_MET):
        raise error
    if time.monotonic() >= give_up_at:
        # A server that is away has the label too, and is no busy one.
        raise error if isinstance(error, ConnectionFailure) else TooBusy from error


def _backoff_seconds(attempt: int) -> float:
    longest: float = min(BACKOFF_SECONDS_FIRST * 2**attempt, BACKOFF_SECONDS_MAX)
    return random.uniform(0, longest)


def _fields_of(error: DuplicateKeyError) -> tuple[str, ...]:
    return tuple((error.details or {}).get("keyPattern", ()))
