"""The e-mail log: filters, newest first, in pages (spec section 5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial
from typing import Any, Final
from zoneinfo import ZoneInfo

from accounting.clock import start_of_day
from accounting.db.paging import Order, Page, Window, count, count_all, list_page
from accounting.ids import ObjectId
from accounting.notifications.documents import InvoiceNotification
from accounting.notifications.rules import NotificationStatus, NotificationType

NEWEST_FIRST: Final = Order("createdAt")
BY_TIME: Final = "createdAt_1__id_1"


@dataclass(frozen=True, slots=True)
class NotificationFilter:
    """Which e-mails; None does not narrow. Days are inclusive and in the business zone."""

    statuses: Sequence[NotificationStatus] = ()
    notification_types: Sequence[NotificationType] = ()
    invoice_ids: Sequence[ObjectId] | None = None
    created_from: date | None = None
    created_to: date | None = None

    def to_query(self, zone: ZoneInfo) -> dict[str, Any]:
        """The condition over stored names."""
        query: dict[str, Any] = {}
        if self.invoice_ids is not None:
            query["invoiceId"] = {"$in": list(self.invoice_ids)}
        if self.statuses:
            query["status"] = {"$in": sorted({status.value for status in self.statuses})}
        if self.notification_types:
            kinds = sorted({kind.value for kind in self.notification_types})
            query["notificationType"] = {"$in": kinds}
        created = {}
        if self.created_from is not None:
            created["$gte"] = start_of_day(self.created_from, zone)
        if self.created_to is not None:
            created["$lt"] = start_of_day(self.created_to + timedelta(days=1), zone)
        return query | ({"createdAt": created} if created else {})


async def list_emails(
    wanted: NotificationFilter, zone: ZoneInfo, window: Window
) -> Page[InvoiceNotification]:
    """A page of e-mails, newest first. Raises CursorNotValid."""
    query = wanted.to_query(zone)
    hint = index_for(query)
    # Whoever sees the whole log does not need its rows counted one by one.
    total = (
        partial(count, InvoiceNotification, query, hint=hint)
        if query
        else partial(count_all, InvoiceNotification)
    )
    return await list_page(InvoiceNotification, query, NEWEST_FIRST, window, hint=hint, total=total)


def index_for(query: dict[str, Any]) -> str:
    """The index with the fewest rows to look at: of an invoice, in a status, of a kind, or of all.

    Each has the order of the list, so that nothing is sorted in memory; with several values the
    server merges as many stretches of it. A customer's many invoices are the exception.
    """
    first = next(
        (name for name in ("invoiceId", "status", "notificationType") if name in query), ""
    )
    return f"{first}_1_{BY_TIME}" if first else BY_TIME
