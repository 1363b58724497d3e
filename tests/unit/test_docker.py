"""What docker/ and constraints.txt promise; no Docker is needed to check it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import click
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from accounting.api.exports import ENDING_SECONDS_MAX
from accounting.api.health import live
from accounting.cli.main import cli
from accounting.cli.run import SHUTDOWN_SECONDS_MAX
from accounting.settings import Settings, load_settings

ROOT: Final = Path(__file__).parents[2]
LONG_RUNNING: Final = ["api", "worker", "beat"]
OURS: Final = ["setup", *LONG_RUNNING]
COMPOSE: Final[Mapping[str, Any]] = yaml.safe_load((ROOT / "docker/compose.yaml").read_text())
SERVICES: Final[Mapping[str, Mapping[str, Any]]] = COMPOSE["services"]
SETUP_URI: Final = "SETUP_MONGODB_URI"
SETTINGS: Final = {f"ACCOUNTING_{name.upper()}" for name in Settings.model_fields}
# The image listens on a fixed address, which the health check and the published port name.
FIXED_IN_IMAGE: Final = {"ACCOUNTING_HOST", "ACCOUNTING_PORT"}
# Prints the packages that the API, worker and beat have imported once they can reach the broker.
_IMPORT_ALL: Final = """
import sys
import accounting.api.app, accounting.worker.tasks, accounting.cli.main
from accounting.settings import Settings
from accounting.worker.app import make_celery
make_celery(Settings(mongodb_uri="mongodb://127.0.0.1/hosting")).connection().transport
print(*{name.partition(".")[0] for name in sys.modules})
"""
# ${NAME}, ${NAME:-default} and ${NAME:?message}; the inner one of two.
_INTERPOLATION: Final = re.compile(r"\$\{(\w+)(?:(:[-?])([^${}]*))?\}")


def test_every_variable_of_compose_is_a_setting() -> None:
    text = (ROOT / "docker/compose.yaml").read_text()
    named = set(re.findall(r"ACCOUNTING_[A-Z_]+", text))
    given = {name for service in SERVICES.values() for name in service.get("environment", {})}

    assert named <= SETTINGS
    assert {name for name in given if name.startswith("ACCOUNTING_")} == named


def test_every_setting_reaches_the_api() -> None:
    assert set(SERVICES["api"]["environment"]) == SETTINGS - FIXED_IN_IMAGE


@pytest.mark.parametrize("name", OURS)
def test_a_setting_is_taken_from_the_variable_of_its_own_name(name: str) -> None:
    for variable, value in SERVICES[name]["environment"].items():
        if (name, variable) == ("setup", "ACCOUNTING_MONGODB_URI"):
            continue
        match = _INTERPOLATION.fullmatch(value)
        assert match
        assert match[1] == variable


def test_the_setup_can_have_a_database_user_of_its_own() -> None:
    setup, api = (SERVICES[name]["environment"] for name in ("setup", "api"))

    assert setup["ACCOUNTING_MONGODB_URI"] == (
        f"${{SETUP_MONGODB_URI:-{api['ACCOUNTING_MONGODB_URI']}}}"
    )
    for name, service in SERVICES.items():
        assert name == "setup" or "SETUP_" not in json.dumps(service)


def test_defaults_of_compose_are_a_valid_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in SETTINGS:
        monkeypatch.delenv(variable, raising=False)
    for variable, value in SERVICES["worker"]["environment"].items():
        monkeypatch.setenv(variable, _with_defaults(value))

    settings = load_settings()

    assert settings.database_name == "hosting"
    assert settings.jwt_secret is None


def test_example_of_the_environment_names_what_compose_reads() -> None:
    lines = (ROOT / "docker/.env.example").read_text().splitlines()
    example = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    defaults = {name: default for name, _, default in _interpolations()} | {SETUP_URI: ""}

    assert set(example) == set(defaults)
    assert example["ACCOUNTING_JWT_SECRET"] == ""
    for name, value in example.items():
        assert value in ("", defaults[name]), name


def test_signing_secret_has_no_default_and_reaches_the_api_alone() -> None:
    uses = [
        (name, *match.groups())
        for name, service in SERVICES.items()
        for match in _INTERPOLATION.finditer(json.dumps(service))
        if match[1] == "ACCOUNTING_JWT_SECRET"
    ]

    assert [(service, operator) for service, _, operator, _ in uses] == [("api", ":?")]


def test_ports_are_published_on_loopback_only() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]

    assert ports
    for port in ports:
        assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", _with_defaults(port)), port


@pytest.mark.parametrize("name", LONG_RUNNING)
def test_service_waits_for_the_setup_to_complete(name: str) -> None:
    needs = SERVICES[name]["depends_on"]

    assert needs["setup"]["condition"] == "service_completed_successfully"
    assert needs["redis"]["condition"] == "service_healthy"
    assert SERVICES[name]["restart"] == "unless-stopped"


def test_setup_waits_for_a_primary_and_runs_once() -> None:
    setup = SERVICES["setup"]

    assert setup["command"] == ["db", "apply"]
    assert setup["depends_on"]["mongo"]["condition"] == "service_healthy"
    assert setup["restart"] == "no"
    check = SERVICES["mongo"]["healthcheck"]["test"][-1]
    assert "rs.initiate" in check
    assert "isWritablePrimary" in check


def test_mongo_is_the_replica_set_that_the_address_names_and_keeps_its_data() -> None:
    mongo = SERVICES["mongo"]
    replica_set = mongo["command"][mongo["command"].index("--replSet") + 1]

    assert f"replicaSet={replica_set}" in SERVICES["api"]["environment"]["ACCOUNTING_MONGODB_URI"]
    assert f'_id: "{replica_set}"' in mongo["healthcheck"]["test"][-1]
    volume = mongo["volumes"][0].split(":")[0]
    assert volume in COMPOSE["volumes"]


def test_all_containers_are_bounded_and_cannot_gain_privileges() -> None:
    for name, service in SERVICES.items():
        assert service["read_only"] is True, name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert service["mem_limit"], name


def test_workbooks_are_made_on_disk_and_may_end_when_the_api_stops() -> None:
    api = SERVICES["api"]
    [scratch] = [volume for volume in api["volumes"] if volume.endswith(":/tmp")]

    # A tmpfs counts as memory, of which the container has little.
    assert api["tmpfs"] == []
    assert scratch.partition(":")[0] in COMPOSE["volumes"]
    assert int(api["stop_grace_period"].removesuffix("s")) > (
        SHUTDOWN_SECONDS_MAX + ENDING_SECONDS_MAX
    )


def test_image_is_built_once_for_all_our_services() -> None:
    assert [name for name, service in SERVICES.items() if "build" in service] == ["setup"]
    assert len({SERVICES[name]["image"] for name in OURS}) == 1


@pytest.mark.parametrize("name", OURS)
def test_command_of_a_service_is_one_of_ours(name: str) -> None:
    arguments = SERVICES[name].get("command") or _last(_last_stage(), "CMD")

    _parse(arguments)


def test_image_runs_our_command_without_root() -> None:
    stage = _last_stage()
    users = [value for instruction, value in stage if instruction == "USER"]

    assert len(users) == 1
    assert int(users[0].split(":")[0]) > 0
    assert _last(stage, "ENTRYPOINT") == ["accounting"]


def test_only_what_needs_no_compiler_is_in_the_last_stage() -> None:
    text = " ".join(value for _, value in _last_stage())

    assert "apt-get" not in text
    assert "pip install" not in text


def test_health_check_asks_the_port_and_path_that_the_image_serves() -> None:
    stage = _last_stage()
    health = next(value for instruction, value in stage if instruction == "HEALTHCHECK")
    match = re.search(r"http://127\.0\.0\.1:(\d+)(/[a-z/]+)", health)

    assert match
    command = _last(stage, "CMD")
    assert match[1] == command[command.index("--port") + 1]
    assert ("EXPOSE", match[1]) in stage
    assert match[2] in live.paths


def test_constraints_are_exact_versions_without_addresses_or_options() -> None:
    for line in _constraint_lines():
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*==[0-9][A-Za-z0-9.+!]*", line), line


def test_constraints_pin_every_dependency_to_an_allowed_version() -> None:
    project = _project()
    pins = dict(line.split("==") for line in _constraint_lines())
    pinned = {canonicalize_name(name): version for name, version in pins.items()}
    extras = project["optional-dependencies"].values()

    for text in [*project["dependencies"], *(text for extra in extras for text in extra)]:
        requirement = Requirement(text)
        version = pinned.get(canonicalize_name(requirement.name))
        assert version, f"{requirement.name} is not pinned; run scripts/make_constraints.sh"
        assert version in requirement.specifier, f"{requirement} is pinned to {version}"


def test_running_needs_no_package_of_the_dev_extra() -> None:
    run = subprocess.run(
        [sys.executable, "-c", _IMPORT_ALL], check=True, capture_output=True, text=True
    )
    packages_of = metadata.packages_distributions()
    needed = {
        canonicalize_name(package)
        for module in run.stdout.split()
        for package in packages_of.get(module, [])
    }
    installers = {"accounting", "pip", "setuptools"}
    # Taken where they are found: by PyJWT for other algorithms than our HS256, and by Celery.
    optional = {"cryptography", "cffi", "greenlet"}

    assert needed - installers - optional <= _with_dependencies(_project()["dependencies"])


def _project() -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return project


def _with_dependencies(requirements: Iterable[str]) -> set[str]:
    """The packages that pip installs for these requirements here."""
    found: set[tuple[str, str]] = set()
    todo = [Requirement(text) for text in requirements]
    while todo:
        requirement = todo.pop()
        for extra in {"", *requirement.extras}:
            if (requirement.name, extra) not in found:
                found.add((requirement.name, extra))
                children = map(Requirement, metadata.requires(requirement.name) or [])
                todo += [
                    child
                    for child in children
                    if child.marker is None or child.marker.evaluate({"extra": extra})
                ]
    return {canonicalize_name(name) for name, _ in found}


def _interpolations() -> Iterator[tuple[str, str, str]]:
    """Name, operator and default (or message) of every variable that compose.yaml reads."""
    for match in _INTERPOLATION.finditer(json.dumps(SERVICES)):
        yield match[1], match[2], match[3]


def _with_defaults(value: str) -> str:
    """The value as it is where no variable is set."""
    return _INTERPOLATION.sub(lambda match: match[3] if match[2] == ":-" else "", value)


def _last_stage() -> list[tuple[str, str]]:
    """The Dockerfile's instructions after its last FROM, each in one line."""
    text = (ROOT / "docker/Dockerfile").read_text()
    without_comments = re.sub(r"(?m)^\s*#.*\n", "", text)
    lines = without_comments.replace("\\\n", " ").splitlines()
    instructions = [(first, rest) for first, _, rest in (line.partition(" ") for line in lines)]
    last_from = max(i for i, (name, _) in enumerate(instructions) if name == "FROM")
    return [(name, " ".join(rest.split())) for name, rest in instructions[last_from:] if name]


def _last(stage: list[tuple[str, str]], name: str) -> list[str]:
    """The value of the last such instruction, which is written as a JSON list."""
    found: list[str] = json.loads(
        [value for instruction, value in stage if instruction == name][-1]
    )
    return found


def _parse(arguments: list[str]) -> None:
    """Parse a command line without running it. Raises KeyError or click.UsageError if wrong."""
    command: click.Command = cli
    while isinstance(command, click.Group):
        name, *arguments = arguments
        command = command.commands[name]
    command.make_context(name, arguments)


def _constraint_lines() -> list[str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]
