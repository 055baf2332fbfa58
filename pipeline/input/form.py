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


class TaskFormat(Struct, frozen=True):
    """What is asked for; 0 and empty mean: not so. Without any of it, a line is a task as it is.

    Cut at `colsep`, or as CSV; named by the first of each source (`header`); `group` of them a task; `packed`: as many
    as fit a command, and at the end as many for each of so many slots; `sources` on the command line.
    """

    colsep: str = ""
    csv: bool = False
    header: bool = False
    json: bool = False
    group_size: int = 0
    pack_slots: int = 0
    is_shuffled: bool = False
    seed: int | None = None
    source_count: int = 1

    @property
    def shape(self) -> Shape:
        """What workers are told of the records."""
        if self.json:
            return "json"
        if self.pack_slots:
            return "packed"
        return (
            "columns" if self.colsep or self.csv or self.header or self.group_size or self.source_count > 1 else "line"
        )

    @property
    def is_line_per_task(self) -> bool:
        """Whether records are lines as they are read, in their order."""
        return self.shape in {"line", "json"} and not self.is_shuffled


DEFAULT_FORMAT = TaskFormat()


def format_from_settings(settings: Settings, slots: int) -> TaskFormat:
    """What was asked for; `slots` are those of all workers, as far as that is known."""
    files = [
        word for given in settings.argument_sources if given.separator.startswith("::::") for word in given.arguments
    ]
    words = sum(not given.separator.startswith("::::") for given in settings.argument_sources)
    return TaskFormat(
        colsep=settings.colsep,
        csv=settings.csv,
        header=settings.header != "",
        json=settings.jsonl,
        group_size=settings.max_args or 0,
        pack_slots=slots if settings.packed else 0,
        is_shuffled=settings.shuf,
        seed=settings.seed,
        source_count=max(1, len(files) + words),
    )
