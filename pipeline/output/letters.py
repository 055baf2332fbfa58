"""What is told of tasks that did not end well: to a person on stderr, and in dead letters to who tries them again.

Pure. A letter is one line of JSON with the task in it, byte for byte; what a person reads holds no character that moves
the cursor. Task numbers start at 1 in both.
"""

from __future__ import annotations

from itertools import accumulate

from pipeline.words.messages import Result
from pipeline.words.parts import Note

SECOND = 2


def letter(result: Result, note: Note, record: bytes) -> bytes:
    """The line of one task of `result`; `record` is the task, without its terminator."""
    import json  # most runs have no letter to write

    try:
        task = {"task": record.decode()}
    except UnicodeDecodeError:
        from base64 import b64encode

        task = {"task_base64": b64encode(record).decode()}
    told = {
        "number": note.task + 1,
        **task,
        **({} if result.shape == "line" else {"shape": result.shape}),
        "why": note.kind,
        "code": note.code,
        "reason": note.text,
        "attempts": result.tries + 1,
        "worker": result.worker,
        "stderr": note.tail,
    }
    return json.dumps(told, ensure_ascii=False).encode(errors="replace") + b"\n"


def letters(result: Result) -> bytes:
    """Those of all its tasks that did not end well."""
    ends = accumulate(note.size for note in result.notes)
    return b"".join(
        [
            letter(result, note, result.records[end - note.size : end])
            for note, end in zip(result.notes, ends, strict=True)
        ]
    )


def record_of(line: bytes) -> tuple[bytes, str]:
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


class Complaints:
    """What a person is told of results: what tasks wrote to stderr; then, a line each, who of them failed, and why.

    Of those that ended with an exit code, which could explain themselves, the first is named; with `verbose`, each.
    `apart`: what they wrote is kept elsewhere, and not told here. Task numbers start at 1 here.
    """

    def __init__(self, *, verbose: bool, apart: bool) -> None:
        self._verbose, self._apart = verbose, apart
        self._exits = 0

    def of(self, result: Result) -> bytes:
        """What is told of this one."""
        told = b"" if self._apart else result.errors
        return told + b"".join(self._line(note) for note in result.notes)

    def _line(self, note: Note) -> bytes:
        self._exits += note.kind == "exit"
        if self._verbose or note.kind != "exit" or self._exits == 1:
            text = f"task {note.task + 1}: {note.text}"
        elif self._exits == SECOND:
            text = "more tasks end like that: -v names each, --failed FILE keeps them"
        else:
            return b""
        return ("pipe: " + "".join(c if c.isprintable() else "?" for c in text) + "\n").encode(errors="replace")
