"""`pipe doctor`: output as text and as JSON, and exit codes."""

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


def run_doctor(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run `pipe doctor WORDS` with additional environment variables."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **more}
    argv = [sys.executable, "-m", "pipeline", "doctor", *words]
    return subprocess.run(argv, capture_output=True, text=True, check=False, env=environment, timeout=60)


@pytest.mark.parametrize(
    ("states", "code"), [(["ok"], 0), (["ok", "warn"], 1), (["warn", "bad", "ok"], 3), (["bad"], 3)]
)
def test_exit_code_is_that_of_the_worst_result(states: list[CheckState], code: int) -> None:
    assert doctor.exit_code([CheckResult("x", state, "y") for state in states]) == code


def test_report_shows_fix_below_its_check() -> None:
    lines = list(
        doctor.format_report([CheckResult("long name", "ok", "fine"), CheckResult("x", "warn", "bites", "do this")])
    )
    assert lines == [
        "ok    long name  fine",
        "warn  x          bites",
        "                 -> do this",
        "",
        "1 of 2 checks need attention (see ->)",
    ]
    assert list(doctor.format_report([CheckResult("x", "ok", "fine")]))[-1] == "all checks passed"


def test_every_check_has_one_name_and_problems_have_a_fix() -> None:
    results = list(doctor.run_checks(Settings(jobs=3, workers=2)))
    names = [each.name for each in results]
    assert len(set(names)) == len(names) > 15
    assert all(bool(each.fix) is (each.state != "ok") for each in results)
    assert any("concurrent tasks need" in each.detail for each in results)


def test_json_has_one_object_per_check() -> None:
    done = run_doctor("--json")
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert {each["state"] for each in results} <= {"ok", "warn", "bad"}
    assert all(set(each) == {"name", "state", "detail", "fix"} for each in results)
    assert "pipe" in {each["name"] for each in results}
    assert done.returncode in {0, 1}


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """Yield a folder with a short path; those of pytest may be too long for sockets."""
    with tempfile.TemporaryDirectory(prefix="pipe-") as made:
        yield Path(made)


def test_doctor_finds_problems_before_a_run(short_folder: Path) -> None:
    (short_folder / "pipe").mkdir()
    (short_folder / "pipe").chmod(0o755)
    done = run_doctor("--jobs", "100000000", XDG_RUNTIME_DIR=str(short_folder), TMPDIR=str(short_folder / "none"))
    assert done.returncode == 3
    bad = {line.split("  ")[1].strip() for line in done.stdout.splitlines() if line.startswith("bad")}
    assert {"runtime directory", "TMPDIR"} <= bad
    assert f"-> chmod 700 {short_folder / 'pipe'}" in done.stdout
    assert done.stderr == ""
