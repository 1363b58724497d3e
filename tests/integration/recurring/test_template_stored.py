"""What really lies in `recurring_invoices` after a run, and what the database itself refuses."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from bson import Decimal128, ObjectId
from pymongo.errors import WriteError

from accounting.db.client import MongoDatabase
from builders import ADMIN, NOW, TODAY, a_template
from fakes import FakePlatform, TestDatabase
from generating import a_miner_owner, generate_on, services_of

DAY_5 = datetime(2026, 1, 5, tzinfo=UTC)


@pytest.fixture
async def raw_template(
    real_db: TestDatabase, real_mongo: MongoDatabase, platform: FakePlatform
) -> dict[str, Any]:
    """One that has generated; read without our codec."""
    await a_template(real_db, platform, a_miner_owner(platform), unit_price=Decimal("45.50"))
    await generate_on(services_of(real_db, platform), TODAY)
    raw = await real_mongo.client[real_mongo.name]["recurring_invoices"].find_one()
    assert raw is not None
    return dict(raw)


async def test_a_template_is_stored_with_exactly_its_fields(raw_template: dict[str, Any]) -> None:
    own = {name: raw_template.pop(name) for name in ("_id", "userId", "updatedBy")}

    assert all(isinstance(value, ObjectId) for value in own.values())
    assert raw_template == {
        "dayOfMonth": 5,
        "unitPrice": Decimal128("45.50"),
        "startDate": datetime(2026, 1, 1, tzinfo=UTC),
        "endDate": None,
        "isActive": True,
        "autoIssue": False,
        "lastGeneratedDate": DAY_5,
        "lastSkippedDate": None,
        "failedRuns": 0,
        "lastFailedRunId": None,
        "parkedReason": None,
        "createdBy": ADMIN.user_id,
        "createdAt": NOW,
        "updatedAt": NOW,
        "version": 2,
    }


@pytest.mark.parametrize(
    "change",
    [
        {"dayOfMonth": 0},
        {"dayOfMonth": 29},
        {"unitPrice": Decimal128("0.00")},
        {"unitPrice": 45.5},
        {"lastGeneratedDate": "2026-01-05"},
        {"lastSkippedDate": "2026-01-05"},
        {"failedRuns": -1},
        {"failedRuns": None},
        {"lastFailedRunId": "a" * 24},
        {"parkedReason": "r" * 2_001},
        {"isActive": None},
        {"more": 1},
    ],
)
async def test_the_database_refuses_a_wrong_value(
    raw_template: dict[str, Any], real_mongo: MongoDatabase, change: dict[str, object]
) -> None:
    templates = real_mongo.client[real_mongo.name]["recurring_invoices"]

    with pytest.raises(WriteError, match="failed validation"):
        await templates.insert_one(raw_template | {"_id": ObjectId()} | change)
    await templates.insert_one(raw_template | {"_id": ObjectId()})
