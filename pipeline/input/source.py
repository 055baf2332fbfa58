"""Input adapter: answers read requests with whole records.

What has been read and not been given out: whole records, as they come.

It reads by blocks and only when it is asked, gives out what is there without waiting for more, and knows no numbers.

The source: tasks out of arguments, files or stdin, as runs of whole records with their numbers.

It promises to answer one Want with one Records or End, to read lazily and by blocks, to give out what is there
without waiting for more, and to hold no more than one block and one record. It never splits a record, and never
reads while nobody wants; but from the first Want on a spool takes in what stdin has. What a spool need not keep any
more it says to the spool.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Self

from msgspec import Struct

from pipeline.input.files import STDIN, InputFiles, RecordSplitter
from pipeline.model import records
from pipeline.model.errors import UsageError
from pipeline.model.events import DiscardBelow, EndOfInput, ReadRequest, RecordsRead, Waiting
from pipeline.model.messages import RecordFormat
from pipeline.model.state_machine import NEVER, Address, Message

if TYPE_CHECKING:
    from pipeline.input.dead_letters import DeadLetterReader
    from pipeline.input.files import InputFiles
    from pipeline.input.task_format import TaskFormatter
    from pipeline.model.messages import RecordFormat

    AnyFormatter = TaskFormatter | DeadLetterReader
    from collections.abc import Sequence

    from pipeline.input.stdin_spool import StdinSpool


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


DISK_FULL_RETRY_SECONDS = 1.0
"""Seconds after which a spool without room is tried again."""


class InputSource:
    """The edge of the ventilator's SOURCE port: takes Want and Forget, answers Records, End or Waiting."""

    def __init__(
        self,
        record_format: RecordFormat,
        files: Sequence[str],
        arguments: Sequence[str] | None,
        block_size: int | None,
        stdin: int = 0,
        spool: StdinSpool | None = None,
    ) -> None:
        """Arguments if there are any (not None), else the files in turn, else stdin ("-"). Raises UsageError.

        `block` is a size in bytes; each Records is then one task. `recipe` may say less than what is read in the
        end: the property of that name has the truth. `spool` is where stdin is read from; the source closes it.
        """
        if arguments is not None and (files or block_size):
            raise UsageError(
                "tasks come from the arguments behind :::, so there can be no file and no --block with them"
            )
        self.record_format = RecordFormat(
            zero=record_format.zero or arguments is not None, block=block_size is not None
        )
        self.deadline = NEVER
        cutter = RecordSplitter(records.terminator(self.record_format), block_size)
        names = [] if arguments is not None else list(files) or [STDIN]
        self._input_files = InputFiles(names, stdin, spool)
        self._spool = spool
        self._record_spool = spool if names == [STDIN] else None
        self._reader = RecordReader(self._input_files, cutter, self.record_format, keep_separate=block_size is not None)
        self._requested_size: int | None = None
        self._has_started = False
        self._total = self._record_spool.first if self._record_spool else 0
        self._disk_full_reason = ""
        self._identity: tuple[object, ...] = (self.record_format, block_size, arguments and tuple(arguments))
        if arguments:
            cutter.add(b"".join(os.fsencode(argument) + b"\0" for argument in arguments))

    @classmethod
    def with_format(
        cls,
        formatter: TaskFormatter | DeadLetterReader,
        files: Sequence[str],
        stdin: int = 0,
        spool: StdinSpool | None = None,
    ) -> Self:
        """Tasks formed of what is read, or of what is given. Raises UsageError.

        Unless a line is a task, nothing of a spool is forgotten: which of its bytes make which task is not known.
        """
        source = cls(formatter.record_format, files, None if formatter.reads_input else (), None, stdin, spool)
        source.record_format, cutter = formatter.record_format, RecordSplitter(formatter.terminator, None)
        source._reader = RecordReader(
            source._input_files, cutter, formatter.record_format, formatter, keep_separate=True
        )
        if not formatter.is_line_per_task:
            source._record_spool, source._total = None, 0
        source._identity = formatter.identity
        return source

    @property
    def fingerprint(self) -> str:
        """See `inputs`. What cannot be read twice has a new one in each process."""
        from hashlib import blake2b  # 5 ms that only a ventilator spends

        name, state = (
            blake2b(repr(what).encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
            for what in ((self._identity, self._input_files.identities), self._input_files.states)
        )
        return records.make_fingerprint(name, state)

    def send(self, _to: Address, message: Message) -> None:
        """Take a Want or a Forget."""
        if isinstance(message, ReadRequest):
            self._requested_size, self._has_started = message.size, True
            self.deadline = 0.0
        elif isinstance(message, DiscardBelow) and self._record_spool:
            self._record_spool.discard_below(message.low_watermark)

    def pollables(self) -> list[object]:
        """The input, if it may wait and there is a Want to wait for; and stdin, if the spool takes more of it."""
        wanted = [] if self._requested_size is None else self._input_files.pollables
        ahead = [self._spool.fd] if self._spool and self._has_started and self._spool.wants_input else []
        return list(dict.fromkeys([*wanted, *ahead]))

    def receive(self) -> list[Message]:
        """The answer to the Want as soon as there is one."""
        answer = [] if self._requested_size is None else self._answer(self._requested_size)
        if self._spool and self._has_started:
            self._spool.prefetch()
        stuck = self._spool.disk_full_reason if self._spool else ""
        self.deadline = time.monotonic() + DISK_FULL_RETRY_SECONDS if stuck else NEVER
        more = not (stuck and self._spool and not self._spool.unread_bytes)
        if self._requested_size is not None and more and not self._input_files.pollables:
            self.deadline = 0.0
        return [*self._disk_full_notices(stuck), *answer]

    def _answer(self, size: int) -> list[Message]:
        """Records or the End, if it can be said already."""
        taken = self._reader.read_records(size)
        if taken is None:
            return []
        self._requested_size = None
        if not taken.count:
            return [EndOfInput(self._total, self._reader.reason)]
        first = self._total
        self._total += taken.count
        if self._record_spool and not self._reader.reason:
            self._record_spool.on_records_read(self._total, taken.size)
        return [RecordsRead(first, taken.count, taken.body)]

    def close(self) -> None:
        """Close what is open."""
        self._input_files.close()
        self._requested_size, self.deadline = None, NEVER
        if self._spool:
            self._spool.close()

    def _disk_full_notices(self, disk_full_reason: str) -> list[Message]:
        """Whoever looks on is told once that there is no room, and once when that is over."""
        told, self._disk_full_reason = self._disk_full_reason, disk_full_reason
        return [Waiting("disk", disk_full_reason, active=disk_full_reason != "")] if disk_full_reason != told else []
