"""Fixtures of the integration tests: the service as processes, and a line for their figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pymongo import MongoClient

from accounting.dev.mail_catcher import MailCatcher, start_mail_catcher
from accounting.dev.processes import Server
from figures import FIGURES
from guarded import GuardedMongod, guarded_mongod
from service import Service, running_service, service_environment


@pytest.fixture(scope="session")
def mail_catcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MailCatcher]:
    with start_mail_catcher(tmp_path_factory.mktemp("mails")) as catcher:
        yield catcher


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedMongod]:
    """A MongoDB that holds everybody to his rights."""
    with guarded_mongod(tmp_path_factory.mktemp("guarded")) as server:
        yield server


@pytest.fixture(scope="session")
def service(
    mongod: Server,
    redis_server: Server,
    mail_catcher: MailCatcher,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Service]:
    """API and worker over the demo platform, in a database of their own."""
    environment = service_environment(
        mongod, redis_url=redis_server.uri, smtp_url=mail_catcher.uri, database="service_test"
    )
    with running_service(environment, tmp_path_factory.mktemp("service")) as running:
        yield running


@pytest.fixture
def short_lived_transactions(mongod: Server) -> Iterator[None]:
    """The server ends an abandoned transaction within half a minute, and not after more than one.

    A killed process leaves one, and at times a stopped one: a statement that was on its way when
    its work was cancelled may begin the transaction after it was aborted, and a database cannot be
    dropped meanwhile.
    """
    limit = "transactionLifetimeLimitSeconds"
    with MongoClient[dict[str, Any]](mongod.uri) as client:
        before = client.admin.command({"setParameter": 1, limit: 2})["was"]
        yield
        client.admin.command({"setParameter": 1, limit: before})


@pytest.fixture
def say(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Notes a line of figures, which the summary shows also when the test passes."""
    return lambda line: record_property(FIGURES, line)
