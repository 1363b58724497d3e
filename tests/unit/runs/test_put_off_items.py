"""Items that others hold for longer than a transaction waits: they and what follows them wait."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from accounting.db.database import TooBusy, Transaction
from accounting.ids import ObjectId, new_id
from accounting.runs.documents import AccountingRun, RunItem
from accounting.runs.rules import (
    DONE,
    PUT_OFF_ITEMS_MAX,
    ItemStatus,
    NewItem,
    Outcome,
    RunKind,
    RunStatus,
)
from accounting.runs.service import Work, execute_slice, start_run
from builders import ADMIN
from fakes import TestDatabase


@dataclass
class Templates:
    """Work of which a name is held by others for the first slice; "a1" is the first about `a`."""

    db: TestDatabase
    held: set[str]
    batch_items: int = 20
    ids: dict[str, ObjectId] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)

    async def start(self, *labels: str) -> AccountingRun:
        items = [NewItem(self.ids.setdefault(label[0], new_id()), label) for label in labels]
        return await self.db.run(ADMIN, start_run, RunKind.BULK_ISSUE, items)

    async def do(self, run: AccountingRun) -> AccountingRun:
        work = {RunKind.BULK_ISSUE: Work(self._act, batch_items=self.batch_items)}
        after = await execute_slice(self.db, run.run_id, work)
        assert after is not None
        return after

    async def _act(
        self, tx: Transaction, run: AccountingRun, items: Sequence[RunItem]
    ) -> list[Outcome]:
        labels = [item.label or "" for item in items]
        if held := self.held.intersection(labels):
            if len(items) == 1:  # they let go right after the patience with it has ended
                self.held -= held
            raise TooBusy
        self.done += labels
        return [DONE] * len(items)


@pytest.mark.parametrize("batch_items", [1, 2, 3, 20])
async def test_what_is_about_the_same_waits_with_an_item_that_is_put_off(
    db: TestDatabase, batch_items: int
) -> None:
    work = Templates(db, held={"b1"}, batch_items=batch_items)
    run = await work.start("a1", "b1", "b2", "b3", "c1")

    first = await work.do(run)
    assert [item.label for item in first.items if item.status is ItemStatus.DONE] == ["a1", "c1"]

    ended = await work.do(run)
    assert ended.status is RunStatus.DONE
    assert work.done == ["a1", "c1", "b1", "b2", "b3"]


async def test_so_does_what_is_about_an_item_that_was_left_untried(db: TestDatabase) -> None:
    busy = [f"{letter}1" for letter in "abcdefgh"[:PUT_OFF_ITEMS_MAX]]
    work = Templates(db, held=set(busy), batch_items=PUT_OFF_ITEMS_MAX + 1)
    run = await work.start(*busy, "x1", "x2", "y1")

    await work.do(run)
    assert work.done == ["y1"]

    await work.do(run)
    assert work.done == ["y1", *busy, "x1", "x2"]
