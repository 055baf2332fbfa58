"""The contract of the packages: imports point to lower layers, and each library has one home."""

from __future__ import annotations

import ast
import re
import sys

import pytest

from tests.support.processes import ROOT

MAY_IMPORT = {
    "model": "",
    "config": "model",
    "ventilator": "model",
    "worker": "model",
    "sink": "model",
    "system": "model",
    "storage": "model system",
    "transport": "model system",
    "executor": "model config system",
    "output": "model storage",
    "input": "model config storage",
    "runtime": "model config ventilator worker sink system storage transport executor output input",
    "doctor": "model config system transport pipeline",
    "cli": "model config system storage transport executor input runtime doctor lab pipeline",
    "lab": "",
    "pipeline": "cli",  # its modules are the version and the entry point
}
"""All edges between packages: each imports only from lines above it. The lab is separate."""
PURE = set(
    """
    __future__ array bisect collections dataclasses enum functools heapq itertools json math msgspec operator re signal
    struct sys typing zlib
    """.split()
)
"""State machines import only these: no I/O and no clock."""
STATE_MACHINES = {"model", "config", "ventilator", "worker", "sink"}
DECIDING = set(
    """
    cli/messages cli/status_view executor/limits executor/outcomes executor/replacement_strings executor/task_queue
    runtime/supervisor storage/spill_buffer
    """.split()
)
"""Modules of other packages that decide without I/O, too."""
LIBRARIES = {
    "msgspec": "pipeline",
    "zmq": "transport runtime/event_loop runtime/control_client doctor/environment_checks",
    "msgpack": "storage/journal_reader",
    "psutil": "system/processes",
    "rich": "cli/top",
    "typer": "cli/app cli/options cli/lab cli/completion",
}
NEVER_USED = set(
    """
    asyncio concurrent logging marshal multiprocessing pickle random shelve subprocess threading
    """.split()
)
LAB_USES = {"zmq", "threading", "subprocess", "random"}
MAX_FUNCTION_LINES = 60

FOLDER = ROOT / "pipeline"
MODULES = {
    str(path.relative_to(FOLDER).with_suffix("")): ast.parse(path.read_text()) for path in sorted(FOLDER.rglob("*.py"))
}


def package(module: str) -> str:
    return module.rpartition("/")[0] or "pipeline"


def imports(module: str) -> set[str]:
    """Full names of all that the module imports, wherever it does so."""
    names: set[str] = set()
    for node in ast.walk(MODULES[module]):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def imported_packages(module: str) -> set[str]:
    parts = [name.split(".") for name in imports(module) if name.startswith("pipeline")]
    return {part[1] if part[1:] and (FOLDER / part[1]).is_dir() else "pipeline" for part in parts}


def foreign(module: str) -> set[str]:
    return {name.partition(".")[0] for name in imports(module)} - {"pipeline"}


@pytest.mark.parametrize("module", MODULES)
def test_package_imports_only_lower_packages(module: str) -> None:
    assert imported_packages(module) - {package(module)} <= set(MAY_IMPORT[package(module)].split())


@pytest.mark.parametrize("module", [name for name in MODULES if package(name) in STATE_MACHINES or name in DECIDING])
def test_state_machine_imports_only_pure_modules(module: str) -> None:
    assert foreign(module) <= PURE


@pytest.mark.parametrize("module", MODULES)
def test_foreign_library_stays_in_its_modules(module: str) -> None:
    names = foreign(module) - LAB_USES if package(module) == "lab" else foreign(module)
    homes = {name: LIBRARIES.get(name, "").split() for name in names - sys.stdlib_module_names}
    assert [name for name, places in homes.items() if not {"pipeline", package(module), module} & set(places)] == []
    assert not names & NEVER_USED
    assert "dataclasses" not in names or module in {"model/structs", "lab/pings"}


def test_lab_is_used_by_its_command_only() -> None:
    users = {module for module in MODULES if "lab" in imported_packages(module) and package(module) != "lab"}
    assert users <= {"cli/lab", "cli/completion"}


def test_class_names_are_unique() -> None:
    names = [node.name for tree in MODULES.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    assert sorted(names) == sorted(set(names))


def test_message_fields_are_no_mappings() -> None:
    fields = [node for name in ("messages", "events") for node in ast.walk(MODULES[f"model/{name}"])]
    kinds = [ast.unparse(node.annotation) for node in fields if isinstance(node, ast.AnnAssign)]
    assert kinds
    assert not [kind for kind in kinds if re.search(r"\b(dict|Dict|Mapping|Any|object)\b", kind)]


@pytest.mark.parametrize("module", MODULES)
def test_functions_are_short(module: str) -> None:
    functions = [node for node in ast.walk(MODULES[module]) if isinstance(node, ast.FunctionDef)]
    lengths = {node.name: (node.end_lineno or 0) - node.lineno + 1 for node in functions}
    assert {name: length for name, length in lengths.items() if length > MAX_FUNCTION_LINES} == {}


def test_scan_finds_imports() -> None:
    assert "storage" in imported_packages("runtime/run_files")
    assert imported_packages("doctor/environment_checks") >= {"pipeline", "system"}
    assert "msgpack" in foreign("storage/journal_reader")
    assert "typer" in foreign("cli/app")
