"""The journal: it stores the events of a run, so that a later sink can resume it.

- Committed covers only what survives a kill or, with --durability disk, a power cut. So the order of syncs is:
  the files of the output, then the journal; only then is Committed sent.
- Events of one entry are stored together or not at all.
- Checksums of an input that is read again are compared with those in the journal.
- A record that is not complete is not used, and a failed sync is not repeated.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

from pipeline.model.errors import UsageError
from pipeline.model.events import Committed, InputChanged, JournalEntry
from pipeline.model.journal_events import ChecksumsRecorded, JournalEvent
from pipeline.model.state_machine import NEVER, Address, Message
from pipeline.storage import journal_reader
from pipeline.storage.disk_io import DEFAULT_SYSCALLS, DiskSpaceWait, Syscalls
from pipeline.storage.journal_reader import JournalState, sift
from pipeline.storage.locked_files import open_locked
from pipeline.storage.record_log import RecordLog

SYNC_INTERVAL_SECONDS = 0.05
"""Seconds between two syncs while entries keep coming."""


class Journal:
    """Adapter of the sink's JOURNAL port: takes JournalEntry, answers Committed, and InputChanged once."""

    def __init__(
        self,
        path: str,
        *,
        fsync: bool,
        sync_outputs: Callable[[], None] | None = None,
        syscalls: Syscalls = DEFAULT_SYSCALLS,
    ) -> None:
        """Open or create the journal at `path`.

        With `fsync`, what is committed survives a power cut; `sync_outputs` flushes what output and spill have
        written, and may raise OSError. Raises UsageError if the file at `path` is not a journal or is damaged,
        PipelineError if another process has locked it.
        """
        self.deadline = NEVER
        self._path, self._fsync, self._sync_outputs = path, fsync, sync_outputs
        self._log = RecordLog(open_locked(path), path, journal_reader.JOURNAL_MAGIC, syscalls)
        self._state, self._space_wait = JournalState(), DiskSpaceWait()
        self._pending: list[JournalEvent] = []
        self._last_number, self._committed_number = -1, -1
        self._last_sync, self._has_failed, self._has_reported_change = 0.0, False, False
        self._input_change: InputChanged | None = None
        self._load()
        self.started_at = self._state.started_at or time.time()
        """The time.time() at which the run started."""
        self.output_sizes = self._state.output_sizes
        """The committed sizes of the output's files when the journal was opened."""
        self.is_complete = self._state.is_complete
        """Whether the run was complete when the journal was opened."""

    def read_events(self) -> Iterator[JournalEvent]:
        """Yield all events in order, read from the disk on the way. Raises OSError."""
        return (event for _, event in journal_reader.read_events(self._log) if not isinstance(event, float))

    def send(self, _to: Address, message: Message) -> None:
        """Take a JournalEntry. After a failure all are dropped."""
        if not isinstance(message, JournalEntry) or self._has_failed:
            return
        for event in message.events:
            new: list[JournalEvent] = [event]
            if isinstance(event, ChecksumsRecorded):
                changed, difference = sift(event, self._state.recorded, self._state.settled)
                new, self._input_change = [*changed], self._input_change or difference
            self._pending += new
            for new_event in new:
                self._state.apply(new_event)
        self._last_number = message.number
        if self._space_wait.retry_at == NEVER:
            self.deadline = self._last_sync + SYNC_INTERVAL_SECONDS if self._fsync else 0.0

    def pollables(self) -> list[object]:
        """Return nothing to poll: only the deadline counts."""
        return []

    def receive(self) -> list[Message]:
        """Commit if it is due; return Committed, InputChanged, and notices for the user."""
        answers: list[Message] = []
        if self._input_change and not self._has_reported_change:
            self._has_reported_change = True
            answers.append(self._input_change)
        if self.deadline <= time.monotonic():
            answers += self._commit()
        return answers

    def close(self) -> None:
        """Close the file. Entries that were not committed may be lost. An empty journal is removed."""
        if self._log.fd >= 0 and self._log.size == 0:
            os.unlink(self._path)
        self._log.close()
        self.deadline = NEVER

    def remove(self) -> None:
        """Remove the file: the run is complete. Raises OSError."""
        os.unlink(self._path)
        self._log.close()
        self.deadline = NEVER

    def _load(self) -> None:
        try:
            for _, event in journal_reader.read_events(self._log):
                self._state.apply(event)
            self._log.truncate(self._log.size if self._state.started_at else 0)
        except (OSError, UsageError) as error:
            os.close(self._log.fd)
            if isinstance(error, UsageError):
                raise
            raise UsageError(f"cannot read {self._path}: {error.strerror}") from None

    def _commit(self) -> list[Message]:
        try:
            if self._fsync and self._sync_outputs:
                self._sync_outputs()  # first: after a power cut, the journal must not name results that are not written
            notices = self._write()
            if self._space_wait.retry_at != NEVER:
                self.deadline = self._space_wait.retry_at
                return notices
            if self._fsync:
                self._log.sync()
                self._last_sync = time.monotonic()
        except OSError as error:
            return self._fail(error)
        self.deadline, self._committed_number = NEVER, self._last_number
        return [*notices, Committed("journal", self._committed_number)]

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
        # Later writes cannot be trusted either; what was committed before stays so.
        self._has_failed, self.deadline = True, NEVER
        path = error.filename or self._path
        position = "" if error.filename else f" at byte {self._log.size}"
        return [Committed("journal", self._committed_number, f"{path}: {error.strerror}{position}")]
