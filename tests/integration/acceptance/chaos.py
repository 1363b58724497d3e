"""Workers and a database that are killed at random while templates are billed.

The moments are those of the work itself: each kill waits until a random number of invoices is
there, and then a random moment longer. So they fall into the run, however fast it is. Between two
of them the run goes on, and it may end before the last one: that one is left out, and said to be.
"""

from __future__ import annotations

import os
import random
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from typing import Any, Final, TypeVar

from celery import Celery
from pymongo.database import Database

from accounting.dev.mongod import start_mongod
from accounting.dev.processes import Child, Server, free_port, start_child, wait_until_ready
from accounting.recurring.generation import BATCH_INVOICES
from accounting.runs.rules import EXECUTE_JOB

# A batch takes about so long, and shows only when it is committed: kills come anywhere within it.
BATCH_SECONDS: Final = 0.4
# Of all kills.
DATABASE_DIES_AT: Final = (0.6, 0.9)
DATABASE_AWAY_SECONDS: Final = (0.2, 2.0)
POLL_SECONDS: Final = 0.05
# Each minute in the service; here it does not matter when a dead worker is noticed.
SWEEP_EVERY_SECONDS: Final = 1.0
GIVE_UP_SECONDS: Final = 480

WORKER: Final = "worker"
DATABASE: Final = "mongod"
IDLE: Final = "nothing"

T = TypeVar("T")

_RECEIVED: Final = re.compile(rb"Task ([a-z.]+)\[([0-9a-f-]+)\] received")
_ENDED: Final = re.compile(rb"Task [a-z.]+\[[0-9a-f-]+\] (succeeded|raised|retry)")
_LEFT_OPEN: Final = b"Aborting transaction because it has been running for longer than"


class MortalMongod:
    """A MongoDB that is killed and started again on the same data and port.

    A killed worker leaves its transaction open, with the documents that it holds, until the server
    ends it after `transaction_seconds`.
    """

    def __init__(self, data_dir: Path, transaction_seconds: int) -> None:
        self._data_dir = data_dir
        self._limit = f"transactionLifetimeLimitSeconds={transaction_seconds}"
        self._port = free_port()
        self._earlier_log = b""
        self.server = self._start()

    def kill(self, away_seconds: float) -> None:
        """Kill it, and start it again after a while."""
        os.killpg(self.server.child.pid, signal.SIGKILL)
        assert self.server.child.wait(30) == -signal.SIGKILL
        self._earlier_log += self.server.child.log_path.read_bytes()
        time.sleep(away_seconds)
        self.server = self._start()

    def stop(self) -> None:
        self.server.stop()

    @property
    def transactions_left_open(self) -> int:
        """How many it had to end by itself, because whoever began them was dead."""
        log = self._earlier_log + self.server.child.log_path.read_bytes()
        return log.count(_LEFT_OPEN)

    def _start(self) -> Server:
        limit = ("--setParameter", self._limit)
        return start_mongod(self._data_dir, port=self._port, extra_args=limit)


@dataclass
class Worker:
    """One real worker: a Celery parent and the child that does the tasks."""

    child: Child

    @classmethod
    def start(cls, name: str, environment: dict[str, str], data_dir: Path) -> Worker:
        command = [sys.executable, "-m", "accounting", "worker", "--concurrency", "1"]
        return cls(start_child(name, command, data_dir=data_dir, env=environment))

    @property
    def is_ready(self) -> bool:
        self.child.require_running()
        return b" ready." in self.child.log_path.read_bytes()

    @property
    def task(self) -> str | None:
        """What it is doing, by its log."""
        log = self.child.log_path.read_bytes()
        received = list(_RECEIVED.finditer(log))
        if len(received) <= len(_ENDED.findall(log)):
            return None
        return received[-1][1].decode()

    def kill(self) -> None:
        """Both processes at once, with no chance to say or give back anything."""
        os.killpg(self.child.pid, signal.SIGKILL)
        assert self.child.wait(10) == -signal.SIGKILL


@dataclass
class Crew:
    """So many workers; one that is killed is followed by another at once."""

    size: int
    environment: dict[str, str]
    data_dir: Path
    workers: list[Worker] = field(default_factory=list)
    started: int = 0

    def start(self) -> None:
        while len(self.workers) < self.size:
            self.started += 1
            name = f"worker-{self.started}"
            self.workers.append(Worker.start(name, self.environment, self.data_dir))

    def wait_until_ready(self) -> None:
        for worker in self.workers:
            wait_until_ready(worker.child, lambda worker=worker: worker.is_ready)

    def at_work(self) -> list[Worker]:
        """Those in the middle of a run."""
        return [each for each in self.workers if each.is_ready and each.task == EXECUTE_JOB]

    def kill(self, victim: Worker) -> str:
        """Kill one and start another; returns what it was doing."""
        victim.kill()
        self.workers.remove(victim)
        self.start()
        return victim.task or IDLE

    def stop(self) -> None:
        for worker in self.workers:
            worker.child.stop()


@dataclass(frozen=True)
class Kill:
    """Who was killed at what, how many invoices there were, and whether more were to be made."""

    second: float
    victim: str
    task: str
    invoices: int
    is_over: bool


@dataclass
class Chaos:
    """What happens to a run, and when: so many invoices have to be there first."""

    mongo: Database[dict[str, Any]]
    mongod: MortalMongod
    crew: Crew
    dice: random.Random
    kills: list[Kill] = field(default_factory=list)
    left_out: int = 0
    started_at: float = field(default_factory=time.monotonic)

    def rage(self, worker_kills: int, invoices: int) -> None:
        """Kill so many workers, and once the database, while so many invoices are made."""
        moments = self._moments(worker_kills + 1, invoices)
        first, last = (int(share * len(moments)) for share in DATABASE_DIES_AT)
        database_dies = self.dice.randint(first, last)
        for number, moment in enumerate(moments):
            wait_for(lambda moment=moment: self._invoices() >= moment, self._explain)
            victims = self._at_work_at_a_random_moment()
            if not victims:
                self.left_out = len(moments) - number
                return
            self._kill_database(victims) if number == database_dies else self._kill_worker(victims)

    def wait_until_over(self) -> None:
        """Wait until every run has ended."""
        wait_for(lambda: is_over(self.mongo), self._explain)

    def figures(self) -> str:
        """What was killed, as a line."""
        tasks = Counter(kill.task for kill in self.kills if kill.victim == WORKER)
        databases = [kill.task for kill in self.kills if kill.victim == DATABASE]
        seconds = time.monotonic() - self.started_at
        return (
            f"{tasks.total()} workers killed, at {_listed(tasks)}; "
            f"mongod killed with {', '.join(databases)}; "
            f"{self.mongod.transactions_left_open} transactions left open by the dead; "
            f"{sum(kill.is_over for kill in self.kills)} kills after the end, "
            f"{self.left_out} left out; {seconds:.0f} s"
        )

    def _moments(self, kills: int, invoices: int) -> list[int]:
        """How many invoices are there at each kill: random, and never close to the one before.

        A kill comes later than its moment, and meanwhile each worker may commit another batch: the
        next kill and the end of the run are to be further off than that.
        """
        apart = invoices // (2 * kills)
        last = max(0, invoices - (self.crew.size + 1) * BATCH_INVOICES)
        free = max(0, last - apart * (kills - 1))
        drawn = sorted(self.dice.randint(0, free) for _ in range(kills))
        return [moment + apart * number for number, moment in enumerate(drawn)]

    def _kill_worker(self, victims: Sequence[Worker]) -> None:
        self._note(WORKER, self.crew.kill(self.dice.choice(victims)))

    def _kill_database(self, victims: Sequence[Worker]) -> None:
        self._note(DATABASE, f"{len(victims)} workers in the middle of a run")
        self.mongod.kill(self.dice.uniform(*DATABASE_AWAY_SECONDS))

    def _at_work_at_a_random_moment(self) -> list[Worker]:
        """Those in the middle of a run after a random time; none when it is over."""
        while not self._is_over_before_any_is_at_work():
            time.sleep(self.dice.uniform(0, BATCH_SECONDS))
            if victims := self.crew.at_work():
                return victims
        return []

    def _is_over_before_any_is_at_work(self) -> bool:
        wait_for(lambda: self.crew.at_work() or is_over(self.mongo), self._explain)
        return is_over(self.mongo)

    def _note(self, victim: str, task: str) -> None:
        second = time.monotonic() - self.started_at
        kill = Kill(second, victim, task, self._invoices(), is_over(self.mongo))
        self.kills.append(kill)

    def _explain(self) -> str:
        """What stands still, for whoever reads that it did."""
        runs = list(self.mongo["accounting_runs"].find({}, {"items": 0}))
        tasks = [worker.task or IDLE for worker in self.crew.workers]
        return f"{self._invoices()} invoices, {self.kills}, at work: {tasks}, runs: {runs}"

    def _invoices(self) -> int:
        return self.mongo["invoices"].count_documents({})


def is_over(mongo: Database[dict[str, Any]]) -> bool:
    """Whether there was a run and none is unfinished."""
    unfinished = {"status": {"$in": ["QUEUED", "RUNNING"]}}
    runs = mongo["accounting_runs"]
    return runs.find_one({}) is not None and runs.find_one(unfinished) is None


@contextmanager
def sweeping(celery: Celery) -> Iterator[None]:
    """What the schedule does each minute, each second."""
    stop = Event()

    def sweep() -> None:
        while not stop.wait(SWEEP_EVERY_SECONDS):
            celery.send_task("runs.sweep", expires=SWEEP_EVERY_SECONDS * 2)

    thread = Thread(target=sweep)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def wait_for(condition: Callable[[], T], explain: Callable[[], str] = lambda: "") -> T:
    """Ask again and again until the answer is one; a failure shows which question it was."""
    deadline = time.monotonic() + GIVE_UP_SECONDS
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"it did not happen in time: {explain()}"
        time.sleep(POLL_SECONDS)
    return answer


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.most_common())
