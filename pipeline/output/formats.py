"""Formats of results: plain output, job log, CSV, JSON lines, dead letters, failure messages.

Pure functions, but for reading the text of a large result: these yield the text in pieces. Invariants:
  - task numbers start at 1;
  - a row is complete even without metrics (the ventilator gave up on the task, or the worker collects none);
  - GNU parallel's columns have its names and its number formats;
  - a dead letter is one line of JSON from which the task can be read back byte for byte;
  - messages to the user contain no character that moves the cursor.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from pipeline.model import records, results
from pipeline.model.messages import Result, TaskFailure
from pipeline.model.results import LargeResult, TaskMetrics
from pipeline.output.large_text import LargeText, Text, content_texts, iter_csv_field, iter_json_field

if TYPE_CHECKING:
    from pipeline.model.events import WriteResult

NO_METRICS = TaskMetrics(0.0, 0.0, 0.0, 0.0, 0, 0, 0, b"", b"")
CSV_COLUMNS = ("Seq", "Host", "Starttime", "JobRuntime", "Send", "Receive", "Exitval", "Signal", "Command")
"""GNU parallel's columns."""
EXTRA_COLUMNS = ("Attempt", "Worker", "Slot", "Queue", "MaxRSS", "CPU", "Reason")
JOBLOG_HEADER = "\t".join((*CSV_COLUMNS, *EXTRA_COLUMNS)).encode() + b"\n"
_NEEDS_QUOTES = re.compile(rb"[\s\",\x00-\x1f\x7f-\xff]")
SECOND_EXIT_FAILURE = 2


def plain_output(message: WriteResult) -> bytes | Iterator[bytes]:
    """Return the output of the tasks, without what was streamed before."""
    if message.is_retried:
        return b""
    if isinstance(message.result, LargeResult):
        output, _ = content_texts(message.result)
        return output.skip(dict(message.streamed_sizes).get(message.result.first, 0)).chunks()
    return results.remaining_output(message.result, message.streamed_sizes)


class ResultRow(Struct, frozen=True):
    """One task, or one attempt of it."""

    number: int
    result: Result
    metrics: TaskMetrics
    failure: TaskFailure | None
    stdout: Text
    stderr: Text
    output_size: int
    """Bytes of stdout; that of an attempt that is retried may be empty here."""

    @property
    def exit_code(self) -> int:
        """The exit code as in GNU parallel: 0 if a signal killed the task, -1 if it did not end by itself."""
        failure = self.failure
        if failure is None or failure.kind == "signal":
            return 0
        return (failure.code or 1) if failure.kind in {"exit", "exception"} else -1

    @property
    def signal(self) -> int:
        """The number of the signal that killed the task, or 0."""
        return self.failure.code if self.failure and self.failure.kind in {"signal", "timeout"} else 0

    @property
    def record(self) -> bytes:
        """The task."""
        return self.metrics.record

    @property
    def values(self) -> list[bytes]:
        """The arguments of the task."""
        return split_arguments(self)[1]


def iter_rows(result: Result) -> Iterator[ResultRow]:
    """Return the rows of all tasks of a result."""
    all_metrics = list(results.decode_metrics(result.metrics)) or [NO_METRICS] * result.count
    stdout_ends = [0, *(end for (end,) in struct.iter_unpack("<I", result.output_ends))]
    stderr_ends = list(accumulate((metrics.stderr_size for metrics in all_metrics), initial=0))
    failures = {failure.task: failure for failure in result.failures}
    failed_records = {failure.task: record for failure, record in _iter_failures(result)}
    for index, metrics in enumerate(all_metrics):
        task = result.first + index
        if metrics is NO_METRICS and task in failed_records:
            metrics = NO_METRICS._replace(record=failed_records[task])  # noqa: PLW2901 -- all that is known of it
        stdout = result.output[stdout_ends[index] : stdout_ends[index + 1]]
        stderr = result.stderr[stderr_ends[index] : stderr_ends[index + 1]]
        texts: tuple[Text, Text] = content_texts(result) if isinstance(result, LargeResult) else (stdout, stderr)
        output_size = result.large_sizes[0] if result.large_sizes else len(stdout)
        yield ResultRow(task + 1, result, metrics, failures.get(task), *texts, output_size)


def _iter_failures(result: Result) -> Iterator[tuple[TaskFailure, bytes]]:
    """Return each failure with the record of its task."""
    for failure, end in zip(result.failures, accumulate(item.record_size for item in result.failures), strict=True):
        yield failure, result.failed_records[end - failure.record_size : end]


def split_arguments(row: ResultRow) -> tuple[list[bytes], list[bytes]]:
    """Return the names of a task's arguments (empty if they have none), and the arguments."""
    if row.result.shape in {"columns", "packed"}:
        try:
            values, names = records.decode_fields(row.record)
        except ValueError:  # the record comes from a worker
            return [], [row.record]
        return names, values
    return [], [row.record]


def joblog_line(row: ResultRow, hostname: str) -> bytes:
    """Return a line of --joblog; `hostname` is the name of this machine."""
    command = row.metrics.command.replace(b"\n", b"\0")
    return b"\t".join([*_parallel_columns(row, hostname, "%10.3f"), command, *_extra_columns(row)]) + b"\n"


def csv_header(row: ResultRow) -> bytes:
    """Return the first line of a CSV file whose tasks have as many arguments as this one."""
    arguments = [f"V{number}" for number in range(1, len(row.values) + 1)]
    return ",".join([*CSV_COLUMNS, *arguments, "Stdout", "Stderr", *EXTRA_COLUMNS]).encode() + b"\n"


def csv_line(row: ResultRow, hostname: str) -> bytes | Iterator[bytes]:
    """Return a line of a CSV file, quoted as by GNU parallel."""
    fields = [*_parallel_columns(row, hostname, "%.3f"), row.metrics.command, *row.values]
    if isinstance(row.stdout, LargeText) or isinstance(row.stderr, LargeText):
        return _iter_large_csv_line(fields, row)
    return b",".join(map(_csv_field, (*fields, row.stdout, row.stderr, *_extra_columns(row)))) + b"\n"


def _iter_large_csv_line(fields: list[bytes], row: ResultRow) -> Iterator[bytes]:
    yield b",".join(map(_csv_field, fields))
    for text in (row.stdout, row.stderr):
        yield b","
        yield from iter_csv_field(text)
    yield b"," + b",".join(map(_csv_field, _extra_columns(row))) + b"\n"


def json_line(row: ResultRow) -> bytes | Iterator[bytes]:
    """Return a line of JSON."""
    fields = _json_fields(row)
    if isinstance(row.stdout, LargeText) or isinstance(row.stderr, LargeText):
        return _iter_large_json_line(records.encode_json(fields), row)
    return records.encode_json(fields | _text_field("stdout", row.stdout) | _text_field("stderr", row.stderr)) + b"\n"


def _iter_large_json_line(line: bytes, row: ResultRow) -> Iterator[bytes]:
    yield line.removesuffix(b"}")
    for name, text in (("stdout", row.stdout), ("stderr", row.stderr)):
        yield b", "
        yield from iter_json_field(name, text)
    yield b"}\n"


def _json_fields(row: ResultRow) -> dict[str, Any]:
    """Return all fields but stdout and stderr."""
    metrics, failure = row.metrics, row.failure
    fields: dict[str, Any] = {"number": row.number, **_text_field("task", row.record)}
    if row.result.shape in {"columns", "packed"}:
        names, values = ([text.decode(errors="surrogateescape") for text in part] for part in split_arguments(row))
        fields["arguments"] = dict(zip(names, values, strict=True)) if names else values
    fields |= {"ok": failure is None, "exit": row.exit_code, "signal": row.signal}
    fields |= {"reason": failure.kind if failure else "", "text": failure.text if failure else ""}
    fields |= {"attempt": row.result.attempt + 1, "worker": row.result.worker, "slot": metrics.slot}
    fields |= {"started": round(metrics.started_at, 6), "seconds": round(metrics.seconds, 6)}
    fields |= {"queued": round(metrics.queued_seconds, 6), "cpu": round(metrics.cpu_seconds, 6), "rss": metrics.max_rss}
    return fields | _text_field("command", metrics.command)


def dead_letters(result: Result) -> bytes:
    """Return the dead letters of all failed tasks."""
    return b"".join([dead_letter(result, failure, record) for failure, record in _iter_failures(result)])


def dead_letter(result: Result, failure: TaskFailure, record: bytes) -> bytes:
    """Return the dead letter of one task; `record` is the task, without its terminator."""
    fields = {"number": failure.task + 1, **_text_field("task", record)}
    fields |= {} if result.shape == "line" else {"shape": result.shape}
    fields |= {"why": failure.kind, "code": failure.code, "reason": failure.text, "attempts": result.attempt + 1}
    return records.encode_json(fields | {"worker": result.worker, "stderr": failure.stderr_tail}) + b"\n"


def _parallel_columns(row: ResultRow, hostname: str, runtime_format: str) -> list[bytes]:
    """Return GNU parallel's columns but the last, the command."""
    host = row.result.worker.rsplit(".", 2)[0]
    texts = [str(row.number), ":" if host in {hostname, "ventilator"} else host, f"{row.metrics.started_at:.3f}"]
    texts += [runtime_format % row.metrics.seconds, "0", str(row.output_size), str(row.exit_code), str(row.signal)]
    return [text.encode() for text in texts]


def _extra_columns(row: ResultRow) -> list[bytes]:
    metrics = row.metrics
    texts = [str(row.result.attempt + 1), row.result.worker, str(metrics.slot), f"{metrics.queued_seconds:.3f}"]
    texts += [str(metrics.max_rss), f"{metrics.cpu_seconds:.3f}", row.failure.kind if row.failure else "ok"]
    return [text.encode() for text in texts]


def _csv_field(field: bytes) -> bytes:
    return b'"' + field.replace(b'"', b'""') + b'"' if _NEEDS_QUOTES.search(field) else field


def _text_field(name: str, value: bytes) -> dict[str, Any]:
    """Return a field that is text; in base64, under another name, where the value is not UTF-8."""
    try:
        return {name: value.decode()}
    except UnicodeDecodeError:
        from base64 import b64encode

        return {f"{name}_base64": b64encode(value).decode()}


class FailureReporter:
    """The stderr of tasks, and one line for each failure that the user has to know.

    A task that ended with an exit code may have explained itself on stderr: only the first of them is reported, with
    `verbose` all. `is_stderr_captured`: stderr is written to a file, and not shown. `is_stderr_shortened`: it is shown
    on a terminal, and only both ends of a large one.
    """

    def __init__(self, *, verbose: bool, is_stderr_captured: bool, is_stderr_shortened: bool = False) -> None:
        self._is_verbose, self._is_stderr_captured = verbose, is_stderr_captured
        self._is_stderr_shortened = is_stderr_shortened
        self._exit_failures = 0

    def messages(self, result: Result) -> bytes | Iterator[bytes]:
        """Return what to show of a result."""
        messages = b"".join([self._message(failure) for failure in result.failures])
        if self._is_stderr_captured:
            return messages
        return self._iter_large(result, messages) if isinstance(result, LargeResult) else result.stderr + messages

    def _iter_large(self, result: LargeResult, messages: bytes) -> Iterator[bytes]:
        _, stderr = content_texts(result)
        yield from stderr.shortened_chunks() if self._is_stderr_shortened else stderr.chunks()
        yield messages

    def _message(self, failure: TaskFailure) -> bytes:
        self._exit_failures += failure.kind == "exit"
        if self._is_verbose or failure.kind != "exit" or self._exit_failures == 1:
            text = f"task {failure.task + 1}: {failure.text}"
        elif self._exit_failures == SECOND_EXIT_FAILURE:
            text = "more tasks failed with an exit code; use -v to list each, --failed FILE to save them"
        else:
            return b""
        return ("pipe: " + "".join(c if c.isprintable() else "?" for c in text) + "\n").encode(errors="replace")
