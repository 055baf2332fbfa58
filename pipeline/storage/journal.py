"""The journal: where the ledger survives the sink's death, or, where none was asked for, does not.

It promises that Committed says no more than what a kill (or, with `disk`, a power cut) leaves: first the output's
files, then the facts, then the answer; that facts given together come back together or not at all; and that an input
which is read again is held against what is on record of it. It never believes half a leaf, and never asks twice for a
sync.
"""

from __future__ import annotations

import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

from pipeline.model.errors import PipelineError, UsageError
from pipeline.model.events import Committed, InputChanged, JournalEntry
from pipeline.model.journal_events import ChecksumsRecorded, JournalEvent
from pipeline.model.state_machine import NEVER, Address, Message
from pipeline.storage import journal_reader
from pipeline.storage.disk_io import DEFAULT_SYSCALLS, DiskSpaceWait, Syscalls
from pipeline.storage.journal_reader import JournalState, sift
from pipeline.storage.record_log import RecordLog

SYNC_INTERVAL_SECONDS = 0.05
"""Seconds between two syncs, while entries keep coming."""
LOCK_TIMEOUT_SECONDS = 2.0
"""Seconds to wait for another process that may be about to leave."""


class Journal:
    """The edge of the sink's JOURNAL port: takes Entry; answers Committed, and Differs for a changed input."""

    def __init__(
        self,
        path: str,
        *,
        fsync: bool,
        sync_outputs: Callable[[], None] | None = None,
        syscalls: Syscalls = DEFAULT_SYSCALLS,
    ) -> None:
        """Opens what is at `path`, or begins it.

        With `disk`, an answer outlives a power cut; `sync` puts on the disk what output and spill have written, and
        may raise OSError. Raises UsageError if there is no journal at `path` or a damaged one, PipelineError if another
        process has it.
        """
        self.deadline = NEVER
        self._path, self._fsync, self._sync_outputs = path, fsync, sync_outputs
        self._log = RecordLog(open_locked(path), path, journal_reader.JOURNAL_MAGIC, syscalls)
        self._state, self._space_wait = JournalState(), DiskSpaceWait()
        self._pending: list[JournalEvent] = []
        self._last_number, self._committed_number = -1, -1  # nothing yet
        self._last_sync, self._has_failed, self._is_refused = 0.0, False, False
        self._has_reported_change: InputChanged | None = None
        self._load()
        self.started_at = self._state.started_at or time.time()
        """When the run began, a time.time()."""
        self.output_sizes = self._state.output_sizes
        """The committed lengths of the output's files when it was opened."""

    def read_events(self) -> Iterator[JournalEvent]:
        """All that it knows, in order, read from the disk as one goes. Raises OSError."""
        return (fact for _, fact in journal_reader.read_events(self._log) if not isinstance(fact, float))

    def send(self, _to: Address, message: Message) -> None:
        """Take an Entry. After a failure nothing more is taken."""
        if not isinstance(message, JournalEntry) or self._has_failed:
            return
        for fact in message.events:
            news: list[JournalEvent] = self._sifted(fact) if isinstance(fact, ChecksumsRecorded) else [fact]
            self._pending += news
            for each in news:
                self._state.apply(each)
        self._last_number = message.number
        if self._space_wait.retry_at == NEVER:
            self.deadline = self._last_sync + SYNC_INTERVAL_SECONDS if self._fsync else 0.0

    def pollables(self) -> list[object]:
        """Nothing to wait for."""
        return []

    def receive(self) -> list[Message]:
        """Committed, once it is so; Differs; what the person is to be told."""
        answers: list[Message] = []
        if self._has_reported_change and not self._is_refused:
            self._is_refused = True
            answers.append(self._has_reported_change)
        if self.deadline <= time.monotonic():
            answers += self._commit()
        return answers

    def close(self) -> None:
        """Let go. What was not answered may be lost. A journal in which nothing was written leaves no file."""
        if self._log.fd >= 0 and self._log.size == 0:
            os.unlink(self._path)
        self._log.close()
        self.deadline = NEVER

    def remove(self) -> None:
        """The run is over, and nobody will ask for it again: no file is left. Raises OSError."""
        os.unlink(self._path)
        self._log.close()
        self.deadline = NEVER

    def _load(self) -> None:
        try:
            for _, fact in journal_reader.read_events(self._log):
                self._state.apply(fact)
            self._log.truncate(self._log.size if self._state.started_at else 0)
        except (OSError, UsageError) as error:
            os.close(self._log.fd)
            if isinstance(error, UsageError):
                raise
            raise UsageError(f"cannot read {self._path}: {error.strerror}") from None

    def _sifted(self, fact: ChecksumsRecorded) -> list[JournalEvent]:
        news, differs = sift(fact, self._state.recorded, self._state.settled)
        self._has_reported_change = self._has_reported_change or differs
        return [*news]

    def _commit(self) -> list[Message]:
        """Everything so far becomes durable, in the order that a power cut at any moment allows."""
        try:
            if self._fsync and self._sync_outputs:
                self._sync_outputs()
            told = self._write()
            if self._space_wait.retry_at != NEVER:
                self.deadline = self._space_wait.retry_at
                return told
            if self._fsync:
                self._log.sync()
                self._last_sync = time.monotonic()
        except OSError as error:
            return self._fail(error)
        self.deadline, self._committed_number = NEVER, self._last_number
        return [*told, Committed("journal", self._committed_number)]

    def _write(self) -> list[Message]:
        try:
            if not self._log.size:
                self._log.append(journal_reader.encode_header(self.started_at))
            if self._pending:
                self._log.append(journal_reader.encode_events(self._pending))
        except OSError as error:
            return self._space_wait.on_enospc(error, f"{self._path}: {error.strerror} at byte {self._log.size}")
        self._pending.clear()
        return self._space_wait.on_success()

    def _fail(self, error: OSError) -> list[Message]:
        """Nothing that follows can be trusted: what is durable was so before."""
        self._has_failed, self.deadline = True, NEVER
        where = error.filename or self._path
        at = "" if error.filename else f" at byte {self._log.size}"
        return [Committed("journal", self._committed_number, f"{where}: {error.strerror}{at}")]


def open_locked(path: str) -> int:
    """A descriptor of the file at `path`, made if need be, that this process alone has.

    Waits a little for one that is leaving. Raises UsageError if it cannot be a journal, PipelineError if another
    process keeps it.
    """
    deadline = time.monotonic() + LOCK_TIMEOUT_SECONDS
    while True:
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY, 0o666)
        except OSError as error:
            raise UsageError(f"cannot keep a journal in {path}: {error.strerror}") from None
        status = os.fstat(fd)
        if stat.S_ISREG(status.st_mode) and _try_lock(fd, path):
            return fd
        os.close(fd)
        if not stat.S_ISREG(status.st_mode):
            raise UsageError(f"cannot keep a journal in {path}: it is no file")
        if time.monotonic() > deadline:
            raise PipelineError(f"the journal {path} is in use by {_lock_owner(status.st_ino)}")
        time.sleep(0.02)


def _try_lock(fd: int, path: str) -> bool:
    """Lock it; False if another process has it, or has just removed it."""
    with suppress(BlockingIOError, FileNotFoundError):
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(fd), os.stat(path))
    return False


def _lock_owner(inode: int) -> str:
    """Who holds the lock, as far as this machine knows."""
    with open("/proc/locks") as locks:
        held = [line.split() for line in locks]
    pids = [words[4] for words in held if "FLOCK" in words and words[-3].endswith(f":{inode}")]
    return f"process {pids[0]}" if pids else "another process"


class NullJournal:
    """An edge that answers Entry with Committed and keeps nothing."""

    def __init__(self) -> None:
        """Nothing to open."""
        self.deadline = NEVER
        self.output_sizes: tuple[int, ...] = ()
        self._last_number: int | None = None

    def read_events(self) -> Iterator[JournalEvent]:
        """None."""
        return iter(())

    def send(self, _to: Address, message: Message) -> None:
        """Take an Entry."""
        if isinstance(message, JournalEntry):
            self._last_number = message.number
            self.deadline = 0.0

    def pollables(self) -> list[object]:
        """Nothing to wait for."""
        return []

    def receive(self) -> list[Message]:
        """Committed, up to the newest entry, once."""
        if self._last_number is None:
            return []
        answer, self._last_number, self.deadline = Committed("journal", self._last_number), None, NEVER
        return [answer]

    def close(self) -> None:
        """Nothing to let go of."""
