"""What is told of tasks that did not end well: to a person on stderr, and in dead letters to who tries them again.

Pure. A letter is one line of JSON with the task in it, byte for byte; what a person reads holds no character that moves
the cursor. Task numbers start at 1 in both.
"""

from __future__ import annotations

from itertools import accumulate

from pipeline.words.messages import Result
from pipeline.words.parts import TaskFailure

SECOND_EXIT_FAILURE = 2


def dead_letter(result: Result, failure: TaskFailure, record: bytes) -> bytes:
    """The line of one task of `result`; `record` is the task, without its terminator."""
    import json  # most runs have no letter to write

    try:
        task = {"task": record.decode()}
    except UnicodeDecodeError:
        from base64 import b64encode

        task = {"task_base64": b64encode(record).decode()}
    told = {
        "number": failure.task + 1,
        **task,
        **({} if result.shape == "line" else {"shape": result.shape}),
        "why": failure.kind,
        "code": failure.code,
        "reason": failure.text,
        "attempts": result.attempt + 1,
        "worker": result.worker,
        "stderr": failure.stderr_tail,
    }
    return json.dumps(told, ensure_ascii=False).encode(errors="replace") + b"\n"


def dead_letters(result: Result) -> bytes:
    """Those of all its tasks that did not end well."""
    ends = accumulate(note.record_size for note in result.failures)
    return b"".join(
        [
            dead_letter(result, note, result.failed_records[end - note.record_size : end])
            for note, end in zip(result.failures, ends, strict=True)
        ]
    )


def parse_dead_letter(line: bytes) -> tuple[bytes, str]:
    """The task of a letter, without a terminator, and its shape. Raises ValueError if the line is none."""
    import json

    try:
        told = json.loads(line)
    except RecursionError:
        told = None
    match told:
        case {"task": str(task)}:
            return task.encode(), told.get("shape", "line")
        case {"task_base64": str(task)}:
            from base64 import b64decode

            return b64decode(task, validate=True), told.get("shape", "line")
    raise ValueError("it has no task")


class FailureReporter:
    """What a person is told of results: what tasks wrote to stderr; then, a line each, who of them failed, and why.

    Of those that ended with an exit code, which could explain themselves, the first is named; with `verbose`, each.
    `apart`: what they wrote is kept elsewhere, and not told here. Task numbers start at 1 here.
    """

    def __init__(self, *, verbose: bool, is_stderr_captured: bool) -> None:
        self._is_verbose, self._is_stderr_captured = verbose, is_stderr_captured
        self._exit_failures = 0

    def messages(self, result: Result) -> bytes:
        """What is told of this one."""
        told = b"" if self._is_stderr_captured else result.stderr
        return told + b"".join(self._message(note) for note in result.failures)

    def _message(self, failure: TaskFailure) -> bytes:
        self._exit_failures += failure.kind == "exit"
        if self._is_verbose or failure.kind != "exit" or self._exit_failures == 1:
            text = f"task {failure.task + 1}: {failure.text}"
        elif self._exit_failures == SECOND_EXIT_FAILURE:
            text = "more tasks end like that: -v names each, --failed FILE keeps them"
        else:
            return b""
        return ("pipe: " + "".join(c if c.isprintable() else "?" for c in text) + "\n").encode(errors="replace")
