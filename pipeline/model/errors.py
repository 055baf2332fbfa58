"""Exceptions and exit codes.

- A failed task is a value, never an exception.
- A mistake of the user or a failure of the environment raises PipelineError or UsageError.
- An invalid frame from a peer raises DecodeError; the adapter that read the frame drops and counts it.
- A bug in pipe itself raises InternalError, with the last messages.
"""

from __future__ import annotations

from signal import Signals

OK = 0
TASKS_FAILED = 1
USAGE = 2
INCOMPLETE = 3
INTERNAL_ERROR = 70
INTERRUPTED = 130
TERMINATED = 143
STDOUT_CLOSED = 141

HINT_MARK = "\nhint: "
"""The separator between the reason of a stop and its cure, which is shown as a hint line."""
SAME_INPUT_HINT = f"{HINT_MARK}use the same input, or discard the run with --restart"
STDOUT_CLOSED_REASON = "stdout closed"
"""The failure of an output whose reader has closed the pipe."""


PIPE_KILL_REASON = "pipe kill"
"""The reason of a stop that a user has requested from another terminal."""


class PipelineError(Exception):
    """An expected failure. It is shown as `error: TEXT` and `hint: HINT`; the process ends with `exit_code`."""

    exit_code = INCOMPLETE

    def __init__(self, text: str, hint: str = "") -> None:
        super().__init__(text)
        self.hint = hint


class UsageError(PipelineError):
    """A request that cannot be carried out: a wrong option, a missing file."""

    exit_code = USAGE


class DecodeError(Exception):
    """A frame that is not a valid message."""


class VersionMismatchError(DecodeError):
    """A frame of another version of the protocol."""

    def __init__(self, version: str) -> None:
        super().__init__(f"protocol version {version}")
        self.version = version


class InternalError(Exception):
    """A bug in pipe itself. The event loop adds the last messages."""

    exit_code = INTERNAL_ERROR


def stop_exit_code(reason: str) -> int:
    """Return the exit code of a run that was stopped for this reason."""
    codes = {"^C": INTERRUPTED, PIPE_KILL_REASON: INTERRUPTED, "SIGTERM": TERMINATED, "SIGHUP": TERMINATED}
    return (codes | {STDOUT_CLOSED_REASON: STDOUT_CLOSED}).get(reason, INCOMPLETE)


def version_mismatch_text(version: str) -> str:
    """Describe a peer that speaks another version of the protocol."""
    return (
        f"protocol mismatch: peer uses {version}, this process pipe2{HINT_MARK}install the same version on both sides"
    )


def run_exit_code(mode: str, reason: str, failed_count: int) -> int:
    """Return the exit code of a run that ended in this mode. A reason means that the run is not complete."""
    if mode == "done" and not reason:
        return TASKS_FAILED if failed_count else OK
    return stop_exit_code(reason)


def describe_exit(status: int) -> str:
    """Describe how a process ended; `status` is its exit code, or minus the number of the signal that killed it."""
    return f"was killed by {Signals(-status).name}" if status < 0 else f"exited with code {status}"
