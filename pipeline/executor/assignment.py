"""One task given to one slot: what it is, how it is run, what it sees of itself, and the account that is told of it.

It only says; a child is started and ended elsewhere. Task numbers are from 1 where a task or a person sees them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from pipeline.executor.backlog import ChunkInfo
from pipeline.executor.template import RenderedCommand
from pipeline.words.accounts import TaskMetrics, encode_metrics
from pipeline.words.parts import RecordFormat

INDEX_VARIABLE, ATTEMPT_VARIABLE, RUN_VARIABLE, SLOT_VARIABLE = (
    b"PIPE_INDEX",
    b"PIPE_ATTEMPT",
    b"PIPE_RUN",
    b"PIPE_SLOT",
)
SEQUENCE_VARIABLE, JOBSLOT_VARIABLE = b"PARALLEL_SEQ", b"PARALLEL_JOBSLOT"
"""What GNU parallel calls them."""

_INNER_LINE_START = re.compile(rb"(?<=[\r\n])(?=.)", re.DOTALL)
"""Where a line begins that is not the first."""


class TaskAssignment(NamedTuple):
    """Task number `task` in slot number `slot` (from 1); `tag`, with its tab, begins each line of what it writes.

    `began` is when it was given to the slot, a time.time().
    """

    task: int
    record: bytes
    slot: int
    rendered: RenderedCommand
    chunk_info: ChunkInfo = ChunkInfo()
    recipe: RecordFormat = RecordFormat()
    tag: bytes = b""
    assigned_at: float = 0.0

    def environment(self, base_environment: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
        """Ours, and what it can know of itself."""
        number, slot = b"%d" % (self.task + 1), b"%d" % self.slot
        return {
            **base_environment,
            INDEX_VARIABLE: number,
            ATTEMPT_VARIABLE: b"%d" % (self.chunk_info.tries + 1),
            RUN_VARIABLE: self.chunk_info.run.encode(),
            SLOT_VARIABLE: slot,
            SEQUENCE_VARIABLE: number,
            JOBSLOT_VARIABLE: slot,
        }

    def metrics(
        self, queued_seconds: float, seconds: float, cpu_seconds: float, max_rss: int, stderr_size: int
    ) -> bytes:
        """What the sink is told of it; nothing, if it has not asked. `rss` and `errors` are bytes, times seconds."""
        if not self.recipe.collect_metrics:
            return b""
        command = self.rendered.command
        return encode_metrics(
            TaskMetrics(
                self.assigned_at,
                max(0.0, queued_seconds),
                seconds,
                cpu_seconds,
                max_rss,
                self.slot,
                stderr_size,
                command,
                self.record,
            )
        )

    def add_tags(self, text: bytes) -> bytes:
        """The text with the tag before each of its lines. They begin behind a carriage return, too, as GNU's do."""
        return prefix_lines(text, self.tag)


def prefix_lines(text: bytes, tag: bytes) -> bytes:
    """As `Assignment.tagged`."""
    if not tag or not text:
        return text
    if b"\r" not in text:
        return tag + text[:-1].replace(b"\n", b"\n" + tag) + text[-1:]  # 40 times faster
    return tag + _INNER_LINE_START.sub(tag.replace(b"\\", rb"\\"), text)
