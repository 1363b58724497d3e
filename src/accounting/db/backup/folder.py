"""A backup on disk: how its files are written and read, with a checksum for each."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import shutil
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Final
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from accounting.db.backup.definitions import Definition
from accounting.db.backup.failures import (
    BackupDamaged,
    BackupExists,
    BackupNotWritten,
    BackupOfAnotherFormat,
    NotABackup,
)
from accounting.db.backup.progress import OnProgress, show_nothing

FORMAT: Final = 1
SUMS_FILE: Final = "SHA256SUMS"
MANIFEST_FILE: Final = "backup.json"
DOCUMENTS_SUFFIX: Final = ".bson.gz"
METADATA_SUFFIX: Final = ".metadata.json.gz"
# What a client may send at once, and small enough for any machine.
BATCH_BYTES_MAX: Final = 8 * 1024 * 1024
BATCH_DOCUMENTS_MAX: Final = 5_000
# MongoDB's limit for a document, with its own reserve for what it adds inside.
DOCUMENT_BYTES_MAX: Final = 16 * 1024 * 1024 + 16 * 1024
DOCUMENT_BYTES_MIN: Final = 5

# What reading documents raises where there are none, or half of one.
_UNREADABLE: Final = (ValueError, EOFError, OSError)
_GZIP_LEVEL: Final = 6  # mongodump's
_LENGTH_BYTES: Final = 4
_SUMS_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")


class SavedCollection(BaseModel):
    """A collection in a backup; `size_bytes` is that of its documents before compression."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True)

    name: str
    documents: int
    size_bytes: int


class _ManifestHead(BaseModel):
    """What every format has, so that a later one can be named."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True)

    format: int = FORMAT
    made_by: str


class BackupManifest(_ManifestHead):
    """What a backup says of itself, in `backup.json`; `made_by` is our version."""

    made_at: datetime
    server_version: str
    database: str
    is_of_one_moment: bool
    collections: tuple[SavedCollection, ...]

    @property
    def documents(self) -> int:
        return sum(collection.documents for collection in self.collections)


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup that was checked; `digest` tells it from any other."""

    path: Path
    digest: str
    manifest: BackupManifest
    definitions: dict[str, Definition]

    def batches(self, name: str) -> Iterator[list[bytes]]:
        """The documents of a collection, a bounded number of bytes at a time.

        Raises BackupDamaged where that has happened since the check.
        """
        file = documents_file(self.manifest.database, name)
        try:
            yield from read_documents(self.path / file)
        except _UNREADABLE as error:
            raise BackupDamaged(self.path, [f"{file} cannot be read ({error})"]) from error


class BackupWriter:
    """Writes the files of a backup that is not finished yet; nobody else may read them."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._sums: dict[str, str] = {}

    @contextmanager
    def new_documents(self, database: str, name: str) -> Iterator[BinaryIO]:
        """Where the documents of a collection go, one after the other as they are stored."""
        with self._new_compressed(documents_file(database, name)) as stream:
            yield stream

    def write_definition(self, database: str, definition: Definition) -> None:
        with self._new_compressed(metadata_file(database, definition.name)) as stream:
            stream.write(definition.to_json().encode())

    def finish(self, manifest: BackupManifest, target: Path) -> None:
        """Add what the backup says of itself and give it its name, after all is on the disk."""
        with self._new(MANIFEST_FILE) as stream:
            stream.write(manifest.model_dump_json(by_alias=True, indent=2).encode() + b"\n")
        lines = [f"{digest}  {name}\n" for name, digest in sorted(self._sums.items())]
        with self._new(SUMS_FILE) as stream:
            stream.write("".join(lines).encode())
        for folder in (*(path for path in self._root.iterdir() if path.is_dir()), self._root):
            _sync(folder)
        self._root.rename(target)
        with suppress(OSError):  # it is there, and whole; its parent may not be ours to read
            _sync(target.parent)

    @contextmanager
    def _new_compressed(self, name: str) -> Iterator[BinaryIO]:
        with (
            self._new(name) as file,
            # Without a name and a time inside, the same content is the same file.
            gzip.GzipFile("", "wb", _GZIP_LEVEL, file, mtime=0) as stream,
        ):
            yield stream  # type: ignore[misc]

    @contextmanager
    def _new(self, name: str) -> Iterator[_Hashing]:
        path = self._root / name
        path.parent.mkdir(mode=0o700, exist_ok=True)
        with open(path, "xb", opener=_only_for_us) as file:
            hashing = _Hashing(file)
            yield hashing
            file.flush()
            os.fsync(file.fileno())
        self._sums[name] = hashing.digest.hexdigest()


class _Hashing:
    """A file that is hashed as it is written."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()


@contextmanager
def new_backup(target: Path) -> Iterator[BackupWriter]:
    """A backup that has another name until `finish`, and is gone if that is never reached.

    Raises BackupExists; BackupNotWritten for whatever the disk refuses.
    """
    if target.exists() or target.is_symlink():
        raise BackupExists(target)
    try:
        root = Path(tempfile.mkdtemp(prefix=f"{target.name}.partial-", dir=target.parent))
        try:
            yield BackupWriter(root)
        except BaseException:
            shutil.rmtree(root, ignore_errors=True)
            raise
    except OSError as error:
        raise BackupNotWritten(target, error) from error


def documents_file(database: str, name: str) -> str:
    return f"{database}/{quote(name, safe='')}{DOCUMENTS_SUFFIX}"


def metadata_file(database: str, name: str) -> str:
    return f"{database}/{quote(name, safe='')}{METADATA_SUFFIX}"


def count_documents(batch: bytes) -> int:
    """How many documents there are in bytes that hold nothing but whole documents."""
    count = position = 0
    while position < len(batch):
        position += int.from_bytes(batch[position : position + _LENGTH_BYTES], "little")
        count += 1
    return count


def read_documents(path: Path) -> Iterator[list[bytes]]:
    """The documents of a file in batches of bounded size.

    Raises ValueError, OSError or EOFError where the file holds anything but whole documents.
    """
    try:
        with gzip.open(path, "rb") as stream:
            batch: list[bytes] = []
            size = 0
            while document := _read_document(stream):
                full = size + len(document) > BATCH_BYTES_MAX or len(batch) == BATCH_DOCUMENTS_MAX
                if batch and full:
                    yield batch
                    batch, size = [], 0
                batch.append(document)
                size += len(document)
            if batch:
                yield batch
    except zlib.error as error:
        raise ValueError(str(error)) from error


def open_backup(path: Path, *, on_progress: OnProgress = show_nothing) -> Backup:
    """Check every byte of a backup and read what it says of itself.

    Raises NotABackup, BackupDamaged naming each file, or BackupOfAnotherFormat.
    """
    try:
        return _open_backup(path, on_progress)
    except OSError as error:
        raise BackupDamaged(path, [str(error)]) from error


def _open_backup(path: Path, on_progress: OnProgress) -> Backup:
    for needed in (SUMS_FILE, MANIFEST_FILE):
        if not (path / needed).is_file():
            raise NotABackup(path, needed)
    if problems := _wrong_files(path):
        raise BackupDamaged(path, problems)
    manifest = _read_manifest(path)
    definitions: dict[str, Definition] = {}
    done = 0
    for saved in manifest.collections:
        definition, problem = _read_collection(path, manifest.database, saved)
        if definition is None:
            problems.append(problem)
        else:
            definitions[saved.name] = definition
        done += saved.documents
        on_progress(done, manifest.documents)
    if problems:
        raise BackupDamaged(path, problems)
    return Backup(path, _sha256(path / SUMS_FILE), manifest, definitions)


def _wrong_files(path: Path) -> list[str]:
    """What is missing, not listed, or not as it was written."""
    sums: dict[str, str] = {}
    for line in (path / SUMS_FILE).read_text(errors="replace").splitlines():
        if not (found := _SUMS_LINE.fullmatch(line)):
            return [f"{SUMS_FILE} has a line that is none of sha256sum's"]
        sums[found[2]] = found[1]
    present = {
        found.relative_to(path).as_posix() for found in path.rglob("*") if not found.is_dir()
    } - {SUMS_FILE}
    return [
        *(f"{name} is missing" for name in sorted(sums.keys() - present)),
        *(f"{name} does not belong to it" for name in sorted(present - sums.keys())),
        *(
            f"{name} is not as it was written (its SHA-256 differs)"
            for name in sorted(present & sums.keys())
            if _sha256(path / name) != sums[name]
        ),
    ]


def _read_manifest(path: Path) -> BackupManifest:
    text = (path / MANIFEST_FILE).read_bytes()
    try:
        head = _ManifestHead.model_validate_json(text)
        if head.format != FORMAT:
            raise BackupOfAnotherFormat(path, head.format, head.made_by, FORMAT)
        return BackupManifest.model_validate_json(text)
    except ValidationError as error:
        raise BackupDamaged(path, [f"{MANIFEST_FILE} is not one that we wrote"]) from error


def _read_collection(
    path: Path, database: str, saved: SavedCollection
) -> tuple[Definition | None, str]:
    """Its definition, or what is wrong with its two files."""
    file = metadata_file(database, saved.name)
    try:
        definition = Definition.from_json(gzip.decompress((path / file).read_bytes()).decode())
        file = documents_file(database, saved.name)
        batches: Iterator[Sequence[bytes]] = read_documents(path / file)
        found = sum(len(batch) for batch in batches)
    except (*_UNREADABLE, TypeError, KeyError, zlib.error) as error:
        return None, f"{file} cannot be read ({error})"
    if definition.name != saved.name:
        return None, f"{file} is of {definition.name}"
    if found != saved.documents:
        return None, f"{file} has {found:,} documents, not {saved.documents:,}"
    return definition, ""


def _read_document(stream: gzip.GzipFile) -> bytes:
    """The next document, or nothing at the end."""
    head = stream.read(_LENGTH_BYTES)
    if not head:
        return b""
    length = int.from_bytes(head, "little")
    if len(head) < _LENGTH_BYTES or not DOCUMENT_BYTES_MIN <= length <= DOCUMENT_BYTES_MAX:
        raise ValueError("no document begins where one should")
    document = head + stream.read(length - _LENGTH_BYTES)
    if len(document) < length or document[-1] != 0:
        raise ValueError("a document is not whole")
    return document


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _only_for_us(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
