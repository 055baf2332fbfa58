"""Output adapter of the sink: writes results to their destinations, stderr and failure messages to the user.

Invariants:
  - each result is written whole and in the order in which it was sent, many small ones in one call;
  - nothing waits for a slow reader; while the disk is full, writing is retried;
  - a large result is written in steps, so that the event loop has its turn, and results after it wait;
  - Committed names the last result of which all bytes are written, and the sizes of the files at that point;
  - an existing file is touched only when there is something to write, or when a run resumes.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from msgspec import Struct

from pipeline.model.errors import STDOUT_CLOSED_REASON, PipelineError
from pipeline.model.events import Committed, WriteLines, WriteResult
from pipeline.model.state_machine import NEVER, Address, Message
from pipeline.output.destinations import (
    DESTINATION_COUNT,
    STRUCTURED_SUFFIXES,
    Destination,
    ProgressDisplay,
    dead_letter_destination,
    joblog_destination,
    main_destination,
)
from pipeline.output.file_writer import MAX_BACKLOG_BYTES, STDERR, open_writer
from pipeline.output.formats import FailureReporter
from pipeline.storage.disk_io import DEFAULT_SYSCALLS, DiskSpaceWait, Syscalls


class OutputFiles(Struct, frozen=True):
    """Paths of the output (empty: stdout), dead letters, the job log and result directories."""

    output: str = ""
    failed: str = ""
    joblog: str = ""
    folder: str = ""
    display: ProgressDisplay | None = None
    """The progress bar on stdout, if any."""

    @property
    def is_stderr_captured(self) -> bool:
        """Whether one of the files contains the stderr of tasks, so that it is not shown."""
        return bool(self.folder) or self.output.endswith(STRUCTURED_SUFFIXES)

    def create_destinations(self, sizes: Sequence[int | None], syscalls: Syscalls) -> dict[int, Destination]:
        """Return the destinations by their index in `sizes`. Raises UsageError."""
        destinations: dict[int, Destination] = {}
        if self.output or not self.folder:
            destinations[0] = main_destination(self.output, sizes[0], syscalls, self.display)
        if self.failed:
            destinations[1] = dead_letter_destination(self.failed, sizes[1], syscalls)
        if self.joblog:
            destinations[2] = joblog_destination(self.joblog, sizes[2], syscalls)
        if self.folder:
            from pipeline.output.result_folders import FolderDestination

            destinations[3] = FolderDestination(self.folder)
        return destinations


class PendingResult(Struct, frozen=True, gc=False):
    """A result that is written once its files have these sizes; then its stderr is shown."""

    number: int
    sizes: tuple[int, ...]
    stderr_text: bytes | Iterator[bytes]


class ResultOutput:
    """Adapter of the sink's OUTPUT port: receives WriteResult and WriteLines, answers Committed and Waiting."""

    def __init__(
        self,
        files: OutputFiles | str = "",
        show_stderr: Callable[[bytes], None] | None = None,
        *,
        verbose: bool = False,
        sizes: tuple[int, ...] = (),
        syscalls: Syscalls = DEFAULT_SYSCALLS,
    ) -> None:
        """Open these files, or the one at that path. Raises UsageError if one is not writable, or was modified.

        `show_stderr` shows bytes to the user where stderr is not written directly; it may wait. `verbose` reports each
        task that ended with an exit code, not only the first. With `sizes`, the committed sizes, the run resumes.
        """
        self.deadline = NEVER
        files = OutputFiles(files) if isinstance(files, str) else files
        self._destinations = files.create_destinations((*sizes, *[None] * DESTINATION_COUNT), syscalls)
        self._stderr = StderrWriter(show_stderr)
        is_terminal = show_stderr is not None or os.isatty(STDERR)
        self._reporter = FailureReporter(
            verbose=verbose, is_stderr_captured=files.is_stderr_captured, is_stderr_shortened=is_terminal
        )
        self._last_number = -1  # no result is written yet
        self._written_sizes: tuple[int, ...] = ()
        self._failure, self._space_wait = "", DiskSpaceWait()
        self._pending: deque[WriteResult | WriteLines] = deque()
        self._is_distributed = False
        """Whether the destinations have the first pending result, which is large."""
        self._unflushed: deque[PendingResult] = deque()

    def send(self, _to: Address, message: Message) -> None:
        """Queue a result, or lines of a running task. After a failure nothing more is written."""
        if isinstance(message, WriteResult | WriteLines) and not self._failure:
            self._pending.append(message)
            self.deadline = min(self.deadline, 0.0 if self._space_wait.retry_at == NEVER else self._space_wait.retry_at)

    def pollables(self) -> list[object]:
        """Return descriptors that become readable when a blocked file or stderr is writable."""
        writers = [] if self._failure else [destination.writer for destination in self._destinations.values()]
        return [writer.writable_fd() for writer in (*writers, self._stderr.writer) if writer and writer.is_blocked]

    def receive(self) -> list[Message]:
        """Write what can be written; return Committed when that completed a result, or failed."""
        if self._failure or not (self._pending or self._unflushed or self._stderr.has_pending):
            return []
        last_number, messages = self._last_number, self._write()
        self._report()
        self.deadline = self._space_wait.retry_at
        has_more = (self._pending or self._stderr.is_filling) and not self._failure
        if has_more and self.deadline == NEVER and not self.pollables():
            self.deadline = 0.0
        if self._last_number > last_number or self._failure:
            messages.append(Committed("output", self._last_number, self._failure, self._written_sizes))
        return messages

    def finish(self) -> None:
        """Create the files to which nothing was written. Raises PipelineError."""
        for destination in self._destinations.values() if not self._failure else ():
            try:
                destination.open()
            except OSError as error:
                raise PipelineError(f"cannot write {destination.path}: {error.strerror}") from None

    def sync(self) -> None:
        """Sync what was committed. Raises OSError that names the file."""
        for destination in self._destinations.values():
            destination.sync()

    def close(self) -> None:
        """Close what is open, and drop what is not written."""
        for destination in self._destinations.values():
            destination.close()
        self._stderr.close()
        self._pending.clear()
        self._unflushed.clear()
        self.deadline = NEVER

    def _write(self) -> list[Message]:
        """Write, and return what the user needs to know about the disk."""
        if self._space_wait.is_waiting:
            return []
        destination = next(iter(self._destinations.values()))
        try:
            for destination in self._destinations.values():
                destination.open()
            self._distribute()
            for destination in self._destinations.values():
                destination.flush()
        except OSError as error:
            return self._on_write_error(destination, error)
        return self._space_wait.on_success()

    def _distribute(self) -> None:
        destinations = self._destinations.values()
        while self._pending:
            message = self._pending[0]
            if isinstance(message, WriteLines):
                for destination in destinations:
                    destination.write_lines(message.body)
                self._pending.popleft()
                continue
            for destination in destinations if not self._is_distributed else ():
                destination.write(message)
            is_large = bool(message.result.large_sizes)
            if is_large and (not self._is_distributed or any(destination.is_filling for destination in destinations)):
                self._is_distributed = True
                return
            text = b"" if message.is_retried else self._reporter.messages(message.result)
            self._unflushed.append(PendingResult(message.number, self._destination_sizes("queued_size"), text))
            self._pending.popleft()
            self._is_distributed = False

    def _destination_sizes(self, attribute: str) -> tuple[int, ...]:
        """Return the sizes of all destinations up to the last one, 0 for those not in use."""
        return tuple(
            getattr(self._destinations[index], attribute) if index in self._destinations else 0
            for index in range(max(self._destinations) + 1)
        )

    def _on_write_error(self, destination: Destination, error: OSError) -> list[Message]:
        """Retry later if the disk is full; else give up."""
        reason = f"{destination.path or 'stdout'}: {error.strerror} after {destination.written_size} bytes"
        try:
            return self._space_wait.on_enospc(error, reason)
        except OSError:
            is_closed = error.errno in {errno.EPIPE, errno.EBADF} and not destination.path
            self._failure = STDOUT_CLOSED_REASON if is_closed else reason
            return []

    def _report(self) -> None:
        """Show the stderr of results that are written; count those whose stderr is written, too."""
        written = self._destination_sizes("written_size")
        while self._unflushed and all(
            size >= needed for size, needed in zip(written, self._unflushed[0].sizes, strict=True)
        ):
            self._stderr.add(self._unflushed.popleft())
        for result in self._stderr.flush():
            self._last_number, self._written_sizes = result.number, result.sizes


class StderrWriter:
    """Queue of what is shown to the user: on stderr, or through `show`."""

    def __init__(self, show: Callable[[bytes], None] | None) -> None:
        self._show = show
        self.writer = open_writer(STDERR) if show is None else None
        self._pending: deque[tuple[PendingResult, int]] = deque()
        self._unqueued: deque[PendingResult] = deque()

    @property
    def has_pending(self) -> bool:
        """Whether the stderr of a result is not written yet."""
        return bool(self._pending or self._unqueued)

    @property
    def is_filling(self) -> bool:
        """Whether a part of a large stderr is not queued yet."""
        return bool(self._unqueued)

    def add(self, result: PendingResult) -> None:
        """Queue the stderr of a result."""
        self._unqueued.append(result)

    def flush(self) -> list[PendingResult]:
        """Write, and return the results whose stderr is written now."""
        self._fill()
        if self.writer:
            try:
                self.writer.flush()
            except OSError:  # stderr is closed: there is no other place to report to
                self.close()
        written: list[PendingResult] = []
        while self._pending and (self.writer is None or self._pending[0][1] <= self.writer.written_bytes):
            written.append(self._pending.popleft()[0])
        return written

    def _fill(self) -> None:
        """Queue the stderr of results, of a large one only as much as is written soon. Raises OSError."""
        size = self.writer.backlog if self.writer else 0
        while self._unqueued and size <= MAX_BACKLOG_BYTES:
            result = self._unqueued[0]
            text = result.stderr_text if isinstance(result.stderr_text, bytes) else next(result.stderr_text, None)
            if text:
                size += len(text)
                self._show_text(text)
            if text is None or text is result.stderr_text:
                self._unqueued.popleft()
                self._pending.append((result, self.writer.queued_bytes if self.writer else 0))

    def _show_text(self, text: bytes) -> None:
        if self.writer:
            self.writer.add(text)
        elif self._show:
            self._show(text)

    def close(self) -> None:
        """Drop what is not written."""
        if self.writer:
            self.writer.close()
        self.writer = None
