"""The direction of imports: every line of the diagram in README.md points down."""

from __future__ import annotations

import ast
from pathlib import Path

import accounting

ROOT = Path(accounting.__file__).parent

# A module may import from floors below its own, and from its own package.
FLOORS: list[set[str]] = [
    {"ids", "errors", "__init__"},
    {"money", "clock", "actor", "links", "settings"},
    {"db", "wording"},
    {"audit", "platform", "idempotency"},
    {"payments", "notifications", "optouts", "printing", "pricing", "runs", "access"},
    {"invoices"},
    {"recurring", "pages"},
    {"reports"},
    {"integrity", "archiving"},
    {"bootstrap"},
    {"worker"},
    {"api", "simulation"},
    {"dev"},
    {"cli"},
    {"__main__"},
]
FLOOR_OF = {part: floor for floor, parts in enumerate(FLOORS) for part in parts}
DRIVER_NAMES = {"motor", "pymongo", "bson", "gridfs"}
WEB_AND_QUEUE = {"litestar", "celery", "uvicorn", "kombu", "redis"}


def part_of(path: Path, root: Path = ROOT) -> str:
    return path.relative_to(root).parts[0].removesuffix(".py")


def imported_modules(path: Path) -> list[str]:
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names.append(node.module or "")
            if node.module == "accounting":
                names += [f"accounting.{alias.name}" for alias in node.names]
    return names


def modules() -> list[Path]:
    found = sorted(ROOT.rglob("*.py"))
    assert len(found) > 40, "the modules were not found"
    return found


def upward_imports(paths: list[Path], root: Path = ROOT) -> list[str]:
    wrong = []
    for path in paths:
        own = part_of(path, root)
        for name in imported_modules(path):
            parts = name.split(".")
            if parts[0] != "accounting" or len(parts) < 2 or parts[1] in (own, "__version__"):
                continue
            if FLOOR_OF[parts[1]] >= FLOOR_OF[own]:
                wrong.append(f"{path.relative_to(root)} imports {name}")
    return wrong


def test_every_package_has_its_floor() -> None:
    parts = {part_of(path) for path in modules()}

    assert parts <= FLOOR_OF.keys()


def test_no_import_points_upward_or_sideways() -> None:
    assert upward_imports(modules()) == []


def test_an_upward_import_is_found(tmp_path: Path) -> None:
    wrong = tmp_path / "payments" / "service.py"
    wrong.parent.mkdir()
    wrong.write_text("from accounting.invoices.service import create_invoice\n")

    assert upward_imports([wrong], root=tmp_path) == [
        "payments/service.py imports accounting.invoices.service"
    ]


def test_the_driver_is_named_in_db_alone() -> None:
    # `ids` says what an ObjectId is; `dev` starts servers and fills the demo platform.
    allowed = {"db", "dev", "ids"}
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules()
        for name in imported_modules(path)
        if name.split(".")[0] in DRIVER_NAMES and part_of(path) not in allowed
    ]

    assert wrong == []


def test_concepts_know_neither_web_nor_queue() -> None:
    edges = {"api", "worker", "cli", "dev", "bootstrap", "__main__"}
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules()
        for name in imported_modules(path)
        if name.split(".")[0] in WEB_AND_QUEUE and part_of(path) not in edges
    ]

    assert wrong == []


def test_the_clock_is_read_in_one_module() -> None:
    readers = ("datetime.now(", "datetime.utcnow(", "date.today(", "time.time(")
    wrong = [
        str(path.relative_to(ROOT))
        for path in modules()
        if path.name != "clock.py" and any(reader in path.read_text() for reader in readers)
    ]

    assert wrong == []
