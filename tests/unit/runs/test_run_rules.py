"""Runs on paper: limits, progress, and whether the longest run still fits into one document."""

from __future__ import annotations

from datetime import timedelta

import bson
import pytest

from accounting.errors import Invalid
from accounting.ids import ObjectId, new_id
from accounting.runs.rules import (
    CODE_LENGTH_MAX,
    LABEL_LENGTH_MAX,
    PLANNED_LENGTH_MAX,
    REASON_LENGTH_MAX,
    RUN_ITEMS_MAX,
    ItemStatus,
    NewItem,
    check_item_count,
    duration_seconds,
    failed,
    percent_finished,
)
from builders import NOW

DOCUMENT_BYTES_MAX = 16 * 1024 * 1024


@pytest.mark.parametrize(("count", "most"), [(1, 1), (3, 3), (RUN_ITEMS_MAX, RUN_ITEMS_MAX)])
def test_a_run_has_items_up_to_its_limit(count: int, most: int) -> None:
    check_item_count([NewItem(new_id())] * count, most)


@pytest.mark.parametrize(("count", "most"), [(0, 1), (4, 3), (RUN_ITEMS_MAX + 1, RUN_ITEMS_MAX)])
def test_a_run_of_nothing_or_of_too_much_is_refused(count: int, most: int) -> None:
    with pytest.raises(Invalid, match=f"1 to {most} items, not {count}"):
        check_item_count([NewItem(new_id())] * count, most)


def test_the_longest_run_fits_into_one_document() -> None:
    item = {
        "id": ObjectId(),
        "label": "\N{GRINNING FACE}" * LABEL_LENGTH_MAX,
        "planned": "\N{GRINNING FACE}" * PLANNED_LENGTH_MAX,
        "status": "SKIPPED",
        "code": "x" * CODE_LENGTH_MAX,
        "reason": "\N{GRINNING FACE}" * REASON_LENGTH_MAX,
        "resultId": ObjectId(),
        "at": NOW,
    }

    longest = bson.encode({"items": [item] * RUN_ITEMS_MAX})

    assert len(longest) < DOCUMENT_BYTES_MAX - 4_096


def test_code_and_reason_are_cut_to_their_limits() -> None:
    outcome = failed("c" * 500, "r" * 5_000)

    assert outcome.status is ItemStatus.FAILED
    assert outcome.code == "c" * CODE_LENGTH_MAX
    assert outcome.reason == "r" * REASON_LENGTH_MAX


@pytest.mark.parametrize(
    ("total", "pending", "percent"),
    [(1, 1, 0), (1, 0, 100), (3, 1, 66), (1_000, 1, 99), (10_000, 9_999, 0)],
)
def test_progress_is_a_hundred_only_when_nothing_is_left(
    total: int, pending: int, percent: int
) -> None:
    assert percent_finished(total, pending) == percent


@pytest.mark.parametrize(
    ("total", "pending", "is_planning", "percent"),
    [
        (0, 0, True, 0),  # it has not found its work yet
        (0, 0, False, 100),  # there was none
        (500, 0, True, 99),  # what was found is done, and more may come
        (500, 250, True, 50),
        (500, 0, False, 100),
    ],
)
def test_a_run_that_looks_for_its_work_has_something_left(
    total: int, pending: int, is_planning: bool, percent: int
) -> None:
    assert percent_finished(total, pending, is_planning=is_planning) == percent


def test_the_duration_runs_from_the_start_to_the_end_or_until_now() -> None:
    later, end = NOW + timedelta(seconds=90), NOW + timedelta(seconds=12.3456)

    assert duration_seconds(None, None, later) is None
    assert duration_seconds(NOW, None, later) == 90.0
    assert duration_seconds(NOW, end, later) == 12.346
