"""How tasks are formed of what is read: into which columns a line is cut, under which names, how many make one task.

It is what a person has asked for, in one word, and part of the input's identity: the same input formed otherwise is
another one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from pipeline.words.parts import Shape

if TYPE_CHECKING:
    from pipeline.words.settings import Settings


class Form(Struct, frozen=True):
    """What is asked for; 0 and empty mean: not so. Without any of it, a line is a task as it is.

    Cut at `colsep`, or as CSV; named by the first of each source (`header`); `group` of them a task; `packed`: as many
    as fit a command, and at the end as many for each of so many slots; `sources` on the command line.
    """

    colsep: str = ""
    csv: bool = False
    header: bool = False
    json: bool = False
    group: int = 0
    packed: int = 0
    shuffled: bool = False
    seed: int | None = None
    sources: int = 1

    @property
    def shape(self) -> Shape:
        """What workers are told of the records."""
        if self.json:
            return "json"
        if self.packed:
            return "packed"
        return "columns" if self.colsep or self.csv or self.header or self.group or self.sources > 1 else "line"

    @property
    def is_plain(self) -> bool:
        """Whether records are lines as they are read, in their order."""
        return self.shape in {"line", "json"} and not self.shuffled


PLAIN = Form()


def form_of(settings: Settings, slots: int) -> Form:
    """What was asked for; `slots` are those of all workers, as far as that is known."""
    files = [word for given in settings.given if given.mark.startswith("::::") for word in given.words]
    words = sum(not given.mark.startswith("::::") for given in settings.given)
    return Form(
        colsep=settings.colsep,
        csv=settings.csv,
        header=settings.header != "",
        json=settings.jsonl,
        group=settings.max_args or 0,
        packed=slots if settings.packed else 0,
        shuffled=settings.shuf,
        seed=settings.seed,
        sources=max(1, len(files) + words),
    )
