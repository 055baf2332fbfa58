"""The output: what tasks wrote, to stdout or a file; what they complained of, to stderr; who failed, in dead letters.

It promises to write each result whole and in the order it was given, many small ones in one call, all of it at
once while the reader keeps up and there is room; and to say what is out, and how long its files are then. It never
waits for a slow reader, and touches an existing file only when there is something to write, or a run to go on with.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.output.kernel import KERNEL, Kernel, Room
from pipeline.output.letters import complaints, letters
from pipeline.output.sheet import STDERR, Sheet
from pipeline.output.spout import Spout, opened
from pipeline.words.errands import Write, Written
from pipeline.words.errors import CLOSED, PipelineError
from pipeline.words.station import NEVER, Address, Message


@dataclass(frozen=True, slots=True)
class _Coming:
    """A result is out when its files are so long; then its complaints are shown."""

    number: int
    sizes: tuple[int, ...]
    errors: bytes


class _Aside:
    """What tasks complain of: on stderr, or to whom it may be shown."""

    def __init__(self, show: Callable[[bytes], None] | None) -> None:
        self._show = show
        self.spout = opened(STDERR) if show is None else None
        self._after: deque[tuple[_Coming, int]] = deque()

    def say(self, word: _Coming) -> None:
        """Behind all that was said before."""
        if self.spout:
            self.spout.add(word.errors)
        elif self._show and word.errors:
            self._show(word.errors)
        self._after.append((word, self.spout.added if self.spout else 0))

    def said(self) -> list[_Coming]:
        """Whose complaints are out now."""
        if self.spout:
            try:
                self.spout.pour()
            except OSError:  # stderr is gone: nobody can be told
                self.close()
        out: list[_Coming] = []
        while self._after and (self.spout is None or self._after[0][1] <= self.spout.poured):
            out.append(self._after.popleft()[0])
        return out

    @property
    def waits(self) -> bool:
        """Whether there is something to say."""
        return bool(self._after)

    def close(self) -> None:
        """Drop what is not written."""
        if self.spout:
            self.spout.close()
        self.spout = None


class Output:
    """The edge of the sink's OUTPUT port: takes Write, answers Written."""

    def __init__(
        self,
        path: str = "",
        errors: Callable[[bytes], None] | None = None,
        *,
        verbose: bool = False,
        failed: str = "",
        sizes: tuple[int, ...] = (),
        kernel: Kernel = KERNEL,
    ) -> None:
        """To the file at `path`, or to stdout if that is empty; dead letters to the file `failed`, if that is not.

        `errors` shows bytes to the person where stderr is not written to directly; it may wait. `verbose` names each
        task that ended with an exit code, too, and not only those that could not say why they failed. With `sizes`,
        the committed lengths of the files, a run goes on. Raises UsageError if they are not so long, or not writable.
        """
        self.deadline = NEVER
        lengths = (*sizes, None, None)
        paths = [path, failed] if failed else [path]
        self._sheets = [Sheet(each, size, kernel) for each, size in zip(paths, lengths, strict=False)]
        self._aside, self._verbose = _Aside(errors), verbose
        self._number = -1  # nothing yet
        self._sizes: tuple[int, ...] = ()
        self._failure, self._room = "", Room()
        self._given: list[Write] = []
        self._coming: deque[_Coming] = deque()

    def send(self, _to: Address, message: Message) -> None:
        """Take a Write. After a failure nothing more is written."""
        if isinstance(message, Write) and not self._failure:
            self._given.append(message)
            self.deadline = min(self.deadline, 0.0 if self._room.again == NEVER else self._room.again)

    def files(self) -> list[object]:
        """Readable when a blocked stdout or stderr takes more."""
        spouts: list[Spout | None] = [] if self._failure else [sheet.spout for sheet in self._sheets]
        return [spout.ready() for spout in (*spouts, self._aside.spout) if spout and spout.blocked]

    def receive(self) -> list[Message]:
        """Write what can be written; Written when that finished a result, or failed."""
        if self._failure or not (self._given or self._coming or self._aside.waits):
            return []
        before, told = self._number, self._pour()
        self._settle()
        self.deadline = self._room.again
        if self._number > before or self._failure:
            told.append(Written(self._number, self._failure, self._sizes))
        return told

    def finish(self) -> None:
        """The run is over: make sure that the files are there even if nothing was written. Raises PipelineError."""
        for sheet in self._sheets if not self._failure else ():
            try:
                sheet.open()
            except OSError as error:
                raise PipelineError(f"cannot write {sheet.path}: {error.strerror}") from None

    def sync(self) -> None:
        """What Written spoke of is on the disk. Raises OSError, naming the file."""
        for sheet in self._sheets:
            sheet.sync()

    def close(self) -> None:
        """Close what is open, and drop what is not written."""
        for sheet in self._sheets:
            sheet.close()
        self._aside.close()
        self._given.clear()
        self._coming.clear()
        self.deadline = NEVER

    def _pour(self) -> list[Message]:
        """What the person is to be told."""
        if self._room.waits:
            return []
        sheet = self._sheets[0]
        try:
            for sheet in self._sheets:
                sheet.open()
            self._take()
            for sheet in self._sheets:
                sheet.pour()
        except OSError as error:
            return self._stop(sheet, error)
        return self._room.found()

    def _take(self) -> None:
        for word in self._given:
            for sheet, text in zip(self._sheets, (word.result.output, self._letters(word)), strict=False):
                sheet.add(text)
            sizes = tuple(sheet.added for sheet in self._sheets)
            self._coming.append(_Coming(word.number, sizes, complaints(word.result, verbose=self._verbose)))
        self._given.clear()

    def _letters(self, word: Write) -> bytes:
        return letters(word.result) if len(self._sheets) > 1 and word.result.notes else b""

    def _stop(self, sheet: Sheet, error: OSError) -> list[Message]:
        """For a while, if there is no room; else for good."""
        reason = f"{sheet.path or 'stdout'}: {error.strerror} after {sheet.size} bytes"
        try:
            return self._room.lacking(error, reason)
        except OSError:
            closed = error.errno in {errno.EPIPE, errno.EBADF} and not sheet.path
            self._failure = CLOSED if closed else reason
            return []

    def _settle(self) -> None:
        """Show the errors behind what is out, and count as written what is out with its errors."""
        out = [sheet.size for sheet in self._sheets]
        while self._coming and all(has >= wants for has, wants in zip(out, self._coming[0].sizes, strict=True)):
            self._aside.say(self._coming.popleft())
        for word in self._aside.said():
            self._number, self._sizes = word.number, word.sizes
