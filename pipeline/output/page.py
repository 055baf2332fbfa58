"""Pages: where results go, each in its form: a file or stdout, a database, a folder for each task.

A page takes each Write once, in order, says how much it was given and how much of that is out, and never waits for a
slow reader. Made in one place, so that their order in `sizes` is always the same.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from pipeline.output import letters
from pipeline.output.kernel import Kernel
from pipeline.output.sheet import Sheet
from pipeline.words.results import unshown

if TYPE_CHECKING:
    from pipeline.output.rows import Row
    from pipeline.output.spout import Spout
    from pipeline.words.errands import Write

FORMS = (".jsonl", ".csv", ".sqlite")
"""How -o ends where more than the output of tasks is written."""
PLACES = 4
"""In `sizes`: the output, dead letters, the log of tries, and folders, which have none."""


class Curtain(Protocol):
    """What is drawn on the terminal that results are written to."""

    def lift(self) -> None:
        """Out of the way, please."""

    def fall(self, *, whole: bool) -> None:
        """It may come back, if the last line is `whole`."""


class Page(Protocol):
    """What Output writes to. All but `take` may raise OSError; `added` and `size` are bytes, or results."""

    path: str

    @property
    def spout(self) -> Spout | None:
        """What a reader can block."""

    @property
    def added(self) -> int:
        """How long it will be with all that it was given."""

    @property
    def size(self) -> int:
        """How long it is."""

    def open(self) -> None:
        """Be there."""

    def take(self, word: Write) -> None:
        """Write this, soon."""

    def show(self, lines: bytes) -> None:
        """Write these lines of a task that still runs, if they are asked for."""

    def pour(self) -> None:
        """Write all that goes without waiting."""

    def sync(self) -> None:
        """What is out is on the disk."""

    def close(self) -> None:
        """Drop what is not written."""


class Paper:
    """A sheet, and how results look on it; `head` makes the first line from the first that is written."""

    def __init__(
        self,
        sheet: Sheet,
        form: Callable[[Write], bytes],
        head: Callable[[Write], bytes] | None = None,
        curtain: Curtain | None = None,
    ) -> None:
        self.sheet, self._form, self._head, self._curtain = sheet, form, head, curtain
        self.path = sheet.path

    @property
    def spout(self) -> Spout | None:
        """As a Page."""
        return self.sheet.spout

    @property
    def added(self) -> int:
        """As a Page."""
        return self.sheet.added

    @property
    def size(self) -> int:
        """As a Page."""
        return self.sheet.size

    def open(self) -> None:
        """As a Page."""
        self.sheet.open()

    def take(self, word: Write) -> None:
        """As a Page."""
        text = self._form(word)
        if text and self._head and not self.sheet.added:
            self.sheet.add(self._head(word))
        self.sheet.add(text)

    def show(self, lines: bytes) -> None:
        """As a Page."""
        if self._form is text_of:
            self.sheet.add(lines)

    def pour(self) -> None:
        """As a Page."""
        if self._curtain:
            self._curtain.lift()
        self.sheet.pour()
        if self._curtain:
            blocked = self.sheet.spout and self.sheet.spout.blocked
            self._curtain.fall(whole=self.sheet.ends_line and not blocked)

    def sync(self) -> None:
        """As a Page."""
        self.sheet.sync()

    def close(self) -> None:
        """As a Page."""
        self.sheet.close()


def text_of(word: Write) -> bytes:
    """What its tasks wrote, without what was shown before."""
    return b"" if word.tried else unshown(word.result, word.shown)


def main_page(path: str, size: int | None, kernel: Kernel, curtain: Curtain | None) -> Page:
    """The page of -o, or stdout. Raises UsageError if it is plainly not writable, or was changed."""
    form = os.path.splitext(path)[1]
    if form not in FORMS:
        return Paper(Sheet(path, size, kernel), text_of, None, curtain)
    if form == ".sqlite":
        from pipeline.output.database import Database

        return Database(path, resumed=size is not None)
    from pipeline.output import rows

    here = os.uname().nodename
    if form == ".jsonl":
        return Paper(Sheet(path, size, kernel), _rowwise(rows.jsonl))
    head = lambda word: rows.csv_head(next(rows.rows(word.result)))  # noqa: E731
    return Paper(Sheet(path, size, kernel), _rowwise(lambda row: rows.csv(row, here)), head)


def letters_page(path: str, size: int | None, kernel: Kernel) -> Page:
    """The page of --failed."""

    def form(word: Write) -> bytes:
        return letters.letters(word.result) if word.result.notes and not word.tried else b""

    return Paper(Sheet(path, size, kernel), form)


def log_page(path: str, size: int | None, kernel: Kernel) -> Page:
    """The page of --joblog: every try."""
    from pipeline.output import rows

    here = os.uname().nodename
    form = _rowwise(lambda row: rows.joblog(row, here), tries=True)
    return Paper(Sheet(path, size, kernel), form, lambda _: rows.JOBLOG)


def _rowwise(form: Callable[[Row], bytes], *, tries: bool = False) -> Callable[[Write], bytes]:
    """A row for each task; with `tries`, for each try of it."""
    from pipeline.output.rows import rows

    def written(word: Write) -> bytes:
        return b"" if word.tried and not tries else b"".join([form(row) for row in rows(word.result)])

    return written
