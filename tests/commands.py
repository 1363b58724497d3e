"""What goes to the server: the commands of a use case, as the driver sends them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from motor.motor_asyncio import AsyncIOMotorClient
from pymongo.monitoring import (
    CommandFailedEvent,
    CommandListener,
    CommandStartedEvent,
    CommandSucceededEvent,
)

from accounting.bootstrap import bind_documents
from accounting.db.client import open_database
from accounting.dev.processes import Server
from builders import ADMIN, NOW
from fakes import SettableClock, TestDatabase

READS_AND_WRITES = {"find", "getMore", "aggregate", "insert", "update", "delete", "findAndModify"}


class _Sent(CommandListener):
    def __init__(self) -> None:
        self.commands: list[str] = []

    def started(self, event: CommandStartedEvent) -> None:
        if event.command_name in READS_AND_WRITES:
            self.commands.append(f"{event.command_name} {event.command[event.command_name]}")

    def succeeded(self, event: CommandSucceededEvent) -> None: ...

    def failed(self, event: CommandFailedEvent) -> None: ...


@dataclass(frozen=True)
class Commands:
    """A database on the real server, and what was sent to it."""

    db: TestDatabase
    _sent: _Sent

    async def sent_by(
        self, use_case: Callable[..., Awaitable[object]], *args: Any, **kwargs: Any
    ) -> list[str]:
        """Run a use case; each of its reads and writes as "insert invoices", in their order."""
        self._sent.commands.clear()
        await self.db.run(ADMIN, use_case, *args, **kwargs)
        return list(self._sent.commands)


@asynccontextmanager
async def watched_database(mongod: Server, name: str) -> AsyncIterator[Commands]:
    """The documents are bound to it meanwhile, and to the usual one by the next test's fixture."""
    sent = _Sent()
    client: AsyncIOMotorClient[dict[str, Any]] = AsyncIOMotorClient(
        mongod.uri, tz_aware=True, event_listeners=[sent]
    )
    mongo = open_database(client, name)
    await bind_documents(mongo)
    yield Commands(TestDatabase(mongo, clock=SettableClock(NOW)), sent)
    client.close()
