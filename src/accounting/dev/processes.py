"""Child processes that end with us, whatever happens to us."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from accounting.errors import Unavailable

LOOPBACK: Final = "127.0.0.1"
START_LIMIT_SECONDS: Final = 60.0
STOP_LIMIT_SECONDS: Final = 15.0
POLL_SECONDS: Final = 0.05
QUOTED_LINES_MAX: Final = 12
QUOTED_LINE_CHARACTERS_MAX: Final = 400
LOG_TAIL_BYTES: Final = 64 * 1024

_PR_SET_PDEATHSIG: Final = 1  # <linux/prctl.h>


class ChildFailed(Unavailable):
    """A child process is not what we started it for."""

    def __init__(self, child: Child, problem: str) -> None:
        quoted = child.quote_log()
        reason = f" Its log {child.log_path} ends with:\n{quoted}" if quoted else ""
        super().__init__(f"{child.name} {problem}.{reason}", child=child.name)


class ChildDied(ChildFailed):
    """A child ended although nobody asked it to."""

    def __init__(self, child: Child, returncode: int) -> None:
        how = f"code {returncode}" if returncode >= 0 else signal.Signals(-returncode).name
        super().__init__(child, f"ended unexpectedly with {how}")


class ChildNotReady(ChildFailed):
    """A child runs, but did not answer in time."""

    def __init__(self, child: Child, limit_seconds: float) -> None:
        super().__init__(child, f"did not become ready within {limit_seconds:.0f} seconds")


def free_port(host: str = LOOPBACK) -> int:
    """A TCP port that nobody listens on at this moment."""
    with _bound(host, 0) as listener:
        port: int = listener.getsockname()[1]
        return port


def is_port_free(host: str, port: int) -> bool:
    """Whether a server could listen there."""
    try:
        _bound(host, port).close()
    except OSError:
        return False
    return True


def _bound(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        # As servers do, so that a port which a server has just left counts as free.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    return listener


def _every_line(_line: str) -> bool:
    return True


class Child:
    """A running program with its log file; `stop` also ends whatever it started itself."""

    def __init__(
        self,
        name: str,
        popen: subprocess.Popen[bytes],
        log_path: Path,
        is_telling: Callable[[str], bool] = _every_line,
    ) -> None:
        self.name = name
        self.log_path = log_path
        self.pid = popen.pid
        self._popen = popen
        self._is_telling = is_telling
        self._group_ended = False

    def poll(self) -> int | None:
        """The exit code, or None while it runs."""
        returncode = self._popen.poll()
        if returncode is not None and not self._group_ended:
            # At once and only once: later the number of the group may belong to a stranger.
            self._group_ended = True
            _kill_group(self.pid)
        return returncode

    def wait(self, limit_seconds: float) -> int | None:
        """The exit code, or None when it still runs after that time."""
        try:
            self._popen.wait(limit_seconds)
        except subprocess.TimeoutExpired:
            return None
        return self.poll()

    def require_running(self) -> None:
        """Raises ChildDied when it has ended."""
        returncode = self.poll()
        if returncode is not None:
            raise ChildDied(self, returncode)

    def stop(self, *, limit_seconds: float = STOP_LIMIT_SECONDS) -> None:
        """Ask it to end, and after the limit kill it with all of its own children."""
        if self.poll() is not None:
            return
        self._popen.terminate()
        if self.wait(limit_seconds) is None:
            _kill_group(self.pid)
            self._popen.wait()
            self.poll()

    def quote_log(self) -> str:
        """The last lines of the log that tell something, indented."""
        with self.log_path.open("rb") as log:
            log.seek(max(0, self.log_path.stat().st_size - LOG_TAIL_BYTES))
            lines = log.read().decode(errors="replace").splitlines()
        telling = [line for line in lines if self._is_telling(line)] or lines
        return "\n".join(
            f"  {line[:QUOTED_LINE_CHARACTERS_MAX]}" for line in telling[-QUOTED_LINES_MAX:]
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()


@dataclass(frozen=True)
class Server:
    """A started server: its address for clients, and the process behind it."""

    uri: str
    child: Child

    def stop(self) -> None:
        """Stop it in order; a second call does nothing."""
        self.child.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()


def start_child(
    name: str,
    command: Sequence[str | Path],
    *,
    data_dir: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    is_telling: Callable[[str], bool] = _every_line,
) -> Child:
    """Start a program whose output goes to `data_dir/NAME.log`, begun anew at each start.

    `is_telling` picks the log lines worth quoting when it fails. On Linux the kernel kills the
    child when the **thread** that called this ends, so call it from one that lives on.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    log_path = data_dir / f"{name}.log"
    log_path.write_bytes(b"")
    # For appending, so that one which still writes to the emptied file leaves no hole in it.
    with log_path.open("ab") as log:
        popen = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=env,
            cwd=cwd,
            # Its own session: Ctrl-C in the terminal reaches the supervisor alone, which then
            # stops the children in order.
            start_new_session=True,
            preexec_fn=_die_with_parent(),  # noqa: PLW1509  # it makes two system calls, no more
        )
    return Child(name, popen, log_path, is_telling)


def wait_until_ready(
    child: Child, is_ready: Callable[[], bool], *, limit_seconds: float = START_LIMIT_SECONDS
) -> None:
    """Wait until the child does its work; it is stopped when that fails or is interrupted.

    Raises ChildDied; ChildNotReady after the limit.
    """
    deadline = time.monotonic() + limit_seconds
    try:
        while not is_ready():
            child.require_running()
            if time.monotonic() > deadline:
                raise ChildNotReady(child, limit_seconds)
            time.sleep(POLL_SECONDS)
        # Somebody else may have answered in the place of a child that could not get its port.
        child.require_running()
    except BaseException:
        child.stop()
        raise


def _die_with_parent() -> Callable[[], None] | None:
    """What a child does before it becomes the program; only Linux can tie it to its parent."""
    if sys.platform != "linux":
        return None
    # Loaded here, before the fork: afterwards as little as possible may happen in the child.
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent_pid = os.getpid()

    def tie_to_parent() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent_pid:  # it died before the tie was made
            os._exit(1)

    return tie_to_parent


def _kill_group(group_id: int) -> None:
    try:
        os.killpg(group_id, signal.SIGKILL)
    except ProcessLookupError:
        pass
    except PermissionError:
        # macOS answers so for a group in which only zombies are left.
        if sys.platform != "darwin":
            raise
