"""Fixtures of the integration tests: the service as processes, and a line for their figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from accounting.dev.mail_catcher import MailCatcher, start_mail_catcher
from accounting.dev.processes import Server
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
def say(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Writes a line of figures to the terminal, also when the test passes."""
    plugins = request.config.pluginmanager
    reporter, capture = plugins.get_plugin("terminalreporter"), plugins.get_plugin("capturemanager")

    def write(line: str) -> None:
        with capture.global_and_fixture_disabled():
            reporter.ensure_newline()
            reporter.write_line(f"  {line}")

    return write
