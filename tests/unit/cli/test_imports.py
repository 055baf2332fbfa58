"""The modules that the processes of a run import: each costs start-up time.

The test counts and names modules, since times differ from machine to machine.
"""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import combinations
from pathlib import Path

from tests.support.processes import ROOT

SCRIPT = """
import os, sys
folder, sys.argv[1:] = sys.argv[1], sys.argv[2:]
before, exit_now = set(sys.modules), os._exit

def note_modules(code):
    with open(f"{folder}/{os.getpid()}", "w") as file:
        file.write(" ".join(set(sys.modules) - before))
    exit_now(code)

os._exit = note_modules
from pipeline.__main__ import main
main()
"""
FORBIDDEN = """
argparse ast asyncio concurrent.futures ctypes dataclasses hashlib inspect logging multiprocessing pathlib psutil rich
shutil sqlite3 subprocess tempfile traceback typer typing_extensions unittest urllib
""".split()
STATIONS = {"pipeline.sink.sink": "sink", "pipeline.ventilator.ventilator": "ventilator"}


def imported_modules(folder: Path, *words: str) -> dict[str, set[str]]:
    """Run `pipe run` with these words; return what the launcher has imported, and each station beyond that."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    launcher = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(folder), "run", "-q", "-w", "1", "-j", "1", *words],
        cwd=ROOT,
        env=environment,
    )
    assert launcher.wait(60) == 0
    noted = {int(path.name): set(path.read_text().split()) for path in folder.iterdir()}
    first = noted.pop(launcher.pid)
    return {"launcher": first} | {
        next((STATIONS[name] for name in modules if name in STATIONS), "worker"): modules - first
        for modules in noted.values()
    }


MODULE_BUDGET = {"launcher": 64, "sink": 9, "ventilator": 9, "worker": 15}
"""How many modules of the package each process of a plain run imports; a station, beyond those of the launcher."""


def test_run_imports_few_modules(tmp_path: Path) -> None:
    modules = imported_modules(tmp_path, "echo", ":::", "a")
    assert {name for names in modules.values() for name in names} & set(FORBIDDEN) == set()
    counts = {role: sum(name.startswith("pipeline") for name in names) for role, names in modules.items()}
    assert {role: count for role, count in counts.items() if count > MODULE_BUDGET[role]} == {}
    twice = {(one, other): modules[one] & modules[other] for one, other in combinations(modules, 2)}
    assert {roles: names for roles, names in twice.items() if names} == {}  # the launcher imports those before the fork


COLLECTING = """
import gc, os, sys
folder, sys.argv[1:], exit_now = sys.argv[1], sys.argv[2:], os._exit

def note_collections(code):
    with open(f"{folder}/{os.getpid()}", "w") as file:
        file.write(f"{gc.isenabled()} {sum(each['collections'] for each in gc.get_stats()) - before}")
    exit_now(code)

os._exit = note_collections
before = sum(each["collections"] for each in gc.get_stats())
from pipeline.__main__ import main
main()
"""


def test_run_starts_without_garbage_collections_and_enables_them(tmp_path: Path) -> None:
    command = [sys.executable, "-c", COLLECTING, str(tmp_path), "run", "-q", "-w", "1", "echo", ":::", "a"]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0
    notes = [path.read_text().split() for path in tmp_path.iterdir()]
    assert [enabled for enabled, _ in notes] == ["True"] * 4
    assert max(int(count) for _, count in notes) < 3, notes  # at the very start
