"""Children end with us: in order, by force, and also when we are killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from accounting.dev.binaries import ProgramCannotRun, problem_of_loader, require_runnable
from accounting.dev.processes import (
    ChildDied,
    ChildNotReady,
    free_port,
    is_port_free,
    start_child,
    wait_until_ready,
)
from accounting.dev.redis_server import start_redis

GONE_LIMIT_SECONDS = 20


def python(source: str) -> list[str]:
    return [sys.executable, "-c", source]


def is_alive(pid: int) -> bool:
    """A zombie that nobody has collected yet is not alive."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in {"Z", "X"}


def holds_in_time(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + GONE_LIMIT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def start_supervisor(source: str, tmp_path: Path) -> tuple[subprocess.Popen[str], list[int]]:
    """Run a supervising program, which prints the process ids of its children as JSON."""
    supervisor = subprocess.Popen(
        [sys.executable, "-c", source, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert supervisor.stdout is not None
    pids = json.loads(supervisor.stdout.readline())
    return supervisor, pids


def test_death_during_start_quotes_the_log(tmp_path: Path) -> None:
    child = start_child("fragile", python("print('no cheese left'); exit(3)"), data_dir=tmp_path)

    with pytest.raises(ChildDied, match=r"fragile ended unexpectedly with code 3.*") as died:
        wait_until_ready(child, lambda: False)

    assert "no cheese left" in died.value.sentence
    assert str(tmp_path / "fragile.log") in died.value.sentence


def test_death_by_a_signal_is_named(tmp_path: Path) -> None:
    source = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
    child = start_child("fragile", python(source), data_dir=tmp_path)

    with pytest.raises(ChildDied, match="SIGSEGV"):
        wait_until_ready(child, lambda: False)


def test_silent_child_is_stopped_after_the_limit(tmp_path: Path) -> None:
    child = start_child("mute", python("import time; time.sleep(600)"), data_dir=tmp_path)

    with pytest.raises(ChildNotReady, match="within 0 seconds"):
        wait_until_ready(child, lambda: False, limit_seconds=0.1)

    assert not is_alive(child.pid)


def test_stop_lets_a_child_finish_its_work(tmp_path: Path) -> None:
    source = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(print('goodbye') or 0))\n"
        "print('listening', flush=True)\n"
        "time.sleep(600)\n"
    )
    child = start_child("polite", python(source), data_dir=tmp_path)
    wait_until_ready(child, lambda: "listening" in child.log_path.read_text())

    child.stop()
    child.stop()

    assert child.poll() == 0
    assert "goodbye" in child.log_path.read_text()


def test_stop_kills_a_stubborn_child_with_its_own_children(tmp_path: Path) -> None:
    source = (
        "import signal, subprocess, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print(subprocess.Popen(['sleep', '600']).pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    child = start_child("stubborn", python(source), data_dir=tmp_path)
    wait_until_ready(child, lambda: child.log_path.read_text().endswith("\n"))
    grandchild_pid = int(child.log_path.read_text())
    assert is_alive(grandchild_pid)

    child.stop(limit_seconds=0.3)

    assert child.poll() == -signal.SIGKILL
    assert holds_in_time(lambda: not is_alive(grandchild_pid))


def test_what_a_dead_child_left_behind_is_killed(tmp_path: Path) -> None:
    source = "import subprocess; print(subprocess.Popen(['sleep', '600']).pid)"
    child = start_child("careless", python(source), data_dir=tmp_path)

    assert child.wait(GONE_LIMIT_SECONDS) == 0

    orphan_pid = int(child.log_path.read_text())
    assert holds_in_time(lambda: not is_alive(orphan_pid))


def test_ctrl_c_in_the_terminal_does_not_reach_a_child(tmp_path: Path) -> None:
    with start_child("apart", python("import time; time.sleep(600)"), data_dir=tmp_path) as child:
        assert os.getsid(child.pid) == child.pid != os.getsid(0)


def test_killed_supervisor_leaves_no_mongod(tmp_path: Path) -> None:
    supervisor, pids = start_supervisor(
        "import sys, time\n"
        "from pathlib import Path\n"
        "from accounting.dev.mongod import start_mongod\n"
        "server = start_mongod(Path(sys.argv[1]))\n"
        "print([server.child.pid], flush=True)\n"
        "time.sleep(600)\n",
        tmp_path,
    )
    assert all(is_alive(pid) for pid in pids)

    supervisor.kill()
    supervisor.wait()

    assert holds_in_time(lambda: not any(is_alive(pid) for pid in pids))


def test_killed_supervisor_leaves_no_celery_pool(tmp_path: Path) -> None:
    (tmp_path / "tiny.py").write_text(
        "import os\n"
        "from celery import Celery\n"
        "app = Celery('tiny', broker=os.environ['BROKER_URL'])\n"
    )
    with start_redis(tmp_path) as redis:
        supervisor, [worker_pid] = start_supervisor(
            "import os, sys, time\n"
            "from pathlib import Path\n"
            "from accounting.dev.processes import start_child, wait_until_ready\n"
            "directory = Path(sys.argv[1])\n"
            "env = {**os.environ, 'PYTHONPATH': str(directory)}\n"
            f"env['BROKER_URL'] = {redis.uri!r}\n"
            "worker = ['-m', 'celery', '-A', 'tiny', 'worker', '-l', 'INFO', '-c', '2']\n"
            "command = [sys.executable, *worker]\n"
            "child = start_child('worker', command, data_dir=directory, env=env)\n"
            "wait_until_ready(child, lambda: ' ready.' in child.log_path.read_text())\n"
            "print([child.pid], flush=True)\n"
            "time.sleep(600)\n",
            tmp_path,
        )
        children = Path(f"/proc/{worker_pid}/task/{worker_pid}/children").read_text().split()
        pids = [worker_pid, *(int(pid) for pid in children)]
        assert len(pids) >= 3

        supervisor.kill()
        supervisor.wait()

        assert holds_in_time(lambda: not any(is_alive(pid) for pid in pids))


def test_port_in_use_is_not_free(tmp_path: Path) -> None:
    port = free_port()
    assert is_port_free("127.0.0.1", port)

    with start_redis(tmp_path, port=port):
        assert not is_port_free("127.0.0.1", port)


@pytest.mark.parametrize(
    ("output", "remedy"),
    [
        (
            "mongod: error while loading shared libraries: libcurl.so.4: cannot open shared object "
            "file: No such file or directory",
            "apt-get install libcurl4",
        ),
        (
            "mongod: error while loading shared libraries: libcrypto.so.3: cannot open shared "
            "object file: No such file or directory",
            "apt-get install libssl3",
        ),
        (
            "mongod: error while loading shared libraries: libodd.so.7: cannot open shared object "
            "file: No such file or directory",
            "install the package of libodd.so.7",
        ),
        (
            "mongod: /lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.34' not found (required by "
            "mongod)",
            "needs GLIBC 2.34 or later; install a newer libc6",
        ),
        ("Illegal instruction\n", "Illegal instruction"),
        ("", "it gave no reason"),
    ],
)
def test_loader_message_becomes_what_to_install(output: str, remedy: str) -> None:
    assert remedy in problem_of_loader(output)


def test_program_that_cannot_run_says_why_in_one_sentence(tmp_path: Path) -> None:
    program = tmp_path / "mongod"
    program.write_text(
        "#!/bin/sh\n"
        'echo "$0: error while loading shared libraries: libcurl.so.4: cannot open shared object '
        'file: No such file or directory" >&2\n'
        "exit 127\n"
    )
    program.chmod(0o755)

    with pytest.raises(ProgramCannotRun) as refusal:
        require_runnable(program)

    assert refusal.value.sentence == (
        "mongod cannot run: the shared library libcurl.so.4 is missing; apt-get install libcurl4, "
        "or start the servers with docker/compose.yaml."
    )
