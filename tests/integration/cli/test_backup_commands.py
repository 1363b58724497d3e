"""`accounting db backup`, `restore` and `rollback` as operators meet them."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from accounting import __version__
from accounting.db.client import MongoDatabase, open_client, open_database
from accounting.dev.processes import Server
from accounting.platform.rules import PLATFORM_COLLECTIONS
from backups import (
    MANY,
    SOME_NAMES,
    fill_ours,
    fill_platform,
    names_in,
    sign_again,
    state_of,
)
from forked import run_forked
from guarded import GuardedMongod
from service import clean_environment

DATABASE, TARGET = "backup_commands_test", "backup_commands_target"


@pytest.fixture
async def shop(mongod: Server) -> AsyncIterator[MongoDatabase]:
    """A platform with our collections beside it."""
    client = open_client(mongod.uri)
    await client.drop_database(DATABASE)
    await client.drop_database(TARGET)
    mongo = open_database(client, DATABASE)
    await fill_platform(mongo, share=0.01)
    await fill_ours(mongo, documents=20, names=SOME_NAMES)
    yield mongo
    await client.drop_database(DATABASE)
    await client.drop_database(TARGET)
    client.close()


@pytest.fixture
def environment(mongod: Server) -> dict[str, str]:
    return clean_environment(MONGODB_URI=mongod.uri, MONGODB_DATABASE=DATABASE)


@pytest.fixture
def elsewhere(mongod: Server) -> dict[str, str]:
    """The environment of another, empty database."""
    return clean_environment(MONGODB_URI=mongod.uri, MONGODB_DATABASE=TARGET)


async def command(environment: dict[str, str], *arguments: object) -> CompletedProcess[str]:
    words = ("db", *map(str, arguments))
    return await asyncio.to_thread(run_forked, words, environment)


def refusal(done: CompletedProcess[str]) -> str:
    """The one sentence on stderr of a command that did nothing."""
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("accounting: ")]
    assert len(said) == 1, done.stderr
    return said[0]


async def test_backup_restore_rollback_as_an_operator_goes(
    shop: MongoDatabase, environment: dict[str, str], elsewhere: dict[str, str], tmp_path: Path
) -> None:
    before = await state_of(shop, SOME_NAMES)
    platform = await state_of(shop, PLATFORM_COLLECTIONS)

    saved = await command(environment, "backup", "--out", tmp_path / "monday")
    assert saved.returncode == 0, saved.stderr
    assert re.search(r"saved +accounting_counters +20 documents", saved.stdout)
    assert re.search(
        rf"Saved 3 collections, .* of database {DATABASE} in {tmp_path}/monday, as it was at 2",
        saved.stdout,
    )
    assert f"accounting db restore {tmp_path}/monday" in saved.stdout
    assert "password" not in saved.stderr

    restored = await command(elsewhere, "restore", tmp_path / "monday")
    assert restored.returncode == 0, restored.stderr
    assert f"database {DATABASE} on MongoDB" in restored.stdout
    assert f"in database {TARGET}" in restored.stdout
    target = open_database(shop.client, TARGET)
    assert await state_of(target, SOME_NAMES) == before

    refused = await command(environment, "rollback", "--out", tmp_path)
    assert f"--confirm {DATABASE}" in refusal(refused)
    assert re.search(r"drop +accounting_counters +20 documents", refused.stdout)
    assert f"is made first, in {tmp_path}" in refused.stdout
    assert "is the service still running" in refused.stderr
    assert await state_of(shop, SOME_NAMES) == before

    done = await command(environment, "rollback", "--confirm", DATABASE, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Rolled back: dropped 3 collections" in done.stdout
    assert set(await shop.list_collection_names()) == set(PLATFORM_COLLECTIONS)
    assert await state_of(shop, PLATFORM_COLLECTIONS) == platform

    again = await command(environment, "rollback", "--confirm", DATABASE, "--out", tmp_path)
    assert (again.returncode, again.stderr) == (0, "")
    assert "Nothing to do" in again.stdout

    [dated] = [name for name in names_in(tmp_path) if name.startswith(f"accounting-{DATABASE}-")]
    back = await command(environment, "restore", tmp_path / dated)
    assert back.returncode == 0, back.stderr
    assert await state_of(shop, SOME_NAMES) == before


async def test_the_platform_is_saved_with_a_warning_and_never_restored_over_one(
    shop: MongoDatabase, environment: dict[str, str], elsewhere: dict[str, str], tmp_path: Path
) -> None:
    saved = await command(environment, "backup", "--platform", "--out", tmp_path / "all")
    assert saved.returncode == 0
    assert "password hashes" in saved.stderr

    without = await command(elsewhere, "restore", tmp_path / "all")
    assert "left out  users, cost_payments, miners" in without.stdout
    assert "users" not in await open_database(shop.client, TARGET).list_collection_names()

    # Where a platform is, the flag does not help.
    rolled_back = await command(environment, "rollback", "--confirm", DATABASE, "--out", tmp_path)
    assert rolled_back.returncode == 0
    refused = await command(environment, "restore", "--platform", tmp_path / "all")
    assert "has a platform" in refusal(refused)
    assert set(await shop.list_collection_names()) == set(PLATFORM_COLLECTIONS)


async def test_what_is_wrong_is_one_sentence_and_changes_nothing(
    shop: MongoDatabase, environment: dict[str, str], elsewhere: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert (await command(environment, "backup", "--out", out)).returncode == 0
    damaged = tmp_path / "damaged"
    shutil.copytree(out, damaged)
    (damaged / "backup.json").write_text("{}")
    before = await state_of(shop, SOME_NAMES)

    said = {
        "exists": refusal(await command(environment, "backup", "--out", out)),
        "no parent": refusal(await command(environment, "backup", "--out", tmp_path / "a" / "b")),
        "no right": refusal(await command(environment, "backup", "--out", "/proc/backup")),
        "wrong database": refusal(
            await command(elsewhere, "backup", "--out", tmp_path / "nothing")
        ),
        "damaged": refusal(await command(elsewhere, "restore", damaged)),
        "no backup": refusal(await command(elsewhere, "restore", tmp_path)),
        "not empty": refusal(await command(environment, "restore", out)),
        "other name": refusal(await command(environment, "rollback", "--confirm", TARGET)),
    }

    assert "exists already" in said["exists"]
    assert "No such file or directory" in said["no parent"]
    assert "could not be written" in said["no right"]
    assert f"Database {TARGET} has none" in said["wrong database"]
    assert "backup.json is not as it was written" in said["damaged"]
    assert "not a finished backup" in said["no backup"]
    assert "accounting_counters (20 documents)" in said["not empty"]
    assert f"but the database is '{DATABASE}'" in said["other name"]
    assert await state_of(shop, SOME_NAMES) == before
    assert await open_database(shop.client, TARGET).list_collection_names() == []
    assert names_in(tmp_path) == ["damaged", "out"]


async def test_a_full_disk_is_one_sentence_and_leaves_nothing(
    shop: MongoDatabase, environment: dict[str, str], tmp_path: Path
) -> None:
    # No file may have more than 64 KB.
    await shop[MANY].insert_one({"data": os.urandom(200_000)}, bypass_document_validation=True)
    program = [sys.executable, "-m", "accounting", "db", "backup", "--out", tmp_path / "out"]
    done = await asyncio.to_thread(
        subprocess.run,
        ["bash", "-c", 'ulimit -f 64; exec "$@"', "bash", *map(str, program)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert "File too large" in refusal(done)
    assert names_in(tmp_path) == []


async def test_a_backup_is_checked_without_a_database(
    shop: MongoDatabase, environment: dict[str, str], tmp_path: Path
) -> None:
    await command(environment, "backup", "--out", tmp_path / "out")

    checked = await command(clean_environment(), "restore", "--check", tmp_path / "out")
    manifest = tmp_path / "out" / "backup.json"
    manifest.write_text(manifest.read_text().replace(__version__, "9.1"))
    sign_again(tmp_path / "out")
    other = await command(clean_environment(), "restore", "--check", tmp_path / "out")
    (tmp_path / "out" / DATABASE / "accounting_counters.bson.gz").unlink()
    damaged = await command(clean_environment(), "restore", "--check", tmp_path / "out")

    assert checked.returncode == 0, checked.stderr
    assert "every file as it was written" in checked.stdout
    assert "note" not in checked.stdout
    assert (other.returncode, f"this is accounting {__version__}" in other.stdout) == (0, True)
    assert "accounting_counters.bson.gz is missing" in refusal(damaged)


async def test_the_setups_own_user_can_back_up_and_roll_back_but_not_restore(
    guarded: GuardedMongod, tmp_path: Path
) -> None:
    database = "backup_rights_test"
    client = open_client(guarded.uri)
    mongo = open_database(client, database)
    await fill_platform(mongo, share=0.01)
    await fill_ours(mongo, names=SOME_NAMES)
    before, platform = (
        await state_of(mongo, SOME_NAMES),
        await state_of(mongo, PLATFORM_COLLECTIONS),
    )
    roles = await asyncio.to_thread(guarded.with_roles, database)
    setup = clean_environment(MONGODB_URI=roles.setup_uri, MONGODB_DATABASE=database)
    restorer = await asyncio.to_thread(
        guarded.make_user, "restorer", "readWrite", "dbAdmin", database=database
    )
    out = tmp_path / "out"

    saved = await command(setup, "backup", "--platform", "--out", out)
    done = await command(setup, "rollback", "--confirm", database, "--out", tmp_path)
    refused = await command(setup, "restore", out)
    restored = await command(
        clean_environment(MONGODB_URI=restorer, MONGODB_DATABASE=database), "restore", out
    )

    assert saved.returncode == 0, saved.stderr
    assert done.returncode == 0, done.stderr
    assert "may not" in refusal(refused)
    assert restored.returncode == 0, restored.stderr
    assert await state_of(mongo, SOME_NAMES) == before
    assert await state_of(mongo, PLATFORM_COLLECTIONS) == platform
    client.close()
