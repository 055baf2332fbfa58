"""Conversion of exceptions into exit codes and messages, in one place.

Invariants:
  - An expected failure is shown as an error line and, if there is a cure, a hint line.
  - A bug of pipe is shown with its traceback. No exception is hidden.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress

from pipeline.model.errors import INTERNAL_ERROR, INTERRUPTED, STDOUT_CLOSED, PipelineError

STDERR_FD = 2


def run_guarded(run: Callable[[], int]) -> int:
    """Return the exit code of `run`, or of what it raised. SystemExit passes."""
    try:
        code = run()
        sys.stdout.flush()
    except PipelineError as error:
        hint = f"pipe: hint: {error.hint}\n" if error.hint else ""
        with suppress(OSError):  # without a stderr, the exit code has to do
            sys.stderr.write(f"pipe: error: {error}\n{hint}")
            sys.stderr.flush()
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # the interpreter flushes stdout again at its end, and would print an error
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return STDOUT_CLOSED
    except Exception as error:  # noqa: BLE001 -- the last place that can report it
        return _report_bug(error)
    return code


def make_guarded(run: Callable[[], int]) -> Callable[[], int]:
    """Return a function that calls `run_guarded(run)`, for a process that is forked later."""
    return lambda: run_guarded(run)


def _report_bug(error: Exception) -> int:
    import traceback

    traceback.print_exception(error)
    sys.stderr.write(
        f"pipe: error: internal error: {type(error).__name__}: {error}\n"
        "pipe: hint: this is a bug of pipe; please report it with all of the above\n"
    )
    return INTERNAL_ERROR


def open_missing_streams() -> None:
    """Open /dev/null for standard streams that this process was started without.

    Otherwise the next file or socket gets the number of a missing stream, and results are written into it. The
    substitutes are opened for reading only, so that a closed stdout still fails as one.
    """
    while (number := os.open(os.devnull, os.O_RDONLY)) <= STDERR_FD:
        os.set_inheritable(number, True)
    os.close(number)
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 -- open until the process ends
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
