"""The template of a monthly invoice (spec: Model 2)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from accounting.db.database import Session
from accounting.db.document import VersionedDocument, index
from accounting.db.fields import Day, UnitPrice
from accounting.platform.rules import UserId
from accounting.recurring.rules import (
    DAY_OF_MONTH_MAX,
    DAY_OF_MONTH_MIN,
    RecurringInvoiceId,
    RecurringInvoiceNotFound,
    Schedule,
)


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
        return Schedule(self.day_of_month, self.start_date, self.end_date, self.last_generated_date)


async def get_recurring_invoice(
    template_id: RecurringInvoiceId, *, session: Session | None = None
) -> RecurringInvoice:
    """Raises RecurringInvoiceNotFound."""
    template = await RecurringInvoice.find_one({"_id": template_id}, session=session)
    if template is None:
        raise RecurringInvoiceNotFound(template_id)
    return template
