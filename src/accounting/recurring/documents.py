"""The template of a monthly invoice (spec: Model 2)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from accounting.db.document import VersionedDocument, index
from accounting.db.fields import Day, UnitPrice
from accounting.platform.rules import UserId


class RecurringInvoice(VersionedDocument):
    """Bills a customer on `dayOfMonth` of each month between the start and end date, inclusive."""

    user_id: UserId
    day_of_month: Annotated[int, Field(ge=1, le=28)]
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
