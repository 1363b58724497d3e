"""Runs that find their work themselves and cut it into parts; in memory and on the real server."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import pytest

from accounting.actor import Actor, Role
from accounting.db.database import Job, Transaction
from accounting.db.document import DocumentChanged
from accounting.db.paging import Window
from accounting.ids import ObjectId, new_id
from accounting.runs.documents import AccountingRun, RunItem, get_run, list_runs
from accounting.runs.parts import (
    add_part,
    list_items,
    list_to_do,
    start_in_parts,
    store_plan,
    with_progress,
)
from accounting.runs.rules import (
    DONE,
    EXECUTE_JOB,
    LEASE_SECONDS,
    SLICE_SECONDS_MAX,
    STALLED_AFTER_SECONDS,
    ItemStatus,
    NewItem,
    NewPart,
    Outcome,
    RunKind,
    RunNotFound,
    RunStatus,
    RunStillRunning,
    failed,
    skipped,
)
from accounting.runs.service import (
    Work,
    claim_run,
    execute_slice,
    list_free,
    list_stalled,
    retry_failed,
)
from builders import ADMIN, NOW
from fakes import JobList, SettableClock, TestDatabase

PARAMETERS = {"asOf": "2026-01-12"}
IDS = [new_id() for _ in range(9)]  # ascending


class Killed(BaseException):
    """What no `except Exception` catches."""


@dataclass
class Parts:
    """Work in three parts of three items, and what befalls its workers."""

    db: TestDatabase
    clock: SettableClock
    labels: dict[ObjectId, str] = field(default_factory=dict)
    found: int = 3
    killed_after: int | None = None
    seconds_each: float = 0
    done: list[ObjectId] = field(default_factory=list)
    actors: list[Actor] = field(default_factory=list)

    async def find(self, run: AccountingRun) -> AsyncIterator[NewPart]:
        rest = [part for part in range(self.found) if self._is_new(run, part)]
        for number, part in enumerate(rest):
            if number == self.killed_after:
                self.killed_after = None
                raise Killed
            ids = IDS[part * 3 : part * 3 + 3]
            self.clock.move(seconds=self.seconds_each)
            yield NewPart([NewItem(item_id, self.labels.get(item_id)) for item_id in ids], ids[-1])

    def _is_new(self, run: AccountingRun, part: int) -> bool:
        return run.looked_through is None or IDS[part * 3] > run.looked_through

    async def act(
        self, tx: Transaction, run: AccountingRun, items: Sequence[RunItem]
    ) -> list[Outcome]:
        self.done += [item.id for item in items]
        self.actors.append(tx.actor)
        return [self._outcome(item) for item in items]

    def _outcome(self, item: RunItem) -> Outcome:
        match self.labels.get(item.id):
            case "fail":
                return failed("it_failed", "It failed.")
            case "skip":
                return skipped("nothing_to_do", "There was nothing to do.")
        return DONE

    async def start(self) -> AccountingRun:
        return await self.db.run(ADMIN, start_in_parts, RunKind.GENERATE, parameters=PARAMETERS)

    async def work(self, run_id: object) -> AccountingRun | None:
        work = Work(self.act, find_parts=self.find)
        return await execute_slice(self.db, ObjectId(str(run_id)), {RunKind.GENERATE: work})

    async def planned(self) -> tuple[AccountingRun, list[AccountingRun]]:
        """A run whose parts are all made, and they."""
        run = await self.start()
        await self.work(run.id)
        return await get_run(run.run_id), await parts_of(run)

    async def ended(self) -> tuple[AccountingRun, list[AccountingRun]]:
        run, parts = await self.planned()
        for part in parts:
            await self.work(part.id)
        return await get_run(run.run_id), await parts_of(run)


@pytest.fixture
def parts(db: TestDatabase, clock: SettableClock) -> Parts:
    return Parts(db, clock)


async def parts_of(run: AccountingRun) -> list[AccountingRun]:
    return await AccountingRun.find({"partOf": run.id}).sort("partNumber").to_list()


async def progress_of(run: AccountingRun) -> tuple[RunStatus, int, int]:
    """Status, finished and total as people see them."""
    [shown] = await with_progress([await get_run(run.run_id)])
    return shown.status, shown.counts.total - shown.counts.pending, shown.counts.total


async def test_a_run_is_cut_into_parts_each_queued_by_itself(parts: Parts, jobs: JobList) -> None:
    run = await parts.start()
    asked_for = list(jobs.sent)

    planned = await parts.work(run.id)

    made = await parts_of(run)
    assert asked_for == [Job(EXECUTE_JOB, (str(run.id),))]
    assert jobs.sent[1:] == [Job(EXECUTE_JOB, (str(part.id),)) for part in made]
    assert [(part.part_number, [item.id for item in part.items]) for part in made] == [
        (0, IDS[:3]),
        (1, IDS[3:6]),
        (2, IDS[6:]),
    ]
    assert all(part.actor.as_actor() == ADMIN and part.kind == run.kind for part in made)
    assert all(part.parameters == PARAMETERS for part in made)
    assert planned is not None
    assert (planned.status, planned.is_planning, planned.parts) == (RunStatus.RUNNING, False, 3)
    assert (planned.items, planned.lease_id, planned.looked_through) == ([], None, IDS[-1])


async def test_the_last_part_ends_the_whole(parts: Parts, clock: SettableClock) -> None:
    parts.labels = {IDS[0]: "fail", IDS[4]: "skip"}
    run, made = await parts.planned()
    seen = [await progress_of(run)]
    for part in reversed(made):
        clock.move(seconds=1)
        await parts.work(part.id)
        seen.append(await progress_of(run))

    ended = await get_run(run.run_id)
    assert seen == [
        (RunStatus.RUNNING, 0, 9),
        (RunStatus.RUNNING, 3, 9),
        (RunStatus.RUNNING, 6, 9),
        (RunStatus.DONE, 9, 9),
    ]
    counts = ended.counts
    assert (counts.done, counts.failed, counts.skipped) == (7, 1, 1)
    assert (ended.started_at, ended.finished_at) == (NOW, clock.now)
    assert sorted(parts.done) == IDS
    assert set(parts.actors) == {ADMIN}


async def test_a_run_that_finds_nothing_is_done(parts: Parts, jobs: JobList) -> None:
    parts.found = 0

    run, made = await parts.planned()

    assert (run.status, run.counts.total, made) == (RunStatus.DONE, 0, [])
    assert run.finished_at is not None
    assert len(jobs.sent) == 1
    assert await parts.work(run.id) is None


async def test_parts_that_end_before_the_planning_do_not_end_the_whole(parts: Parts) -> None:
    run = await parts.start()
    parts.killed_after = 1
    with contextlib.suppress(Killed):
        await parts.work(run.id)
    [first] = await parts_of(run)
    await parts.work(first.id)
    between = await progress_of(run)
    parts.clock.move(seconds=LEASE_SECONDS)
    parts.found = 1  # what was left to find is gone

    ended = await parts.work(run.id)

    assert between == (RunStatus.RUNNING, 3, 3)
    assert ended is not None
    assert (ended.status, ended.counts.done) == (RunStatus.DONE, 3)


@pytest.mark.parametrize("parts_made", [0, 1, 2])
async def test_a_planner_that_was_killed_is_followed_by_one_that_goes_on(
    parts: Parts, parts_made: int
) -> None:
    run = await parts.start()
    parts.killed_after = parts_made
    with contextlib.suppress(Killed):
        await parts.work(run.id)

    early = await parts.work(run.id)
    parts.clock.move(seconds=STALLED_AFTER_SECONDS)
    stalled = await list_stalled(parts.db, limit=10)
    await parts.work(run.id)

    made = await parts_of(run)
    assert early is None, "its lease is not over"
    assert stalled[0] == run.id
    assert [item.id for part in made for item in part.items] == IDS
    assert [part.part_number for part in made] == [0, 1, 2]
    for part in made:
        await parts.work(part.id)
    assert await progress_of(run) == (RunStatus.DONE, 9, 9)
    assert sorted(parts.done) == IDS


async def test_a_planner_that_was_overtaken_makes_no_more_parts(
    parts: Parts, clock: SettableClock
) -> None:
    run = await parts.start()
    slow, quick = parts, Parts(parts.db, clock)

    async def overtaken(run: AccountingRun) -> AsyncIterator[NewPart]:
        first = True
        async for part in slow.find(run):
            if not first:
                clock.move(seconds=LEASE_SECONDS)
                await quick.work(run.id)
            first = False
            yield part

    work = Work(slow.act, find_parts=overtaken)
    left = await execute_slice(parts.db, run.run_id, {RunKind.GENERATE: work})

    assert left is None
    assert [item.id for part in await parts_of(run) for item in part.items] == IDS


async def test_planning_that_takes_long_is_done_in_slices(parts: Parts, jobs: JobList) -> None:
    parts.seconds_each = SLICE_SECONDS_MAX / 2
    run = await parts.start()

    first = await parts.work(run.id)
    assert first is not None
    assert (first.is_planning, first.parts, first.lease_id) == (True, 2, None)
    assert jobs.sent.count(Job(EXECUTE_JOB, (str(run.id),))) == 2
    await parts.work(run.id)

    assert len(await parts_of(run)) == 3
    assert not (await get_run(run.run_id)).is_planning


async def test_a_part_of_nothing_says_only_how_far_was_looked(parts: Parts, jobs: JobList) -> None:
    run = await parts.start()
    claimed = await parts.db.run(ADMIN, claim_run, run.run_id)
    assert claimed is not None

    await parts.db.run(ADMIN, add_part, claimed, NewPart([], IDS[4]))

    stored = await get_run(run.run_id)
    assert (stored.parts, stored.looked_through) == (0, IDS[4])
    assert (len(jobs.sent), await parts_of(run)) == (1, [])
    stranger = claimed.model_copy(update={"lease_id": new_id()})
    with pytest.raises(DocumentChanged):
        await parts.db.run(ADMIN, add_part, stranger, NewPart([], IDS[5]))


async def test_the_whole_is_not_worked_on_once_its_parts_are_made(parts: Parts) -> None:
    run, made = await parts.planned()

    assert await parts.work(run.id) is None
    assert await parts.db.run(ADMIN, claim_run, run.run_id) is None
    assert await list_free(parts.db, limit=10) == [part.id for part in made]
    parts.clock.move(seconds=STALLED_AFTER_SECONDS)
    assert await list_stalled(parts.db, limit=10) == [part.id for part in made]


async def test_what_is_to_be_done_of_a_run(parts: Parts, clock: SettableClock) -> None:
    run = await parts.start()
    other = Parts(parts.db, clock)
    assert await list_to_do(run, clock.now, limit=10) == [run.id]
    await parts.work(run.id)
    await other.db.run(ADMIN, start_in_parts, RunKind.GENERATE, parameters={"asOf": "2026-01-13"})
    run, made = await get_run(run.run_id), await parts_of(run)

    await parts.db.run(ADMIN, claim_run, made[0].run_id)

    assert await list_to_do(run, clock.now, limit=10) == [made[1].id, made[2].id]
    assert await list_to_do(run, clock.now, limit=1) == [made[1].id]


async def test_the_failures_of_two_parts_are_tried_again(parts: Parts, jobs: JobList) -> None:
    parts.labels = {IDS[0]: "fail", IDS[7]: "fail", IDS[8]: "skip"}
    run, _ = await parts.ended()
    before, parts.labels, parts.done, parts.actors = len(jobs.sent), {}, [], []
    other = Actor(user_id=new_id(), role=Role.SUPER_ADMIN)

    queued = await parts.db.run(other, retry_failed, run.run_id)

    made = await parts_of(run)
    assert (queued.status, queued.finished_at, queued.parts_over) == (RunStatus.RUNNING, None, 1)
    assert [part.status for part in made] == ["QUEUED", "DONE", "QUEUED"]
    assert jobs.sent[before:] == [Job(EXECUTE_JOB, (str(made[at].id),)) for at in (0, 2)]
    assert await progress_of(run) == (RunStatus.RUNNING, 7, 9)
    with pytest.raises(RunStillRunning):
        await parts.db.run(other, retry_failed, run.run_id)

    await parts.work(made[0].id)
    assert await progress_of(run) == (RunStatus.RUNNING, 8, 9)
    await parts.work(made[2].id)

    ended = await get_run(run.run_id)
    assert (ended.status, ended.counts.done, ended.counts.skipped) == (RunStatus.DONE, 8, 1)
    assert ended.counts.failed == 0
    assert parts.done == [IDS[0], IDS[7]]
    assert set(parts.actors) == {other}
    assert ended.requested_by == ADMIN.user_id


async def test_a_part_is_not_tried_again_by_itself(parts: Parts) -> None:
    parts.labels = {IDS[0]: "fail"}
    _, made = await parts.ended()

    with pytest.raises(RunNotFound):
        await parts.db.run(ADMIN, retry_failed, made[0].run_id)


async def test_the_items_of_all_parts_are_one_list(parts: Parts) -> None:
    parts.labels = {IDS[0]: "fail", IDS[4]: "skip", IDS[7]: "fail"}
    run, _ = await parts.ended()

    async def ids(
        *statuses: ItemStatus, page: int = 1, limit: int = 100
    ) -> tuple[list[ObjectId], int]:
        items, total = await list_items(run, statuses, page=page, limit=limit)
        return [item.id for item in items], total

    assert await ids() == (IDS, 9)
    assert await ids(page=2, limit=4) == (IDS[4:8], 9)
    assert await ids(page=3, limit=4) == (IDS[8:], 9)
    assert await ids(page=4, limit=4) == ([], 9)
    assert await ids(ItemStatus.FAILED) == ([IDS[0], IDS[7]], 2)
    assert await ids(ItemStatus.FAILED, page=2, limit=1) == ([IDS[7]], 2)
    assert await ids(ItemStatus.FAILED, ItemStatus.SKIPPED) == ([IDS[0], IDS[4], IDS[7]], 3)
    assert await ids(ItemStatus.PENDING) == ([], 0)


async def test_lists_show_whole_runs_and_plans_when_they_are_asked_for(parts: Parts) -> None:
    run, _ = await parts.planned()
    items = [NewPart([NewItem(IDS[0], "2026-01", "as planned")])]
    plan = await parts.db.run(
        ADMIN, store_plan, RunKind.GENERATE, items, plan_hash="a" * 64, parameters=PARAMETERS
    )

    async def listed(*statuses: RunStatus) -> list[object]:
        page = await list_runs(Window(), statuses=statuses)
        return [found.id for found in page.items]

    assert await listed() == [run.id]
    assert await listed(RunStatus.RUNNING) == [run.id]
    assert await listed(RunStatus.QUEUED) == [], "its parts are queued, and they are not shown"
    assert await listed(RunStatus.PLANNED) == [plan.id]
