"""Invoices on a real server whose every command is heard on its way there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from motor.motor_asyncio import AsyncIOMotorClient
from pymongo.monitoring import CommandListener

from accounting.bootstrap import bind_documents
from accounting.db.client import MongoDatabase, open_database
from accounting.dev.processes import Server


class Ear(CommandListener):
    """Hears what is sent; how it ended is of no interest: what fails, fails the test by itself."""

    def succeeded(self, event: Any) -> None: ...

    def failed(self, event: Any) -> None: ...


@asynccontextmanager
async def overheard(
    real_mongo: MongoDatabase, mongod: Server, ear: Ear, rows: Iterable[dict[str, Any]]
) -> AsyncIterator[MongoDatabase]:
    """The database with these invoices, through a client that an ear listens to."""
    client: Any = AsyncIOMotorClient(mongod.uri, tz_aware=True, event_listeners=[ear])
    mongo = open_database(client, real_mongo.name)
    await bind_documents(mongo)
    await mongo["invoices"].insert_many(list(rows), ordered=False)
    yield mongo
    await bind_documents(real_mongo)
    client.close()
