"""Output adapter of the sink: writes results to their destinations, stderr and failure messages to the user.

Invariants:
  - each result is written whole and in the order in which it was sent, many small ones in one call;
  - nothing waits for a slow reader; while the disk is full, writing is retried;
  - Committed names the last result of which all bytes are written, and the sizes of the files at that point;
  - an existing file is touched only when there is something to write, or when a run resumes.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable, Sequence

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
from pipeline.output.file_writer import STDERR, open_writer
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
    stderr_text: bytes


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
        self._reporter = FailureReporter(verbose=verbose, is_stderr_captured=files.is_stderr_captured)
        self._last_number = -1  # no result is written yet
        self._written_sizes: tuple[int, ...] = ()
        self._failure, self._space_wait = "", DiskSpaceWait()
        self._pending: list[WriteResult | WriteLines] = []
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
        for message in self._pending:
            if isinstance(message, WriteLines):
                for destination in self._destinations.values():
                    destination.write_lines(message.body)
                continue
            for destination in self._destinations.values():
                destination.write(message)
            text = b"" if message.is_retried else self._reporter.messages(message.result)
            self._unflushed.append(PendingResult(message.number, self._destination_sizes("queued_size"), text))
        self._pending.clear()

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

    @property
    def has_pending(self) -> bool:
        """Whether the stderr of a result is not written yet."""
        return bool(self._pending)

    def add(self, result: PendingResult) -> None:
        """Queue the stderr of a result."""
        if self.writer:
            self.writer.add(result.stderr_text)
        elif self._show and result.stderr_text:
            self._show(result.stderr_text)
        self._pending.append((result, self.writer.queued_bytes if self.writer else 0))

    def flush(self) -> list[PendingResult]:
        """Write, and return the results whose stderr is written now."""
        if self.writer:
            try:
                self.writer.flush()
            except OSError:  # stderr is closed: there is no other place to report to
                self.close()
        written: list[PendingResult] = []
        while self._pending and (self.writer is None or self._pending[0][1] <= self.writer.written_bytes):
            written.append(self._pending.popleft()[0])
        return written

    def close(self) -> None:
        """Drop what is not written."""
        if self.writer:
            self.writer.close()
        self.writer = None
