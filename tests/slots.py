"""A worker's executor on a simulated line: so many tasks at a time, each as long as its plan says.

It looks at its recipe and at what chunks carry, gives back what it has not begun, and forgets what is cancelled. While
its worker is frozen, no task ends.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial

from clock import Clock
from log import Log, Violation
from plan import LINES
from process import Process

from pipeline.executor.outcomes import Outcome, Outcomes
from pipeline.words.accounts import Account, packed
from pipeline.words.errands import Cancel, Look, Release, Returned
from pipeline.words.messages import Chunk, Glance, Part
from pipeline.words.parts import Doing, Note, Recipe
from pipeline.words.ranges import RangeSet
from pipeline.words.records import each
from pipeline.words.station import Message


class Slots:
    """The slots of one worker, and the tasks that wait for them."""

    def __init__(self, clock: Clock, log: Log, process: Process, die: Callable[[], None]) -> None:
        self._clock, self._log, self._process, self._die = clock, log, process, die
        self._backlog: deque[int] = deque()
        self._tries: dict[int, int] = {}
        self._running: dict[int, float] = {}
        self._ended = Outcomes()
        self._recipe, self._run = Recipe(), ""

    def send(self, message: Message) -> None:
        match message:
            case Recipe():
                self._recipe = message
            case Chunk(first=first, count=count, body=body, tries=tries):
                wants, recipe = self._clock.plan.wants, self._recipe
                if (recipe.collect_metrics, recipe.stream_output) != (wants in {"accounts", "log"}, wants == "live"):
                    raise Violation(f"{recipe} does not say what the sink wants")
                if [int(record) for record in each(body, Recipe())] != list(range(first, first + count)):
                    raise Violation(f"chunk {first}+{count} carries other records")
                self._run = message.run
                self._backlog.extend(range(first, first + count))
                self._tries.update(dict.fromkeys(range(first, first + count), tries))
            case Release():
                returned, self._backlog = RangeSet((task, task + 1) for task in self._backlog), deque()
                self._process.soon(Returned(returned.ranges()))
            case Look():
                doing = tuple(Doing(task, 1, self._clock.now - since, "") for task, since in self._running.items())
                self._process.soon(Glance("", 0.0, 0, doing))
            case Cancel(ranges):
                self._cancel(RangeSet(ranges))
            case _:
                pass
        self._start()

    def _cancel(self, gone: RangeSet) -> None:
        self._backlog = deque(task for task in self._backlog if task not in gone)
        self._ended.drop(gone.ranges())
        for task in [task for task in self._running if task in gone]:
            self._stop(task)

    def _start(self) -> None:
        clock, executions = self._clock, self._log.executions
        while self._backlog and len(self._running) < clock.plan.slots:
            task = self._backlog.popleft()
            self._running[task] = clock.now
            executions[task] = executions.get(task, 0) + 1
            seconds = clock.plan.seconds_of(task)
            for number in range(1, len(clock.plan.lines(task, self._tries[task]))):
                clock.at(clock.now + seconds * number / LINES, partial(self._write, task, clock.now, number))
            clock.at(clock.now + seconds, partial(self._end, task, seconds))

    def _write(self, task: int, since: float, number: int) -> None:
        """Another line comes out, if it still runs."""
        if self._process.is_running and self._running.get(task) == since:
            lines = self._clock.plan.lines(task, self._tries[task])
            start = len(b"".join(lines[: number - 1]))
            self._process.soon(Part(self._run, task, self._tries[task], start, lines[number - 1]))

    def _stop(self, task: int) -> None:
        self._log.busy += self._clock.now - self._running.pop(task)

    def _end(self, task: int, seconds: float) -> None:
        if self._clock.now < self._process.frozen_until:
            self._clock.at(self._process.frozen_until, partial(self._end, task, seconds))
        elif self._process.is_running and task in self._running:
            self._stop(task)
            record, output = b"%d\n" % task, b"".join(self._clock.plan.lines(task, self._tries[task]))
            if self._clock.plan.kills(task):
                self._die()
                return
            failed = self._clock.plan.fails(task, self._tries[task])
            note = Note(task, "exit", 1, "odd", "", len(record)) if failed else None
            slot = Account(self._clock.now - seconds, 0.0, seconds, 0.0, 0, 1, 0, b"", record)
            account = packed(slot) if self._clock.plan.wants in {"accounts", "log"} else b""
            outcome = Outcome(task, output, b"", note, seconds, record if failed else b"", account)
            self._ended.add(outcome, self._clock.now)
            if self._clock.plan.joined:
                self._clock.at(self._clock.now + 0.05, self._tell)
            else:
                self._tell()
            self._start()

    def _tell(self) -> None:
        """What has ended and was not told."""
        for done in self._ended.take():
            self._process.soon(done)
