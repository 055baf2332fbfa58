"""The processes of one executor: those that run, and those that have ended but are not over.

Each added child comes back once as an outcome, unless it is dropped; each is reaped, and only these are. A short task
wakes us once, at its end: what it writes waits in its pipes until then. Nothing here waits, except `close` for those
that it has killed.
"""

from __future__ import annotations

import select
import time
from heapq import heappop, heappush
from itertools import islice

from pipeline.executor.child import PIECE, Child, kill
from pipeline.executor.limits import Limits
from pipeline.executor.outcomes import Outcome
from pipeline.executor.overtime import Overtime
from pipeline.house.processes import reap_strays
from pipeline.words.messages import Part
from pipeline.words.parts import Doing, Ranges
from pipeline.words.ranges import RangeSet
from pipeline.words.station import NEVER

YOUNG = 0.003
"""Seconds for which only the end of a process wakes us; after that, what it writes does, too. None, when the task
before it wrote more than a pipe holds: it would only be kept waiting."""
MOST_SHOWN = 256
"""Running tasks that are told to who looks on."""
LINGER = 0.1
"""Seconds that the pipes of an ended process may stay open."""


class Children:
    """The processes of an executor, in slots numbered from 1. Times are those of time.monotonic()."""

    def __init__(self, slots: int, limits: Limits) -> None:
        self._limits, self._overtime = limits, Overtime(limits)
        self._free = list(range(1, slots + 1))
        self._pids: set[int] = set()
        self._ends, self._ears = select.epoll(), Ears()
        self._running: dict[int, Child] = {}
        self._ended: list[Child] = []

    @property
    def running(self) -> int:
        """How many have not ended."""
        return len(self._running)

    @property
    def free(self) -> int:
        """The lowest slot that is free, which the next child takes; 0 if there is none."""
        return self._free[0] if self._free else 0

    @property
    def deadline(self) -> float:
        """When to listen even if nothing is ready."""
        late = self._overtime.deadline(self._running.values())
        # one that was stopped is looked at again and again; the others are over soon
        ended = [max(child.ended + LINGER, child.look) for child in self._ended]
        return min(self._ears.deadline, late, *ended)

    def files(self) -> list[object]:
        """Two file descriptors: one is ready when any process has ended, the other when there is something to read."""
        return [self._ends.fileno(), self._ears.poll.fileno()]

    def add(self, child: Child) -> None:
        """One more runs, from now on, in the lowest free slot."""
        heappop(self._free)
        child.started, child.most = time.monotonic(), self._limits.output
        self._pids.add(child.pid)
        self._ends.register(child.process, select.EPOLLIN)
        self._running[child.process] = child
        self._ears.add(child)

    def see(self, now: float) -> None:
        """See who has ended. Follow it with `listen`."""
        for fd, _ in self._ends.poll(0) if self._running else ():
            child = self._running.pop(fd)
            self._ends.unregister(fd)
            child.shut(fd)
            child.ended = now
            heappush(self._free, child.assignment.slot)
            self._ended.append(child)

    def listen(self, now: float) -> list[Outcome]:
        """Read what can be read; the outcomes of those that are over, or have lingered long enough."""
        self._ears.hear(now)
        self._overtime.check([*self._running.values(), *self._ended] if self._limits.timed else [], now)
        outcomes: list[Outcome] = []
        left: list[Child] = []
        for child in self._ended:
            if (not child.over and now < child.ended + LINGER) or self._overtime.rests(child, now):
                left.append(child)
            elif (outcome := self._outcome(child)) is not None:
                outcomes.append(outcome)
        if len(left) < len(self._ended):
            reap_strays(self._pids)
        self._ended = left
        return outcomes

    def lines(self) -> list[Part]:
        """Whole lines that have come out of those that run and whose lines are wanted. Follows `listen`."""
        return self._ears.lines()

    def doing(self, now: float) -> tuple[Doing, ...]:
        """What runs, for a person who looks on."""
        return tuple(child.doing(now) for child in islice(self._running.values(), MOST_SHOWN))

    def drop(self, ranges: Ranges) -> None:
        """Kill those that run these tasks; nobody wants their outcomes, and only their ends are waited for."""
        gone = RangeSet(ranges)
        dropped = [child for child in (*self._running.values(), *self._ended) if child.task in gone]
        kill(dropped)
        for child in dropped:
            child.dropped = True
            self._ears.ignore(child)

    def close(self) -> None:
        """Kill all, reap them, and let go of everything. May be called twice."""
        children = [*self._running.values(), *self._ended]
        kill(children)
        for child in children:
            self._outcome(child)
            if child.process in self._running:
                child.shut(child.process)
        self._running.clear()
        self._ended.clear()
        self._ends.close()
        self._ears.close()

    def _outcome(self, child: Child) -> Outcome | None:
        """Reap a child; what its pipes still hold is not its own. None if it was dropped."""
        self._ears.ignore(child)
        outcome = child.outcome()
        self._pids.discard(child.pid)
        if child.dropped:
            return None
        self._ears.learn(len(outcome.output))
        if outcome.note is None:
            self._limits.learn(outcome.seconds)
        return outcome


class Ears:
    """What the children write, as it comes: of the young only when they have ended."""

    def __init__(self) -> None:
        self.poll = select.epoll()
        self._heard: dict[int, Child] = {}
        self._young: list[Child] = []
        self._live: list[Child] = []
        """Those whose lines are wanted and that have just written something."""
        self._youth = YOUNG

    @property
    def deadline(self) -> float:
        """When the oldest of the young is young no more."""
        return self._young[0].started + self._youth if self._young else NEVER

    def add(self, child: Child) -> None:
        """One more, which is young, unless its lines are wanted as they come."""
        if child.unsaid:
            self._listen(child)
        else:
            self._young.append(child)

    def learn(self, written: int) -> None:
        """A child has written so many bytes."""
        self._youth = YOUNG if written < PIECE else 0.0

    def hear(self, now: float) -> None:
        """Read what can be read."""
        old = [child for child in self._young if child.ended or now >= child.started + self._youth]
        for child in old:
            self._young.remove(child)
            self._listen(child)
        for fd, events in self.poll.poll(0) if self._heard else ():
            child = self._heard[fd]
            if child.unsaid and fd == child.out and not child.ended:  # who has ended is told of at once, whole
                self._live.append(child)
            if child.read(fd, last=bool(events & select.EPOLLHUP)):
                self._unhear(fd, child)

    def lines(self) -> list[Part]:
        """Whole lines of those that have just been read."""
        live, self._live = self._live, []
        return [said for child in live if child.unsaid for said in child.unsaid.take()]

    def ignore(self, child: Child) -> None:
        """Hear it no more."""
        for fd in child.pipes():
            self._unhear(fd, child)

    def close(self) -> None:
        """Let go of everything."""
        self._young.clear()
        self.poll.close()

    def _listen(self, child: Child) -> None:
        for fd in child.pipes():
            self.poll.register(fd, select.EPOLLIN)
            self._heard[fd] = child

    def _unhear(self, fd: int, child: Child) -> None:
        """Close a pipe.

        To close it is not enough: a process that is just being spawned holds it too until its exec is through, and
        epoll would go on reporting it, under a number that may be another's by then.
        """
        if self._heard.pop(fd, None) is not None:
            self.poll.unregister(fd)
        child.shut(fd)
