"""Joblog, CSV, JSON lines, dead letters, failure messages.

What is written of each task where more than its output is asked for: a row, in one of several forms.

Pure. A row has what the task's result, its note and its account say; without an account (of a task that the ventilator
judged, or of a worker that gives none) the rest is empty. Task numbers start at 1. The names of GNU parallel's columns
are its own, and so is how they are written.

What is told of tasks that did not end well: to a person on stderr, and in dead letters to who tries them again.

Pure. A letter is one line of JSON with the task in it, byte for byte; what a person reads holds no character that moves
the cursor. Task numbers start at 1 in both.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator
from itertools import accumulate
from typing import Any

from msgspec import Struct

from pipeline.model import records, results
from pipeline.model.messages import Result, TaskFailure
from pipeline.model.results import TaskMetrics

NO_METRICS = TaskMetrics(0.0, 0.0, 0.0, 0.0, 0, 0, 0, b"", b"")
JOBLOG_HEADER = b"Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand"
JOBLOG_HEADER += b"\tAttempt\tWorker\tSlot\tQueue\tMaxRSS\tCPU\tReason\n"
"""GNU parallel's nine columns, then ours."""
CSV_COLUMNS = ("Seq", "Host", "Starttime", "JobRuntime", "Send", "Receive", "Exitval", "Signal", "Command")
CSV_EXTRA_COLUMNS = ("Stdout", "Stderr", "Attempt", "Worker", "Slot", "Queue", "MaxRSS", "CPU", "Reason")
_NEEDS_QUOTES = re.compile(rb"[\s\",\x00-\x1f\x7f-\xff]")


class ResultRow(Struct, frozen=True):
    """One task, or one try of it."""

    number: int
    result: Result
    metrics: TaskMetrics
    failure: TaskFailure | None
    stdout: bytes
    stderr: bytes

    @property
    def exit_code(self) -> int:
        """The exit code, as GNU parallel has it: 0 of who was killed by a signal, -1 of who never ended by itself."""
        note = self.failure
        if note is None or note.kind == "signal":
            return 0
        return (note.code or 1) if note.kind in {"exit", "exception"} else -1

    @property
    def signal(self) -> int:
        """The number of the signal that killed it, or 0."""
        return self.failure.code if self.failure and self.failure.kind in {"signal", "timeout"} else 0

    @property
    def record(self) -> bytes:
        """The task."""
        return self.metrics.record

    @property
    def values(self) -> list[bytes]:
        """Its arguments."""
        return split_arguments(self)[1]


def iter_rows(result: Result) -> Iterator[ResultRow]:
    """Of all tasks of a result."""
    told = list(results.decode_metrics(result.metrics)) or [NO_METRICS] * result.count
    ends = [0, *(end for (end,) in struct.iter_unpack("<I", result.output_ends))]
    errors = list(accumulate((each.stderr_size for each in told), initial=0))
    notes = {note.task: note for note in result.failures}
    records = _failed_records(result)
    for at, account in enumerate(told):
        task = result.first + at
        if account is NO_METRICS and task in records:
            account = NO_METRICS._replace(record=records[task])  # noqa: PLW2901 -- what is known of it
        stdout, stderr = result.output[ends[at] : ends[at + 1]], result.stderr[errors[at] : errors[at + 1]]
        yield ResultRow(task + 1, result, account, notes.get(task), stdout, stderr)


def _failed_records(result: Result) -> dict[int, bytes]:
    """The records of those that failed."""
    stops = accumulate(note.record_size for note in result.failures)
    pairs = zip(result.failures, stops, strict=True)
    return {note.task: result.failed_records[stop - note.record_size : stop] for note, stop in pairs}


def split_arguments(row: ResultRow) -> tuple[list[bytes], list[bytes]]:
    """The names of a task's arguments (none, if they have none), and the arguments."""
    if row.result.shape in {"columns", "packed"}:
        try:
            values, names = records.decode_fields(row.record)
        except ValueError:  # a worker's word
            return [], [row.record]
        return names, values
    return [], [row.record]


def joblog_line(row: ResultRow, hostname: str) -> bytes:
    """A line of --joblog; `here` is this machine's name."""
    account = row.metrics
    nine = [*_parallel_columns(row, hostname, "%10.3f"), account.command.replace(b"\n", b"\0")]
    return b"\t".join([*nine, *_extra_columns(row)]) + b"\n"


def csv_header(row: ResultRow) -> bytes:
    """The first line of a CSV file whose tasks have as many arguments as this one."""
    arguments = [f"V{number}" for number in range(1, len(row.values) + 1)]
    return ",".join([*CSV_COLUMNS, *arguments, *CSV_EXTRA_COLUMNS]).encode() + b"\n"


def csv_line(row: ResultRow, hostname: str) -> bytes:
    """A line of a CSV file, quoted as GNU parallel does."""
    fields = [
        *_parallel_columns(row, hostname, "%.3f"),
        row.metrics.command,
        *row.values,
        row.stdout,
        row.stderr,
        *_extra_columns(row),
    ]
    return b",".join(map(_csv_field, fields)) + b"\n"


def json_line(row: ResultRow) -> bytes:
    """A line of JSON."""
    account, note = row.metrics, row.failure
    told: dict[str, Any] = {"number": row.number, **_text_field("task", row.record)}
    names, values = split_arguments(row)
    if row.result.shape in {"columns", "packed"}:
        texts, keys = ([text.decode(errors="replace") for text in part] for part in (values, names))
        told["arguments"] = dict(zip(keys, texts, strict=True)) if keys else texts
    told |= {"ok": note is None, "exit": row.exit_code, "signal": row.signal}
    told |= {"reason": note.kind if note else "", "text": note.text if note else ""}
    told |= {"attempt": row.result.attempt + 1, "worker": row.result.worker, "slot": account.slot}
    told |= {"started": round(account.started_at, 6), "seconds": round(account.seconds, 6)}
    told |= {"queued": round(account.queued_seconds, 6), "cpu": round(account.cpu_seconds, 6), "rss": account.max_rss}
    told |= (
        _text_field("command", account.command) | _text_field("stdout", row.stdout) | _text_field("stderr", row.stderr)
    )
    return json.dumps(told, ensure_ascii=False).encode(errors="replace") + b"\n"


def _parallel_columns(row: ResultRow, hostname: str, runtime_format: str) -> list[bytes]:
    """GNU parallel's first eight columns."""
    host = row.result.worker.rsplit(".", 2)[0]
    texts = [str(row.number), ":" if host in {hostname, "ventilator"} else host, f"{row.metrics.started_at:.3f}"]
    texts += [runtime_format % row.metrics.seconds, "0", str(len(row.stdout)), str(row.exit_code), str(row.signal)]
    return [text.encode() for text in texts]


def _extra_columns(row: ResultRow) -> list[bytes]:
    """The columns behind GNU parallel's."""
    account = row.metrics
    texts = [str(row.result.attempt + 1), row.result.worker, str(account.slot), f"{account.queued_seconds:.3f}"]
    texts += [str(account.max_rss), f"{account.cpu_seconds:.3f}", row.failure.kind if row.failure else "ok"]
    return [text.encode() for text in texts]


def _csv_field(field: bytes) -> bytes:
    return b'"' + field.replace(b'"', b'""') + b'"' if _NEEDS_QUOTES.search(field) else field


def _text_field(name: str, value: bytes) -> dict[str, str]:
    """A field that is text; in base64, under another name, where it is not."""
    try:
        return {name: value.decode()}
    except UnicodeDecodeError:
        from base64 import b64encode

        return {f"{name}_base64": b64encode(value).decode()}


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
