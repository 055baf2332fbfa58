"""What can go wrong, by whose fault, and the exit code that says so.

A failed task is a value, never an exception. What the person or the world did raises a PipelineError with a
sentence: what happened, where, what to do next. What a peer sent wrong is a DecodeError, counted and dropped.
What only a bug of ours can do raises a StationError, with its story.
"""

from __future__ import annotations

OK = 0
TASKS_FAILED = 1
USAGE = 2
INCOMPLETE = 3
INTERNAL_ERROR = 70
INTERRUPTED = 130
TERMINATED = 143
STDOUT_CLOSED = 141

STDOUT_CLOSED_REASON = "stdout closed"
"""What an output says that nobody reads any more."""


class PipelineError(Exception):
    """An expected failure. It is shown as `error: TEXT` and `hint: HINT`; the process ends with `exit_code`."""

    exit_code = INCOMPLETE

    def __init__(self, text: str, hint: str = "") -> None:
        super().__init__(text)
        self.hint = hint


class UsageError(PipelineError):
    """Asked for something that can't be: a wrong option, a file that is not there."""

    exit_code = USAGE


class DecodeError(Exception):
    """A frame from a peer that is not one of our words. Never leaves the edge that read it."""


class VersionMismatchError(DecodeError):
    """A frame of another version of the protocol."""

    def __init__(self, version: str) -> None:
        super().__init__(f"protocol version {version}")
        self.version = version


class InternalError(Exception):
    """A bug of ours. The loop adds the last messages to it."""

    exit_code = INTERNAL_ERROR


def stop_exit_code(reason: str) -> int:
    """The exit code of an end that somebody asked for."""
    asked = {"^C": INTERRUPTED, "SIGTERM": TERMINATED, "SIGHUP": TERMINATED, STDOUT_CLOSED_REASON: STDOUT_CLOSED}
    return asked.get(reason, INCOMPLETE)


def version_mismatch_text(version: str) -> str:
    """What to say of a peer of another version of the protocol."""
    return f"a peer speaks protocol {version}, this is pipe2; install the same version of pipe on both sides"


def run_exit_code(mode: str, reason: str, failed_count: int) -> int:
    """The exit code of a run that ended in this mode; a reason means that it is not complete."""
    if mode == "done" and not reason:
        return TASKS_FAILED if failed_count else OK
    return stop_exit_code(reason)
