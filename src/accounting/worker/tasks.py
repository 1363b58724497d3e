"""The tasks: each takes ids and calls one use case, and may run twice or at the same time."""

from __future__ import annotations

import logging
from typing import Final

from celery import shared_task

from accounting.ids import ObjectId
from accounting.notifications.service import DELIVER_JOB
from accounting.worker.app import worker_process
from accounting.worker.delivery import deliver_one, due_notifications

logger = logging.getLogger(__name__)

SWEEP_JOB: Final = "notifications.sweep"


@shared_task(name=DELIVER_JOB)  # type: ignore[untyped-decorator]
def deliver(notification_id: str) -> None:
    """Send one e-mail, if it is still to be sent."""
    process = worker_process()
    process.run(deliver_one(process.services, process.mailer, ObjectId(notification_id)))


@shared_task(name=SWEEP_JOB)  # type: ignore[untyped-decorator]
def sweep() -> None:
    """Queue every e-mail that is due: retries, and those whose first message was lost."""
    process = worker_process()
    for notification_id in process.run(due_notifications(process.services)):
        deliver.delay(str(notification_id))
