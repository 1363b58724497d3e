"""Processes that begin at once, forked from one that has imported everything: to run many commands
one after the other, and to kill work at random moments of its life."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import random
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from subprocess import CompletedProcess
from tempfile import TemporaryDirectory
from typing import Any

from accounting.cli.main import main
from accounting.clock import utc_now
from accounting.db.backup.folder import open_backup
from accounting.db.backup.restoring import restore
from accounting.db.backup.rollback import plan_rollback, roll_back
from accounting.db.backup.saving import back_up
from accounting.db.client import MongoDatabase, open_client, open_database
from accounting.platform.rules import PLATFORM_COLLECTIONS
from backups import OUR_NAMES

Work = Callable[[str, str, Path], None]

_processes = multiprocessing.get_context("forkserver")
# Not this module itself: the forkserver does not know the tests' own path.
_processes.set_forkserver_preload(["accounting.cli.main"])


def run_forked(words: Sequence[str], environment: Mapping[str, str]) -> CompletedProcess[str]:
    """Run the `accounting` command, with just these variables."""
    with TemporaryDirectory() as folder:
        outputs = [Path(folder) / name for name in ("stdout", "stderr")]
        process = _processes.Process(target=_main, args=(words, environment, *outputs))
        process.start()
        process.join()
        stdout, stderr = (path.read_text() for path in outputs)
    return CompletedProcess(list(words), process.exitcode or 0, stdout, stderr)


def _main(words: Sequence[str], environment: Mapping[str, str], *outputs: Path) -> None:
    os.environ.clear()
    os.environ.update(environment)
    for descriptor, path in enumerate(outputs, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), descriptor)
    sys.argv = ["accounting", *words]
    main()


def backup_work(uri: str, database: str, path: Path) -> None:
    asyncio.run(_on(uri, database, lambda mongo: back_up(mongo, OUR_NAMES, path, now=utc_now())))


def restore_work(uri: str, database: str, path: Path) -> None:
    backup = open_backup(path)
    asyncio.run(
        _on(
            uri,
            database,
            lambda mongo: restore(mongo, backup, platform_names=PLATFORM_COLLECTIONS),
        )
    )


def rollback_work(uri: str, database: str, folder: Path) -> None:
    async def work(mongo: MongoDatabase) -> None:
        plan = await plan_rollback(mongo, our_names=OUR_NAMES, platform_names=PLATFORM_COLLECTIONS)
        if plan.collections:
            await roll_back(mongo, plan, folder / str(time.time_ns()), now=utc_now())

    asyncio.run(_on(uri, database, work))


class Victim:
    """Work in a process of its own."""

    def __init__(self, work: Work, uri: str, database: str, path: Path) -> None:
        self._process = _processes.Process(target=work, args=(uri, database, path))
        self._started_at = time.monotonic()
        self._process.start()

    def kill(self) -> None:
        """`kill -9`, at once."""
        self._process.kill()
        self._process.join()

    def finish(self) -> float:
        """Let it come to its end; how many seconds that took."""
        self._process.join()
        assert self._process.exitcode == 0
        return time.monotonic() - self._started_at

    @property
    def is_running(self) -> bool:
        return self._process.is_alive()


def kill_at_random(
    start: Callable[[], Victim],
    dice: random.Random,
    *,
    seconds_min: float = 0.0,
    seconds_max: float,
) -> None:
    """Start it and kill it at any moment of its life."""
    victim = start()
    time.sleep(dice.uniform(seconds_min, seconds_max))
    victim.kill()


async def _on(uri: str, database: str, work: Callable[[MongoDatabase], Awaitable[Any]]) -> None:
    client = open_client(uri)
    await work(open_database(client, database))
    client.close()
