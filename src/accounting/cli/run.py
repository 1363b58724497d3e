"""`accounting serve | worker | beat | dev`: the long-running processes."""

from __future__ import annotations

import gc
import logging
from pathlib import Path
from typing import Final

import click

from accounting.settings import Settings, load_settings

# A client that never ends its request must not keep the server from stopping.
SHUTDOWN_SECONDS_MAX: Final = 20
# Young objects are collected as always, all that there is so many times more rarely.
FULL_COLLECTIONS_RARER: Final = 100


@click.command()
@click.option("--host", help="Address to listen on; ACCOUNTING_HOST otherwise.")
@click.option("--port", type=int, help="Port to listen on; ACCOUNTING_PORT otherwise.")
def serve(host: str | None, port: int | None) -> None:
    """Serve the HTTP API."""
    import uvicorn

    from accounting.api.app import create_app

    settings = _configured()
    settings.require_jwt_secret()

    # A wrong server is one sentence here, not a traceback from inside the HTTP server.
    _try_start(settings)
    app = create_app(settings)
    _spare_requests_the_garbage_collector()
    uvicorn.run(
        app,
        host=host or settings.host,
        port=settings.port if port is None else port,
        log_level=settings.log_level.lower(),
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS_MAX,
        log_config=None,
    )


@click.command()
@click.option("--concurrency", type=click.IntRange(min=1), default=2, show_default=True)
def worker(concurrency: int) -> None:
    """Run the jobs that the API and the schedule queue."""
    from accounting.bootstrap import check_settings

    settings = _configured()
    check_settings(settings)
    _try_if_least_privilege(settings)
    _celery_app(settings).worker_main(
        ["worker", f"--concurrency={concurrency}", f"--loglevel={settings.log_level}"]
    )


@click.command()
def beat() -> None:
    """Queue the scheduled jobs; run exactly one of these."""
    from celery.apps.beat import Beat

    settings = _configured()
    _try_if_least_privilege(settings)
    # The schedule is fixed in code, so nothing is worth keeping in a file that could break.
    Beat(
        app=_celery_app(settings),
        scheduler="celery.beat:Scheduler",
        loglevel=settings.log_level,
    ).run()


@click.command(short_help="Start everything, for development.")
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep the data here; left out, it is gone at the end.",
)
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=int, help="Port of the API; a free one otherwise.")
def dev(data_dir: Path | None, host: str, port: int | None) -> None:
    """Start everything for development: MongoDB, Redis, mail catcher, API, worker, beat."""
    from accounting.dev.stack import run_stack

    raise click.exceptions.Exit(run_stack(data_dir=data_dir, host=host, port=port))


def _spare_requests_the_garbage_collector() -> None:
    """Keep every request under way from waiting 40 to 100 ms for a full collection now and then.

    What is there by now stays for good and is taken out of them. The others find next to nothing:
    what a request leaves in circles is young. So they are made rarer, and not given up.
    """
    gc.collect()
    gc.freeze()
    young, middle, full = gc.get_threshold()
    gc.set_threshold(young, middle, full * FULL_COLLECTIONS_RARER)


def _configured() -> Settings:
    settings = load_settings()
    logging.getLogger().setLevel(settings.log_level)
    return settings


def _try_start(settings: Settings) -> None:
    """Connect once; raises what is wrong with the server, or with our rights on it."""
    import asyncio

    from accounting.bootstrap import open_services

    async def connect() -> None:
        async with open_services(settings):
            pass

    asyncio.run(connect())


def _try_if_least_privilege(settings: Settings) -> None:
    # Workers otherwise start without the database and wait for it.
    if settings.require_least_privilege:
        _try_start(settings)


def _celery_app(settings: Settings):  # type: ignore[no-untyped-def]  # Celery has no types
    from accounting.worker.app import make_celery

    return make_celery(settings)
