"""The processes of one executor: those that run, and those that have ended but are not over.

Each added child comes back once as an outcome, unless it is dropped; each is reaped, and only these are. A short task
wakes us once, at its end: what it writes waits in its pipes until then. Nothing here waits, except `close` for those
that it has killed.
"""

from __future__ import annotations

import select
import time

from pipeline.child import PIECE, Child
from pipeline.messages import Ranges
from pipeline.outcomes import Outcome
from pipeline.ranges import RangeSet
from pipeline.station import NEVER

YOUNG = 0.003
"""Seconds for which only the end of a process wakes us; after that, what it writes does, too. None, when the task
before it wrote more than a pipe holds: it would only be kept waiting."""
LINGER = 0.1
"""Seconds that the pipes of an ended process may stay open."""


class Children:
    """The processes of an executor. Times are those of time.monotonic()."""

    def __init__(self) -> None:
        self._ends, self._pipes = select.epoll(), select.epoll()
        self._running: dict[int, Child] = {}
        self._heard: dict[int, Child] = {}
        self._young: list[Child] = []
        self._youth = YOUNG
        self._ended: list[Child] = []

    @property
    def running(self) -> int:
        """How many have not ended."""
        return len(self._running)

    @property
    def deadline(self) -> float:
        """When to listen even if nothing is ready."""
        grown = self._young[0].started + self._youth if self._young else NEVER
        return min(grown, self._ended[0].ended + LINGER) if self._ended else grown

    def files(self) -> list[object]:
        """Two file descriptors: one is ready when any process has ended, the other when there is something to read."""
        return [self._ends.fileno(), self._pipes.fileno()]

    def add(self, child: Child) -> None:
        """One more runs, from now on."""
        child.started = time.monotonic()
        self._ends.register(child.process, select.EPOLLIN)
        self._running[child.process] = child
        self._young.append(child)

    def see(self, now: float) -> None:
        """See who has ended. Follow it with `listen`."""
        for fd, _ in self._ends.poll(0) if self._running else ():
            child = self._running.pop(fd)
            self._ends.unregister(fd)
            child.shut(fd)
            child.ended = now
            self._ended.append(child)

    def listen(self, now: float) -> list[Outcome]:
        """Read what can be read; the outcomes of those that are over, or have lingered long enough."""
        if self._young:
            self._grow(now)
        for fd, events in self._pipes.poll(0) if self._heard else ():
            child = self._heard[fd]
            if child.read(fd, last=bool(events & select.EPOLLHUP)):
                self._unhear(fd, child)
        outcomes: list[Outcome] = []
        left: list[Child] = []
        for child in self._ended:
            if not child.over and now < child.ended + LINGER:
                left.append(child)
            elif (outcome := self._outcome(child)) is not None:
                outcomes.append(outcome)
                self._youth = YOUNG if len(outcome.output) < PIECE else 0.0
        self._ended = left
        return outcomes

    def drop(self, ranges: Ranges) -> None:
        """Kill those that run these tasks; nobody wants their outcomes, and only their ends are waited for."""
        gone = RangeSet(ranges)
        for child in (*self._running.values(), *self._ended):
            if child.task in gone:
                child.dropped = True
                child.kill()
                self._deafen(child)

    def close(self) -> None:
        """Kill all, reap them, and let go of everything. May be called twice."""
        children = [*self._running.values(), *self._ended]
        for child in children:
            child.kill()
        for child in children:
            self._outcome(child)
            if child.process in self._running:
                child.shut(child.process)
        self._running.clear()
        self._young.clear()
        self._ended.clear()
        self._ends.close()
        self._pipes.close()

    def _grow(self, now: float) -> None:
        """From now on, hear those that are not young any more."""
        old = [child for child in self._young if child.ended or now >= child.started + self._youth]
        for child in old:
            self._young.remove(child)
            for fd in child.pipes():
                self._pipes.register(fd, select.EPOLLIN)
                self._heard[fd] = child

    def _outcome(self, child: Child) -> Outcome | None:
        """Reap a child; what its pipes still hold is not its own. None if it was dropped."""
        self._deafen(child)
        outcome = child.outcome()
        return None if child.dropped else outcome

    def _deafen(self, child: Child) -> None:
        for fd in child.pipes():
            self._unhear(fd, child)

    def _unhear(self, fd: int, child: Child) -> None:
        """Close a pipe.

        To close it is not enough: a process that is just being spawned holds it too until its exec is through, and
        epoll would go on reporting it, under a number that may be another's by then.
        """
        if self._heard.pop(fd, None) is not None:
            self._pipes.unregister(fd)
        child.shut(fd)
