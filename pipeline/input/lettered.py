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

from pipeline.input.forming import Formed
from pipeline.words.parts import Recipe, Shape


class Lettered:
    """One input's letters; `skipped` lines of its first file are not read again."""

    mark = b"\n"
    reads = is_exact = True

    def __init__(self, files: Sequence[str], skipped: int = 0) -> None:
        self.recipe = Recipe(zero=True, shape=_shape_in(files))
        self.identity = (self.recipe, "letters")
        self._file, self._line = 0, skipped

    def form(self, body: bytes, file: int, name: str) -> Formed:
        """The tasks of these lines of the `file`-th file, and why the line behind them is no letter."""
        if not body:
            return Formed([], is_over=True)
        if file != self._file:
            self._file, self._line = file, self._line if file <= 1 else 0
        records: list[bytes] = []
        for line in body.removesuffix(self.mark).split(self.mark):
            self._line += 1
            record, wrong = self._record(line)
            if wrong:
                return Formed(records, is_over=False, wrong=f"{name}, line {self._line} {wrong}")
            records.append(record)
        return Formed(records, is_over=False)

    def _record(self, line: bytes) -> tuple[bytes, str]:
        from pipeline.output.letters import record_of

        try:
            record, shape = record_of(line)
        except ValueError as error:
            return b"", f"was not written by --failed: {error}; leave out --from-failed"
        if b"\0" in record:
            return b"", "holds a task with a NUL byte, which cannot be an argument"
        if shape != self.recipe.shape:
            return b"", f"holds a task of the shape {shape}, the first one is of {self.recipe.shape}: read them apart"
        return record, ""


def _shape_in(files: Sequence[str]) -> Shape:
    """The shape of the first letter, if it can be looked at."""
    with suppress(OSError, ValueError, AttributeError):
        if files and stat.S_ISREG(os.stat(files[0]).st_mode):
            with open(files[0], "rb") as file:
                shape = json.loads(file.readline()).get("shape")
            return next((known for known in get_args(Shape) if known == shape), "line")
    return "line"
