"""The spool: what stdin said, on disk, until every task of it is settled.

It promises that what was taken from a pipe is in a file before anybody has read it, so that a `kill -9` at any moment
loses nothing; that whoever opens the folder again reads on from the first task that may not be settled, first from
disk, then from the same stdin; and that another stdin is taken for the same input given again, from its beginning. Of
a socket or terminal, what is in hand between two system calls can be lost. It takes nothing before it was asked once,
then also what nobody has read yet, up to a bound; it never waits, and never mixes two stdins.
"""

from __future__ import annotations

import os
from collections import deque
from contextlib import suppress

from pipeline.input.inlet import READ, Inlet
from pipeline.input.spoolfolder import Folder, Noted
from pipeline.input.tape import SEGMENT, Tape
from pipeline.words.errors import UsageError
from pipeline.words.structs import replace

AHEAD = 1 << 30
"""Bytes on disk at most that nobody has read yet; past them the writer of stdin has to wait."""
TURN = 2 << 20
"""Bytes to move at a time, while others wait."""
GIVE_AGAIN = "the input had not been read to its end: give it again on stdin"


class Spool:
    """Stdin by way of a folder: it is read like a file, and told what of it need not be kept.

    `id` is the same in all lives of the folder; `complete`: all is on disk, and stdin is not needed any more; the first
    record that is read here is number `first`.
    """

    def __init__(self, folder: str, stdin: int = 0, *, disk: bool = False, each: int = SEGMENT) -> None:
        """`disk`: once read to its end, it survives a power cut. `each` is the size of a segment in bytes.

        Raises UsageError if the folder can't be used or the rest of the input is missing, PipelineError if it's in use.
        """
        self.fd, self._broken = stdin, False
        self._inlet, self._each, self._disk = Inlet(stdin), each, disk
        self._folder = Folder(folder, disk=disk)
        try:
            self._go_on()
        except (OSError, UsageError) as error:
            self._folder.close()
            if isinstance(error, UsageError):
                raise
            raise UsageError(f"cannot spool stdin in {folder}: {error.strerror}") from None

    def _go_on(self) -> None:
        """Where the last owner of the folder was; or at the beginning, if this stdin is another one."""
        noted = self._folder.load()
        here = "" if noted and noted.size >= 0 else self._inlet.origin()
        self._begin(noted or self._folder.save(Noted(os.urandom(8).hex(), here)))
        self.id, self.complete = self._noted.id, self._noted.size == self._tape.end
        self._other = not self.complete and (self._noted.stdin != here or self._tape.end < self._noted.position)
        self.first = 0 if self._other else self._noted.first
        if self._other:
            self._at = self._tape.end
            if os.isatty(self.fd):
                raise UsageError(GIVE_AGAIN)

    def _begin(self, noted: Noted) -> None:
        self._noted = noted
        self._folder.sweep(noted.life, noted.position // self._each)
        self._tape = Tape(self._folder.stem(noted.life), noted.position, self._each)
        self._pages = Pages(noted.position, self._each)
        self._at = noted.position

    @property
    def stuck(self) -> str:
        """Why it takes no more for now; empty if it does."""
        return self._inlet.full and f"no room for stdin in {self._folder.path} ({self._inlet.full})"

    @property
    def waits(self) -> bool:
        """Whether only stdin can bring more."""
        return not (self.complete or self.stuck or self._inlet.hand or self.unread)

    @property
    def unread(self) -> int:
        """Bytes on disk that were not given out."""
        return self._tape.end - self._at

    def read(self) -> bytes | None:
        """What comes next, empty at the end; None when there is nothing yet, or no room: then `stuck` says so.

        Raises OSError; UsageError if the input had to be given again and was not.
        """
        if not self.complete and not self.unread and not self._inlet.attempt(self._move):
            return None
        data = self._tape.read(self._at, READ)
        self._at += len(data)
        return data

    @property
    def listens(self) -> bool:
        """Whether more of stdin can go to the disk before it is read."""
        return not (self.complete or self.stuck or self._other or self._broken or self.unread >= AHEAD)

    def ahead(self) -> None:
        """Move some of what stdin has ready to the disk, so that its writer can end before the tasks do."""
        limit, self._inlet.full = self._tape.end + TURN, ""
        try:
            while self.listens and self._tape.end < limit and self._inlet.attempt(self._move):
                pass
        except OSError:  # told when all before it has been read
            self._broken = True

    def _move(self) -> None:
        """From stdin to disk, or note that this was all. Raises BlockingIOError if it has nothing to say, OSError."""
        if self._other:
            self._begin_anew()
        if not self._inlet.move(self._tape):
            if self._disk:
                self._tape.sync()
            self._noted = self._folder.save(replace(self._noted, size=self._tape.end))
            self.complete = True

    def _begin_anew(self) -> None:
        """The input is given again; that it is the same is verified elsewhere. Before it says a word, all stays."""
        if self._inlet.is_empty():
            raise UsageError(GIVE_AGAIN)
        noted = self._folder.save(Noted(self.id, self._inlet.origin(), self._noted.life + 1))
        self._tape.close()
        self._begin(noted)
        self._other = False

    def given(self, first: int, size: int) -> None:
        """`size` more bytes of records have been given out; the next one is number `first`."""
        self._pages.given(first, size, self._tape.end)

    def forget(self, below: int) -> None:
        """Tasks below this number are settled: note where others begin, then delete the segments before that."""
        with suppress(OSError):  # tried again at the next time
            self._noted = self._pages.turn(below, self._noted, self._folder)
            self._tape.drop(self._noted.position)

    def close(self) -> None:
        """Let go of the folder; all of it stays. May be called twice."""
        self._tape.close()
        self._folder.close()

    def remove(self) -> None:
        """The run is over: delete all of it. Before `close`, so that nobody else has come."""
        self._folder.remove()


class Pages:
    """Where records begin behind the beginnings of segments: their numbers, and their bytes."""

    def __init__(self, position: int, each: int) -> None:
        """Records are given out from byte `position` on; a segment has `each` bytes."""
        self._given, self._each = position, each
        self._starts: deque[tuple[int, int]] = deque()

    def given(self, first: int, size: int, end: int) -> None:
        """As of the spool, which has `end` bytes: the last record may have a terminator more than was there."""
        before, self._given = self._given, min(self._given + size, end)
        if before // self._each < self._given // self._each:
            self._starts.append((first, self._given))

    def turn(self, below: int, noted: Noted, folder: Folder) -> Noted:
        """All below this number are settled: what is noted from now on. Raises OSError, and all stays."""
        start = next((start for start in reversed(self._starts) if start[0] <= below), None)
        if start is None:
            return noted
        noted = folder.save(replace(noted, first=start[0], position=start[1]))
        while self._starts and self._starts[0][0] <= below:
            self._starts.popleft()
        return noted
