"""Sessions: who is in one, and the end of all that is in it.

Each task has a session of its own, which holds all process groups that it makes. Only what has become a session's
leader itself, a daemon, has left it. A session's number is safe as long as its first process is not reaped.
Nothing here waits, and no zombie counts.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Collection
from contextlib import suppress


def list_alive_pids(sessions: Collection[int]) -> list[int]:
    """The processes in these sessions that have not ended."""
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return [pid for pid in pids if _is_in_session(pid, sessions) and not _has_ended(pid)]


def kill_sessions(sessions: Collection[int]) -> None:
    """Kill all that is in these sessions, and what was started there meanwhile. Its end is not waited for."""
    for leader in sessions:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(leader, signal.SIGKILL)
    seen: set[int] = set()
    # nobody with a SIGKILL pending can fork any more, so a look that finds nobody new is the last
    while fresh := set(list_alive_pids(sessions) if sessions else ()) - seen:
        seen |= fresh
        for pid in fresh:
            if _is_in_session(pid, sessions):
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)


def _is_in_session(pid: int, sessions: Collection[int]) -> bool:
    try:
        return os.getsid(pid) in sessions
    except OSError:
        return False


def _has_ended(pid: int) -> bool:
    """Whether it is a zombie, or gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] in b"ZX"
    except OSError:
        return True
