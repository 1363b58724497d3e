"""The e-mail log, and what sending asks, on the real server: which index serves which."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bson.codec_options import DatetimeConversion

from accounting.db.client import CODEC_OPTIONS, MongoDatabase
from accounting.db.paging import Window
from accounting.ids import ObjectId, new_id
from accounting.notifications.documents import (
    OF_RUN,
    SENT_TO_BY_TIME,
    InvoiceNotification,
    count_handed_over,
    is_any_pending,
)
from accounting.notifications.listing import (
    NEWEST_FIRST,
    NotificationFilter,
    index_for,
    list_emails,
)
from accounting.notifications.rules import NotificationStatus, NotificationType
from builders import TERMS, TODAY

# The bounds of an index go beyond the years that Python knows.
FOUND = CODEC_OPTIONS.with_options(datetime_conversion=DatetimeConversion.DATETIME_AUTO)
ROWS = 2_000
CUSTOMERS_INVOICES = 5
START = datetime(2025, 1, 1, tzinfo=UTC)
RUN = ObjectId("c" * 24)
INVOICES = [ObjectId(f"{serial:024x}") for serial in range(1, 1 + ROWS // 4)]
STATUSES = [NotificationStatus.SENT] * 18 + [NotificationStatus.PENDING, NotificationStatus.BOUNCED]


@pytest.fixture
async def log(real_mongo: MongoDatabase) -> MongoDatabase:
    """Two years of e-mails, four about each invoice; one in twenty bounced or waits."""
    kinds = list(NotificationType)
    rows = []
    for number in range(ROWS):
        at = START + timedelta(hours=8 * number)
        status = STATUSES[number % len(STATUSES)]
        rows.append(
            InvoiceNotification(
                id=new_id(),
                invoice_id=INVOICES[number // 4],
                notification_type=kinds[number % len(kinds)],
                sent_to=f"customer{number % 40}@example.com",
                status=status,
                handed_over_at=at if status is NotificationStatus.SENT else None,
                run_id=RUN if number % 10 == 0 else None,
                dedupe_key=str(number),
                view_token=f"{number:040}",
                created_at=at,
            )
        )
    await InvoiceNotification.insert_many(rows)
    return real_mongo


def stages(plan: dict[str, Any]) -> Iterator[str]:
    yield plan["stage"]
    for below in [*plan.get("inputStages", ()), plan.get("inputStage")]:
        if below:
            yield from stages(below)


async def explain(mongo: MongoDatabase, command: dict[str, Any]) -> tuple[set[str], int]:
    explained = await mongo.command(
        "explain", command, verbosity="executionStats", codec_options=FOUND
    )
    looked_at = int(explained["executionStats"]["totalKeysExamined"])
    return set(stages(explained["queryPlanner"]["winningPlan"])), looked_at


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"statuses": [NotificationStatus.SENT]},
        {"statuses": [NotificationStatus.BOUNCED]},
        {"statuses": [NotificationStatus.BOUNCED, NotificationStatus.FAILED]},
        {"notification_types": [NotificationType.INVOICE_ISSUED]},
        {"notification_types": [NotificationType.INVOICE_ISSUED, NotificationType.INVOICE_VIEWED]},
        {"invoice_ids": INVOICES[:1]},
        {"invoice_ids": INVOICES[:CUSTOMERS_INVOICES]},
        {"created_from": TODAY, "created_to": TODAY},
        {"created_from": TODAY, "statuses": [NotificationStatus.SENT]},
    ],
    ids=str,
)
async def test_every_filter_reads_an_index_in_order(
    log: MongoDatabase, facts: dict[str, Any]
) -> None:
    query = NotificationFilter(**facts).to_query(TERMS.zone)

    used, looked_at = await explain(
        log,
        {
            "find": "invoice_notifications",
            "filter": query,
            "sort": dict(NEWEST_FIRST.keys),
            "hint": index_for(query),
            "limit": 11,
        },
    )

    assert used.isdisjoint({"COLLSCAN", "SORT"}), used
    assert looked_at <= 40


async def test_cursor_pages_hold_every_mail_once(log: MongoDatabase) -> None:
    wanted = NotificationFilter(statuses=[NotificationStatus.BOUNCED, NotificationStatus.PENDING])
    seen: list[object] = []
    cursor: str | None = ""
    while cursor is not None:
        page = await list_emails(wanted, TERMS.zone, Window(limit=30, page=None, cursor=cursor))
        seen += [row.id for row in page.items]
        cursor = page.next_cursor

    rows = InvoiceNotification.get_motor_collection()
    found = rows.find(wanted.to_query(TERMS.zone)).sort(NEWEST_FIRST.keys)
    assert seen == [raw["_id"] async for raw in found]
    assert len(seen) == ROWS // 10


async def test_the_daily_cap_is_counted_in_an_index_alone(log: MongoDatabase) -> None:
    address, since = "customer0@example.com", START + timedelta(days=300)
    query = {"sentTo": address, "handedOverAt": {"$gte": since}}

    counted = await count_handed_over(address, since=since, most=1_000)
    used, looked_at = await explain(
        log,
        {
            "find": "invoice_notifications",
            "filter": query,
            "projection": {"_id": 0, "sentTo": 1},
            "hint": SENT_TO_BY_TIME,
        },
    )

    assert counted == await InvoiceNotification.find(query).count() > 0
    assert await count_handed_over(address, since=since, most=3) == 3
    assert used.isdisjoint({"COLLSCAN", "FETCH"}), used
    assert looked_at <= counted + 1


async def test_whether_a_run_waits_is_found_in_an_index(log: MongoDatabase) -> None:
    used, looked_at = await explain(
        log,
        {
            "find": "invoice_notifications",
            "filter": {"runId": RUN, "status": "PENDING"},
            "hint": OF_RUN,
            "limit": 1,
        },
    )

    assert "COLLSCAN" not in used
    assert looked_at <= 1
    assert not await is_any_pending(new_id())
    assert not await is_any_pending(RUN)
    await InvoiceNotification.find_one({"runId": RUN}).update({"$set": {"status": "PENDING"}})
    assert await is_any_pending(RUN)
