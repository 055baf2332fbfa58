"""What words are made of: ranges of tasks, and the small records inside of words.

They are frozen like the words, travel inside of them only, and know nothing of who says them.
Task numbers start at 0; ranges are half-open, sorted and merged; times are seconds; sizes are bytes.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

from msgspec import Meta, Struct

MAX_LENGTH = 1 << 16
"""Items of an array, or characters of a text, on the wire at most."""
Item = TypeVar("Item")
Array = Annotated[tuple[Item, ...], Meta(max_length=MAX_LENGTH)]
Text = Annotated[str, Meta(max_length=MAX_LENGTH)]
Whole = Annotated[int, Meta(ge=0, lt=1 << 62)]
WholeOrUnknown = Annotated[int, Meta(ge=-1, lt=1 << 62)]
"""-1 while unknown."""
Seconds = Annotated[float, Meta(ge=0.0, lt=1e12)]
Ranges = tuple[tuple[int, int], ...]
WireRanges = Array[tuple[Whole, Whole]]
"""Ranges that travel. That they are ascending and merged, no type can say: the codec checks it."""


class WireRecord(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """Base of all that travels: in msgpack an array of its fields, each checked by its type when decoded."""


FailureKind = Literal["exit", "signal", "exception", "lost", "timeout", "size", "poison"]
"""lost: its warm child ended; size: it, or what it wrote, is too large; poison: it takes its workers along."""


Shape = Literal["line", "columns", "packed", "json"]
"""line: the task as it is; columns, packed: several arguments (see `columns`), of which `packed` repeats the word
around each; json: a value."""


class RecordFormat(WireRecord, frozen=True):
    """What is the same for all tasks of a run: how their records look, and what their results tell.

    With `block`, a record is its bytes as they are, one to a chunk. The sink wants an account of each task
    (`collect_metrics`), or its lines as they come (`stream_output`).
    """

    zero: bool = False
    block: bool = False
    shape: Shape = "line"
    collect_metrics: bool = False
    stream_output: bool = False


class TaskFailure(WireRecord, frozen=True):
    """Why one task did not end well. `code` is the exit code or the signal's number.

    `tail` is the end of its stderr; `size` are the bytes of its record in the Result's `records`.
    """

    task: Whole
    kind: FailureKind
    code: Whole
    text: Text
    stderr_tail: Text
    record_size: Whole


class AttemptRange(WireRecord, frozen=True):
    """The tasks from `low` to `high` have failed `tries` times so far, and are not settled."""

    low: Whole
    high: Whole
    attempt: Whole


class RetryRange(WireRecord, frozen=True):
    """As Tried; they are to be run again, in `wait` seconds."""

    low: Whole
    high: Whole
    attempt: Whole
    delay_seconds: Seconds


class ResendRequest(WireRecord, frozen=True):
    """A worker's results that had not arrived when its pulse of that number did."""

    worker: Text
    heartbeat_number: Whole
    ranges: WireRanges


class RunningTask(WireRecord, frozen=True):
    """What one slot, counted from 1, runs now and since how many seconds; `command` is cut to one line's length."""

    task: Whole
    slot: Whole
    seconds: Seconds
    command: Text


class WorkerStatus(WireRecord, frozen=True):
    """One worker as the sink sees it, for those who look on. `silent` is seconds since its last word.

    `cpu` is how many CPUs it and all below it use, `memory` their bytes; `doing` may be a second old.
    """

    worker: Text
    command: Text
    slots: Whole
    running_count: Whole
    done_count: Whole
    seconds_since_message: Seconds
    cpu: Seconds = 0.0
    memory: Whole = 0
    running_tasks: Array[RunningTask] = ()
