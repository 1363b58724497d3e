"""What really lies in `accounting_runs`, and what the database itself refuses."""

from __future__ import annotations

from typing import Any

import pytest
from bson import ObjectId
from pymongo.errors import DuplicateKeyError, WriteError

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
        *("progressAt", "leaseId", "leaseUntil", "fruitlessSlices", "isFollowed", "counts"),
        *(
            "parameters",
            "isPlanning",
            "parts",
            "partsOver",
            "lookedThrough",
            "partOf",
            "partNumber",
        ),
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


KINDS = {"kind": {"$in": [RunKind.BULK_ISSUE]}}
STATUSES = {"status": {"$in": [RunStatus.DONE]}}
NO_PLANS = {"status": {"$ne": RunStatus.PLANNED}}


@pytest.mark.parametrize("chosen", [NO_PLANS, NO_PLANS | KINDS, STATUSES, STATUSES | KINDS])
async def test_the_list_is_read_from_an_index_in_order(
    raw_run: dict[str, Any], real_mongo: MongoDatabase, chosen: dict[str, Any]
) -> None:
    query = {"partOf": None, **chosen}
    found = real_mongo["accounting_runs"].find(query, sort=[("createdAt", -1), ("_id", -1)])
    plan = str((await found.explain())["queryPlanner"]["winningPlan"])

    assert "IXSCAN" in plan
    assert "'SORT'" not in plan


async def test_a_list_leaves_the_items_in_the_database(raw_run: dict[str, Any]) -> None:
    page = await list_runs(Window())

    assert [run.id for run in page.items] == [raw_run["_id"]]
    assert page.items[0].items == []
    assert page.items[0].counts.total == 1


async def test_what_expires_is_deleted_by_the_server(real_mongo: MongoDatabase) -> None:
    """A plan and its parts, a day after they were made; a run that is to be done has no end."""
    indexes = await real_mongo["accounting_runs"].index_information()

    assert indexes["expiresAt_1"]["expireAfterSeconds"] == 0


async def test_the_database_refuses_a_second_search_for_the_same_work(
    raw_run: dict[str, Any], real_mongo: MongoDatabase
) -> None:
    runs = real_mongo["accounting_runs"]
    planning = raw_run | {"isPlanning": True, "parameters": {"asOf": "2026-01-12"}, "items": []}
    await runs.insert_one(planning | {"_id": ObjectId()})

    with pytest.raises(DuplicateKeyError):
        await runs.insert_one(planning | {"_id": ObjectId()})
    for other in (
        {"parameters": {"asOf": "2026-01-13"}},
        {"requestedBy": ObjectId()},
        {"kind": "BULK_ISSUE", "isPlanning": False},
        {"isPlanning": False},
    ):
        await runs.insert_one(planning | {"_id": ObjectId()} | other)


async def test_the_database_refuses_a_part_with_the_number_of_another(
    raw_run: dict[str, Any], real_mongo: MongoDatabase
) -> None:
    runs = real_mongo["accounting_runs"]
    part = raw_run | {"partOf": ObjectId(), "partNumber": 0}
    await runs.insert_one(part | {"_id": ObjectId()})

    with pytest.raises(DuplicateKeyError):
        await runs.insert_one(part | {"_id": ObjectId()})
    await runs.insert_one(part | {"_id": ObjectId(), "partNumber": 1})
    await runs.insert_one(part | {"_id": ObjectId(), "partOf": ObjectId()})
