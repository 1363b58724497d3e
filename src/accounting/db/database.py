"""One use case, one transaction: the place that opens sessions and sends jobs after the commit."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Concatenate, Final, ParamSpec, Protocol, TypeAlias, TypeVar

from motor.motor_asyncio import AsyncIOMotorClientSession
from pymongo.errors import DuplicateKeyError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from accounting.actor import Actor
from accounting.clock import Clock, utc_now
from accounting.db.client import MongoDatabase
from accounting.errors import Conflict

P = ParamSpec("P")
T = TypeVar("T")

Session: TypeAlias = AsyncIOMotorClientSession
DuplicateKey = DuplicateKeyError

DUPLICATE_KEY_ATTEMPTS_MAX: Final = 4
BACKOFF_SECONDS_FIRST: Final = 0.004
BACKOFF_SECONDS_MAX: Final = 0.25


class DuplicateValue(Conflict):
    """A unique index refused the write, also after the use case was run again."""

    def __init__(self, fields: tuple[str, ...]) -> None:
        names = ", ".join(fields) or "a unique value"
        super().__init__(f"Another document already has this {names}.", fields=list(fields))
        self.fields = fields


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


class Database:
    """The service's database: runs use cases, each in its own transaction."""

    def __init__(
        self, mongo: MongoDatabase, *, clock: Clock = utc_now, enqueue: Enqueue = drop_jobs
    ) -> None:
        self.mongo = mongo
        self.clock = clock
        self.enqueue = enqueue

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
        outside `tx`. Raises DuplicateValue when a unique index still refuses.
        """
        attempt = 0
        while True:
            attempt += 1
            try:
                result, jobs = await self._run_once(actor, use_case, args, kwargs)
                break
            except DuplicateKeyError as error:
                if attempt >= DUPLICATE_KEY_ATTEMPTS_MAX:
                    raise DuplicateValue(_fields_of(error)) from error
                await asyncio.sleep(_backoff_seconds(attempt))
        if jobs:
            await self.enqueue(jobs)
        return result

    async def _run_once(
        self,
        actor: Actor,
        use_case: Callable[..., Awaitable[T]],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> tuple[T, list[Job]]:
        attempt = 0

        async def in_transaction(session: Session) -> tuple[T, list[Job]]:
            # The driver calls this again at once after a conflict; writers that wait a random
            # moment get out of each other's way. Nothing is held on the server at this point.
            nonlocal attempt
            if attempt:
                await asyncio.sleep(_backoff_seconds(attempt))
            attempt += 1
            tx = Transaction(session, actor, self.clock())
            return await use_case(tx, *args, **kwargs), tx.jobs

        async with await self.mongo.client.start_session() as session:
            return await session.with_transaction(
                in_transaction,
                read_concern=ReadConcern("snapshot"),
                write_concern=WriteConcern("majority"),
            )


def _backoff_seconds(attempt: int) -> float:
    longest: float = min(BACKOFF_SECONDS_FIRST * 2**attempt, BACKOFF_SECONDS_MAX)
    return random.uniform(0, longest)


def _fields_of(error: DuplicateKeyError) -> tuple[str, ...]:
    return tuple((error.details or {}).get("keyPattern", ()))
