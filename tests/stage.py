"""A stage for whole lines of real processes, each in the same private runtime folder, found again by a mark.

Every process that is started here, and whatever it starts, daemons too, carries the stage's mark in its environment. So
a test can ask who is left, and at the end exactly these are killed. Nothing here waits without a deadline.
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
from orphans import until

HERE = Path(__file__).parent
ACTS = HERE / "acts.py"
"""Callables for --call."""
WITHIN = 90.0
"""Seconds that anything here may take; what takes longer hangs."""


class Player:
    """One `pipe` process; what it writes can be read at any time."""

    def __init__(self, process: subprocess.Popen[bytes], stem: Path) -> None:
        self._process, self._stem = process, stem
        self.pid = process.pid

    @property
    def out(self) -> str:
        """What it has written to stdout so far."""
        return self._stem.with_suffix(".out").read_text()

    @property
    def err(self) -> str:
        """What it has written to stderr so far."""
        return self._stem.with_suffix(".err").read_text()

    @property
    def lines(self) -> list[str]:
        """The lines of stdout, sorted."""
        return sorted(self.out.splitlines())

    def code(self, within: float = WITHIN) -> int:
        """Its exit code, once it has ended."""
        try:
            return self._process.wait(within)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self._process.args!r} does not end; it said:\n{self.err}") from None

    def says(self, text: str, within: float = WITHIN) -> None:
        """Wait until stderr holds `text`."""
        with suppress(AssertionError):
            until(lambda: text in self.err or self._process.poll() is not None, within)
        assert text in self.err

    def send(self, signum: int) -> None:
        """Send it a signal, and nobody else."""
        self._process.send_signal(signum)

    def below(self) -> list[psutil.Process]:
        """Its children; for `pipe work`, whose process is the keeper, that is the worker."""
        return psutil.Process(self.pid).children()

    def names(self) -> dict[str, int]:
        """The processes of a `pipe run -v` and their pids, the newest of each name."""
        said = (line.split() for line in self.err.splitlines())
        return {words[1]: int(words[2]) for words in said if len(words) == 3 and words[2].isdigit()}


class Stage:
    """Where the processes of one test meet, and what is left of them."""

    def __init__(self) -> None:
        self._root = Path(tempfile.mkdtemp(prefix="pipe-", dir="/tmp"))  # pytest's paths are too long for ipc
        self.runtime = self._root / "run"
        self.runtime.mkdir(0o700)
        self.folder = self._root / "files"
        self.folder.mkdir()
        self._mark = f"STAGE={secrets.token_hex(8)}"
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Kill whoever is left, and remove the folders."""
        self.kill_all()
        shutil.rmtree(self._root)

    def kill_all(self) -> None:
        """Kill all that is left, at once: nobody has time to notice that another has gone."""
        while left := self.left():
            for signum in (signal.SIGSTOP, signal.SIGKILL):
                for pid in left:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signum)

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """What each process here is given."""
        name, _, value = self._mark.partition("=")
        own = {name: value, "XDG_RUNTIME_DIR": str(self.runtime), "PYTHONPATH": str(HERE.parent)}
        return {**os.environ, **own, **(more or {})}

    def words(self, *words: object) -> list[str]:
        """The argv of `pipe WORDS`."""
        return [sys.executable, "-m", "pipeline", *map(str, words)]

    def start(self, *words: object, tasks: object = "", **more: str) -> Player:
        """`pipe WORDS`; stdin is the text `tasks`, or that descriptor; `more` goes into the environment."""
        self._count += 1
        stem = self._root / str(self._count)
        stem.with_suffix(".in").write_text(tasks if isinstance(tasks, str) else "")
        given = open(stem.with_suffix(".in"), "rb") if isinstance(tasks, str) else tasks  # noqa: SIM115
        with open(stem.with_suffix(".out"), "wb") as out, open(stem.with_suffix(".err"), "wb") as err:
            process = subprocess.Popen(
                self.words(*words),
                stdin=given, stdout=out, stderr=err, env=self.environment(more), cwd=self.folder,
                start_new_session=True,
            )  # type: ignore[call-overload]  # fmt: skip
        return Player(process, stem)

    def left(self) -> list[int]:
        """The pids of all living processes that carry the mark; a zombie has no environment any more."""
        pids = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError):
                if self._mark.encode() in path.read_bytes():
                    pids.append(int(path.parent.name))
        return pids

    def is_empty(self) -> None:
        """Wait until nobody and no file or folder of the line is left."""
        until(lambda: not self.left())
        assert [str(path) for path in self.runtime.glob("pipe/*")] == []

    def note(self, name: str) -> Path:
        """A file for tasks to write to."""
        return self.folder / name
