"""The one place where an exception becomes an exit code and a sentence.

Promises: what is expected is told in one line, a bug of ours with its traceback. Never hides an exception.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress

from pipeline.model.errors import INTERNAL_ERROR, INTERRUPTED, STDOUT_CLOSED, PipelineError

STDERR_FD = 2


def run_guarded(run: Callable[[], int]) -> int:
    """The exit code of `run`, or of what it raised. SystemExit passes."""
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
        # the interpreter flushes once more at its end, and would complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return STDOUT_CLOSED
    except Exception as bug:  # noqa: BLE001 -- the last place that can tell it
        return _report_bug(bug)
    return code


def _report_bug(error: Exception) -> int:
    """Tell the story of a bug."""
    import traceback

    traceback.print_exception(error)
    sys.stderr.write(
        f"pipe: this is a bug of pipe: {type(error).__name__}: {error}; please report it with all of the above\n"
    )
    return INTERNAL_ERROR


def open_missing_streams() -> None:
    """Fill the places of standard streams that this process was started without.

    Else the next file or socket would take the number, and results would be written into it. What fills them can't
    be written, so that stdout stays as closed as it was.
    """
    while (filled := os.open(os.devnull, os.O_RDONLY)) <= STDERR_FD:
        os.set_inheritable(filled, True)
    os.close(filled)
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 -- lives as long as we
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def make_guarded(run: Callable[[], int]) -> Callable[[], int]:
    """The same, as a function, for a process that is forked later."""
    return lambda: run_guarded(run)
