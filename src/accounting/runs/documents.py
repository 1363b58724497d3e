"""A batch run as stored (spec section 3, `accounting_runs`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import Field

from accounting.actor import Actor, Role
from accounting.clock import after
from accounting.db.database import Session, Transaction
from accounting.db.document import BaseDocument, EmbeddedDocument, index, storage_alias
from accounting.db.fields import Count, Instant, Sha256Hex
from accounting.db.paging import Order, Page, Window, list_page
from accounting.ids import ANY_ID, ObjectId, new_id
from accounting.runs.rules import (
    CODE_LENGTH_MAX,
    LABEL_LENGTH_MAX,
    LEASE_SECONDS,
    PLANNED_LENGTH_MAX,
    REASON_LENGTH_MAX,
    RUN_ITEMS_MAX,
    ItemStatus,
    NewItem,
    Outcome,
    RunId,
    RunKind,
    RunNotFound,
    RunStatus,
    RunTakenOver,
)


class RunActor(EmbeddedDocument):
    """Who asked for the run, and from where, so that the audit trail names him and not `system`."""

    user_id: ObjectId
    role: Role
    ip_address: Annotated[str, Field(max_length=100)] | None = None
    user_agent: Annotated[str, Field(max_length=500)] | None = None
    request_id: Annotated[str, Field(max_length=100)] | None = None

    @classmethod
    def of(cls, actor: Actor) -> Self:
        return cls(**asdict(actor))

    def as_actor(self) -> Actor:
        return Actor(**dict(self))


class RunCounts(EmbeddedDocument):
    """How many items ended how; what is left of the total is pending."""

    total: Count
    done: Count = 0
    skipped: Count = 0
    failed: Count = 0

    @property
    def pending(self) -> int:
        return self.total - self.done - self.skipped - self.failed


class RunItem(EmbeddedDocument):
    """One piece of work and what became of it; its position in the list never changes."""

    id: ObjectId
    label: Annotated[str, Field(max_length=LABEL_LENGTH_MAX)] | None = None
    planned: Annotated[str, Field(max_length=PLANNED_LENGTH_MAX)] | None = None
    status: ItemStatus = ItemStatus.PENDING
    code: Annotated[str, Field(max_length=CODE_LENGTH_MAX)] | None = None
    reason: Annotated[str, Field(max_length=REASON_LENGTH_MAX)] | None = None
    result_id: ObjectId | None = None
    at: Instant | None = None

    @classmethod
    def of(cls, item: NewItem) -> Self:
        return cls(**asdict(item))

    @property
    def again(self) -> Self:
        """The same piece of work, not done yet."""
        return type(self)(id=self.id, label=self.label, planned=self.planned)


class AccountingRun(BaseDocument):
    """Many pieces of work under one id; the workers do them, one worker at a time.

    The items are embedded, so that results, counts and lease change in one guarded write, in the
    transaction of the items' own effects: none takes effect twice, whatever is delivered twice or
    killed. Each such write rewrites the document: some milliseconds with 1,000 items, and as many
    times that as there are thousands, hence the batches. Two transactions on one run exclude each
    other, hence the lease.

    Work that several workers share is a run without items of its own whose parts are runs (`parts`,
    `partOf`), each with its own lease; see `parts`. People see the whole only.

    Items that are only begun here and end elsewhere are told of later; see `following`.
    """

    kind: RunKind
    status: RunStatus = RunStatus.QUEUED
    requested_by: ObjectId
    # For whom the items are done: the one who started the run or last tried its failures again.
    actor: RunActor
    created_at: Instant
    started_at: Instant | None = None
    finished_at: Instant | None = None
    # The last sign of life, and who works on it until when.
    progress_at: Instant
    lease_id: ObjectId | None = None
    lease_until: Instant | None = None
    fruitless_slices: Count = 0
    # Every pending item is begun and ends elsewhere: nothing to do but to wait.
    is_followed: bool = False
    counts: RunCounts
    parameters: dict[str, Any] = {}
    # Of a run in parts: are all parts made yet, how many are, how many of them are over, and the
    # last id that was looked at for them.
    is_planning: bool = False
    parts: Count = 0
    parts_over: Count = 0
    looked_through: ObjectId | None = None
    # Of a part.
    part_of: ObjectId | None = None
    part_number: Count = 0
    # Of a plan, and of a run that carries one out: what it says, in short.
    plan_hash: Sha256Hex | None = None
    expires_at: Instant | None = None
    items: Annotated[list[RunItem], Field(max_length=RUN_ITEMS_MAX)] = []

    class Settings:
        name = "accounting_runs"
        indexes = [
            index("-createdAt", "-_id"),
            index("kind", "-createdAt", "-_id"),
            index("status", "-createdAt", "-_id"),
            index("partOf", "partNumber", unique=True, only_if={"partOf": ANY_ID}),
            index("planHash", only_if={"planHash": {"$gt": ""}}),
            # Two who ask for the same work at once: the second one finds the run of the first.
            index("kind", "requestedBy", "parameters", unique=True, only_if={"isPlanning": True}),
            index("expiresAt", expire_after_seconds=0),
        ]

    @classmethod
    def new(
        cls,
        tx: Transaction,
        kind: RunKind,
        items: Sequence[NewItem] = (),
        *,
        parameters: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> Self:
        """A run asked for by the actor of the transaction; not stored yet."""
        return cls(
            id=new_id(),
            kind=kind,
            requested_by=tx.actor.user_id,
            actor=RunActor.of(tx.actor),
            created_at=tx.now,
            progress_at=tx.now,
            counts=RunCounts(total=len(items)),
            parameters=dict(parameters or {}),
            items=[RunItem.of(item) for item in items],
            **fields,
        )

    @property
    def run_id(self) -> RunId:
        return RunId(self.id)

    @property
    def is_in_parts(self) -> bool:
        """Whether its work is that of its parts."""
        return self.is_planning or self.parts > 0

    def positions_to_do(self) -> list[int]:
        """Where in the list the items stand with which nobody has begun, in order."""
        return [
            at
            for at, item in enumerate(self.items)
            if item.status is ItemStatus.PENDING and item.result_id is None
        ]

    def positions_begun(self) -> dict[ObjectId, int]:
        """Where the items stand that are begun, by the document that tells how they end."""
        return {
            item.result_id: at
            for at, item in enumerate(self.items)
            if item.status is ItemStatus.PENDING and item.result_id is not None
        }

    async def record_outcomes(
        self, tx: Transaction, outcomes: Mapping[int, Outcome], *, lease_id: ObjectId | None
    ) -> None:
        """Store the results of pending items by position, count them and renew the lease.

        A PENDING outcome says that the item is begun. Raises RunTakenOver, and thereby undoes the
        transaction, when one of them has its result already or the lease is no longer this one.
        """
        guard: dict[str, object] = {f"items.{at}.status": ItemStatus.PENDING for at in outcomes}
        guard["leaseId"] = lease_id
        changes: dict[str, object] = {
            "progressAt": tx.now,
            "leaseUntil": after(tx.now, seconds=LEASE_SECONDS) if lease_id else None,
            "fruitlessSlices": 0,
        }
        counted: dict[str, int] = {}
        for at, outcome in outcomes.items():
            changes |= {
                f"items.{at}.{storage_alias(name)}": value
                for name, value in asdict(outcome).items()
            }
            if outcome.status is not ItemStatus.PENDING:
                changes[f"items.{at}.at"] = tx.now
                count = f"counts.{outcome.status.lower()}"
                counted[count] = counted.get(count, 0) + 1
        update = {"$set": changes} | ({"$inc": counted} if counted else {})
        updated = await self.get_motor_collection().update_one(
            {"_id": self.id, **guard}, update, session=tx.session
        )
        if not updated.matched_count:
            raise RunTakenOver(self.run_id)


async def get_run(run_id: RunId, *, session: Session | None = None) -> AccountingRun:
    """The run with its items. Raises RunNotFound."""
    run = await AccountingRun.find_one({"_id": run_id}, session=session)
    if run is None:
        raise RunNotFound(run_id)
    return run


async def find_unfinished(
    *,
    before: datetime | None,
    free_at: datetime,
    limit: int,
    part_of: RunId | None = None,
) -> list[RunId]:
    """Runs and parts to be done that nobody holds, oldest first.

    `before`: without progress since then; `part_of`: the parts of this run only.
    """
    query: dict[str, Any] = {
        "status": {"$in": [RunStatus.QUEUED, RunStatus.RUNNING]},
        "leaseUntil": {"$not": {"$gt": free_at}},
        # A run whose parts are all made waits for them, and is nothing to be done itself; so does
        # one whose items end elsewhere.
        "isFollowed": {"$ne": True},
        "$or": [{"isPlanning": True}, {"parts": {"$in": [0, None]}}],
    }
    if before is not None:
        query["progressAt"] = {"$lte": before}
    if part_of is not None:
        query["partOf"] = part_of
    found = AccountingRun.get_motor_collection().find(query, {"_id": 1})
    return [raw["_id"] async for raw in found.sort([("createdAt", 1), ("_id", 1)]).limit(limit)]


async def find_going(
    kind: RunKind,
    requested_by: ObjectId,
    parameters: Mapping[str, Any],
    *,
    session: Session | None = None,
) -> AccountingRun | None:
    """A run that somebody asked for with these very parameters and that is not over yet.

    Not one that carries out a plan: it does what was planned, and no more.
    """
    return await AccountingRun.find_one(
        {
            "status": {"$in": [RunStatus.QUEUED, RunStatus.RUNNING]},
            "kind": kind,
            "requestedBy": requested_by,
            "parameters": dict(parameters),
            "partOf": None,
            "planHash": None,
        },
        session=session,
    )


async def list_runs(
    window: Window,
    *,
    kinds: Sequence[RunKind] = (),
    statuses: Sequence[RunStatus] = (),
) -> Page[AccountingRun]:
    """Runs without their items and without the parts of others, newest first.

    Plans that nobody carried out are shown only when they are asked for.
    """
    query: dict[str, Any] = {"partOf": None}
    if kinds:
        query["kind"] = {"$in": list(kinds)}
    query["status"] = {"$in": list(statuses)} if statuses else {"$ne": RunStatus.PLANNED}
    return await list_page(AccountingRun, query, Order("createdAt"), window, without=("items",))
