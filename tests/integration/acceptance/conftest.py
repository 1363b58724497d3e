"""The service as processes on a database of its own, and the daily job on the same database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from datetime import date

import pytest

from accounting.bootstrap import open_services
from accounting.dev.mail_catcher import MailCatcher
from accounting.dev.processes import Server
from accounting.invoices.service import mark_overdue
from accounting.settings import Settings
from service import Service, running_service, service_environment

# They assert, but are no test modules: without this a failure would not say what differs.
pytest.register_assert_rewrite(
    *(f"integration.acceptance.{name}" for name in ("chaos", "desk", "invariants"))
)


@pytest.fixture(scope="module")
def service(
    request: pytest.FixtureRequest,
    mongod: Server,
    redis_server: Server,
    mail_catcher: MailCatcher,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Service]:
    name = request.module.__name__.rpartition(".")[2].replace("test_", "acceptance_")
    environment = service_environment(
        mongod,
        redis_url=redis_server.uri.removesuffix("/0") + "/6",
        smtp_url=mail_catcher.uri,
        database=name,
    )
    environment["ACCOUNTING_RATE_LIMIT"] = "1000000/minute"
    with running_service(environment, tmp_path_factory.mktemp(name)) as running:
        yield running


@pytest.fixture(scope="module")
def run_overdue(service: Service) -> Iterator[Callable[[date], int]]:
    """`accounting jobs run overdue --as-of DAY` without the second that a new process takes."""
    settings = settings_of(service.environment)
    with ThreadPoolExecutor(1) as thread:
        runner = asyncio.Runner()
        stack = AsyncExitStack()

        def run(coroutine: object) -> object:
            return thread.submit(runner.run, coroutine).result(timeout=60)  # type: ignore[arg-type]

        services = run(stack.enter_async_context(open_services(settings)))
        yield lambda today: run(mark_overdue(services.db, today))  # type: ignore[attr-defined, return-value]
        run(stack.aclose())
        thread.submit(runner.close).result()


def settings_of(environment: dict[str, str]) -> Settings:
    """The settings that a process with this environment has."""
    prefix = "ACCOUNTING_"
    ours = {name: value for name, value in environment.items() if name.startswith(prefix)}
    return Settings(**{name.removeprefix(prefix).lower(): value for name, value in ours.items()})
