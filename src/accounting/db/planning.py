"""What the setup would do, and what stands in its way (section 8); reads only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from accounting.db.client import MongoDatabase
from accounting.db.comparison import (
    Change,
    ChangeKind,
    Present,
    differences_of,
    has_validator,
    read_present,
)
from accounting.db.manifest import (
    META,
    META_SPEC,
    Manifest,
    RecordedCollection,
    is_record,
    read_manifest,
)
from accounting.db.obstacles import (
    Obstacle,
    find_duplicates,
    find_refused,
    index_under_another_name,
    name_taken,
    record_taken,
    unusual_kind,
)
from accounting.db.schema import CollectionSpec

_BUILT: Final = (ChangeKind.CREATE_INDEX, ChangeKind.CHANGE_INDEX, ChangeKind.REPLACE_INDEX)


@dataclass(frozen=True, slots=True)
class Choices:
    """What an operator has decided on obstacles that `plan` has shown him."""

    adopted: frozenset[str] = frozenset()
    keep_refused: bool = False


@dataclass(frozen=True, slots=True)
class Watcher:
    """Who is told how far it is; nobody unless given."""

    # What will be done, before anything is.
    on_plan: Callable[[SetupPlan], None] = lambda plan: None
    on_done: Callable[[Change], None] = lambda change: None
    # How far a long step is: its name, how much of it is done, how much it is.
    on_progress: Callable[[str, int, int], None] = lambda name, done, total: None
    # Something begins that takes its time, and nobody knows how long.
    on_step: Callable[[str], None] = lambda name: None


NO_CHOICES: Final = Choices()
NOBODY: Final = Watcher()


@dataclass(frozen=True, slots=True)
class CollectionPlan:
    """One collection: what is there, what would be done, and what stands in the way."""

    spec: CollectionSpec
    present: Present | None
    documents: int
    recorded: RecordedCollection | None
    changes: tuple[Change, ...]
    obstacles: tuple[Obstacle, ...] = ()

    @property
    def is_record(self) -> bool:
        """Whether this is the setup's own record."""
        return self.spec.name == META

    @property
    def needed(self) -> list[Change]:
        """What `apply` would do, without what it leaves alone."""
        return [change for change in self.changes if change.is_needed]


@dataclass(frozen=True, slots=True)
class SetupPlan:
    """What `apply` would do, collection by collection."""

    database: str
    manifest: Manifest
    collections: tuple[CollectionPlan, ...]

    @property
    def changes(self) -> list[Change]:
        """Everything that would be done, or is noted, in its order."""
        return [change for found in self.collections for change in found.changes]

    @property
    def needed(self) -> list[Change]:
        """What `apply` would do."""
        return [change for change in self.changes if change.is_needed]

    @property
    def blocking(self) -> list[Obstacle]:
        """What an operator has to do or decide something about first."""
        obstacles = [obstacle for found in self.collections for obstacle in found.obstacles]
        return [obstacle for obstacle in obstacles if obstacle.is_blocking]


async def plan_setup(
    database: MongoDatabase,
    specs: Sequence[CollectionSpec],
    choices: Choices = NO_CHOICES,
    watcher: Watcher = NOBODY,
) -> SetupPlan:
    """Everything that differs from the specification now, and what stands in the way; reads only.

    Documents are read where a validator or a unique index is to come onto existing ones.
    """
    planning = _Planning(
        database,
        await read_manifest(database),
        await read_present(database, [META, *(spec.name for spec in specs)]),
        choices,
        watcher,
    )
    planned = [await planning.record()]
    planned += [await planning.collection(spec) for spec in specs]
    return SetupPlan(database.name, planning.manifest, tuple(planned))


@dataclass(frozen=True)
class _Planning:
    database: MongoDatabase
    manifest: Manifest
    present: dict[str, Present]
    choices: Choices
    watcher: Watcher

    async def record(self) -> CollectionPlan:
        """The setup's own record, which is a collection like the others."""
        present = self.present.get(META)
        changes = differences_of(META_SPEC, present, ())
        obstacles: list[Obstacle] = []
        if present is not None and not is_record(present):
            changes, obstacles = [], [record_taken(META)]
        if self.manifest.exists and not self.manifest.is_finished:
            changes.append(Change(ChangeKind.FINISH_RECORD, META))
        documents = await self._count(present)
        return CollectionPlan(META_SPEC, present, documents, None, tuple(changes), tuple(obstacles))

    async def collection(self, spec: CollectionSpec) -> CollectionPlan:
        present = self.present.get(spec.name)
        if present is not None and not present.is_plain_collection:
            return CollectionPlan(spec, present, 0, None, (), (unusual_kind(present),))
        recorded = self.manifest.collection(spec.name)
        if recorded and not recorded.created_by_us and not recorded.is_adopted:
            recorded = None  # Somebody else has made one where ours was, or was to be.
        documents = await self._count(present)
        changes = differences_of(spec, present, self.manifest.indexes_of(spec.name))
        obstacles: list[Obstacle] = []
        if present is not None and recorded is None:
            match await self._unrecorded(spec, present, documents):
                case Change() as change:
                    changes.insert(0, change)
                case obstacle:
                    obstacles.append(obstacle)
        if present is not None and not obstacles:
            obstacles += index_under_another_name(spec, present)
            obstacles += await self._offending_documents(spec, changes) if documents else []
        return CollectionPlan(spec, present, documents, recorded, tuple(changes), tuple(obstacles))

    async def _unrecorded(
        self, spec: CollectionSpec, present: Present, documents: int
    ) -> Change | Obstacle:
        """What to do with a collection that the record does not know.

        Nobody else makes one with our validator; and one that is empty and as bare as a new one is
        no loss to anybody who finds it with our indexes.
        """
        if has_validator(spec, present):
            return Change(ChangeKind.RECORD_COLLECTION, spec.name)
        is_empty = not documents and await self.database[spec.name].find_one() is None
        if spec.name in self.choices.adopted or (is_empty and present.is_bare):
            return Change(ChangeKind.ADOPT_COLLECTION, spec.name)
        return name_taken(present, documents)

    async def _offending_documents(
        self, spec: CollectionSpec, changes: Sequence[Change]
    ) -> list[Obstacle]:
        found = [
            await find_duplicates(self.database, spec.name, change.index, self.watcher.on_step)
            for change in changes
            if change.kind in _BUILT and change.index and change.index.document.get("unique")
        ]
        if any(change.kind is ChangeKind.SET_VALIDATOR for change in changes):
            found.append(
                await find_refused(
                    self.database,
                    spec,
                    self.watcher.on_step,
                    is_accepted=self.choices.keep_refused,
                )
            )
        return [obstacle for obstacle in found if obstacle is not None]

    async def _count(self, present: Present | None) -> int:
        if present is None or not present.is_plain_collection:
            return 0
        return await self.database[present.name].estimated_document_count()
