"""Tasks out of dead letters: a line is a task again, in the shape that it had.

A line that is no letter ends the reading, and is named by its file and number. Whether a task is of the right shape is
known from the first letter of the first file, which is looked at before the workers are told.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from typing import get_args

from pipeline.input.task_format import FormattedTasks
from pipeline.model.messages import RecordFormat, Shape


class DeadLetterReader:
    """One input's letters; `skipped` lines of its first file are not read again."""

    terminator = b"\n"
    reads_input = is_line_per_task = True

    def __init__(self, files: Sequence[str], skipped_lines: int = 0) -> None:
        self.record_format = RecordFormat(zero=True, shape=_read_shape(files))
        self.identity = (self.record_format, "letters")
        self._file_number, self._line_number = 0, skipped_lines

    def format(self, body: bytes, file_number: int, name: str) -> FormattedTasks:
        """The tasks of these lines of the `file`-th file, and why the line behind them is no letter."""
        if not body:
            return FormattedTasks([], is_last=True)
        if file_number != self._file_number:
            self._file_number, self._line_number = file_number, self._line_number if file_number <= 1 else 0
        records: list[bytes] = []
        for line in body.removesuffix(self.terminator).split(self.terminator):
            self._line_number += 1
            record, wrong = self._parse_line(line)
            if wrong:
                return FormattedTasks(records, is_last=False, error=f"{name}, line {self._line_number} {wrong}")
            records.append(record)
        return FormattedTasks(records, is_last=False)

    def _parse_line(self, line: bytes) -> tuple[bytes, str]:
        from pipeline.output.formats import parse_dead_letter

        try:
            record, shape = parse_dead_letter(line)
        except ValueError as error:
            return b"", f"was not written by --failed: {error}; leave out --from-failed"
        if b"\0" in record:
            return b"", "holds a task with a NUL byte, which cannot be an argument"
        if shape != self.record_format.shape:
            return (
                b"",
                f"holds a task of the shape {shape}, the first one is of {self.record_format.shape}: read them apart",
            )
        return record, ""


def _read_shape(files: Sequence[str]) -> Shape:
    """The shape of the first letter, if it can be looked at."""
    with suppress(OSError, ValueError, AttributeError):
        if files and stat.S_ISREG(os.stat(files[0]).st_mode):
            with open(files[0], "rb") as file:
                shape = json.loads(file.readline()).get("shape")
            return next((known for known in get_args(Shape) if known == shape), "line")
    return "line"
