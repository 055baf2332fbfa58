"""Tasks of dead letters, for --from-failed: a line becomes the task that it was, in the same shape.

A line that is not a dead letter ends the reading with its file and line number. The shape of all tasks is read from
the first line of the first file before workers receive the record format.
"""

from __future__ import annotations

import codecs
import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from typing import get_args

from pipeline.input.task_format import FormattedTasks
from pipeline.model.messages import RecordFormat, Shape


class DeadLetterReader:
    """The formatter of dead letters. A resumed spool starts after the first `skipped_lines` lines."""

    terminator = b"\n"
    reads_input = is_line_per_task = True

    def __init__(self, files: Sequence[str], skipped_lines: int = 0) -> None:
        self.record_format = RecordFormat(zero=True, shape=_read_shape(files))
        self.identity = (self.record_format, "letters")
        self._file_number, self._line_number = 0, skipped_lines

    def format(self, body: bytes, file_number: int, name: str) -> FormattedTasks:
        """Return the tasks of these lines, and why the line after them is not a dead letter."""
        if not body:
            return FormattedTasks([], is_last=True)
        if file_number != self._file_number:
            self._file_number, self._line_number = file_number, self._line_number if file_number <= 1 else 0
            body = body if self._line_number else body.removeprefix(codecs.BOM_UTF8)
        records: list[bytes] = []
        for line in body.removesuffix(self.terminator).split(self.terminator):
            self._line_number += 1
            record, error = self._parse_line(line)
            if error:
                return FormattedTasks(records, is_last=False, error=f"{name}, line {self._line_number} {error}")
            records.append(record)
        return FormattedTasks(records, is_last=False)

    def _parse_line(self, line: bytes) -> tuple[bytes, str]:
        try:
            record, shape = parse_dead_letter(line)
        except ValueError as error:
            return b"", f"was not written by --failed: {error}"
        if b"\0" in record:
            return b"", "contains a task with a NUL byte, which cannot be an argument"
        expected = self.record_format.shape
        if shape != expected:
            return b"", f"contains a task of shape {shape!r}, but the first one has shape {expected!r}"
        return record, ""


def _read_shape(files: Sequence[str]) -> Shape:
    """Return the shape of the first dead letter, or "line" if it cannot be read in advance."""
    import json  # costs start-up time

    with suppress(OSError, ValueError, AttributeError):
        if files and stat.S_ISREG(os.stat(files[0]).st_mode):
            with open(files[0], "rb") as file:
                shape = json.loads(file.readline().removeprefix(codecs.BOM_UTF8)).get("shape")
            return next((known for known in get_args(Shape) if known == shape), "line")
    return "line"


def parse_dead_letter(line: bytes) -> tuple[bytes, str]:
    """Return the task of a dead letter, without a terminator, and its shape. Raises ValueError if it is not one."""
    import json  # costs start-up time

    try:
        fields = json.loads(line)
    except RecursionError:
        fields = None
    match fields:
        case {"task": str(task)}:
            return task.encode(), fields.get("shape", "line")
        case {"task_base64": str(task)}:
            from base64 import b64decode

            return b64decode(task, validate=True), fields.get("shape", "line")
    raise ValueError("no task")
