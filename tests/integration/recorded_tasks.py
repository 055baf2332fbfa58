"""Task of the fault tests: a callable that records its executions independently of `pipe`."""

from __future__ import annotations

import os
import time

EXECUTION_LOG = "executed"


def run_task(task: str) -> str:
    """Run `NUMBER SECONDS`, `NUMBER gate` (until that file exists) or `NUMBER fail`, and record start and end."""
    number, how = task.split()
    _append_event(number, "start")
    if how == "gate":
        while not os.path.exists("gate"):
            time.sleep(0.01)
    elif how == "fail":
        raise ValueError(task)
    else:
        time.sleep(float(how))
    _append_event(number, "end")
    return f"got {number}"


def _append_event(number: str, event: str) -> None:
    """Append a line atomically: number, event, time (nanoseconds of the monotonic clock)."""
    file = os.open(EXECUTION_LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, f"{number} {event} {time.monotonic_ns()}\n".encode())
    os.close(file)
