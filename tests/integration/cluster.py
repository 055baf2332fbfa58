"""Pipelines of real processes in one private runtime folder.

Each process that is started here, and each of its children, has the cluster's mark in its environment. So a test can
list the remaining processes, and the end kills exactly these. Each wait has a deadline.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Self

import psutil

from tests.support.processes import ROOT, wait_until

TASK_FUNCTIONS = ROOT / "tests" / "support" / "task_functions.py"
"""Callables for --call."""
TIMEOUT_SECONDS = 90.0
"""Deadline of each wait; a process that takes longer hangs."""


class PipeProcess:
    """`pipe` process whose output can be read at any time."""

    def __init__(self, process: subprocess.Popen[bytes], stem: Path) -> None:
        self._process, self._stem = process, stem
        self.pid = process.pid

    @property
    def stdout(self) -> str:
        """Return the stdout so far."""
        return self._stem.with_suffix(".out").read_text()

    @property
    def stderr(self) -> str:
        """Return the stderr so far."""
        return self._stem.with_suffix(".err").read_text()

    @property
    def lines(self) -> list[str]:
        """Return the sorted lines of stdout."""
        return sorted(self.stdout.splitlines())

    def wait(self, timeout: float = TIMEOUT_SECONDS) -> int:
        """Wait for the end, and return the exit code."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self._process.args!r} does not end; stderr:\n{self.stderr}") from None

    def wait_for_stderr(self, text: str, timeout: float = TIMEOUT_SECONDS) -> None:
        """Wait until stderr contains `text`."""
        with suppress(AssertionError):
            wait_until(lambda: text in self.stderr or self._process.poll() is not None, timeout)
        assert text in self.stderr

    def send_signal(self, signum: int) -> None:
        """Send a signal to this process only."""
        self._process.send_signal(signum)

    def children(self) -> list[psutil.Process]:
        """Return the children; for `pipe work`, whose process is the supervisor, that is the worker."""
        return psutil.Process(self.pid).children()

    def station_pids(self) -> dict[str, int]:
        """Return the newest pid of each process of a `pipe run -v`."""
        reports = (line.split() for line in self.stderr.splitlines())
        return {words[1]: int(words[2]) for words in reports if len(words) == 3 and words[2].isdigit()}


class Cluster:
    """Processes of one test and their folders."""

    def __init__(self) -> None:
        self._root = Path(tempfile.mkdtemp(prefix="pipe-", dir="/tmp"))  # the paths of pytest are too long for ipc
        self.runtime_folder = self._root / "run"
        self.runtime_folder.mkdir(0o700)
        self.folder = self._root / "files"
        self.folder.mkdir()
        self._mark = f"STAGE={secrets.token_hex(8)}"
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Kill all remaining processes, and remove the folders."""
        self.kill_all()
        shutil.rmtree(self._root)

    def kill_all(self) -> None:
        """Kill all remaining processes at once, before one can react to the death of another."""
        while left := self.living_pids():
            for signum in (signal.SIGSTOP, signal.SIGKILL):
                for pid in left:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signum)

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the environment of each process."""
        name, _, value = self._mark.partition("=")
        own = {name: value, "XDG_RUNTIME_DIR": str(self.runtime_folder), "PYTHONPATH": str(ROOT)}
        return {**os.environ, **own, **(extra or {})}

    def command(self, *arguments: object) -> list[str]:
        """Return the argv of `pipe ARGUMENTS`."""
        return [sys.executable, "-m", "pipeline", *map(str, arguments)]

    def start(self, *arguments: object, tasks: object = "", **extra: str) -> PipeProcess:
        """Start `pipe ARGUMENTS`; `tasks` is the text or descriptor of stdin, the rest goes into the environment."""
        self._count += 1
        stem = self._root / str(self._count)
        stem.with_suffix(".in").write_text(tasks if isinstance(tasks, str) else "")
        given = open(stem.with_suffix(".in"), "rb") if isinstance(tasks, str) else tasks  # noqa: SIM115
        with open(stem.with_suffix(".out"), "wb") as out, open(stem.with_suffix(".err"), "wb") as err:
            process = subprocess.Popen(
                self.command(*arguments),
                stdin=given, stdout=out, stderr=err, env=self.environment(extra), cwd=self.folder,
                start_new_session=True,
            )  # type: ignore[call-overload]  # fmt: skip
        return PipeProcess(process, stem)

    def living_pids(self) -> list[int]:
        """Return the pids of all living processes with the mark; a zombie has no environment."""
        pids = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError):
                if self._mark.encode() in path.read_bytes():
                    pids.append(int(path.parent.name))
        return pids

    def assert_empty(self) -> None:
        """Wait until no process, file or folder of the pipeline remains."""
        wait_until(lambda: not self.living_pids())
        assert [str(path) for path in self.runtime_folder.glob("pipe/*")] == []

    def path(self, name: str) -> Path:
        """Return the path of a file for tasks."""
        return self.folder / name
