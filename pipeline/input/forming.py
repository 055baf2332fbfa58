"""Forming: the tasks of an input that is not taken line by line, whether it is read or given on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pipeline.input.combinations import ArgumentProduct
from pipeline.input.form import TaskFormat
from pipeline.input.infiles import file_identity
from pipeline.input.shaping import FieldParser
from pipeline.words.inputs import ArgumentSource
from pipeline.words.parts import RecordFormat

PRODUCT_BATCH_SIZE = 1000
"""Combinations that are made at a time."""


class FormattedTasks(NamedTuple):
    """Records without terminators; whether they are the last; and why the reading breaks off behind them."""

    records: list[bytes]
    is_last: bool
    error: str = ""


class TaskFormatter:
    """One input's; `recipe` is what its records look like, `identity` what tells it from others, beside its files."""

    def __init__(self, task_format: TaskFormat, sources: Sequence[ArgumentSource], *, zero: bool) -> None:
        """Raises UsageError and PipelineError for given files that can't be read."""
        self.terminator = b"\0" if zero else b"\n"
        self.record_format = RecordFormat(zero=zero and task_format.is_line_per_task, shape=task_format.shape)
        files = [path for each in sources if each.separator.startswith("::::") for path in each.arguments]
        self.identity = (
            self.record_format,
            task_format,
            tuple(sources),
            tuple(file_identity(path, 0) for path in files),
        )
        self.is_line_per_task = task_format.is_line_per_task and not sources
        """Whether a line is a task."""
        self.reads_input = not sources
        """Whether it wants lines."""
        self._parser = FieldParser(task_format)
        self._product = ArgumentProduct(sources, self.terminator, header=task_format.header) if sources else None

    def format(self, body: bytes, file_number: int, _: str) -> FormattedTasks:
        """The records that are complete with these lines of the `file`-th file.

        No lines: there are no more. Of what is given none are wanted.
        """
        if self._product:
            taken, names = self._product.take(PRODUCT_BATCH_SIZE), self._product.names
            records, is_over = self._parser.rows([self._parser.product(names, each) for each in taken]), not taken
        else:
            lines = body.removesuffix(self.terminator).split(self.terminator) if body else []
            records, is_over = self._parser.lines(lines, file_number), not body
        return FormattedTasks(self._parser.finish() if is_over else records, is_over)
