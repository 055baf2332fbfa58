"""The example scripts print the promised result, leave no files, and pass shellcheck."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import ROOT


EXAMPLES = ROOT / "scripts" / "examples"
WITHIN = 90.0
LAST_LINES = {
    "three-commands": "1000 results, in order, from 3 workers",
    "workers-join-and-leave": "400 results, each written once",
    "restart-ventilator": "400 results, each written once",
    "two-pipelines": "100 squares measured, in order",
    "three-nights": "three nights: 59 results, each written once",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with `pipe` in bin, a private runtime folder and a folder for temporary files."""
    made = tmp_path_factory.mktemp("scripts")
    for name in ("bin", "run", "tmp"):
        (made / name).mkdir(mode=0o700)
    shim = made / "bin" / "pipe"
    shim.write_text(f"#!/bin/sh\nPYTHONPATH='{ROOT}' exec '{sys.executable}' -m pipeline \"$@\"\n")
    shim.chmod(0o755)
    return made


@pytest.fixture(scope="module")
def running(folder: Path) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """Start all scripts at once: they mostly wait, and they must not disturb each other."""
    environment = {
        **os.environ,
        "PATH": f"{folder}/bin:{os.environ['PATH']}",
        "XDG_RUNTIME_DIR": f"{folder}/run",
        "TMPDIR": f"{folder}/tmp",
    }
    started = {
        name: subprocess.Popen(
            [EXAMPLES / f"{name}.sh"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        )
        for name in LAST_LINES
    }
    yield started
    for script in started.values():
        script.terminate()  # it ends what it has started
        script.wait(WITHIN)


def test_every_example_script_has_a_test() -> None:
    assert {path.stem for path in EXAMPLES.iterdir()} == {*LAST_LINES, "nightly"}  # three-nights runs it


@pytest.mark.parametrize("name", LAST_LINES)
def test_example_script_prints_its_last_line(running: dict[str, subprocess.Popen[str]], name: str) -> None:
    output, _ = running[name].communicate(timeout=WITHIN)
    assert (running[name].returncode, output.splitlines()[-1]) == (0, LAST_LINES[name]), output


def test_example_scripts_leave_nothing(running: dict[str, subprocess.Popen[str]], folder: Path) -> None:
    for script in running.values():
        script.wait(WITHIN)
    assert list((folder / "tmp").iterdir()) == []
    assert [path for path in (folder / "run").rglob("*") if path.name != "pipe"] == []


def test_example_script_with_wrong_result_fails(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "cmp").write_text("#!/bin/sh\nexit 1\n")  # finds a difference
    (tmp_path / "cmp").chmod(0o755)
    path = f"{tmp_path}:{folder}/bin:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "XDG_RUNTIME_DIR": f"{folder}/run", "TMPDIR": str(tmp_path)}
    ended = subprocess.run(
        [EXAMPLES / "three-commands.sh"], env=environment, check=False, timeout=WITHIN, capture_output=True
    )
    assert ended.returncode == 1
    assert [each.name for each in tmp_path.iterdir()] == ["cmp"]


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck_finds_no_problem() -> None:
    scripts = sorted(EXAMPLES.iterdir())
    checked = subprocess.run(["shellcheck", *scripts], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout
