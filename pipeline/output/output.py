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

from pipeline.output.kernel import KERNEL, Kernel, Room
from pipeline.output.letters import Complaints
from pipeline.output.page import FORMS, PLACES, Curtain, Page, letters_page, log_page, main_page
from pipeline.output.sheet import STDERR
from pipeline.output.spout import Spout, opened
from pipeline.words.errands import Committed, Show, Write
from pipeline.words.errors import CLOSED, PipelineError
from pipeline.words.station import NEVER, Address, Message


class _Coming(Struct, frozen=True, gc=False):
    """A result is out when its files are so long; then its complaints are shown."""

    number: int
    sizes: tuple[int, ...]
    errors: bytes


class Files(Struct, frozen=True):
    """Where results go: the output (empty: stdout), dead letters, the log of tries, folders.

    `curtain` is what is drawn where stdout is, if anything.
    """

    output: str = ""
    failed: str = ""
    joblog: str = ""
    folder: str = ""
    curtain: Curtain | None = None

    @property
    def keeps_errors(self) -> bool:
        """Whether what tasks write to stderr is kept in one of them, and so not shown."""
        return bool(self.folder) or self.output.endswith(FORMS)

    def pages(self, sizes: Sequence[int | None], kernel: Kernel) -> dict[int, Page]:
        """The pages by their place in `sizes`. Raises UsageError."""
        pages: dict[int, Page] = {}
        if self.output or not self.folder:
            pages[0] = main_page(self.output, sizes[0], kernel, self.curtain)
        if self.failed:
            pages[1] = letters_page(self.failed, sizes[1], kernel)
        if self.joblog:
            pages[2] = log_page(self.joblog, sizes[2], kernel)
        if self.folder:
            from pipeline.output.folders import Folders

            pages[3] = Folders(self.folder)
        return pages


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
    """The edge of the sink's OUTPUT port: takes Write, answers Committed."""

    def __init__(
        self,
        files: Files | str = "",
        errors: Callable[[bytes], None] | None = None,
        *,
        verbose: bool = False,
        sizes: tuple[int, ...] = (),
        kernel: Kernel = KERNEL,
    ) -> None:
        """To these files, or to the one at that path.

        `errors` shows bytes to the person where stderr is not written to directly; it may wait. `verbose` names each
        task that ended with an exit code, not only the first. With `sizes`, the committed lengths of the files, a run
        goes on. Raises UsageError if they are not so long, or not writable.
        """
        self.deadline = NEVER
        files = Files(files) if isinstance(files, str) else files
        self._pages = files.pages((*sizes, *[None] * PLACES), kernel)
        self._aside, self._complaints = _Aside(errors), Complaints(verbose=verbose, apart=files.keeps_errors)
        self._number = -1  # nothing yet
        self._sizes: tuple[int, ...] = ()
        self._failure, self._room = "", Room()
        self._given: list[Write | Show] = []
        self._coming: deque[_Coming] = deque()

    def send(self, _to: Address, message: Message) -> None:
        """Take a Write or a Show. After a failure nothing more is written."""
        if isinstance(message, Write | Show) and not self._failure:
            self._given.append(message)
            self.deadline = min(self.deadline, 0.0 if self._room.again == NEVER else self._room.again)

    def files(self) -> list[object]:
        """Readable when a blocked stdout or stderr takes more."""
        spouts: list[Spout | None] = [] if self._failure else [page.spout for page in self._pages.values()]
        return [spout.ready() for spout in (*spouts, self._aside.spout) if spout and spout.blocked]

    def receive(self) -> list[Message]:
        """Write what can be written; Committed when that finished a result, or failed."""
        if self._failure or not (self._given or self._coming or self._aside.waits):
            return []
        before, told = self._number, self._pour()
        self._settle()
        self.deadline = self._room.again
        if self._number > before or self._failure:
            told.append(Committed("output", self._number, self._failure, self._sizes))
        return told

    def finish(self) -> None:
        """The run is over: make sure that the files are there even if nothing was written. Raises PipelineError."""
        for page in self._pages.values() if not self._failure else ():
            try:
                page.open()
            except OSError as error:
                raise PipelineError(f"cannot write {page.path}: {error.strerror}") from None

    def sync(self) -> None:
        """What Committed spoke of is on the disk. Raises OSError, naming the file."""
        for page in self._pages.values():
            page.sync()

    def close(self) -> None:
        """Close what is open, and drop what is not written."""
        for page in self._pages.values():
            page.close()
        self._aside.close()
        self._given.clear()
        self._coming.clear()
        self.deadline = NEVER

    def _pour(self) -> list[Message]:
        """What the person is to be told."""
        if self._room.waits:
            return []
        page = next(iter(self._pages.values()))
        try:
            for page in self._pages.values():
                page.open()
            self._take()
            for page in self._pages.values():
                page.pour()
        except OSError as error:
            return self._stop(page, error)
        return self._room.found()

    def _take(self) -> None:
        for word in self._given:
            for page in self._pages.values():
                if isinstance(word, Show):
                    page.show(word.body)
                else:
                    page.take(word)
            if isinstance(word, Write):
                told = b"" if word.tried else self._complaints.of(word.result)
                self._coming.append(_Coming(word.number, self._lengths("added"), told))
        self._given.clear()

    def _lengths(self, what: str) -> tuple[int, ...]:
        """Of all places up to the last page, 0 where there is none."""
        return tuple(getattr(self._pages[at], what) if at in self._pages else 0 for at in range(max(self._pages) + 1))

    def _stop(self, page: Page, error: OSError) -> list[Message]:
        """For a while, if there is no room; else for good."""
        reason = f"{page.path or 'stdout'}: {error.strerror} after {page.size} bytes"
        try:
            return self._room.lacking(error, reason)
        except OSError:
            closed = error.errno in {errno.EPIPE, errno.EBADF} and not page.path
            self._failure = CLOSED if closed else reason
            return []

    def _settle(self) -> None:
        """Show the errors behind what is out, and count as written what is out with its errors."""
        out = self._lengths("size")
        while self._coming and all(has >= wants for has, wants in zip(out, self._coming[0].sizes, strict=True)):
            self._aside.say(self._coming.popleft())
        for word in self._aside.said():
            self._number, self._sizes = word.number, word.sizes
