"""What has been read and not been given out: whole records, as they come.

It reads by blocks and only when it is asked, gives out what is there without waiting for more, and knows no numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from pipeline.input.cutter import Cutter
from pipeline.words import records

if TYPE_CHECKING:
    from pipeline.input.forming import Forming
    from pipeline.input.infiles import Infiles
    from pipeline.input.lettered import Lettered
    from pipeline.words.parts import Recipe

    Formings = Forming | Lettered


class Taken(Struct, frozen=True, gc=False):
    """So many records, and the bytes of the input that they were. None of them: there are no more."""

    count: int
    body: bytes = b""
    size: int = 0


class Reading:
    """Of these files; `apart`: what two of them hold never comes together. `reason` is why it broke off, if it did."""

    def __init__(
        self,
        infiles: Infiles,
        cutter: Cutter,
        recipe: Recipe,
        forming: Forming | Lettered | None = None,
        *,
        apart: bool,
    ) -> None:
        self.reason = ""
        self._infiles, self._cutter, self._recipe, self._forming = infiles, cutter, recipe, forming
        self._apart = apart

    def take(self, size: int) -> Taken | None:
        """About `size` bytes of records; None if they have not come yet."""
        while True:
            body = self._cutter.take(size)
            if not body:
                self.reason = self.reason or self._infiles.feed(self._cutter, apart=self._apart)
                body = self._cutter.take(size)
            if not body and self._infiles:
                return None
            taken = self._formed(self._forming, body) if self._forming else self._plain(body)
            if taken:
                return taken

    def _plain(self, body: bytes) -> Taken:
        return Taken(records.count(body, self._recipe), body, len(body)) if body else Taken(0)

    def _formed(self, forming: Formings, body: bytes) -> Taken | None:
        """What is complete with these lines; None if nothing is, and more can come."""
        formed = forming.form(body, self._infiles.opened, self._infiles.name)
        if formed.wrong:
            self.reason = formed.wrong
            self._infiles.close()
            self._cutter = Cutter(forming.mark, None)
        mark = records.terminator(self._recipe)
        if not formed.records:
            return Taken(0) if formed.is_over or formed.wrong else None
        return Taken(len(formed.records), b"".join([record + mark for record in formed.records]), len(body))
