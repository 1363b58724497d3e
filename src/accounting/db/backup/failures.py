"""What stops a backup, a restore or a rollback, each said in one sentence on a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pymongo.errors import PyMongoError

from accounting.db.failures import explain
from accounting.errors import AccountingError

PROBLEMS_NAMED_MAX: Final = 5
_SNAPSHOT_TOO_OLD: Final = 239
_SNAPSHOT_UNAVAILABLE: Final = 246


class BackupError(AccountingError):
    """A backup, restore or rollback that was not done; no HTTP request ever meets one."""


class BackupExists(BackupError):
    """Nothing is written over, an older backup least of all."""

    def __init__(self, target: Path) -> None:
        super().__init__(f"{target} exists already; a backup is written to a new directory only.")


class BackupNotWritten(BackupError):
    """The disk is full, the directory not writable, its parent missing."""

    def __init__(self, target: Path, error: OSError) -> None:
        reason = error.strerror or str(error)
        at_fault = f" ({error.filename})" if error.filename else ""
        super().__init__(
            f"The backup {target} could not be written: {reason}{at_fault}; nothing of it was kept."
        )


class NothingToBackUp(BackupError):
    """None of the collections exists: most likely the wrong database."""

    def __init__(self, database: str) -> None:
        super().__init__(f"Database {database} has none of the collections to back up.")


class NotACollection(BackupError):
    """A view has no documents of its own."""

    def __init__(self, name: str, kind: str) -> None:
        super().__init__(f"{name} is a {kind}; a backup holds collections only.")


class SnapshotGone(BackupError):
    """The server no longer knows how things were when the backup began."""

    def __init__(self) -> None:
        super().__init__(
            "The backup took longer than the server keeps its history, so that it could not be of "
            "one moment, and nothing of it was kept: raise the server parameter "
            "minSnapshotHistoryWindowInSeconds (300 by default), or stop the service and give "
            "--without-snapshot."
        )


class NotOfOneMoment(BackupError):
    """The server cannot show a collection as it was: it was just altered, or is a capped one."""

    def __init__(self, why: str) -> None:
        super().__init__(
            "The server cannot show all collections as they were at one moment, and nothing was "
            "kept: run it again, or stop the service and give --without-snapshot. "
            f"The server says: {why}"
        )


class DefinitionsChanged(BackupError):
    """Somebody ran `apply`, or made or dropped an index, while the backup was read."""

    def __init__(self, names: Iterable[str]) -> None:
        super().__init__(
            f"While the backup was read, these were made anew, or given other indexes or options: "
            f"{', '.join(names)}. Nothing of it was kept; run it again."
        )


class NotABackup(BackupError):
    """The directory is none, or was never finished."""

    def __init__(self, path: Path, missing: str) -> None:
        super().__init__(
            f"{path} is not a finished backup: it has no {missing}. (A directory whose name has "
            "`.partial-` in it was left behind by a backup that was killed.)"
        )


class BackupDamaged(BackupError):
    """What is in the directory is not what was written into it."""

    def __init__(self, path: Path, problems: Sequence[str]) -> None:
        named = "; ".join(problems[:PROBLEMS_NAMED_MAX])
        more = len(problems) - PROBLEMS_NAMED_MAX
        rest = f"; and {more} more" if more > 0 else ""
        super().__init__(f"The backup {path} is damaged: {named}{rest}. Nothing was restored.")


class BackupOfAnotherFormat(BackupError):
    """A later version has written it in another way."""

    def __init__(self, path: Path, found: int, made_by: str, known: int) -> None:
        super().__init__(
            f"The backup {path} has format {found}, made by accounting {made_by}; this version "
            f"knows format {known}: restore it with the version that made it."
        )


class CollectionsExist(BackupError):
    """Restoring only makes what does not exist; it replaces and adds to nothing."""

    def __init__(self, database: str, counts: Mapping[str, int]) -> None:
        full = [f"{name} ({count:,} documents)" for name, count in counts.items() if count]
        empty = [name for name, count in counts.items() if not count]
        listed = ", ".join([*full, *([f"and, empty, {', '.join(empty)}"] if empty else [])])
        super().__init__(
            f"Database {database} has these collections already, and a restore replaces nothing: "
            f"{listed}. `accounting db rollback` removes those of accounting, after a backup."
        )


class PlatformExists(BackupError):
    """A platform lives here; its collections are never mixed with those of a backup."""

    def __init__(self, database: str, names: Iterable[str]) -> None:
        super().__init__(
            f"Database {database} has a platform ({', '.join(names)}); with --platform a restore "
            "needs a database without one. Nothing was restored."
        )


class NoPlatformInBackup(BackupError):
    """Asked for explicitly, so it must not be passed over."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"The backup {path} was made without --platform and has no such data.")


class RestoreUnfinished(BackupError):
    """A restore of another backup was killed while its collections got their names."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"A restore of {path} was interrupted shortly before its end: "
            f"`accounting db restore {path}` finishes it, `accounting db rollback` undoes it."
        )


class RestoreTakenOver(BackupError):
    """Two restores at once: the later one goes on."""

    def __init__(self) -> None:
        super().__init__("Another restore into this database was started meanwhile and goes on.")


class NotLoaded(BackupError):
    """The server did not take what the backup has; most likely two restores are at work."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(
            f"{name} could not be loaded; is another restore at work? Nothing was kept: run it "
            f"again. The server says: {why.splitlines()[0]}"
        )


class NotAsSaved(BackupError):
    """The collection does not hold what the backup has."""

    def __init__(self, name: str, stored: int, saved: int) -> None:
        super().__init__(
            f"{name} has {stored:,} documents after the restore and {saved:,} in the backup; is "
            "another restore at work? Nothing was kept: run it again."
        )


class NothingKnownToBeOurs(BackupError):
    """Without the setup's own record nobody can tell our collections from the platform's."""

    def __init__(self, database: str, names: Iterable[str]) -> None:
        super().__init__(
            f"Database {database} has no record of what accounting made there (accounting_meta), "
            f"so that nothing was dropped, although these exist: {', '.join(names)}. "
            "`accounting db apply` makes that record."
        )


class RecordNamesThePlatform(BackupError):
    """The record of what we made names something that cannot be ours."""

    def __init__(self, names: Iterable[str]) -> None:
        super().__init__(
            "The record of what accounting made (accounting_meta) names collections of the "
            f"platform: {', '.join(names)}. Nothing was dropped."
        )


class NotConfirmed(BackupError):
    """Data is dropped for those only who name the database that they mean."""

    def __init__(self, database: str, confirmed: str | None) -> None:
        if confirmed is not None:
            sentence = f"--confirm names {confirmed!r}, but the database is {database!r}."
        else:
            sentence = (
                "There are documents in these collections; to back them up and drop them, add "
                f"--confirm {database}"
            )
        super().__init__(f"Nothing was dropped. {sentence}")


class StillInUse(BackupError):
    """What would be dropped is more than what was backed up."""

    def __init__(self, names: Iterable[str], what_was_dropped: str) -> None:
        super().__init__(
            f"The service is still running and wrote to {', '.join(names)} meanwhile. "
            f"{what_was_dropped} Stop it (API, workers, beat), then run this again."
        )


@contextmanager
def said_plainly() -> Iterator[None]:
    """What the server refuses, as one sentence."""
    try:
        yield
    except PyMongoError as error:
        code = getattr(error, "code", None)
        if code == _SNAPSHOT_TOO_OLD:
            raise SnapshotGone from error
        if code == _SNAPSHOT_UNAVAILABLE:
            raise NotOfOneMoment(str(error).split(", full error")[0]) from error
        raise explain(error) from error
