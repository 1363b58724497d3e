"""Sending jobs to the workers after a commit."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from celery import Celery
from celery.exceptions import CeleryError
from kombu.exceptions import KombuError

from accounting.db.database import Job
from accounting.settings import Settings
from accounting.worker.app import make_celery

logger = logging.getLogger(__name__)

CLOSE_TIMEOUT_SECONDS: Final = 5.0


class CeleryQueue:
    """Sends jobs to Celery without making the caller wait for the broker.

    A job that cannot be sent is logged and forgotten: the stored row is the truth, and the minute
    sweep finds it.
    """

    def __init__(self, settings: Settings, celery: Celery | None = None) -> None:
        self._celery: Celery = celery or make_celery(settings)
        self._sending: set[asyncio.Task[None]] = set()

    async def __call__(self, jobs: list[Job]) -> None:
        task = asyncio.create_task(asyncio.to_thread(self._send, jobs))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def close(self) -> None:
        """Wait a moment for what is under way."""
        if self._sending:
            await asyncio.wait(self._sending, timeout=CLOSE_TIMEOUT_SECONDS)

    def _send(self, jobs: list[Job]) -> None:
        for job in jobs:
            try:
                self._celery.send_task(job.name, args=job.args, retry=False, ignore_result=True)
            except (CeleryError, KombuError, OSError) as error:
                logger.warning("job %s%s not sent: %s", job.name, job.args, error)
                return
