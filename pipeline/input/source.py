"""Input adapter of the ventilator: answers read requests with whole records of arguments, files or stdin.

Invariants:
  - each ReadRequest gets one RecordsRead or EndOfInput, as soon as there is at least one record;
  - a record is never split; at most one block and one record are held in memory;
  - nothing is read before the first request; from then on a spool also copies what stdin has ready.
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
from pipeline.system.digests import blake2b

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.input.dead_letters import DeadLetterReader
    from pipeline.input.stdin_spool import StdinSpool
    from pipeline.input.task_format import TaskFormatter

    AnyFormatter = TaskFormatter | DeadLetterReader

DISK_FULL_RETRY_SECONDS = 1.0


class InputSource:
    """Adapter of the ventilator's SOURCE port: receives ReadRequest and DiscardBelow, answers with records."""

    def __init__(
        self,
        record_format: RecordFormat,
        files: Sequence[str],
        arguments: Sequence[str] | None,
        block_size: int | None,
        stdin: int = 0,
        spool: StdinSpool | None = None,
    ) -> None:
        """Read arguments if there are any (not None), else the files in turn, else stdin ("-"). Raises UsageError.

        With `block_size` (bytes), each answer is one task. The attribute `record_format` describes what is read; it
        may say more than the parameter. Stdin is read through `spool`; the source closes it.
        """
        if arguments is not None and (files or block_size):
            raise UsageError("arguments after ::: cannot be combined with input files or --block", "use one of them")
        self.record_format = RecordFormat(
            zero=record_format.zero or arguments is not None, block=block_size is not None
        )
        self.deadline = NEVER
        splitter = RecordSplitter(records.terminator(self.record_format), block_size)
        names = [] if arguments is not None else list(files) or [STDIN]
        self._input_files = InputFiles(names, stdin, spool)
        self._spool = spool
        self._record_spool = spool if names == [STDIN] else None
        """The spool, if its records and the tasks are the same."""
        self._reader = RecordReader(
            self._input_files, splitter, self.record_format, keep_separate=self.record_format.block
        )
        self._requested_size: int | None = None
        self._has_started = False
        self._total = self._record_spool.first if self._record_spool else 0
        self._disk_full_reason = ""
        self._identity: tuple[object, ...] = (self.record_format, block_size, arguments and tuple(arguments))
        if arguments:
            splitter.add(b"".join(os.fsencode(argument) + b"\0" for argument in arguments))

    @classmethod
    def with_format(
        cls,
        formatter: AnyFormatter,
        files: Sequence[str],
        stdin: int = 0,
        spool: StdinSpool | None = None,
    ) -> Self:
        """Return a source whose tasks are made by `formatter`. Raises UsageError."""
        source = cls(formatter.record_format, files, None if formatter.reads_input else (), None, stdin, spool)
        source.record_format, splitter = formatter.record_format, RecordSplitter(formatter.terminator, None)
        source._reader = RecordReader(
            source._input_files, splitter, formatter.record_format, formatter, keep_separate=True
        )
        if not formatter.is_line_per_task:  # which bytes of the spool belong to a task is unknown: keep all of them
            source._record_spool, source._total = None, 0
        source._identity = formatter.identity
        return source

    def check_encodings(self) -> None:
        """Raise UsageError for a file of lines that are not bytes."""
        if self._reader.reads_text:
            self._input_files.check_encodings()

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the input. It is different in each process if the input cannot be read twice."""
        name, state = (
            blake2b(repr(value).encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
            for value in ((self._identity, self._input_files.identities), self._input_files.states)
        )
        return records.make_fingerprint(name, state)

    def send(self, _to: Address, message: Message) -> None:
        """Accept a ReadRequest or a DiscardBelow."""
        if isinstance(message, ReadRequest):
            self._requested_size, self._has_started = message.size, True
            self.deadline = 0.0
        elif isinstance(message, DiscardBelow) and self._record_spool:
            self._record_spool.discard_below(message.low_watermark)

    def pollables(self) -> list[object]:
        """Return the input if a request waits for it, and stdin if the spool copies more of it."""
        requested = [] if self._requested_size is None else self._input_files.pollables
        copied = [self._spool.fd] if self._spool and self._has_started and self._spool.wants_input else []
        return list(dict.fromkeys([*requested, *copied]))

    def receive(self) -> list[Message]:
        """Return the answer to the request, if it is complete, and what the user needs to know about the disk."""
        answer = [] if self._requested_size is None else self._answer(self._requested_size)
        if self._spool and self._has_started:
            self._spool.prefetch()
        disk_full_reason = self._spool.disk_full_reason if self._spool else ""
        self.deadline = time.monotonic() + DISK_FULL_RETRY_SECONDS if disk_full_reason else NEVER
        can_read = not (disk_full_reason and self._spool and not self._spool.unread_bytes)
        if self._requested_size is not None and can_read and not self._input_files.pollables:
            self.deadline = 0.0
        return [*self._disk_full_notices(disk_full_reason), *answer]

    def close(self) -> None:
        """Close all files and the spool."""
        self._input_files.close()
        self._requested_size, self.deadline = None, NEVER
        if self._spool:
            self._spool.close()

    def _answer(self, size: int) -> list[Message]:
        batch = self._reader.read_records(size)
        if batch is None:
            return []
        self._requested_size = None
        if not batch.count:
            return [EndOfInput(self._total, self._reader.reason)]
        first = self._total
        self._total += batch.count
        if self._record_spool and not self._reader.reason:
            self._record_spool.on_records_read(self._total, batch.size)
        return [RecordsRead(first, batch.count, batch.body)]

    def _disk_full_notices(self, reason: str) -> list[Message]:
        """Return a notice when the disk has become full, and when it no longer is."""
        previous, self._disk_full_reason = self._disk_full_reason, reason
        return [Waiting("disk", reason, active=reason != "")] if reason != previous else []


class RecordBatch(Struct, frozen=True, gc=False):
    """Records, and the number of input bytes they were made of. An empty batch is the end of the input."""

    count: int
    body: bytes = b""
    size: int = 0


class RecordReader:
    """Records of all input files. `reason` says why reading broke off, if it did."""

    def __init__(
        self,
        input_files: InputFiles,
        splitter: RecordSplitter,
        record_format: RecordFormat,
        formatter: AnyFormatter | None = None,
        *,
        keep_separate: bool,
    ) -> None:
        """With `keep_separate`, a batch never contains bytes of two files."""
        self.reason = ""
        self._input_files, self._splitter = input_files, splitter
        self._record_format, self._formatter = record_format, formatter
        self._keep_separate = keep_separate

    @property
    def reads_text(self) -> bool:
        """Whether the input is lines, so that its encoding matters."""
        return self._splitter.is_text

    def read_records(self, size: int) -> RecordBatch | None:
        """Return about `size` bytes of records; None if there are none yet."""
        while True:
            body = self._splitter.take(size)
            if not body:
                self.reason = self.reason or self._input_files.feed(self._splitter, keep_separate=self._keep_separate)
                body = self._splitter.take(size)
            if not body and self._input_files:
                return None
            batch = self._format_records(self._formatter, body) if self._formatter else self._count_records(body)
            if batch:
                return batch

    def _count_records(self, body: bytes) -> RecordBatch:
        return RecordBatch(records.count(body, self._record_format), body, len(body)) if body else RecordBatch(0)

    def _format_records(self, formatter: AnyFormatter, body: bytes) -> RecordBatch | None:
        """Return the tasks that these lines complete; None if they complete none, and more may follow."""
        tasks = formatter.format(body, self._input_files.opened_count, self._input_files.name)
        if tasks.error:
            self.reason = tasks.error
            self._input_files.close()
            self._splitter = RecordSplitter(formatter.terminator, None)
        if not tasks.records:
            return RecordBatch(0) if tasks.is_last or tasks.error else None
        terminator = records.terminator(self._record_format)
        return RecordBatch(len(tasks.records), b"".join([record + terminator for record in tasks.records]), len(body))
