"""The output: what tasks wrote, to stdout or a file; what they complained of, to stderr; who failed, in dead letters.

It promises to write each result whole and in the order it was given, many small ones in one call, all of it at
once while the reader keeps up and there is room; and to say what is out, and how long its files are then. It never
waits for a slow reader, and touches an existing file only when there is something to write, or a run to go on with.
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
from pipeline.output.file_writer import STDERR, NonblockingWriter, open_writer
from pipeline.output.formats import FailureReporter
from pipeline.storage.disk_io import DEFAULT_SYSCALLS, DiskSpaceWait, Syscalls


class PendingResult(Struct, frozen=True, gc=False):
    """A result is out when its files are so long; then its complaints are shown."""

    number: int
    sizes: tuple[int, ...]
    stderr_text: bytes


class OutputFiles(Struct, frozen=True):
    """Where results go: the output (empty: stdout), dead letters, the log of tries, folders.

    `curtain` is what is drawn where stdout is, if anything.
    """

    output: str = ""
    failed: str = ""
    joblog: str = ""
    folder: str = ""
    display: ProgressDisplay | None = None

    @property
    def is_stderr_captured(self) -> bool:
        """Whether what tasks write to stderr is kept in one of them, and so not shown."""
        return bool(self.folder) or self.output.endswith(STRUCTURED_SUFFIXES)

    def create_destinations(self, sizes: Sequence[int | None], syscalls: Syscalls) -> dict[int, Destination]:
        """The pages by their place in `sizes`. Raises UsageError."""
        pages: dict[int, Destination] = {}
        if self.output or not self.folder:
            pages[0] = main_destination(self.output, sizes[0], syscalls, self.display)
        if self.failed:
            pages[1] = dead_letter_destination(self.failed, sizes[1], syscalls)
        if self.joblog:
            pages[2] = joblog_destination(self.joblog, sizes[2], syscalls)
        if self.folder:
            from pipeline.output.result_folders import FolderDestination

            pages[3] = FolderDestination(self.folder)
        return pages


class StderrWriter:
    """What tasks complain of: on stderr, or to whom it may be shown."""

    def __init__(self, show: Callable[[bytes], None] | None) -> None:
        self._show = show
        self.writer = open_writer(STDERR) if show is None else None
        self._pending: deque[tuple[PendingResult, int]] = deque()

    def add(self, result: PendingResult) -> None:
        """Behind all that was said before."""
        if self.writer:
            self.writer.add(result.stderr_text)
        elif self._show and result.stderr_text:
            self._show(result.stderr_text)
        self._pending.append((result, self.writer.queued_bytes if self.writer else 0))

    def flush(self) -> list[PendingResult]:
        """Whose complaints are out now."""
        if self.writer:
            try:
                self.writer.flush()
            except OSError:  # stderr is gone: nobody can be told
                self.close()
        out: list[PendingResult] = []
        while self._pending and (self.writer is None or self._pending[0][1] <= self.writer.written_bytes):
            out.append(self._pending.popleft()[0])
        return out

    @property
    def has_pending(self) -> bool:
        """Whether there is something to say."""
        return bool(self._pending)

    def close(self) -> None:
        """Drop what is not written."""
        if self.writer:
            self.writer.close()
        self.writer = None


class ResultOutput:
    """The edge of the sink's OUTPUT port: takes Write, answers Committed."""

    def __init__(
        self,
        files: OutputFiles | str = "",
        show_stderr: Callable[[bytes], None] | None = None,
        *,
        verbose: bool = False,
        sizes: tuple[int, ...] = (),
        syscalls: Syscalls = DEFAULT_SYSCALLS,
    ) -> None:
        """To these files, or to the one at that path.

        `errors` shows bytes to the person where stderr is not written to directly; it may wait. `verbose` names each
        task that ended with an exit code, not only the first. With `sizes`, the committed lengths of the files, a run
        goes on. Raises UsageError if they are not so long, or not writable.
        """
        self.deadline = NEVER
        files = OutputFiles(files) if isinstance(files, str) else files
        self._destinations = files.create_destinations((*sizes, *[None] * DESTINATION_COUNT), syscalls)
        self._stderr, self._reporter = (
            StderrWriter(show_stderr),
            FailureReporter(verbose=verbose, is_stderr_captured=files.is_stderr_captured),
        )
        self._last_number = -1  # nothing yet
        self._written_sizes: tuple[int, ...] = ()
        self._failure, self._space_wait = "", DiskSpaceWait()
        self._pending: list[WriteResult | WriteLines] = []
        self._unflushed: deque[PendingResult] = deque()

    def send(self, _to: Address, message: Message) -> None:
        """Take a Write or a Show. After a failure nothing more is written."""
        if isinstance(message, WriteResult | WriteLines) and not self._failure:
            self._pending.append(message)
            self.deadline = min(self.deadline, 0.0 if self._space_wait.retry_at == NEVER else self._space_wait.retry_at)

    def pollables(self) -> list[object]:
        """Readable when a blocked stdout or stderr takes more."""
        spouts: list[NonblockingWriter | None] = (
            [] if self._failure else [page.writer for page in self._destinations.values()]
        )
        return [spout.writable_fd() for spout in (*spouts, self._stderr.writer) if spout and spout.is_blocked]

    def receive(self) -> list[Message]:
        """Write what can be written; Committed when that finished a result, or failed."""
        if self._failure or not (self._pending or self._unflushed or self._stderr.has_pending):
            return []
        before, told = self._last_number, self._write()
        self._report()
        self.deadline = self._space_wait.retry_at
        if self._last_number > before or self._failure:
            told.append(Committed("output", self._last_number, self._failure, self._written_sizes))
        return told

    def finish(self) -> None:
        """The run is over: make sure that the files are there even if nothing was written. Raises PipelineError."""
        for page in self._destinations.values() if not self._failure else ():
            try:
                page.open()
            except OSError as error:
                raise PipelineError(f"cannot write {page.path}: {error.strerror}") from None

    def sync(self) -> None:
        """What Committed spoke of is on the disk. Raises OSError, naming the file."""
        for page in self._destinations.values():
            page.sync()

    def close(self) -> None:
        """Close what is open, and drop what is not written."""
        for page in self._destinations.values():
            page.close()
        self._stderr.close()
        self._pending.clear()
        self._unflushed.clear()
        self.deadline = NEVER

    def _write(self) -> list[Message]:
        """What the person is to be told."""
        if self._space_wait.is_waiting:
            return []
        page = next(iter(self._destinations.values()))
        try:
            for page in self._destinations.values():
                page.open()
            self._distribute()
            for page in self._destinations.values():
                page.flush()
        except OSError as error:
            return self._on_write_error(page, error)
        return self._space_wait.on_success()

    def _distribute(self) -> None:
        for word in self._pending:
            for page in self._destinations.values():
                if isinstance(word, WriteLines):
                    page.write_lines(word.body)
                else:
                    page.write(word)
            if isinstance(word, WriteResult):
                told = b"" if word.is_retried else self._reporter.messages(word.result)
                self._unflushed.append(PendingResult(word.number, self._destination_sizes("queued_size"), told))
        self._pending.clear()

    def _destination_sizes(self, attribute: str) -> tuple[int, ...]:
        """Of all places up to the last page, 0 where there is none."""
        return tuple(
            getattr(self._destinations[at], attribute) if at in self._destinations else 0
            for at in range(max(self._destinations) + 1)
        )

    def _on_write_error(self, destination: Destination, error: OSError) -> list[Message]:
        """For a while, if there is no room; else for good."""
        reason = f"{destination.path or 'stdout'}: {error.strerror} after {destination.written_size} bytes"
        try:
            return self._space_wait.on_enospc(error, reason)
        except OSError:
            closed = error.errno in {errno.EPIPE, errno.EBADF} and not destination.path
            self._failure = STDOUT_CLOSED_REASON if closed else reason
            return []

    def _report(self) -> None:
        """Show the errors behind what is out, and count as written what is out with its errors."""
        out = self._destination_sizes("written_size")
        while self._unflushed and all(has >= wants for has, wants in zip(out, self._unflushed[0].sizes, strict=True)):
            self._stderr.add(self._unflushed.popleft())
        for word in self._stderr.flush():
            self._last_number, self._written_sizes = word.number, word.sizes
