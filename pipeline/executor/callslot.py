"""A slot for callables: the agent's side of one warm child, for one life of it.

The child has one batch to run and, while tasks are short, one behind it, so that it never waits for the agent. Each
has an arena of its own. This module starts and kills no process, and never waits for the child.
"""

from __future__ import annotations

import socket

from pipeline.executor import hearing
from pipeline.executor.arena import Arena
from pipeline.executor.backlog import Bite
from pipeline.executor.batch import Batch
from pipeline.executor.limits import Watch
from pipeline.executor.plate import Plate
from pipeline.words.errands import Done
from pipeline.words.parts import Doing, NoteKind, Recipe
from pipeline.words.records import terminator
from pipeline.words.station import NEVER

LONG = 0.1
"""Seconds after which a batch is looked at: what has finished is told, and what stands behind a long task leaves."""
KINDS: dict[int, NoteKind] = {hearing.FAILED: "exception", hearing.LARGE: "size"}
"""What a child can say of a task."""
SHOWN = 120
"""Characters of a call that are shown to who looks on."""
DEPTH = 2
"""Batches that a child may have at a time."""


class CallSlot:
    """One slot. `ready` once its child has prepared; `doomed` when its death is ordered, or was noticed."""

    def __init__(self, number: int, call: str = "") -> None:
        self.number, self._call = number, call
        self.ready = False
        self.doomed = False
        self._glimpse = -1, 0.0
        self.unfit = ""
        """Why the child could not prepare."""
        self.plate = Plate()
        self.batches = self.plate.batches
        """The running one first."""
        self.watch = Watch()
        self.arenas = [Arena() for _ in range(DEPTH)]
        self.talk, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.talk.setblocking(False)

    def takes(self, depth: int) -> bool:
        """Whether it can take a batch, has fewer than `depth`, and none of them is known to take long."""
        fast = all(batch.seen is None for batch in self.batches)
        return self.ready and not self.doomed and fast and len(self.batches) < depth

    def load(self, records: Bite, recipe: Recipe, now: float) -> bool:
        """Give the child a batch; False when it is dead already, and has not got it."""
        busy = [batch.arena for batch in self.batches]
        which = next(which for which, arena in enumerate(self.arenas) if arena not in busy)
        batch = Batch(self.arenas[which], records, recipe, self._call, self.number + 1)
        mark = hearing.WHOLE if recipe.block else terminator(recipe)[0]
        lot, shape = records.lot, hearing.SHAPES.index(recipe.shape)
        sizes = which, records.count, len(records.body), mark
        word = hearing.BATCH.pack(*sizes, records.first, lot.tries, self.number + 1, shape, recipe.collect_metrics)
        try:
            self.talk.send(word + lot.run.encode()[: hearing.RUN])
        except OSError:
            self.doomed = True
            return False
        self.batches.append(batch)
        self.batches[0].start(now, now + LONG)
        return True

    def hear(self) -> bool:
        """Take in all that the child has said; False when it will say no more."""
        words, alive = hearing.heard(self.talk, hearing.HEARD)
        for word in words:
            self._heard(word)
        return alive

    def tell(self, now: float) -> list[Done]:
        """What has finished and is wanted, each run of neighbours once."""
        reached = [batch.reached() for batch in self.batches]
        self.hear()  # a failure is said before its task is published, so by now all of them are here
        return [done for batch, high in zip(self.batches, reached, strict=True) for done in batch.tell(high, now)]

    def look(self, now: float) -> tuple[list[Done], list[Bite]]:
        """The first batch takes long: what has finished; and what stands behind a task that ran at the last look."""
        batch, running = self.batches[0], self.plate.running()
        dones = self.tell(now)
        rest = self.plate.take_back() if running == batch.seen else []
        batch.seen = running
        lonely = sum(batch.count - batch.told for batch in self.batches) <= 1
        batch.look = NEVER if lonely else now + LONG / 2
        return dones, rest

    def convict(self, status: int) -> tuple[list[Done], list[Bite]]:
        """The child died of `status`: the verdict on its task, and the records of those behind. Tell before."""
        verdicts = self.plate.convict(status)
        if self.watch.stopped:
            verdicts += self.plate.execute(self.watch.verdict(status), self.watch.limit)
        return verdicts, self.plate.clear()

    def finish(self, now: float) -> list[Bite]:
        """The first batch is over; the records of what was not run of it after all. Tell before."""
        batch = self.batches.pop(0)
        batch.arena.trim()
        if self.batches:
            self.batches[0].start(now, now + LONG)
        return batch.cut(batch.told)

    def doing(self, now: float) -> list[Doing]:
        """What its child does, if it does anything, since it was first seen so."""
        running = self.plate.running() if self.ready else -1
        if running < 0:
            return []
        if running != self._glimpse[0]:
            self._glimpse = running, now
        batch = next(batch for batch in self.batches if batch.first <= running < batch.first + batch.count)
        command = batch.command(running - batch.first)[: 2 * SHOWN].decode(errors="backslashreplace")[:SHOWN]
        return [Doing(running, self.number + 1, round(now - self._glimpse[1], 3), command)]

    def close(self) -> None:
        """Let go of the child."""
        self.talk.close()
        for arena in self.arenas:
            arena.close()

    def _heard(self, word: bytes) -> None:
        """One saying of the child. It speaks of the first batch that it has not finished."""
        what, index, seconds = hearing.SAYING.unpack_from(word)
        batch = next((batch for batch in self.batches if batch.seconds is None), None)
        if what == hearing.READY:
            self.ready = True
        elif what == hearing.UNFIT:
            self.unfit = "\n".join(hearing.texts(word)).rstrip()
        elif batch and what in KINDS:
            batch.failures[index] = KINDS[what], *hearing.texts(word)
        elif batch:
            batch.seconds = seconds
            if len(word) > hearing.SAYING.size:
                batch.cost = hearing.COST.unpack_from(word, hearing.SAYING.size)
