"""From which day on a customer's account can still be stated, after invoices were archived.

What is archived nets to zero and lies wholly before that day, so that every balance from then on is
right without it. Before it entries would be missing, and a statement says so instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import NamedTuple

from accounting.clock import as_stored_day
from accounting.db.database import Session, Transaction
from accounting.db.document import BaseDocument, index
from accounting.db.fields import Count, Day, Instant
from accounting.errors import Conflict
from accounting.ids import ObjectId
from accounting.platform.rules import UserId


class RangeArchived(Conflict):
    """A part of the range is no longer in the database; figures without it would be false."""

    def __init__(self, customer_id: UserId, first: date, earliest: date) -> None:
        super().__init__(
            f"A statement of customer {customer_id} cannot begin on {first}: invoices from before "
            f"{earliest} were archived. It can begin on {earliest} or later.",
            customerId=str(customer_id),
            earliestFrom=earliest.isoformat(),
        )


class ArchivedAccount(BaseDocument):
    """A customer of whom invoices were archived; the last of their entries is the day before."""

    user_id: ObjectId
    statement_from: Day
    invoices: Count
    updated_at: Instant

    class Settings:
        name = "archived_accounts"
        indexes = [index("userId", unique=True)]


class ArchivedPart(NamedTuple):
    """How many invoices of a customer were archived, and when his statements can begin."""

    invoices: int = 0
    statement_from: date | None = None


async def find_archived(customer_id: UserId) -> ArchivedPart:
    """No invoices and no day for a customer of whom everything is here."""
    account = await ArchivedAccount.find_one({"userId": customer_id})
    return ArchivedPart(account.invoices, account.statement_from) if account else ArchivedPart()


def check_not_archived(archived: ArchivedPart, customer_id: UserId, first: date) -> None:
    """Raises RangeArchived for a statement that begins too early."""
    if archived.statement_from is not None and first < archived.statement_from:
        raise RangeArchived(customer_id, first, archived.statement_from)


async def note_archived(
    tx: Transaction, ends: Mapping[UserId, date], counts: Mapping[UserId, int]
) -> None:
    """Note for each customer how many invoices go, and the day after the last of their entries."""
    known = await _known(list(ends), tx.session)
    rows = []
    for customer_id, day in ends.items():
        before = known.get(customer_id)
        fields: dict[str, object] = {
            "statementFrom": as_stored_day(max(day, before.statement_from) if before else day),
            "invoices": counts[customer_id] + (before.invoices if before else 0),
            "updatedAt": tx.now,
        }
        rows.append(({"userId": customer_id}, fields))
    await ArchivedAccount.put_many(tx, rows)


async def _known(
    customer_ids: list[UserId], session: Session | None
) -> dict[UserId, ArchivedAccount]:
    found = ArchivedAccount.find({"userId": {"$in": customer_ids}}, session=session)
    return {account.user_id: account async for account in found}
