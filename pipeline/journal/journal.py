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

from pipeline.journal import entries
from pipeline.journal.book import Book
from pipeline.journal.past import Past
from pipeline.journal.recheck import sift
from pipeline.output.kernel import KERNEL, Kernel, Room
from pipeline.words.errands import Committed, Differs, Entry
from pipeline.words.errors import PipelineError, UsageError
from pipeline.words.facts import Fact, Marked
from pipeline.words.station import NEVER, Address, Message

GROUP = 0.05
"""Seconds between two syncs, while entries keep coming."""
WAIT = 2.0
"""Seconds to wait for another process that may be about to leave."""


class Journal:
    """The edge of the sink's JOURNAL port: takes Entry; answers Committed, and Differs for a changed input."""

    def __init__(
        self, path: str, *, disk: bool, sync: Callable[[], None] | None = None, kernel: Kernel = KERNEL
    ) -> None:
        """Opens what is at `path`, or begins it.

        With `disk`, an answer outlives a power cut; `sync` puts on the disk what output and spill have written, and
        may raise OSError. Raises UsageError if there is no journal at `path` or a damaged one, PipelineError if another
        process has it.
        """
        self.deadline = NEVER
        self._path, self._disk, self._sync = path, disk, sync
        self._book = Book(locked(path), path, entries.MAGIC, kernel)
        self._past, self._room = Past(), Room()
        self._pending: list[Fact] = []
        self._number, self._durable = -1, -1  # nothing yet
        self._synced, self._failed, self._is_refused = 0.0, False, False
        self._differs: Differs | None = None
        self._load()
        self.begun = self._past.begun or time.time()
        """When the run began, a time.time()."""
        self.sizes = self._past.sizes
        """The committed lengths of the output's files when it was opened."""

    def facts(self) -> Iterator[Fact]:
        """All that it knows, in order, read from the disk as one goes. Raises OSError."""
        return (fact for _, fact in entries.read(self._book) if not isinstance(fact, float))

    def send(self, _to: Address, message: Message) -> None:
        """Take an Entry. After a failure nothing more is taken."""
        if not isinstance(message, Entry) or self._failed:
            return
        for fact in message.facts:
            news: list[Fact] = self._sifted(fact) if isinstance(fact, Marked) else [fact]
            self._pending += news
            for each in news:
                self._past.take(each)
        self._number = message.number
        if self._room.again == NEVER:
            self.deadline = self._synced + GROUP if self._disk else 0.0

    def files(self) -> list[object]:
        """Nothing to wait for."""
        return []

    def receive(self) -> list[Message]:
        """Committed, once it is so; Differs; what the person is to be told."""
        answers: list[Message] = []
        if self._differs and not self._is_refused:
            self._is_refused = True
            answers.append(self._differs)
        if self.deadline <= time.monotonic():
            answers += self._commit()
        return answers

    def close(self) -> None:
        """Let go. What was not answered may be lost. A journal in which nothing was written leaves no file."""
        if self._book.fd >= 0 and self._book.size == 0:
            os.unlink(self._path)
        self._book.close()
        self.deadline = NEVER

    def remove(self) -> None:
        """The run is over, and nobody will ask for it again: no file is left. Raises OSError."""
        os.unlink(self._path)
        self._book.close()
        self.deadline = NEVER

    def _load(self) -> None:
        try:
            for _, fact in entries.read(self._book):
                self._past.take(fact)
            self._book.cut(self._book.size if self._past.begun else 0)
        except (OSError, UsageError) as error:
            os.close(self._book.fd)
            if isinstance(error, UsageError):
                raise
            raise UsageError(f"cannot read {self._path}: {error.strerror}") from None

    def _sifted(self, fact: Marked) -> list[Fact]:
        news, differs = sift(fact, self._past.recorded, self._past.settled)
        self._differs = self._differs or differs
        return [*news]

    def _commit(self) -> list[Message]:
        """Everything so far becomes durable, in the order that a power cut at any moment allows."""
        try:
            if self._disk and self._sync:
                self._sync()
            told = self._write()
            if self._room.again != NEVER:
                self.deadline = self._room.again
                return told
            if self._disk:
                self._book.sync()
                self._synced = time.monotonic()
        except OSError as error:
            return self._fail(error)
        self.deadline, self._durable = NEVER, self._number
        return [*told, Committed("journal", self._durable)]

    def _write(self) -> list[Message]:
        try:
            if not self._book.size:
                self._book.append(entries.headed(self.begun))
            if self._pending:
                self._book.append(entries.packed(self._pending))
        except OSError as error:
            return self._room.lacking(error, f"{self._path}: {error.strerror} at byte {self._book.size}")
        self._pending.clear()
        return self._room.found()

    def _fail(self, error: OSError) -> list[Message]:
        """Nothing that follows can be trusted: what is durable was so before."""
        self._failed, self.deadline = True, NEVER
        where = error.filename or self._path
        at = "" if error.filename else f" at byte {self._book.size}"
        return [Committed("journal", self._durable, f"{where}: {error.strerror}{at}")]


def locked(path: str) -> int:
    """A descriptor of the file at `path`, made if need be, that this process alone has.

    Waits a little for one that is leaving. Raises UsageError if it cannot be a journal, PipelineError if another
    process keeps it.
    """
    deadline = time.monotonic() + WAIT
    while True:
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY, 0o666)
        except OSError as error:
            raise UsageError(f"cannot keep a journal in {path}: {error.strerror}") from None
        status = os.fstat(fd)
        if stat.S_ISREG(status.st_mode) and _is_ours(fd, path):
            return fd
        os.close(fd)
        if not stat.S_ISREG(status.st_mode):
            raise UsageError(f"cannot keep a journal in {path}: it is no file")
        if time.monotonic() > deadline:
            raise PipelineError(f"the journal {path} is in use by {_owner(status.st_ino)}")
        time.sleep(0.02)


def _is_ours(fd: int, path: str) -> bool:
    """Lock it; False if another process has it, or has just removed it."""
    with suppress(BlockingIOError, FileNotFoundError):
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(fd), os.stat(path))
    return False


def _owner(inode: int) -> str:
    """Who holds the lock, as far as this machine knows."""
    with open("/proc/locks") as locks:
        held = [line.split() for line in locks]
    pids = [words[4] for words in held if "FLOCK" in words and words[-3].endswith(f":{inode}")]
    return f"process {pids[0]}" if pids else "another process"


class NoJournal:
    """An edge that answers Entry with Committed and keeps nothing."""

    def __init__(self) -> None:
        """Nothing to open."""
        self.deadline = NEVER
        self.sizes: tuple[int, ...] = ()
        self._newest: int | None = None

    def facts(self) -> Iterator[Fact]:
        """None."""
        return iter(())

    def send(self, _to: Address, message: Message) -> None:
        """Take an Entry."""
        if isinstance(message, Entry):
            self._newest = message.number
            self.deadline = 0.0

    def files(self) -> list[object]:
        """Nothing to wait for."""
        return []

    def receive(self) -> list[Message]:
        """Committed, up to the newest entry, once."""
        if self._newest is None:
            return []
        answer, self._newest, self.deadline = Committed("journal", self._newest), None, NEVER
        return [answer]

    def close(self) -> None:
        """Nothing to let go of."""
