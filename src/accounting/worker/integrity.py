"""Examining the store each day, for Celery and for cron: joins the checks with their record."""

from __future__ import annotations

import logging

from accounting.actor import SYSTEM
from accounting.bootstrap import Services
from accounting.integrity.service import (
    OnProgress,
    StoreReport,
    examine_store,
    record_examination,
)

logger = logging.getLogger(__name__)


async def examine_now(
    services: Services, *, on_progress: OnProgress = lambda name, done: None
) -> StoreReport:
    """Look at the whole store, log what is wrong by name and keep the result; repairs nothing."""
    began_at = services.db.clock()
    report = await examine_store(
        services.db, services.platform, services.terms, on_progress=on_progress
    )
    for finding in report.findings:
        logger.error("%s: %s", finding.kind.value, finding.sentence)
    await services.db.run(SYSTEM, record_examination, report, began_at)
    return report
