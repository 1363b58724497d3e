"""The Celery application: broker, schedule, and one event loop per worker process."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from datetime import time
from typing import Any, Final, Protocol, TypeVar

from celery import Celery
from celery.app import app_or_default
from celery.schedules import crontab
from celery.signals import worker_process_shutdown

from accounting.bootstrap import Services, open_services
from accounting.db.database import Enqueue
from accounting.notifications.mailer import Mailer, SmtpMailer
from accounting.settings import Settings, load_settings
from accounting.worker.hours import (
    GENERATE_AT,
    INTEGRITY_AT,
    OVERDUE_AT,
    REMINDERS_AT,
    SEAL_AT,
    TIDY_PAPERS_AT,
)

T = TypeVar("T")

BROKER_TIMEOUT_SECONDS: Final = 2.0
SWEEP_EVERY_SECONDS: Final = 60.0
TASK_TIME_LIMIT_SECONDS: Final = 300


def make_celery(settings: Settings) -> Celery:
    """The application as the API uses it for sending, and the worker and beat for running."""
    celery = Celery("accounting", broker=settings.redis_url.get_secret_value())
    celery.conf.update(
        include=["accounting.worker.tasks"],
        task_default_queue="accounting",
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_ignore_result=True,
        task_time_limit=TASK_TIME_LIMIT_SECONDS,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
        broker_transport_options={
            "socket_timeout": BROKER_TIMEOUT_SECONDS,
            "socket_connect_timeout": BROKER_TIMEOUT_SECONDS,
            # Sending gives up soon: the row waits in the database, and the sweep finds it.
            "max_retries": 1,
            "interval_start": 0,
        },
        timezone=settings.timezone,
        beat_schedule={
            "notifications.sweep": {
                "task": "notifications.sweep",
                "schedule": SWEEP_EVERY_SECONDS,
                # Sweeps pile up while no worker runs; an old one has nothing to add.
                "options": {"expires": SWEEP_EVERY_SECONDS},
            },
            "runs.sweep": {
                "task": "runs.sweep",
                "schedule": SWEEP_EVERY_SECONDS,
                "options": {"expires": SWEEP_EVERY_SECONDS},
            },
            "figures.refresh": {
                "task": "figures.refresh",
                "schedule": SWEEP_EVERY_SECONDS,
                "options": {"expires": SWEEP_EVERY_SECONDS},
            },
            "recurring.generate": {"task": "recurring.generate", "schedule": _daily(GENERATE_AT)},
            "invoices.overdue": {"task": "invoices.overdue", "schedule": _daily(OVERDUE_AT)},
            "invoices.reminders": {"task": "invoices.reminders", "schedule": _daily(REMINDERS_AT)},
            "audit.seal": {"task": "audit.seal", "schedule": _daily(SEAL_AT)},
            "store.integrity": {"task": "store.integrity", "schedule": _daily(INTEGRITY_AT)},
            "papers.tidy": {"task": "papers.tidy", "schedule": _daily(TIDY_PAPERS_AT)},
        },
    )
    return celery


def _daily(at: time) -> crontab:
    return crontab(hour=at.hour, minute=at.minute)


class ClosableQueue(Enqueue, Protocol):
    """A queue that can be waited for until it has sent what it was given."""

    async def close(self) -> None: ...


class WorkerProcess:
    """What one worker process owns: its event loop, made after the fork, and its connections.

    Motor ties a client to the loop in which it first ran, so a loop per task would break it.
    """

    def __init__(self, settings: Settings, queue: ClosableQueue) -> None:
        self.mailer: Mailer = SmtpMailer(settings.smtp_url.get_secret_value())
        self._loop = asyncio.new_event_loop()
        self._stack = AsyncExitStack()
        self._queue = queue
        opened = open_services(settings, enqueue=queue)
        try:
            self.services: Services = self.run(self._stack.enter_async_context(opened))
        except BaseException:  # nothing came of this process's loop: close it, whatever it was
            self._loop.close()
            raise

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end on this process's loop."""
        try:
            return self._loop.run_until_complete(work)
        finally:
            # The loop stands still between two tasks: what is being sent is sent now.
            self._loop.run_until_complete(self._queue.close())

    def close(self) -> None:
        self.run(self._stack.aclose())
        self._loop.close()


_process: WorkerProcess | None = None


def worker_process() -> WorkerProcess:
    """This process's loop and connections, made with the first task that needs them.

    Not when the process starts: while the database is away a task fails, its work is found again
    by a sweep, and the next task tries anew. Raises what `open_services` raises.
    """
    global _process  # noqa: PLW0603  # one per process: Celery gives a task no other place
    if _process is None:
        # Here, since that module makes its application with this one.
        from accounting.worker.queue import CeleryQueue  # noqa: PLC0415

        settings = load_settings()
        _process = WorkerProcess(settings, CeleryQueue(settings, app_or_default()))
    return _process


@worker_process_shutdown.connect  # type: ignore[untyped-decorator]
def _close_process(**_: object) -> None:
    if _process is not None:
        _process.close()
