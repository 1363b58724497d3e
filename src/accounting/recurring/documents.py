"""The template of a monthly invoice (spec: Model 2)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from datetime import date
from typing import Annotated, Final

from pydantic import Field, ValidationError

from accounting.clock import as_stored_day
from accounting.db.database import Session
from accounting.db.document import VersionedDocument, index
from accounting.db.fields import Count, Day, Text, UnitPrice
from accounting.ids import ObjectId
from accounting.platform.rules import UserId
from accounting.recurring.rules import (
    DAY_OF_MONTH_MAX,
    DAY_OF_MONTH_MIN,
    RecurringInvoiceId,
    RecurringInvoiceNotFound,
    Schedule,
)

# So many templates are in memory at once.
SCAN_TEMPLATES: Final = 500


class RecurringInvoice(VersionedDocument):
    """Bills a customer on `dayOfMonth` of each month between the start and end date, inclusive."""

    user_id: UserId
    day_of_month: Annotated[int, Field(ge=DAY_OF_MONTH_MIN, le=DAY_OF_MONTH_MAX)]
    unit_price: UnitPrice | None = None
    start_date: Day
    end_date: Day | None = None
    is_active: bool = True
    auto_issue: bool = False
    last_generated_date: Day | None = None
    last_skipped_date: Day | None = None
    # In how many runs it failed since the last invoice, the last of them, and why it was paused.
    failed_runs: Count = 0
    last_failed_run_id: ObjectId | None = None
    parked_reason: Text | None = None

    class Settings:
        name = "recurring_invoices"
        indexes = [
            index("userId"),
            index("isActive"),
            index("dayOfMonth"),
            index("startDate"),
        ]

    @property
    def schedule(self) -> Schedule:
        return Schedule(
            self.day_of_month,
            self.start_date,
            self.end_date,
            self.last_generated_date,
            self.last_skipped_date,
        )


async def get_recurring_invoice(
    template_id: RecurringInvoiceId, *, session: Session | None = None
) -> RecurringInvoice:
    """Raises RecurringInvoiceNotFound."""
    template = await RecurringInvoice.find_one({"_id": template_id}, session=session)
    if template is None:
        raise RecurringInvoiceNotFound(template_id)
    return template


async def get_templates(
    template_ids: Iterable[RecurringInvoiceId], *, session: Session | None = None
) -> dict[RecurringInvoiceId, RecurringInvoice]:
    """These templates by id. Raises RecurringInvoiceNotFound."""
    wanted = set(template_ids)
    found = RecurringInvoice.find({"_id": {"$in": list(wanted)}}, session=session)
    templates = {RecurringInvoiceId(template.id): template async for template in found}
    for missing in wanted - templates.keys():
        raise RecurringInvoiceNotFound(missing)
    return templates


async def scan_started(
    today: date, *, looked_through: RecurringInvoiceId | None = None
) -> AsyncIterator[list[tuple[RecurringInvoiceId, RecurringInvoice | None]]]:
    """Every active template that has started, in pages, ascending by id, after the given one.

    None for one that cannot be read, so that it is reported and does not hide the others.
    """
    while True:
        query: dict[str, object] = {"isActive": True, "startDate": {"$lte": as_stored_day(today)}}
        if looked_through is not None:
            query["_id"] = {"$gt": looked_through}
        found = RecurringInvoice.get_motor_collection().find(query).sort("_id", 1)
        page = await found.limit(SCAN_TEMPLATES).to_list(SCAN_TEMPLATES)
        if not page:
            return
        yield [(raw["_id"], readable(raw)) for raw in page]
        looked_through = page[-1]["_id"]


def readable(raw: dict[str, object]) -> RecurringInvoice | None:
    """The template that was found, or None: somebody wrote values into it that it cannot have."""
    try:
        template: RecurringInvoice = RecurringInvoice.model_validate(raw)
    except ValidationError:
        return None
    return template
