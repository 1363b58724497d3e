"""The look-ups of generation read an index: a partial one serves what implies its condition."""

from __future__ import annotations

from typing import Any

import pytest

from accounting.db.client import MongoDatabase
from accounting.ids import new_id

TEMPLATES = [new_id() for _ in range(3)]


OF_TEMPLATE = "recurringInvoiceId_1_billingPeriod_1"
OF_WHOLE = "partOf_1_partNumber_1"


@pytest.mark.parametrize(
    ("collection", "index", "query"),
    [
        (
            "invoices",
            OF_TEMPLATE,
            {"recurringInvoiceId": TEMPLATES[0], "billingPeriod": "2026-01"},
        ),
        (
            "invoices",
            OF_TEMPLATE,
            {
                "recurringInvoiceId": {"$in": TEMPLATES},
                "billingPeriod": {"$in": ["2026-01", "2026-02"]},
            },
        ),
        ("accounting_runs", OF_WHOLE, {"partOf": TEMPLATES[0]}),
        ("accounting_runs", OF_WHOLE, {"partOf": {"$in": TEMPLATES}}),
        ("accounting_runs", "planHash_1", {"planHash": "a" * 64, "kind": "GENERATE"}),
    ],
)
async def test_the_planner_can_use_the_partial_index(
    real_mongo: MongoDatabase, collection: str, index: str, query: dict[str, Any]
) -> None:
    plans = str((await real_mongo[collection].find(query).explain())["queryPlanner"])

    assert "COLLSCAN" not in plans
    assert index in plans
