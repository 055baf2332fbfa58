"""One task given to one slot: what it is, how it is run, what it sees of itself, and the account that is told of it.

It only says; a child is started and ended elsewhere. Task numbers are from 1 where a task or a person sees them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.executor.backlog import ANY, Lot
from pipeline.executor.template import Rendered
from pipeline.words.accounts import Account, packed

INDEX, ATTEMPT, RUN, SLOT = b"PIPE_INDEX", b"PIPE_ATTEMPT", b"PIPE_RUN", b"PIPE_SLOT"
SEQUENCE, JOBSLOT = b"PARALLEL_SEQ", b"PARALLEL_JOBSLOT"
"""What GNU parallel calls them."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """Task number `task` in slot number `slot` (from 1); `tag` begins each line of what it writes, if it is not empty.

    `began` is when it was given to the slot, a time.time().
    """

    task: int
    record: bytes
    slot: int
    rendered: Rendered
    lot: Lot = ANY
    tag: bytes = b""
    began: float = 0.0

    def environment(self, ours: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
        """Ours, and what it can know of itself."""
        number, slot = b"%d" % (self.task + 1), b"%d" % self.slot
        return {
            **ours,
            INDEX: number,
            ATTEMPT: b"%d" % (self.lot.terms.tries + 1),
            RUN: self.lot.run.encode(),
            SLOT: slot,
            SEQUENCE: number,
            JOBSLOT: slot,
        }

    def account(self, queued: float, seconds: float, cpu: float, rss: int, errors: int) -> bytes:
        """What the sink is told of it; nothing, if it has not asked. `rss` and `errors` are bytes, times seconds."""
        if not self.lot.terms.account:
            return b""
        command = self.rendered.command
        return packed(Account(self.began, max(0.0, queued), seconds, cpu, rss, self.slot, errors, command, self.record))

    def tagged(self, text: bytes) -> bytes:
        """The text with the tag and a tab before each of its lines."""
        if not self.tag or not text:
            return text
        mark = self.tag + b"\t"
        end = b"\n" if text.endswith(b"\n") else b""
        return mark + (b"\n" + mark).join(text.removesuffix(b"\n").split(b"\n")) + end
