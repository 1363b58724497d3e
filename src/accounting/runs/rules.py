"""What is true of a batch run on paper: kinds, results, limits (spec sections 3 and 5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, TypeAlias

from accounting.errors import Conflict, Invalid, NotFound
from accounting.ids import ObjectId

RunId: TypeAlias = ObjectId

EXECUTE_JOB: Final = "runs.execute"

# What a request may name: at 27 bytes an id it stays far below the limit of a request body, and a
# run of it is over within seconds.
BULK_ITEMS_MAX: Final = 1_000
# With the lengths below, the longest items of four-byte characters stay under MongoDB's limit of
# 16 MiB a document.
RUN_ITEMS_MAX: Final = 8_000
LABEL_LENGTH_MAX: Final = 40
PLANNED_LENGTH_MAX: Final = 80
CODE_LENGTH_MAX: Final = 60
REASON_LENGTH_MAX: Final = 300

# Work that is found by the run itself is cut into parts of about so many items, each a document and
# a lease of its own, so that several workers share it: what one killed worker holds up is small.
PART_ITEMS: Final = 500
# A plan can be carried out for a day; then it says too little about the present.
PLAN_KEPT_SECONDS: Final = 24 * 3_600

# So many items share a transaction, as long as none of them breaks a rule: its commit and the write
# of the run cost about as much as an item.
BATCH_ITEMS_MAX: Final = 20
# One task does so much of a run and queues the rest: far below Celery's time limit of 300 seconds,
# and e-mails get their turn in between.
SLICE_ITEMS_MAX: Final = 200
SLICE_SECONDS_MAX: Final = 60
# An item takes milliseconds and renews the lease; a worker silent for so long is taken for dead.
LEASE_SECONDS: Final = 30
# A run that nobody holds and that has not moved for so long has lost its queue message.
STALLED_AFTER_SECONDS: Final = 30
# Each item that others hold costs the patience of a transaction, and so a third of the lease: after
# so many the rest of the batch is left to a later slice.
PUT_OFF_ITEMS_MAX: Final = 2
# So many slices in a row ended without a single result, be it that the worker died or that other
# writers were in the way: then the next item itself is to blame. Together they last longer than
# the server keeps the transaction of a client that died (measured: 89 s).
FRUITLESS_SLICES_MAX: Final = 5

UNEXPECTED_CODE: Final = "internal_error"
NO_RESULT_CODE: Final = "no_result"


class RunKind(StrEnum):
    """What a run does with each of its items."""

    BULK_ISSUE = "BULK_ISSUE"
    BULK_SEND_EMAIL = "BULK_SEND_EMAIL"
    GENERATE = "GENERATE"
    INTEGRITY = "INTEGRITY"


class RunStatus(StrEnum):
    """How far a run has come; DONE also with failed items, which its counts tell.

    PLANNED is a dry run: its items say what would be done, and nothing is until it is asked for.
    """

    PLANNED = "PLANNED"
    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    DONE = "DONE"


class ItemStatus(StrEnum):
    """What became of an item; SKIPPED means that there was nothing to do for it."""

    PENDING = "PENDING"
    DONE = "DONE"
    SKIPPED = "SKIPPED"
    FAILED = "FAILED"


class RunNotFound(NotFound):
    """No run with this id."""

    def __init__(self, run_id: RunId) -> None:
        super().__init__(f"There is no run {run_id}.", runId=str(run_id))


class RunStillRunning(Conflict):
    """Failed items can be tried again only once the run has ended."""

    def __init__(self, run_id: RunId, status: RunStatus) -> None:
        super().__init__(
            f"Run {run_id} is {status}; its failed items can be tried again when it is DONE.",
            runId=str(run_id),
            runStatus=status.value,
        )


class NothingFailed(Conflict):
    """The run has no failed item to try again."""

    def __init__(self, run_id: RunId) -> None:
        super().__init__(f"Run {run_id} has no failed items to try again.", runId=str(run_id))


class RunTakenOver(Conflict):
    """This worker no longer holds the run, or the item has its result already."""

    def __init__(self, run_id: RunId) -> None:
        super().__init__(f"Run {run_id} is held by another worker.", runId=str(run_id))


@dataclass(frozen=True, slots=True)
class NewItem:
    """A piece of work: the id of what it is about, and how people call that.

    `planned` says in canonical words what is to be done, where that was agreed on beforehand.
    """

    id: ObjectId
    label: str | None = None
    planned: str | None = None


@dataclass(frozen=True, slots=True)
class NewPart:
    """A part of a run's work, and the last id that was looked at to find it."""

    items: Sequence[NewItem]
    looked_through: ObjectId | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one item; a failure and a skip say why, for programs and for people.

    `result_id` is the document that it made.
    """

    status: ItemStatus
    code: str | None = None
    reason: str | None = None
    result_id: ObjectId | None = None


DONE: Final = Outcome(ItemStatus.DONE)


def begun(result_id: ObjectId) -> Outcome:
    """It was begun, and this document tells how it ends; see `following`."""
    return Outcome(ItemStatus.PENDING, result_id=result_id)


def made(code: str, reason: str, result_id: ObjectId) -> Outcome:
    """It was done, and this is what came of it."""
    return Outcome(ItemStatus.DONE, code[:CODE_LENGTH_MAX], reason[:REASON_LENGTH_MAX], result_id)


def skipped(code: str, reason: str) -> Outcome:
    """There was nothing to do, and trying again would not change that."""
    return Outcome(ItemStatus.SKIPPED, code[:CODE_LENGTH_MAX], reason[:REASON_LENGTH_MAX])


def failed(code: str, reason: str) -> Outcome:
    """It was not done; trying again may help."""
    return Outcome(ItemStatus.FAILED, code[:CODE_LENGTH_MAX], reason[:REASON_LENGTH_MAX])


def check_item_count(items: Sequence[NewItem], most: int = RUN_ITEMS_MAX) -> None:
    """Raises Invalid for a run of nothing, or of more than `most` items."""
    if not 1 <= len(items) <= most:
        raise Invalid(f"A run has 1 to {most} items, not {len(items)}.")


def duration_seconds(
    started_at: datetime | None, finished_at: datetime | None, now: datetime
) -> float | None:
    """How long the run took, or takes so far; None before a worker took it."""
    if started_at is None:
        return None
    return round(((finished_at or now) - started_at).total_seconds(), 3)


def percent_finished(total: int, pending: int, *, is_planning: bool = False) -> int:
    """Finished items of a hundred, rounded down, so that 100 means that nothing is left.

    A run that is still looking for its work has something left; one that found none has nothing.
    """
    if not total:
        return 0 if is_planning else 100
    percent = (total - pending) * 100 // total
    return min(percent, 99) if is_planning else percent
