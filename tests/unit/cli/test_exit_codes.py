"""Exit codes of exceptions, and processes without some of the three streams."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from pipeline.cli import exit_codes
from pipeline.model.errors import PipelineError, UsageError
from tests.support.processes import ROOT

WITHIN = 60  # seconds; a process that takes longer hangs


@pytest.mark.parametrize(
    ("raised", "code", "expected"),
    [
        (UsageError("no such thing"), 2, "pipe: error: no such thing\n"),
        (PipelineError("the sink is gone"), 3, "pipe: error: the sink is gone\n"),
        (UsageError("no x", "give one"), 2, "pipe: error: no x\npipe: hint: give one\n"),
        (KeyboardInterrupt(), 130, ""),
        (
            ZeroDivisionError("by zero"),
            70,
            "pipe: error: internal error: ZeroDivisionError: by zero\npipe: hint: this is a bug of pipe",
        ),
    ],
)
def test_exception_has_its_exit_code(
    capsys: pytest.CaptureFixture[str], raised: BaseException, code: int, expected: str
) -> None:
    def run() -> int:
        raise raised

    assert exit_codes.make_guarded(run)() == code
    stderr = capsys.readouterr().err
    assert expected in stderr
    assert ("Traceback" in stderr) is (code == 70)


def test_closed_stdout_ends_silently_with_141() -> None:
    script = (
        "import sys\nfrom pipeline.cli.exit_codes import run_guarded\n"
        "sys.exit(run_guarded(lambda: print('x' * 100_000) or 0))"
    )
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-c", script],
        stdout=write, stderr=subprocess.PIPE, text=True, check=False, timeout=WITHIN, cwd=ROOT,
    )  # fmt: skip
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_missing_streams_are_not_replaced_by_other_files(closed: str) -> None:
    script = (
        "import os, sys\nfrom pipeline.cli.exit_codes import open_missing_streams\nopen_missing_streams()\n"
        "sys.exit(os.open('README.md', os.O_RDONLY) < 3 or sys.stdout is None or sys.stderr is None)"
    )
    words = ["sh", "-c", f'exec "$0" -c "$1" {closed}', sys.executable, script]
    assert subprocess.run(words, check=False, timeout=WITHIN, cwd=ROOT).returncode == 0


def test_full_stderr_keeps_the_exit_code() -> None:
    script = (
        "import os\nfrom pipeline.cli.exit_codes import run_guarded\nfrom pipeline.model.errors import UsageError\n"
        "def run(): raise UsageError('x')\nos._exit(run_guarded(run))"
    )
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run([sys.executable, "-c", script], stderr=full, check=False, timeout=WITHIN, cwd=ROOT)
    assert done.returncode == 2
