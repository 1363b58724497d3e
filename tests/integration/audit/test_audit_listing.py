"""Lists of audit entries on the real server: which index serves which filter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from accounting.actor import SYSTEM_USER_ID
from accounting.audit.listing import BY_ENTITY, NEWEST_FIRST, AuditFilter, list_entries
from accounting.audit.rules import AuditAction, EntityType
from accounting.db.client import MongoDatabase
from accounting.db.paging import Window
from accounting.ids import ObjectId
from builders import ADMIN, TODAY
from trails import fill_trail

UTC_ZONE = ZoneInfo("UTC")
RARE, COMMON, ABSENT = (
    AuditAction.INVOICE_REFUNDED,
    AuditAction.INVOICE_UPDATED,
    AuditAction.EMAIL_RETRY,
)


@pytest.fixture
async def years(real_mongo: MongoDatabase) -> MongoDatabase:
    """A thousand entries in which some actions, actors and entities are rare and long ago."""
    await fill_trail(real_mongo, chains=100, entries_each=10, days=700)
    rare = {"action": RARE.value, "userId": SYSTEM_USER_ID, "entityType": "RecurringInvoice"}
    oldest = await real_mongo["audit_logs"].find().sort("createdAt").limit(20).to_list(None)
    await real_mongo["audit_logs"].update_many(
        {"_id": {"$in": [entry["_id"] for entry in oldest]}}, {"$set": rare}
    )
    return real_mongo


def stages(plan: dict[str, Any]) -> Iterator[str]:
    yield plan["stage"]
    for below in [*plan.get("inputStages", ()), plan.get("inputStage")]:
        if below:
            yield from stages(below)


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"actions": [COMMON]},
        {"actions": [RARE]},
        {"actions": [RARE, COMMON]},
        {"actions": [RARE, ABSENT]},
        {"entity_type": EntityType.INVOICE},
        {"entity_type": EntityType.RECURRING_INVOICE},
        {"entity_id": True},
        {"entity_id": True, "entity_type": EntityType.INVOICE},
        {"user_id": ADMIN.user_id},
        {"user_id": SYSTEM_USER_ID},
        {"created_from": TODAY, "created_to": TODAY},
        {"created_to": TODAY, "user_id": SYSTEM_USER_ID},
        {"created_from": TODAY, "actions": [RARE, COMMON]},
    ],
    ids=str,
)
async def test_every_filter_reads_an_index_in_order(
    years: MongoDatabase, facts: dict[str, Any]
) -> None:
    some_entry = await years["audit_logs"].find_one()
    assert some_entry is not None
    if "entity_id" in facts:
        facts = facts | {"entity_id": ObjectId(some_entry["entityId"])}
    command: dict[str, Any] = {
        "find": "audit_logs",
        "filter": AuditFilter(**facts).to_query(UTC_ZONE),
        "sort": dict(NEWEST_FIRST.keys),
        "limit": 11,
    }
    if "entity_id" in facts:
        command["hint"] = BY_ENTITY

    explained = await years.command("explain", command, verbosity="executionStats")

    used = set(stages(explained["queryPlanner"]["winningPlan"]))
    assert "IXSCAN" in used
    assert used.isdisjoint({"COLLSCAN", "SORT"}), used
    assert explained["executionStats"]["totalDocsExamined"] <= 40


async def test_cursor_pages_hold_every_entry_once(years: MongoDatabase) -> None:
    wanted = AuditFilter(actions=[RARE, COMMON])
    seen: list[object] = []
    cursor: str | None = ""
    while cursor is not None:
        page = await list_entries(wanted, UTC_ZONE, Window(limit=90, page=None, cursor=cursor))
        seen += [entry.id for entry in page.items]
        cursor = page.next_cursor

    newest_first = await years["audit_logs"].find().sort(NEWEST_FIRST.keys).to_list(None)
    assert seen == [entry["_id"] for entry in newest_first]
