"""Fixtures shared by all tests: the real servers, a bound database, in memory or real."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from mongomock_motor import AsyncMongoMockClient, enabled_gridfs_integration

from accounting.bootstrap import DOCUMENTS, bind_documents, collection_specs
from accounting.db.client import MongoDatabase, open_client, open_database
from accounting.db.setup import apply_changes
from accounting.dev.mongod import start_mongod
from accounting.dev.processes import Server
from accounting.dev.redis_server import start_redis
from builders import NOW
from fakes import FakePlatform, JobList, MemoryDatabase, SettableClock, TestDatabase
from figures import FIGURES

TEST_DATABASE = "accounting_test"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if {"mongod", "real_mongo", "guarded"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.real_mongo)
        callspec = getattr(item, "callspec", None)
        if callspec is not None and callspec.params.get("backend") == "mongod":
            item.add_marker(pytest.mark.real_mongo)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    ran = [
        report
        for outcome in ("passed", "failed")
        for report in terminalreporter.stats.get(outcome, ())
        if report.when == "call"
    ]
    real = sum("real_mongo" in report.keywords for report in ran)
    for report in ran:
        for name, line in report.user_properties:
            if name == FIGURES:
                terminalreporter.write_line(f"  {line}")
    terminalreporter.write_line(f"{real} of {len(ran)} tests ran on a real MongoDB.")


@pytest.fixture(scope="session")
def mongod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A one-node replica set of our own for the whole run."""
    with start_mongod(tmp_path_factory.mktemp("mongod")) as server:
        yield server


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A Redis-compatible server of our own for the whole run."""
    with start_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
async def _real_database(mongod: Server) -> AsyncIterator[MongoDatabase]:
    client = open_client(mongod.uri)
    mongo = open_database(client, TEST_DATABASE)
    await apply_changes(mongo, collection_specs())
    yield mongo
    client.close()


@pytest.fixture
async def real_mongo(_real_database: MongoDatabase) -> AsyncIterator[MongoDatabase]:
    """The real database, set up, bound and empty."""
    await bind_documents(_real_database)
    yield _real_database
    for document in DOCUMENTS:
        await _real_database[document.Settings.name].delete_many({})  # type: ignore[attr-defined]
    for name in ("users", "cost_payments", "miners", "token_blacklist"):
        await _real_database[name].drop()


@pytest.fixture
def clock() -> SettableClock:
    """Time stands still at NOW until a test moves it."""
    return SettableClock(NOW)


@pytest.fixture
def jobs() -> JobList:
    """The queue: a list of what was sent after commits."""
    return JobList()


@pytest.fixture
def platform() -> FakePlatform:
    """The host's data as dictionaries; empty at first."""
    return FakePlatform()


@pytest.fixture(params=["memory", "mongod"])
def backend(request: pytest.FixtureRequest) -> str:
    """Use cases are tested twice: quickly in memory, and on the server that has the last word."""
    return str(request.param)


@pytest.fixture
async def memory_db(clock: SettableClock, jobs: JobList) -> AsyncIterator[TestDatabase]:
    """A database in memory: quick, but without transactions and unique indexes."""
    memory = AsyncMongoMockClient(tz_aware=True)[TEST_DATABASE]
    await bind_documents(memory)
    with enabled_gridfs_integration():
        yield MemoryDatabase(memory, clock=clock, enqueue=jobs)


@pytest.fixture
def db(backend: str, request: pytest.FixtureRequest) -> TestDatabase:
    """A database to run use cases on, once in memory and once on the real server."""
    name = "memory_db" if backend == "memory" else "real_db"
    database: TestDatabase = request.getfixturevalue(name)
    return database


@pytest.fixture
def real_db(real_mongo: MongoDatabase, clock: SettableClock, jobs: JobList) -> TestDatabase:
    """A database on the real server."""
    return TestDatabase(real_mongo, clock=clock, enqueue=jobs)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A folder for servers that one test starts itself."""
    return tmp_path / "data"
