"""What words are made of: ranges of tasks, and the small records inside of words.

They are frozen like the words, travel inside of them only, and know nothing of who says them.
Task numbers start at 0; ranges are half-open, sorted and merged; times are seconds; sizes are bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Ranges = tuple[tuple[int, int], ...]

NoteKind = Literal["exit", "signal", "exception", "lost", "timeout", "size", "poison"]
"""lost: its warm child ended; size: it, or what it wrote, is too large; poison: it takes its workers along."""


Shape = Literal["line", "columns", "packed", "json"]
"""line: the task as it is; columns, packed: several arguments (see `columns`), of which `packed` repeats the word
around each; json: a value."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is the same for all tasks of a run: how their records look, and what their results tell.

    With `block`, a record is its bytes as they are, one to a chunk. The sink wants an account of each task
    (`collect_metrics`), or its lines as they come (`stream_output`).
    """

    zero: bool = False
    block: bool = False
    shape: Shape = "line"
    collect_metrics: bool = False
    stream_output: bool = False


@dataclass(frozen=True, slots=True)
class Note:
    """Why one task did not end well. `code` is the exit code or the signal's number.

    `tail` is the end of its stderr; `size` are the bytes of its record in the Result's `records`.
    """

    task: int
    kind: NoteKind
    code: int
    text: str
    tail: str = ""
    size: int = 0


@dataclass(frozen=True, slots=True)
class Tried:
    """The tasks from `low` to `high` have failed `tries` times so far, and are not settled."""

    low: int
    high: int
    tries: int


@dataclass(frozen=True, slots=True)
class Retry:
    """As Tried; they are to be run again, in `wait` seconds."""

    low: int
    high: int
    tries: int
    wait: float


@dataclass(frozen=True, slots=True)
class Again:
    """A worker's results that had not arrived when its pulse of that number did."""

    worker: str
    pulse: int
    ranges: Ranges


@dataclass(frozen=True, slots=True)
class Doing:
    """What one slot, counted from 1, runs now and since how many seconds; `command` is cut to one line's length."""

    task: int
    slot: int
    seconds: float
    command: str


@dataclass(frozen=True, slots=True)
class Member:
    """One worker as the sink sees it, for those who look on. `silent` is seconds since its last word.

    `cpu` is how many CPUs it and all below it use, `memory` their bytes; `doing` may be a second old.
    """

    worker: str
    command: str
    slots: int
    running: int
    done: int
    silent: float
    cpu: float = 0.0
    memory: int = 0
    doing: tuple[Doing, ...] = ()
