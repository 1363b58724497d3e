"""A backup on disk: what is written, and every way in which it can be damaged."""

from __future__ import annotations

import gzip
import json
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import bson
import pytest
from bson import Int64

from accounting.db.backup.definitions import Definition
from accounting.db.backup.failures import (
    BackupDamaged,
    BackupExists,
    BackupNotWritten,
    BackupOfAnotherFormat,
    NotABackup,
)
from accounting.db.backup.folder import (
    BATCH_DOCUMENTS_MAX,
    DOCUMENT_BYTES_MAX,
    BackupManifest,
    SavedCollection,
    count_documents,
    new_backup,
    open_backup,
    read_documents,
)
from backups import sign_again
from builders import NOW

DOCUMENTS = [bson.encode({"_id": number, "text": "x" * number}) for number in range(100)]
INVOICES = "shop/invoices.bson.gz"
INVOICES_METADATA = "shop/invoices.metadata.json.gz"


def definition(name: str) -> Definition:
    index = {"v": 2, "key": {"_id": 1}, "name": "_id_"}
    return Definition(name=name, options={"capped": False}, indexes=(index,), uuid="ab" * 16)


def manifest(**documents: int) -> BackupManifest:
    saved = [
        SavedCollection(name=name, documents=count, size_bytes=0)
        for name, count in documents.items()
    ]
    return BackupManifest(
        made_by="0.1.0",
        made_at=NOW,
        server_version="6.0.5",
        database="shop",
        is_of_one_moment=True,
        collections=tuple(saved),
    )


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    """A backup of two collections, one of them empty."""
    target = tmp_path / "backup"
    with new_backup(target) as writer:
        for name, documents in (("invoices", DOCUMENTS), ("audit.logs", [])):
            writer.write_definition("shop", definition(name))
            with writer.new_documents("shop", name) as stream:
                stream.write(b"".join(documents))
        writer.finish(manifest(invoices=len(DOCUMENTS), **{"audit.logs": 0}), target)
    return target


def test_the_layout_is_mongodumps_with_a_manifest_beside_it(backup: Path) -> None:
    files = {path.relative_to(backup).as_posix() for path in backup.rglob("*") if path.is_file()}

    assert files == {
        "SHA256SUMS",
        "backup.json",
        "shop/audit.logs.bson.gz",
        "shop/audit.logs.metadata.json.gz",
        INVOICES,
        INVOICES_METADATA,
    }
    assert gzip.decompress((backup / INVOICES).read_bytes()) == b"".join(DOCUMENTS)
    assert gzip.decompress((backup / "shop/audit.logs.bson.gz").read_bytes()) == b""


def test_the_metadata_is_what_mongodump_writes(backup: Path) -> None:
    text = gzip.decompress((backup / INVOICES_METADATA).read_bytes()).decode()

    assert text == (
        '{"options":{"capped":false},'
        '"indexes":[{"v":{"$numberInt":"2"},"key":{"_id":{"$numberInt":"1"}},"name":"_id_"}],'
        '"uuid":"abababababababababababababababab",'
        '"collectionName":"invoices","type":"collection"}'
    )


def test_a_definition_is_read_back_with_the_types_it_had() -> None:
    options = {"a": 1, "b": 1.0, "c": Int64(1), "d": bson.Decimal128("1.00"), "e": bson.Regex("x")}
    written = Definition(name="c", options=options, indexes=(), uuid="")

    read = Definition.from_json(written.to_json())

    assert bson.encode(read.options) == bson.encode(options)
    assert read.to_json() == written.to_json()


def test_the_checksums_are_sha256sums(backup: Path) -> None:
    checked = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"],
        cwd=backup,
        capture_output=True,
        text=True,
        check=False,
    )

    assert checked.returncode == 0, checked.stderr
    assert checked.stdout.count(": OK") == 5


def test_nobody_else_can_read_it(backup: Path) -> None:
    modes = {
        path.relative_to(backup).as_posix(): stat.S_IMODE(path.stat().st_mode)
        for path in (backup, *backup.rglob("*"))
    }

    assert {mode for name, mode in modes.items() if name in (".", "shop")} == {0o700}
    assert {mode for name, mode in modes.items() if name not in (".", "shop")} == {0o600}


def test_a_whole_backup_is_opened(backup: Path) -> None:
    seen: list[tuple[int, int]] = []

    opened = open_backup(backup, on_progress=lambda done, total: seen.append((done, total)))

    assert opened.manifest == manifest(invoices=len(DOCUMENTS), **{"audit.logs": 0})
    assert opened.definitions["audit.logs"].indexes == definition("audit.logs").indexes
    assert [raw for batch in opened.batches("invoices") for raw in batch] == DOCUMENTS
    assert seen[-1] == (100, 100)


def test_the_same_content_makes_the_same_files(backup: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    with new_backup(again) as writer:
        with writer.new_documents("shop", "invoices") as stream:
            stream.write(b"".join(DOCUMENTS))
        writer.finish(manifest(), again)

    assert (again / INVOICES).read_bytes() == (backup / INVOICES).read_bytes()


def test_what_exists_is_never_written_over(backup: Path, tmp_path: Path) -> None:
    before = (backup / "SHA256SUMS").read_bytes()
    (tmp_path / "empty").mkdir()
    (tmp_path / "nowhere").symlink_to(tmp_path / "missing")

    for target in (backup, tmp_path / "empty", tmp_path / "nowhere"):
        with pytest.raises(BackupExists, match="exists already"), new_backup(target):
            pass

    assert (backup / "SHA256SUMS").read_bytes() == before
    assert list((tmp_path / "empty").iterdir()) == []


def test_a_backup_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def begin() -> None:
        with new_backup(tmp_path / "backup") as writer:
            writer.write_definition("shop", definition("invoices"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        begin()

    assert list(tmp_path.iterdir()) == []


def test_an_unfinished_backup_has_another_name_and_is_none(tmp_path: Path) -> None:
    target = tmp_path / "backup"
    with new_backup(target) as writer:
        writer.write_definition("shop", definition("invoices"))
        [unfinished] = tmp_path.iterdir()

        assert not target.exists()
        assert unfinished.name.startswith("backup.partial-")
        assert stat.S_IMODE(unfinished.stat().st_mode) == 0o700
        with pytest.raises(NotABackup, match="killed"):
            open_backup(unfinished)


def test_what_the_disk_refuses_is_said_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    for parent, reason in (("missing", "No such file"), ("file", "Not a directory")):
        with (
            pytest.raises(BackupNotWritten, match=reason),
            new_backup(tmp_path / parent / "backup"),
        ):
            pass


def cut(path: Path, length: int) -> None:
    path.write_bytes(path.read_bytes()[:length])


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def change_manifest(backup: Path, **changes: object) -> None:
    path = backup / "backup.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    sign_again(backup)


def put(backup: Path, name: str, content: bytes) -> None:
    (backup / name).write_bytes(gzip.compress(content))
    sign_again(backup)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda backup: flip(backup / INVOICES, 200), f"{INVOICES} is not as it was written"),
        (lambda backup: cut(backup / INVOICES, 100), f"{INVOICES} is not as it was written"),
        (lambda backup: flip(backup / "backup.json", 20), "backup.json is not as it was written"),
        (lambda backup: (backup / INVOICES).unlink(), f"{INVOICES} is missing"),
        (lambda backup: (backup / INVOICES_METADATA).unlink(), "metadata.json.gz is missing"),
        (lambda backup: (backup / "shop" / "users.bson.gz").touch(), "users.bson.gz does not bel"),
        (lambda backup: (backup / "notes.txt").touch(), "notes.txt does not belong to it"),
        (lambda backup: cut(backup / "SHA256SUMS", 40), "SHA256SUMS has a line"),
        (lambda backup: cut(backup / "SHA256SUMS", 0), "does not belong to it"),
    ],
)
def test_damage_is_named(backup: Path, damage: Callable[[Path], None], said: str) -> None:
    damage(backup)

    with pytest.raises(BackupDamaged) as refused:
        open_backup(backup)

    assert said in refused.value.sentence


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        # Whoever makes new checksums cannot make a whole backup of half of one.
        (lambda backup: cut(backup / INVOICES, 100), f"{INVOICES} cannot be read"),
        (lambda backup: flip(backup / INVOICES, 200), f"{INVOICES} cannot be read"),
        (lambda backup: cut(backup / INVOICES_METADATA, 40), "metadata.json.gz cannot be read"),
        (lambda backup: put(backup, INVOICES_METADATA, b"{}"), "metadata.json.gz cannot be read"),
        (lambda backup: put(backup, INVOICES, DOCUMENTS[0]), "has 1 documents, not 100"),
        (lambda backup: put(backup, INVOICES, b"".join(DOCUMENTS)[:-1]), "is not whole"),
        (lambda backup: put(backup, INVOICES, b"\x03\x00\x00\x00"), "no document begins"),
        (lambda backup: put(backup, INVOICES, b"\x05\x00\x00"), "no document begins"),
        (lambda backup: put(backup, INVOICES, b"\xff\xff\xff\x7f"), "no document begins"),
        (lambda backup: put(backup, INVOICES, b"\x05\x00\x00\x00\x01"), "is not whole"),
        (
            lambda backup: shutil.copy(
                backup / "shop/audit.logs.metadata.json.gz", backup / INVOICES_METADATA
            ),
            "is of audit.logs",
        ),
        (lambda backup: (backup / "backup.json").write_text("{}"), "not one that we wrote"),
        (lambda backup: (backup / INVOICES).unlink(), f"{INVOICES} cannot be read"),
    ],
)
def test_damage_under_new_checksums_is_named(
    backup: Path, damage: Callable[[Path], object], said: str
) -> None:
    damage(backup)
    sign_again(backup)

    with pytest.raises(BackupDamaged) as refused:
        open_backup(backup)

    assert said in refused.value.sentence


def test_many_problems_are_counted(backup: Path) -> None:
    for number in range(8):
        (backup / f"{number}.txt").touch()

    with pytest.raises(BackupDamaged, match="and 3 more"):
        open_backup(backup)


def test_a_backup_of_a_later_format_names_the_version_that_made_it(backup: Path) -> None:
    change_manifest(backup, format=2, madeBy="9.1", collections="as they are then")

    with pytest.raises(BackupOfAnotherFormat, match=r"format 2, made by accounting 9\.1"):
        open_backup(backup)


@pytest.mark.parametrize("missing", ["SHA256SUMS", "backup.json"])
def test_a_directory_without_them_is_no_backup(backup: Path, missing: str) -> None:
    (backup / missing).unlink()

    with pytest.raises(NotABackup, match=missing):
        open_backup(backup)


def test_documents_come_in_batches_of_bounded_size(tmp_path: Path) -> None:
    small = bson.encode({"_id": 1})
    large = bson.encode({"_id": 2, "data": b"x" * 16_000_000})
    path = tmp_path / "c.bson.gz"
    path.write_bytes(gzip.compress(small * (BATCH_DOCUMENTS_MAX + 1) + large + small, 1))

    batches = list(read_documents(path))

    assert len(large) < DOCUMENT_BYTES_MAX
    assert [len(batch) for batch in batches] == [BATCH_DOCUMENTS_MAX, 1, 1, 1]


def test_documents_are_counted_by_their_lengths() -> None:
    assert count_documents(b"".join(DOCUMENTS)) == 100
    assert count_documents(b"") == 0
