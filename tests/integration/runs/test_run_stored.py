"""What really lies in `accounting_runs`, and what the database itself refuses."""

from __future__ import annotations

from typing import Any

import pytest
from bson import ObjectId
from pymongo.errors import WriteError

from accounting.db.client import MongoDatabase
from accounting.db.paging import Window
from accounting.ids import new_id
from accounting.runs.documents import list_runs
from accounting.runs.rules import NewItem, RunKind, RunStatus
from accounting.runs.service import start_run
from builders import ADMIN, NOW
from fakes import TestDatabase


@pytest.fixture
async def raw_run(real_db: TestDatabase, real_mongo: MongoDatabase) -> dict[str, Any]:
    run = await real_db.run(ADMIN, start_run, RunKind.BULK_ISSUE, [NewItem(new_id(), "2026011201")])
    raw = await real_mongo["accounting_runs"].find_one({"_id": run.id})
    assert raw is not None
    return raw


async def test_a_run_is_stored_with_exactly_its_fields(raw_run: dict[str, Any]) -> None:
    [item] = raw_run["items"]

    assert raw_run.keys() == {
        *("_id", "kind", "status", "requestedBy", "actor", "createdAt", "startedAt", "finishedAt"),
        *("progressAt", "leaseId", "leaseUntil", "fruitlessSlices", "counts", "parameters"),
        *("isPlanning", "parts", "partsOver", "lookedThrough", "partOf", "partNumber"),
        *("planHash", "expiresAt", "items"),
    }
    assert item == {
        "id": item["id"],
        "label": "2026011201",
        "planned": None,
        "status": "PENDING",
        "code": None,
        "reason": None,
        "resultId": None,
        "at": None,
    }
    assert raw_run["counts"] == {"total": 1, "done": 0, "skipped": 0, "failed": 0}
    assert raw_run["actor"] == {
        "userId": ADMIN.user_id,
        "role": "ADMIN",
        "ipAddress": ADMIN.ip_address,
        "userAgent": ADMIN.user_agent,
        "requestId": ADMIN.request_id,
    }
    assert (raw_run["createdAt"], raw_run["progressAt"]) == (NOW, NOW)


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "DANCE"},
        {"status": "ASLEEP"},
        {"counts": {"total": -1, "done": 0, "skipped": 0, "failed": 0}},
        {"counts": {"total": 1, "done": -1, "skipped": 0, "failed": 0}},
        {"items": [{"id": "x", "status": "PENDING"}]},
        {"items": [{"id": ObjectId(), "status": "LOST"}]},
        {"items": [{"id": ObjectId(), "status": "FAILED", "reason": "r" * 301}]},
        {"items": [{"id": ObjectId(), "status": "FAILED", "more": 1}]},
        {"items": None},
        {"leaseUntil": "soon"},
        {"requestedBy": "a" * 24},
        {"more": 1},
    ],
)
async def test_the_database_refuses_a_wrong_value(
    raw_run: dict[str, Any], real_mongo: MongoDatabase, change: dict[str, object]
) -> None:
    with pytest.raises(WriteError, match="failed validation"):
        await real_mongo["accounting_runs"].insert_one(raw_run | {"_id": ObjectId()} | change)


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"kind": {"$in": [RunKind.BULK_ISSUE]}},
        {"status": {"$in": [RunStatus.DONE]}},
        {"kind": {"$in": [RunKind.BULK_ISSUE]}, "status": {"$in": [RunStatus.DONE]}},
    ],
)
async def test_the_list_is_read_from_an_index_in_order(
    raw_run: dict[str, Any], real_mongo: MongoDatabase, query: dict[str, Any]
) -> None:
    found = real_mongo["accounting_runs"].find(query, sort=[("createdAt", -1), ("_id", -1)])
    plan = str((await found.explain())["queryPlanner"]["winningPlan"])

    assert "IXSCAN" in plan
    assert "'SORT'" not in plan


async def test_a_list_leaves_the_items_in_the_database(raw_run: dict[str, Any]) -> None:
    page = await list_runs(Window())

    assert [run.id for run in page.items] == [raw_run["_id"]]
    assert page.items[0].items == []
    assert page.items[0].counts.total == 1
