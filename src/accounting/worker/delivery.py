"""Delivering e-mail: joins the outbox, the invoices and the mailer, for Celery and for cron."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Final

from accounting.bootstrap import Services
from accounting.db.client import DriverError
from accounting.db.document import DocumentChanged
from accounting.errors import AccountingError
from accounting.ids import ObjectId
from accounting.invoices.bulk_mail import tell_run
from accounting.notifications.documents import InvoiceNotification
from accounting.notifications.mailer import Mailer
from accounting.notifications.rules import NotificationStatus
from accounting.notifications.sending import deliver_notification, list_due
from accounting.runs.rules import RunId
from accounting.worker.mails import compose

logger = logging.getLogger(__name__)

SWEEP_NOTIFICATIONS_MAX: Final = 1_000


async def due_notifications(services: Services, due_by: datetime | None = None) -> list[ObjectId]:
    """The e-mails to send now, or by then; at most SWEEP_NOTIFICATIONS_MAX of them."""
    return await list_due(services.db, limit=SWEEP_NOTIFICATIONS_MAX, due_by=due_by)


async def deliver_one(
    services: Services,
    mailer: Mailer,
    notification_id: ObjectId,
    due_by: datetime | None = None,
) -> InvoiceNotification | None:
    """Send one e-mail if it is due and free; None when it is neither, or no longer ours."""
    try:
        row = await deliver_notification(
            services.db,
            notification_id,
            mailer=mailer,
            compose=partial(compose, services),
            zone=services.terms.zone,
            due_by=due_by,
        )
    except DocumentChanged as error:  # our lease ran out and another worker has it
        logger.warning("notification %s: %s", notification_id, error.sentence)
        return None
    if row is not None:
        logger.info("notification %s to invoice %s: %s", row.id, row.invoice_id, row.status.value)
        if row.run_id is not None and row.status is not NotificationStatus.PENDING:
            await _tell_run(services, RunId(row.run_id))
    return row


async def _tell_run(services: Services, run_id: RunId) -> None:
    """Tell its run how an e-mail has ended; what does not go through now is left to the sweep."""
    try:
        await tell_run(services.db, run_id)
    except (AccountingError, DriverError) as error:
        logger.warning("run %s is told later how its e-mails ended: %s", run_id, error)


async def deliver_due(
    services: Services,
    mailer: Mailer,
    *,
    due_by: datetime | None = None,
    on_progress: Callable[[int], None] = lambda tried: None,
) -> Counter[NotificationStatus]:
    """Send everything that is due, one after the other; counts by what became of it.

    `on_progress` gets the number tried so far.
    """
    outcomes: Counter[NotificationStatus] = Counter()
    tried: set[ObjectId] = set()
    # Each once, so that a retry which is due at once ends too.
    while new := [
        found for found in await due_notifications(services, due_by) if found not in tried
    ]:
        for notification_id in new:
            row = await deliver_one(services, mailer, notification_id, due_by)
            tried.add(notification_id)
            if row is not None:
                outcomes[row.status] += 1
            on_progress(len(tried))
    return outcomes
