"""`pipe doctor`: what it tells, as text and as JSON, and how it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.cli import doctor
from pipeline.config.settings import Settings
from pipeline.doctor.system_checks import CheckResult, CheckState
from tests.support.processes import ROOT


def asked(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
    """`pipe doctor WORDS`, with more in its environment."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **more}
    argv = [sys.executable, "-m", "pipeline", "doctor", *words]
    return subprocess.run(argv, capture_output=True, text=True, check=False, env=environment, timeout=60)


@pytest.mark.parametrize(
    ("states", "code"), [(["ok"], 0), (["ok", "warn"], 1), (["warn", "bad", "ok"], 3), (["bad"], 3)]
)
def test_the_worst_finding_is_the_exit_code(states: list[CheckState], code: int) -> None:
    assert doctor.exit_code([CheckResult("x", state, "y") for state in states]) == code


def test_a_fix_stands_behind_an_arrow_below_what_it_fixes() -> None:
    lines = list(
        doctor.format_report([CheckResult("long name", "ok", "fine"), CheckResult("x", "warn", "bites", "do this")])
    )
    assert lines == [
        "ok    long name  fine",
        "warn  x          bites",
        "                 -> do this",
        "",
        "1 of 2 would bite; what to do stands behind each arrow.",
    ]
    assert list(doctor.format_report([CheckResult("x", "ok", "fine")]))[-1] == "Nothing bites."


def test_every_fact_is_told_once_and_what_bites_has_its_fix() -> None:
    found = list(doctor.run_checks(Settings(jobs=3, workers=2)))
    names = [each.name for each in found]
    assert len(set(names)) == len(names) > 15
    assert all(bool(each.fix) is (each.state != "ok") for each in found)
    assert any("are needed for 3 tasks at a time" in each.detail for each in found)


def test_as_json_each_finding_is_an_object_a_line() -> None:
    shown = asked("--json")
    found = [json.loads(line) for line in shown.stdout.splitlines()]
    assert {each["state"] for each in found} <= {"ok", "warn", "bad"}
    assert all(set(each) == {"name", "state", "says", "fix"} for each in found)
    assert "pipe" in {each["name"] for each in found}
    assert shown.returncode in {0, 1}


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder whose name leaves room for sockets, which pytest's own may not."""
    with tempfile.TemporaryDirectory(prefix="pipe-") as made:
        yield Path(made)


def test_what_would_bite_a_run_is_found_before_it(short: Path) -> None:
    (short / "pipe").mkdir()
    (short / "pipe").chmod(0o755)
    shown = asked("--jobs", "100000000", XDG_RUNTIME_DIR=str(short), TMPDIR=str(short / "none"))
    assert shown.returncode == 3
    bad = {line.split("  ")[1].strip() for line in shown.stdout.splitlines() if line.startswith("bad")}
    assert {"runtime folder", "TMPDIR"} <= bad
    assert f"-> chmod 700 {short / 'pipe'}" in shown.stdout
    assert shown.stderr == ""
