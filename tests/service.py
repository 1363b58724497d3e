"""The whole service as its users meet it: real processes on real servers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pymongo
from pymongo.database import Database

from accounting.actor import Role
from accounting.api.tokens import make_token
from accounting.clock import utc_now
from accounting.dev.demo import DemoPlatform, load_demo_platform
from accounting.dev.processes import Child, Server, free_port, start_child, wait_until_ready
from accounting.ids import ObjectId

SECRET = "a secret of the tests, 32 bytes and more"
TOKEN_SECONDS = 3_600


@dataclass(frozen=True)
class Service:
    """A running API with its worker, and what is needed to talk to it."""

    api: httpx.Client
    demo: DemoPlatform
    environment: dict[str, str]
    mongo: Database[dict[str, Any]]
    data_dir: Path
    root_url: str
    worker: Child

    def as_admin(self) -> dict[str, str]:
        return self._bearer(ObjectId(self.demo.admin_id), Role.ADMIN)

    def as_customer(self) -> dict[str, str]:
        return self._bearer(ObjectId(self.demo.customer_id), Role.CLIENT)

    def _bearer(self, user_id: ObjectId, role: Role) -> dict[str, str]:
        token = make_token(SECRET, user_id, role, utc_now(), TOKEN_SECONDS)
        return {"Authorization": f"Bearer {token}"}

    def command(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the `accounting` command as an operator would."""
        return run_command(arguments, self.environment | environment)


def run_command(
    arguments: tuple[str, ...], environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "accounting", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def clean_environment(**settings: str) -> dict[str, str]:
    """This process's environment with only these ACCOUNTING_ settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ACCOUNTING_")}
    return kept | {f"ACCOUNTING_{name}": value for name, value in settings.items()}


def service_environment(
    mongod: Server, *, redis_url: str, smtp_url: str, database: str
) -> dict[str, str]:
    return clean_environment(
        MONGODB_URI=mongod.uri,
        MONGODB_DATABASE=database,
        REDIS_URL=redis_url,
        SMTP_URL=smtp_url,
        JWT_SECRET=SECRET,
        MAIL_FROM="Billing <billing@example.com>",
        LOG_LEVEL="INFO",
    )


@contextmanager
def running_service(
    environment: dict[str, str],
    data_dir: Path,
    *,
    setup_uri: str | None = None,
    platform_uri: str | None = None,
) -> Iterator[Service]:
    """Set up the database, load the demo platform, start API and worker; all end together.

    The addresses are of those who may do what the service's own user may not.
    """
    uri = environment["ACCOUNTING_MONGODB_URI"]
    applied = run_command(
        ("db", "apply"), environment | {"ACCOUNTING_MONGODB_URI": setup_uri or uri}
    )
    assert applied.returncode == 0, applied.stderr
    database = environment["ACCOUNTING_MONGODB_DATABASE"]
    demo = load_demo_platform(platform_uri or uri, database)
    port = free_port()
    root_url = f"http://127.0.0.1:{port}"
    python = [sys.executable, "-m", "accounting"]
    with ExitStack() as stack:

        def start(name: str, *arguments: str) -> Child:
            child = start_child(name, [*python, *arguments], data_dir=data_dir, env=environment)
            return stack.enter_context(child)

        server = start("serve", "serve", "--port", str(port))
        worker = stack.enter_context(start_worker(environment, data_dir))
        wait_until_ready(server, lambda: is_answering(f"{root_url}/health/ready"))
        base_url = f"{root_url}/api/accounting"
        api = stack.enter_context(httpx.Client(base_url=base_url, timeout=30))
        client: pymongo.MongoClient[dict[str, Any]] = stack.enter_context(
            pymongo.MongoClient(environment["ACCOUNTING_MONGODB_URI"], tz_aware=True)
        )
        yield Service(api, demo, environment, client[database], data_dir, root_url, worker)


def start_worker(
    environment: dict[str, str], data_dir: Path, name: str = "worker", *, concurrency: int = 1
) -> Child:
    """A worker of so many processes, ready to work."""
    command = [sys.executable, "-m", "accounting", "worker", "--concurrency", str(concurrency)]
    worker = start_child(name, command, data_dir=data_dir, env=environment)
    wait_until_ready(worker, lambda: b" ready." in worker.log_path.read_bytes())
    return worker


def is_answering(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code == 200
    except httpx.HTTPError:
        return False
