"""The crew: the warm children of one executor, one a slot, and another in the place of each that dies.

It hears what children and nursery say, and knows when it is hopeless: the function is none, preparing fails, or the
nursery is gone. It knows nothing of the tasks that are given to the slots, and never waits but to close.
"""

from __future__ import annotations

import select
import signal
from time import monotonic

from pipeline.executor.batch import verdict
from pipeline.executor.callslot import CallSlot
from pipeline.executor.limits import MOST_OUTPUT
from pipeline.executor.nursery import DIED, UNFIT, Nursery
from pipeline.words.errands import Broken
from pipeline.words.errors import INCOMPLETE, USAGE
from pipeline.words.notices import Preparing
from pipeline.words.station import NEVER
from pipeline.words.watch import SOON

STILLBORN = 3
"""Children in a row that may die before they are ready."""


class Crew:
    """`slots` by their numbers; `broken` once no task can run here, and why."""

    def __init__(self, call: str, init: str, slots: int, most: int = MOST_OUTPUT) -> None:
        """Fork the nursery; `most` bytes a result may have. The process must have no ZeroMQ context, nor threads."""
        self.broken: Broken | None = None
        self._stillborn = 0
        self._call, self.deadline = call, monotonic() + SOON
        """When to say that nobody is ready yet; NEVER once somebody was, or it is said."""
        self._nursery = Nursery(call, init, most)
        self._poll = select.epoll()
        self._poll.register(self._nursery, select.EPOLLIN)
        self.slots = [self._fresh(number) for number in range(slots)]

    @property
    def closed(self) -> bool:
        """Whether all are gone."""
        return self._poll.closed

    def fileno(self) -> int:
        """What becomes readable when anybody has said something."""
        return self._poll.fileno()

    def hear(self) -> list[tuple[CallSlot, int]] | None:
        """Take in what has been said; the slots whose children have died, with the wait status. None: silence."""
        ready = {descriptor for descriptor, _ in self._poll.poll(0)}
        if not ready:
            return None
        for slot in self.slots:
            if slot.talk.fileno() in ready and not slot.hear():
                self._poll.unregister(slot.talk)
            if slot.unfit:
                self._break(f"--init failed: {slot.unfit}", USAGE)
        return self._deaths() if self._nursery.fileno() in ready else []

    def late(self, now: float) -> list[Preparing]:
        """A word for the person if all of them take long to get ready; once."""
        if any(slot.ready for slot in self.slots) or self.broken:
            self.deadline = NEVER
        if now < self.deadline:
            return []
        self.deadline = NEVER
        return [Preparing(self._call)]

    def replace(self, slot: CallSlot, status: int) -> None:
        """The slot's child has died of `status`, and its tasks are settled: put another in its place."""
        slot.hear()
        if slot.unfit:
            self._break(f"--init failed: {slot.unfit}", USAGE)
        self._stillborn = 0 if slot.ready else self._stillborn + 1
        if self._stillborn >= STILLBORN:
            how = verdict(0, status).text
            self._break(f"warm children end before their first task ({how}, {STILLBORN} in a row)", INCOMPLETE)
        slot.close()
        if not self.broken:
            self.slots[slot.number] = self._fresh(slot.number)

    def end(self, slot: CallSlot, signum: int = signal.SIGKILL) -> None:
        """Kill the slot's child, or ask it to end; its death will be heard of. It gets nothing more to do."""
        slot.doomed = True
        self._nursery.signal(slot.number, signum)

    def close(self) -> None:
        """Kill all children and wait until they and the nursery are gone. May be called twice."""
        if not self.closed:
            self._poll.close()
            self._nursery.close()
            for slot in self.slots:
                slot.close()

    def _deaths(self) -> list[tuple[CallSlot, int]]:
        """The nursery has said something."""
        reports, alive = self._nursery.reports()
        for report in reports:
            if report.what == UNFIT:
                self._break(report.text, USAGE)
        if not alive:
            self._poll.unregister(self._nursery)
            self._break("the process that starts the warm children has died", INCOMPLETE)
        return [(self.slots[report.slot], report.value) for report in reports if report.what == DIED]

    def _fresh(self, number: int) -> CallSlot:
        """A slot whose child is on its way."""
        slot = CallSlot(number, self._call)
        self._poll.register(slot.talk, select.EPOLLIN)
        self._nursery.spawn(number, slot.theirs, slot.arenas)
        slot.theirs.close()
        return slot

    def _break(self, reason: str, exit_code: int) -> None:
        """No task can run here any more; the first reason counts."""
        self.broken = self.broken or Broken(reason, exit_code)
