"""Processes that tasks have left in the background, at the end of the run.

Invariants:
  - a process belongs to a task by its session or, if it has left that, by the PIPE_INDEX in its environment;
  - what is in the session of a running or killed task is ended and not counted: it was not left on purpose.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection

from pipeline.executor.exec_errors import printable
from pipeline.model.events import BackgroundEnded
from pipeline.model.ranges import RangeSet
from pipeline.system.processes import kill_descendants, list_children

MAX_COMMAND_CHARS = 80
_TASK_NUMBER = re.compile(rb"(?:\A|\0)PIPE_INDEX=([0-9]{1,18})\0")


class BackgroundProcesses:
    """Processes that the tasks of one executor have left."""

    def __init__(self) -> None:
        self._killed_sessions: set[int] = set()
        self._failed_sessions: set[int] = set()
        self._failed_tasks = RangeSet()

    def on_task_end(self, task: int, session: int, *, is_killed: bool, has_failed: bool) -> None:
        """Record how a task has ended."""
        for sessions, is_member in ((self._killed_sessions, is_killed), (self._failed_sessions, has_failed)):
            (sessions.add if is_member else sessions.discard)(session)
        (self._failed_tasks.add if has_failed else self._failed_tasks.remove)(task, task + 1)

    def end(self, running: Collection[int], *, keep: bool) -> BackgroundEnded | None:
        """End what is left, with `keep` only what failed tasks have left. Return its number and the first command.

        The processes `running` are those of tasks that are not reaped yet; they are left to the caller.
        """
        left = {pid: session_of(pid) for pid in list_children() if pid not in running}
        commands = {pid: command for pid in left if (command := read_command(pid))}  # a zombie has none
        kept = {
            pid
            for pid, session in left.items()
            if keep and session not in running and not self._has_failed(pid, session)
        }
        kill_descendants({*running, *kept})
        killed = {*running, *self._killed_sessions}
        ended = [pid for pid in sorted(commands) if pid not in kept and left[pid] not in killed]
        return BackgroundEnded(len(ended), ended[0], commands[ended[0]], is_failed_only=keep) if ended else None

    def _has_failed(self, pid: int, session: int) -> bool:
        if session in self._failed_sessions:
            return True
        match = _TASK_NUMBER.search(_read(pid, "environ"))
        return match is not None and int(match[1]) - 1 in self._failed_tasks


def session_of(pid: int) -> int:
    """Return the session of a process; 0 if it has ended."""
    try:
        return os.getsid(pid)
    except OSError:
        return 0


def read_command(pid: int) -> str:
    """Return the command of a process, in one short line; empty if it has ended."""
    text = printable(_read(pid, "cmdline").replace(b"\0", b" ").strip())
    return text if len(text) <= MAX_COMMAND_CHARS else f"{text[: MAX_COMMAND_CHARS - 3]}..."


def _read(pid: int, name: str) -> bytes:
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return file.read()
    except OSError:
        return b""
