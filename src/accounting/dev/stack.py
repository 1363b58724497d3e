"""`accounting dev`: everything on one machine, with demo data, until Ctrl-C."""

from __future__ import annotations

import os
import secrets
import signal
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn
from urllib.parse import urlsplit

import click
from celery import Celery
from kombu.exceptions import OperationalError
from pydantic import SecretStr
from redis.exceptions import RedisError

from accounting.dev.demo import load_demo_platform
from accounting.dev.guide import guide_lines
from accounting.dev.mail_catcher import start_mail_catcher
from accounting.dev.mongod import start_mongod
from accounting.dev.processes import (
    LOOPBACK,
    Child,
    ChildFailed,
    free_port,
    is_port_free,
    start_child,
    wait_until_ready,
)
from accounting.dev.redis_server import start_redis
from accounting.errors import Misconfigured
from accounting.settings import Settings
from accounting.worker.app import make_celery

DATABASE_NAME: Final = "hosting"
PORT: Final = 8000
WORKER_CONCURRENCY: Final = 2
SECRET_BYTES: Final = 48
SETUP_LIMIT_SECONDS: Final = 120
ATTEMPT_LIMIT_SECONDS: Final = 5
PING_SECONDS: Final = 1.0
WATCH_SECONDS: Final = 0.2

_STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Where a client finds a server that listens on every address.
_LOOPBACK_OF: Final = {"0.0.0.0": LOOPBACK, "::": "::1"}


class StopRequested(BaseException):
    """Ctrl-C or a signal; no `except Exception` may take it for a failure."""


class PortTaken(Misconfigured):
    """The port that was asked for belongs to another program."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(
            f"Another program listens on {host}:{port}; stop it or choose another --port."
        )


def run_stack(*, data_dir: Path | None, host: str, port: int | None) -> int:
    """Start the whole service with servers and demo data, and run until a signal or a failure.

    A server whose address is set (ACCOUNTING_MONGODB_URI, _REDIS_URL, _SMTP_URL) is used as it is
    and not started. Without `data_dir` all data is removed at the end. Without `port` it is 8000,
    or any free port when somebody has that one.
    Returns 0 after a signal, 1 when a process failed; raises Misconfigured. Main thread only.
    """
    with ExitStack() as stack:
        stack.enter_context(_signals_raise())
        try:
            _run(stack, data_dir, host, port)
        except StopRequested:
            click.echo("\nstopping...")
            returncode = 0
        except ChildFailed as failure:
            click.echo(f"{failure.sentence}\nstopping everything else.", err=True)
            returncode = 1
        finally:
            # A second Ctrl-C must not tear the stopping, each step of which has its limit.
            _ignore_signals()
    return returncode


def _run(stack: ExitStack, data_dir: Path | None, host: str, port: int | None) -> NoReturn:
    """Start everything in order, leaving on `stack` what ends it; then watch it for ever."""
    if data_dir is None:
        temporary = tempfile.TemporaryDirectory(
            prefix="accounting-dev-", ignore_cleanup_errors=True
        )
        directory = Path(stack.enter_context(temporary))
    else:
        directory = data_dir.resolve()
        directory.mkdir(parents=True, exist_ok=True)
    port = _choose_port(host, port)
    children: list[Child] = []
    url = _url(host, port)

    env = _environment(url, directory)
    mail_url = _start_servers(stack, children, env, directory)
    _run_to_end("db-apply", ["db", "apply"], env, directory)
    platform = load_demo_platform(env["ACCOUNTING_MONGODB_URI"], env["ACCOUNTING_MONGODB_DATABASE"])
    # Before anything else works in these books: they are loaded only while nobody does.
    _run_to_end("demo", ["demo"], env, directory)

    def start(name: str, *arguments: str) -> Child:
        click.echo(f"starting {name}...")
        child = _start_command(name, arguments, env, directory)
        children.append(stack.enter_context(child))
        return child

    api = start("api", "serve", "--host", host, "--port", str(port))
    worker = start("worker", "worker", "--concurrency", str(WORKER_CONCURRENCY))
    start("beat", "beat")
    wait_until_ready(api, lambda: _is_ok(f"{url}/health/ready"))
    celery = _celery(env)
    wait_until_ready(worker, lambda: _worker_answers(celery))

    secret = env["ACCOUNTING_JWT_SECRET"]
    for line in guide_lines(url, mail_url=mail_url, secret=secret, platform=platform):
        click.echo(line)
    click.echo("ready. Press Ctrl-C to stop.")
    _watch(children)


def _environment(url: str, directory: Path) -> dict[str, str]:
    """Our environment with what the children need beyond it; an empty variable counts as unset."""
    env = {
        name: value
        for name, value in os.environ.items()
        if value or not name.startswith("ACCOUNTING_")
    }
    named_by_uri = urlsplit(env.get("ACCOUNTING_MONGODB_URI", "")).path[1:]
    env.setdefault("ACCOUNTING_MONGODB_DATABASE", named_by_uri or DATABASE_NAME)
    env.setdefault("ACCOUNTING_PUBLIC_URL", url)
    if "ACCOUNTING_JWT_SECRET" not in env:
        env["ACCOUNTING_JWT_SECRET"] = _kept_secret(directory / "jwt-secret")
    # Log lines must be in the file when a child's death is explained by them.
    env["PYTHONUNBUFFERED"] = "1"
    return env


def _kept_secret(path: Path) -> str:
    """The secret of this data directory, so that printed tokens stay valid at the next start."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text().strip()
    with os.fdopen(descriptor, "w") as file:
        secret = secrets.token_urlsafe(SECRET_BYTES)
        file.write(secret + "\n")
    return secret


def _start_servers(
    stack: ExitStack, children: list[Child], env: dict[str, str], directory: Path
) -> str | None:
    """Start the servers that the environment does not name; the page of caught mails, if any."""
    if "ACCOUNTING_MONGODB_URI" not in env:
        click.echo("starting MongoDB...")
        mongod = stack.enter_context(start_mongod(directory))
        children.append(mongod.child)
        env["ACCOUNTING_MONGODB_URI"] = mongod.uri
    if "ACCOUNTING_REDIS_URL" not in env:
        click.echo("starting Redis...")
        redis = stack.enter_context(start_redis(directory))
        children.append(redis.child)
        env["ACCOUNTING_REDIS_URL"] = redis.uri
    if "ACCOUNTING_SMTP_URL" in env:
        return None
    click.echo("starting the mail catcher...")
    mail_catcher = stack.enter_context(start_mail_catcher(directory))
    children.append(mail_catcher.child)
    env["ACCOUNTING_SMTP_URL"] = mail_catcher.uri
    return mail_catcher.list_url


def _start_command(
    name: str, arguments: Sequence[str], env: Mapping[str, str], directory: Path
) -> Child:
    command = [sys.executable, "-m", "accounting", *arguments]
    # What a program leaves where it runs, such as beat's schedule, belongs to the other data.
    return start_child(name, command, data_dir=directory, env=env, cwd=directory)


def _run_to_end(
    name: str, arguments: Sequence[str], env: Mapping[str, str], directory: Path
) -> None:
    """Run a command that ends by itself. Raises ChildFailed unless it ends well and in time."""
    click.echo(f"running accounting {' '.join(arguments)}...")
    with _start_command(name, arguments, env, directory) as child:
        returncode = child.wait(SETUP_LIMIT_SECONDS)
        if returncode is None:
            raise ChildFailed(child, f"did not end within {SETUP_LIMIT_SECONDS} seconds")
        if returncode != 0:
            raise ChildFailed(child, f"failed with code {returncode}")


def _is_ok(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=ATTEMPT_LIMIT_SECONDS) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def _celery(env: Mapping[str, str]) -> Celery:
    """The same application as the worker's, to talk to it."""
    settings = Settings(
        mongodb_uri=SecretStr(env["ACCOUNTING_MONGODB_URI"]),
        redis_url=SecretStr(env["ACCOUNTING_REDIS_URL"]),
    )
    return make_celery(settings)


def _worker_answers(celery: Celery) -> bool:
    """Ask the workers through the broker, which shows more than a line in their log."""
    try:
        return bool(celery.control.inspect(timeout=PING_SECONDS).ping())
    except (OperationalError, RedisError, OSError):
        return False


def _watch(children: Sequence[Child]) -> NoReturn:
    """Wait for ever. Raises ChildDied as soon as one of them ends."""
    while True:
        for child in children:
            child.require_running()
        time.sleep(WATCH_SECONDS)


def _choose_port(host: str, port: int | None) -> int:
    if port:
        if not is_port_free(host, port):
            raise PortTaken(host, port)
        return port
    return PORT if port is None and is_port_free(host, PORT) else free_port(host)


def _url(host: str, port: int) -> str:
    name = _LOOPBACK_OF.get(host, host)
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"


@contextmanager
def _signals_raise() -> Iterator[None]:
    """Within it the signals that end us raise StopRequested; after it they do what they did."""

    def stop(_number: int, _frame: FrameType | None) -> NoReturn:
        _ignore_signals()
        raise StopRequested

    before = {number: signal.signal(number, stop) for number in _STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ignore_signals() -> None:
    for number in _STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
