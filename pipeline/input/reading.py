"""What has been read and not been given out: whole records, as they come.

It reads by blocks and only when it is asked, gives out what is there without waiting for more, and knows no numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from pipeline.input.cutter import RecordSplitter
from pipeline.words import records

if TYPE_CHECKING:
    from pipeline.input.forming import TaskFormatter
    from pipeline.input.infiles import InputFiles
    from pipeline.input.lettered import DeadLetterReader
    from pipeline.words.parts import RecordFormat

    AnyFormatter = TaskFormatter | DeadLetterReader


class RecordBatch(Struct, frozen=True, gc=False):
    """So many records, and the bytes of the input that they were. None of them: there are no more."""

    count: int
    body: bytes = b""
    size: int = 0


class RecordReader:
    """Of these files; `apart`: what two of them hold never comes together. `reason` is why it broke off, if it did."""

    def __init__(
        self,
        input_files: InputFiles,
        splitter: RecordSplitter,
        record_format: RecordFormat,
        formatter: TaskFormatter | DeadLetterReader | None = None,
        *,
        keep_separate: bool,
    ) -> None:
        self.reason = ""
        self._input_files, self._splitter, self._record_format, self._formatter = (
            input_files,
            splitter,
            record_format,
            formatter,
        )
        self._keep_separate = keep_separate

    def read_records(self, size: int) -> RecordBatch | None:
        """About `size` bytes of records; None if they have not come yet."""
        while True:
            body = self._splitter.take(size)
            if not body:
                self.reason = self.reason or self._input_files.feed(self._splitter, keep_separate=self._keep_separate)
                body = self._splitter.take(size)
            if not body and self._input_files:
                return None
            taken = self._format_records(self._formatter, body) if self._formatter else self._count_records(body)
            if taken:
                return taken

    def _count_records(self, body: bytes) -> RecordBatch:
        return RecordBatch(records.count(body, self._record_format), body, len(body)) if body else RecordBatch(0)

    def _format_records(self, formatter: AnyFormatter, body: bytes) -> RecordBatch | None:
        """What is complete with these lines; None if nothing is, and more can come."""
        formed = formatter.format(body, self._input_files.opened_count, self._input_files.name)
        if formed.error:
            self.reason = formed.error
            self._input_files.close()
            self._splitter = RecordSplitter(formatter.terminator, None)
        mark = records.terminator(self._record_format)
        if not formed.records:
            return RecordBatch(0) if formed.is_last or formed.error else None
        return RecordBatch(len(formed.records), b"".join([record + mark for record in formed.records]), len(body))
