"""Collections, validators and indexes on a server: apply what is planned (spec section 8).

Only our own collections are looked at or touched. Everything that could stand in the way is looked
for before anything is changed. No document is written or removed, except in our own record.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from pymongo import IndexModel
from pymongo.errors import CollectionInvalid, OperationFailure

from accounting.db.client import MongoDatabase
from accounting.db.comparison import (
    GUARD_SUFFIX,
    Change,
    ChangeKind,
    Present,
    find_differences,
    has_validator,
    read_present,
)
from accounting.db.indexing import (
    build_indexes,
    change_in_place,
    command_between_builds,
    drop_index,
    replace_index,
)
from accounting.db.manifest import (
    META,
    begin,
    confirm,
    finish,
    intend,
    record_found,
)
from accounting.db.obstacles import (
    DuplicatesCame,
    Obstacle,
    SetupObstructed,
    find_duplicates,
    is_duplicate,
    name_taken,
)
from accounting.db.planning import (
    NO_CHOICES,
    NOBODY,
    Choices,
    CollectionPlan,
    Watcher,
    plan_setup,
)
from accounting.db.schema import CollectionSpec
from accounting.db.turns import forget_silent, my_turn

_NAMESPACE_EXISTS: Final = 48

# Told whether an earlier `apply` was not finished.
BeforeChanges = Callable[[bool], Awaitable[None]]


async def is_set_up(database: MongoDatabase, specs: Sequence[CollectionSpec]) -> bool:
    """Whether every collection, validator and index is in place."""
    return not any(change.is_lack for change in await find_differences(database, specs))


async def apply_changes(
    database: MongoDatabase,
    specs: Sequence[CollectionSpec],
    *,
    choices: Choices = NO_CHOICES,
    watcher: Watcher = NOBODY,
    before_changes: BeforeChanges | None = None,
) -> list[Change]:
    """Do what `plan_setup` finds; returns what was done.

    Idempotent, safe to run twice at once, and where it was killed the next one finishes it.
    `before_changes` is awaited before the first change. Raises SetupObstructed before anything is
    changed; DuplicatesCame, TurnLost.
    """
    plan = await plan_setup(database, specs, choices, watcher)
    if plan.blocking:
        raise SetupObstructed(plan.blocking)
    if not plan.needed:
        return []
    watcher.on_plan(plan)
    is_resumed = await begin(database)
    if before_changes is not None:
        await before_changes(is_resumed)
    for planned in plan.collections:
        if planned.needed or not plan.manifest.is_finished:
            await _Work(database, planned, watcher).do()
    await forget_silent(database)
    await finish(database)
    return plan.needed


@dataclass(frozen=True, slots=True)
class _Work:
    """What is to be done to one collection."""

    database: MongoDatabase
    planned: CollectionPlan
    watcher: Watcher

    async def do(self) -> None:
        """Write down what is intended, do it, and confirm it."""
        spec, present = self.planned.spec, self.planned.present
        if present is not None:
            await self._record(present)
        elif spec.name != META:  # which is made first of all, to be written to
            await intend(self.database, spec, new_collection=True, indexes=self._index_names())
            await self._create()
        if self._of(ChangeKind.SET_VALIDATOR):
            await _set_validator(self.database, spec)
        await self._make_indexes()
        if spec.name != META:
            await confirm(self.database, spec)
        for change in self.planned.needed:
            self.watcher.on_done(change)

    async def _record(self, present: Present) -> None:
        for change in self._of(ChangeKind.RECORD_COLLECTION, ChangeKind.ADOPT_COLLECTION):
            is_ours = change.kind is ChangeKind.RECORD_COLLECTION
            await record_found(self.database, present, created_by_us=is_ours)
        names = self._index_names()
        await intend(self.database, self.planned.spec, new_collection=False, indexes=names)

    async def _create(self) -> None:
        spec = self.planned.spec
        try:
            await self.database.create_collection(spec.name, validator=spec.validator)
        except (CollectionInvalid, OperationFailure) as error:
            if getattr(error, "code", None) not in (None, _NAMESPACE_EXISTS):
                raise
            # Somebody has just made it: with this same command, if it has our validator.
            there = (await read_present(self.database, [spec.name])).get(spec.name)
            if there is not None and not has_validator(spec, there):
                documents = await self.database[spec.name].estimated_document_count()
                raise SetupObstructed([name_taken(there, documents)]) from error

    async def _make_indexes(self) -> None:
        if created := [
            change.index for change in self._of(ChangeKind.CREATE_INDEX) if change.index
        ]:
            await self._look_for_duplicates_if_refused(
                build_indexes(self.database, self._name, created, self._on_progress), created
            )
        for change in self._of(ChangeKind.CHANGE_INDEX, ChangeKind.REPLACE_INDEX):
            if change.index is not None:
                await self._look_for_duplicates_if_refused(
                    self._change(change.kind, change.index), [change.index]
                )
        if guards := self._of(ChangeKind.DROP_GUARD):
            await self._drop_guards(guards)

    async def _change(self, kind: ChangeKind, index: IndexModel) -> None:
        if kind is ChangeKind.CHANGE_INDEX and await change_in_place(
            self.database, self._name, index
        ):
            return
        async with my_turn(self.database, self._on_wait) as turn:
            # Another one may have done it while we waited.
            for left in await self._differences():
                if left.name == index.document["name"] and left.is_needed:
                    await replace_index(self.database, self._name, index, turn, self._on_progress)

    async def _drop_guards(self, guards: Iterable[Change]) -> None:
        async with my_turn(self.database, self._on_wait) as turn:
            unfinished = {left.name + GUARD_SUFFIX for left in await self._differences()}
            for guard in guards:
                if guard.name not in unfinished:
                    await turn.require()
                    await drop_index(self.database, self._name, guard.name)

    async def _differences(self) -> list[Change]:
        return await find_differences(self.database, [self.planned.spec])

    async def _look_for_duplicates_if_refused(
        self, work: Awaitable[None], indexes: Sequence[IndexModel]
    ) -> None:
        try:
            await work
        except OperationFailure as error:
            if is_duplicate(error):
                for index in indexes:
                    if found := await self._duplicates(index):
                        raise DuplicatesCame(found) from error
            raise

    async def _duplicates(self, index: IndexModel) -> Obstacle | None:
        if not index.document.get("unique"):
            return None
        return await find_duplicates(self.database, self._name, index, self.watcher.on_step)

    def _of(self, *kinds: ChangeKind) -> list[Change]:
        return [change for change in self.planned.changes if change.kind in kinds]

    def _index_names(self) -> list[str]:
        return [
            change.name for change in self._of(ChangeKind.CREATE_INDEX, ChangeKind.REPLACE_INDEX)
        ]

    @property
    def _name(self) -> str:
        return self.planned.spec.name

    def _on_progress(self, done: int, total: int) -> None:
        self.watcher.on_progress(f"building indexes of {self._name}", done, total)

    def _on_wait(self, host: str) -> None:
        self.watcher.on_step(f"waiting for another apply, on {host}")


async def _set_validator(database: MongoDatabase, spec: CollectionSpec) -> None:
    await command_between_builds(
        database,
        "collMod",
        spec.name,
        validator=spec.validator,
        validationLevel="strict",
        validationAction="error",
    )
