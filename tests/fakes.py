"""Stand-ins for what lies outside: each stores what it was given."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from email.message import EmailMessage
from typing import Any, ClassVar

from accounting.actor import Actor
from accounting.clock import Clock, utc_now
from accounting.db.database import Database, Enqueue, Job, Transaction, drop_jobs
from accounting.platform.rules import (
    CostPayment,
    CostPaymentId,
    CostPaymentUnusable,
    PlatformUser,
    UserEntry,
    UserId,
)


class SettableClock:
    """A clock that stands still until it is moved."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def move(self, **duration: float) -> None:
        self.now += timedelta(**duration)


@dataclass
class Stopwatch:
    """A stopwatch that stands still until it is moved."""

    seconds: float = 100.0

    def __call__(self) -> float:
        return self.seconds


class JobList:
    """A queue that keeps what was sent."""

    def __init__(self) -> None:
        self.sent: list[Job] = []

    async def __call__(self, jobs: list[Job]) -> None:
        self.sent.extend(jobs)


class TestDatabase(Database):
    """The real thing, under a name that says what the fixture gives."""

    __test__: ClassVar[bool] = False


class MemoryDatabase(TestDatabase):
    """Runs use cases without sessions: mongomock has none, so nothing is rolled back here."""

    def __init__(self, mongo: Any, *, clock: Clock = utc_now, enqueue: Enqueue = drop_jobs) -> None:
        super().__init__(mongo, clock=clock, enqueue=enqueue)

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[None]:
        yield None

    async def run(  # type: ignore[override]
        self, actor: Actor, use_case: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any
    ) -> Any:
        tx = Transaction(None, actor, self.clock())
        result = await use_case(tx, *args, **kwargs)
        await self._do_also(tx, result)
        if tx.jobs:
            await self.enqueue(tx.jobs)
        return result


class FakePlatform:
    """The host's users, ledger and miners as dictionaries."""

    def __init__(self) -> None:
        self.users_at_once = 500
        self.users: dict[UserId, PlatformUser] = {}
        self.cost_payments: dict[CostPaymentId, CostPayment] = {}
        self.miner_statuses: dict[UserId, list[str]] = {}
        self.revoked_tokens: set[str] = set()

    def add_user(self, user: PlatformUser) -> PlatformUser:
        self.users[user.id] = user
        return user

    def add_cost_payment(self, cost_payment: CostPayment) -> CostPayment:
        self.cost_payments[cost_payment.id] = cost_payment
        return cost_payment

    async def find_user(self, user_id: UserId) -> PlatformUser | None:
        return self.users.get(user_id)

    async def find_users(self, user_ids: Iterable[UserId]) -> dict[UserId, PlatformUser]:
        return {user_id: self.users[user_id] for user_id in set(user_ids) & self.users.keys()}

    async def find_customer_ids(
        self, text: str, *, limit: int, among: Iterable[UserId] | None = None
    ) -> list[UserId]:
        found = [
            user.id
            for user in self.users.values()
            if any(
                text.lower() in (field or "").lower()
                for field in (user.name, user.email, user.company_name)
            )
        ]
        return [user_id for user_id in found if among is None or user_id in set(among)][:limit]

    async def walk_users(self) -> AsyncIterator[list[UserEntry]]:
        users = [
            UserEntry(user.id, user.name, user.email, user.company_name, user.is_customer)
            for user in self.users.values()
        ]
        for start in range(0, len(users), self.users_at_once):
            yield users[start : start + self.users_at_once]

    async def digest_users(self) -> object | None:
        return list(self.users.values())

    async def find_cost_payment(self, cost_payment_id: CostPaymentId) -> CostPayment | None:
        return self.cost_payments.get(cost_payment_id)

    async def find_cost_payments(
        self, cost_payment_ids: Iterable[CostPaymentId]
    ) -> dict[CostPaymentId, CostPayment]:
        wanted = set(cost_payment_ids)
        return {key: row for key, row in self.cost_payments.items() if key in wanted}

    async def sum_ledger(self, user_id: UserId) -> Decimal:
        rows = self.cost_payments.values()
        mine = [row for row in rows if row.user_id == user_id and not row.is_deleted]
        return sum((row.amount for row in mine), Decimal("0.00"))

    async def list_usable_payments(self, user_id: UserId, limit: int) -> list[CostPayment]:
        return self._usable(user_id)[:limit]

    async def page_of_payments(
        self, user_id: UserId, *, page: int, limit: int
    ) -> tuple[list[CostPayment], int]:
        rows = self._usable(user_id)[::-1]
        return rows[(page - 1) * limit : page * limit], len(rows)

    def _usable(self, user_id: UserId) -> list[CostPayment]:
        rows = [row for row in self.cost_payments.values() if row.user_id == user_id]
        usable = [row for row in rows if is_usable(row)]
        return sorted(usable, key=lambda row: (str(row.created_at), row.id))

    async def count_active_miners(self, user_id: UserId, statuses: Sequence[str]) -> int:
        return sum(status in statuses for status in self.miner_statuses.get(user_id, ()))

    async def count_active_miners_of(
        self, user_ids: Iterable[UserId], statuses: Sequence[str]
    ) -> dict[UserId, int]:
        counts = {
            user_id: await self.count_active_miners(user_id, statuses) for user_id in user_ids
        }
        return {user_id: count for user_id, count in counts.items() if count}

    async def is_token_revoked(self, token: str, now: datetime) -> bool:
        return token in self.revoked_tokens


def is_usable(row: CostPayment) -> bool:
    try:
        row.check_can_pay()
    except CostPaymentUnusable:
        return False
    return True


async def _nobody_to_tell() -> None:
    pass


class FakeMailer:
    """Keeps what it was asked to send, or fails as told: before the content, or after it."""

    def __init__(self) -> None:
        self.sent: list[EmailMessage] = []
        self.failure: BaseException | None = None
        self.failure_after: BaseException | None = None

    async def send(
        self, message: EmailMessage, *, on_handover: Callable[[], Awaitable[None]] = _nobody_to_tell
    ) -> None:
        if self.failure is not None:
            raise self.failure
        await on_handover()
        if self.failure_after is not None:
            raise self.failure_after
        self.sent.append(message)
