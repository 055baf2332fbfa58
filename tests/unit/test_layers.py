"""The contract of the packages: imports point to lower layers, and each library has its homes."""

from __future__ import annotations

import ast
import re
import sys

from tests.support.processes import ROOT

MAY_IMPORT = {
    "model": "msgspec dataclasses",
    "config": "model msgspec",
    "ventilator": "model msgspec",
    "worker": "model msgspec",
    "sink": "model msgspec",
    "system": "model msgspec psutil _blake2 _ctypes",
    "storage": "model system msgspec msgpack",
    "transport": "model system msgspec zmq",
    "executor": "model config system storage msgspec",
    "output": "model storage msgspec",
    "input": "model config system storage msgspec",
    "runtime": "model config ventilator worker sink system storage transport executor output input msgspec zmq",
    "doctor": "model config system transport pipeline msgspec zmq",
    "cli": "model config system storage transport executor input runtime doctor lab pipeline msgspec typer rich",
    "lab": "zmq threading subprocess random dataclasses",
    "pipeline": "cli msgspec",  # its modules are the version and the entry point
}
"""What a package imports: packages above it, libraries, and modules that no other may use. The lab is separate."""
PURE = """
__future__ array bisect collections enum functools heapq itertools json math operator re signal struct sys typing zlib
""".split()
"""What state machines import of the standard library: no I/O and no clock."""
DECIDING = """
model/ config/ ventilator/ worker/ sink/ cli/messages cli/status_view executor/limits executor/outcomes
executor/replacement_strings executor/task_queue runtime/supervisor storage/spill_buffer
""".split()
"""State machines, and what else decides without I/O."""
NEVER_USED = """
asyncio concurrent dataclasses logging marshal multiprocessing pickle random shelve subprocess threading
""".split()
MAX_FUNCTION_LINES = 60
FOLDER = ROOT / "pipeline"
MODULES = {
    str(path.relative_to(FOLDER).with_suffix("")): ast.parse(path.read_text()) for path in sorted(FOLDER.rglob("*.py"))
}


def imports(module: str) -> set[str]:
    """Return the packages of ours, and the others, that the module imports, wherever it does so."""
    names: set[str] = set()
    for node in ast.walk(MODULES[module]):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    ours = {name.split(".")[1] for name in names if name.startswith("pipeline.")}
    found = {name if (FOLDER / name).is_dir() else "pipeline" for name in ours}
    return found | {name.partition(".")[0] for name in names} - {"pipeline"}


def test_module_imports_only_what_its_package_may() -> None:
    restricted = set(MAY_IMPORT) | set(NEVER_USED)
    wrong = {}
    for module in MODULES:
        package = module.rpartition("/")[0] or "pipeline"
        standard = set(PURE) if module.startswith(tuple(DECIDING)) else sys.stdlib_module_names - restricted
        wrong[module] = imports(module) - {package} - standard - set(MAY_IMPORT[package].split())
    assert {module: names for module, names in wrong.items() if names} == {}


def test_module_imports_only_what_it_may_within_its_package() -> None:
    users = {module for module in MODULES if "lab" in imports(module) and not module.startswith("lab/")}
    assert users <= {"cli/lab", "cli/completion"}
    assert [name for name in MODULES if "dataclasses" in imports(name)] == ["lab/pings", "model/structs"]


def test_class_names_are_unique() -> None:
    names = [node.name for tree in MODULES.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    assert sorted(names) == sorted(set(names))


def test_message_fields_are_no_mappings() -> None:
    fields = [node for name in ("messages", "events") for node in ast.walk(MODULES[f"model/{name}"])]
    kinds = [ast.unparse(node.annotation) for node in fields if isinstance(node, ast.AnnAssign)]
    assert kinds
    assert not [kind for kind in kinds if re.search(r"\b(dict|Dict|Mapping|Any|object)\b", kind)]


def test_functions_are_short() -> None:
    nodes = [(module, node) for module, tree in MODULES.items() for node in ast.walk(tree)]
    functions = [(module, node) for module, node in nodes if isinstance(node, ast.FunctionDef)]
    lengths = {f"{module}.{node.name}": (node.end_lineno or 0) - node.lineno + 1 for module, node in functions}
    assert {name: length for name, length in lengths.items() if length > MAX_FUNCTION_LINES} == {}


def test_scan_finds_imports() -> None:
    assert imports("doctor/environment_checks") >= {"pipeline", "system"}
    assert "msgpack" in imports("storage/journal_reader")
