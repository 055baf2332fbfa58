"""The source: tasks out of arguments, files or stdin, as runs of whole records with their numbers.

It promises to answer one Want with one Records or End, to read lazily and by blocks, to give out what is there
without waiting for more, and to hold no more than one block and one record. It never splits a record, and never
reads while nobody wants; but from the first Want on a spool takes in what stdin has. What a spool need not keep any
more it says to the spool.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Self

from pipeline.input.cutter import Cutter
from pipeline.input.infiles import STDIN, Infiles
from pipeline.input.reading import Reading
from pipeline.words import inputs, records
from pipeline.words.errands import End, Forget, Records, Want
from pipeline.words.errors import UsageError
from pipeline.words.notices import Waiting
from pipeline.words.parts import Recipe
from pipeline.words.station import NEVER, Address, Message

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.input.forming import Forming
    from pipeline.input.lettered import Lettered
    from pipeline.input.spool import Spool

RETRY = 1.0
"""Seconds after which a spool without room is tried again."""


class Source:
    """The edge of the ventilator's SOURCE port: takes Want and Forget, answers Records, End or Waiting."""

    def __init__(
        self,
        recipe: Recipe,
        files: Sequence[str],
        arguments: Sequence[str] | None,
        block: int | None,
        stdin: int = 0,
        spool: Spool | None = None,
    ) -> None:
        """Arguments if there are any (not None), else the files in turn, else stdin ("-"). Raises UsageError.

        `block` is a size in bytes; each Records is then one task. `recipe` may say less than what is read in the
        end: the property of that name has the truth. `spool` is where stdin is read from; the source closes it.
        """
        if arguments is not None and (files or block):
            raise UsageError(
                "tasks come from the arguments behind :::, so there can be no file and no --block with them"
            )
        self.recipe = Recipe(zero=recipe.zero or arguments is not None, block=block is not None)
        self.deadline = NEVER
        cutter = Cutter(records.terminator(self.recipe), block)
        names = [] if arguments is not None else list(files) or [STDIN]
        self._infiles = Infiles(names, stdin, spool)
        self._spool = spool
        self._alone = spool if names == [STDIN] else None
        self._reading = Reading(self._infiles, cutter, self.recipe, apart=block is not None)
        self._want: int | None = None
        self._begun = False
        self._total = self._alone.first if self._alone else 0
        self._stuck = ""
        self._asked: tuple[object, ...] = (self.recipe, block, arguments and tuple(arguments))
        if arguments:
            cutter.add(b"".join(os.fsencode(argument) + b"\0" for argument in arguments))

    @classmethod
    def formed(
        cls, forming: Forming | Lettered, files: Sequence[str], stdin: int = 0, spool: Spool | None = None
    ) -> Self:
        """Tasks formed of what is read, or of what is given. Raises UsageError.

        Unless a line is a task, nothing of a spool is forgotten: which of its bytes make which task is not known.
        """
        source = cls(forming.recipe, files, None if forming.reads else (), None, stdin, spool)
        source.recipe, cutter = forming.recipe, Cutter(forming.mark, None)
        source._reading = Reading(source._infiles, cutter, forming.recipe, forming, apart=True)
        if not forming.is_exact:
            source._alone, source._total = None, 0
        source._asked = forming.identity
        return source

    @property
    def fingerprint(self) -> str:
        """See `inputs`. What cannot be read twice has a new one in each process."""
        from hashlib import blake2b  # 5 ms that only a ventilator spends

        name, state = (
            blake2b(repr(what).encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
            for what in ((self._asked, self._infiles.names), self._infiles.states)
        )
        return inputs.fingerprint(name, state)

    def send(self, _to: Address, message: Message) -> None:
        """Take a Want or a Forget."""
        if isinstance(message, Want):
            self._want, self._begun = message.size, True
            self.deadline = 0.0
        elif isinstance(message, Forget) and self._alone:
            self._alone.forget(message.below)

    def files(self) -> list[object]:
        """The input, if it may wait and there is a Want to wait for; and stdin, if the spool takes more of it."""
        wanted = [] if self._want is None else self._infiles.waits
        ahead = [self._spool.fd] if self._spool and self._begun and self._spool.listens else []
        return list(dict.fromkeys([*wanted, *ahead]))

    def receive(self) -> list[Message]:
        """The answer to the Want as soon as there is one."""
        answer = [] if self._want is None else self._answered(self._want)
        if self._spool and self._begun:
            self._spool.ahead()
        stuck = self._spool.stuck if self._spool else ""
        self.deadline = time.monotonic() + RETRY if stuck else NEVER
        more = not (stuck and self._spool and not self._spool.unread)
        if self._want is not None and more and not self._infiles.waits:
            self.deadline = 0.0
        return [*self._told(stuck), *answer]

    def _answered(self, size: int) -> list[Message]:
        """Records or the End, if it can be said already."""
        taken = self._reading.take(size)
        if taken is None:
            return []
        self._want = None
        if not taken.count:
            return [End(self._total, self._reading.reason)]
        first = self._total
        self._total += taken.count
        if self._alone and not self._reading.reason:
            self._alone.given(self._total, taken.size)
        return [Records(first, taken.count, taken.body)]

    def close(self) -> None:
        """Close what is open."""
        self._infiles.close()
        self._want, self.deadline = None, NEVER
        if self._spool:
            self._spool.close()

    def _told(self, stuck: str) -> list[Message]:
        """Whoever looks on is told once that there is no room, and once when that is over."""
        told, self._stuck = self._stuck, stuck
        return [Waiting("disk", stuck, active=stuck != "")] if stuck != told else []
