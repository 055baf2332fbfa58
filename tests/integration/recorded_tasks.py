"""Task of the fault tests: a callable that records its executions independently of `pipe`."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

EXECUTION_LOG = "executed"


def run_task(task: str) -> str:
    """Run `NUMBER SECONDS`, `NUMBER gate` (until that file exists) `NUMBER fail` or `NUMBER poison`.

    The start and the end of each are recorded.
    """
    number, how = task.split()
    _append_event(number, "start")
    if how == "gate":
        while not os.path.exists("gate"):
            time.sleep(0.01)
    elif how == "fail":
        raise ValueError(task)
    elif how == "poison":
        os.kill(_worker_pid(), signal.SIGKILL)
    else:
        time.sleep(float(how))
    _append_event(number, "end")
    return f"got {number}"


def _worker_pid() -> int:
    """Return the parent of the fork server, which is the parent of this process."""
    return int(Path(f"/proc/{os.getppid()}/stat").read_text().rpartition(") ")[2].split()[1])


def _append_event(number: str, event: str) -> None:
    """Append a line atomically: number, event, time (nanoseconds of the monotonic clock)."""
    file = os.open(EXECUTION_LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, f"{number} {event} {time.monotonic_ns()}\n".encode())
    os.close(file)
