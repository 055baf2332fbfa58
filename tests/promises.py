"""What must be so on every simulated line: after each event, with each chunk and each Ack, and at the end.

A task is written once, in its turn where order is asked for; what an Ack says is on the disk; no lane carries more than
was asked for; the ventilator keeps no more than its window. In the end all is written and the outcome told.
Each raises Violation.
"""

from __future__ import annotations

from math import inf

from disk import ONE_READ, Disk
from log import Violation
from plan import Plan
from process import Process

from pipeline.ventilator.ventilator import Ventilator
from pipeline.words import errors
from pipeline.words.messages import Ack, Chunk, Pulse
from pipeline.words.ranges import settled_of
from pipeline.words.station import Station


class Allowances:
    """No lane carries more than its worker has asked for."""

    def __init__(self) -> None:
        self._allowed: dict[tuple[str, int], int] = {}
        """The highest sequence each worker has asked for, by lane; -1: on any lane that it does not know yet."""
        self._worker: dict[tuple[str, int], str] = {}

    def welcomed(self, ventilator: str, lane: int, worker: str) -> None:
        """The lane is this worker's; empty: of one that has called again meanwhile, so that nobody hears it."""
        self._worker[ventilator, lane] = worker

    def asked(self, worker: str, pulse: Pulse) -> None:
        """A worker asks for more."""
        for lane, allowed in ((pulse.lane, pulse.allowed), (-1, pulse.allowed - pulse.seen)):
            self._allowed[worker, lane] = max(allowed, self._allowed.get((worker, lane), 0))

    def check(self, ventilator: str, chunk: Chunk) -> None:
        """A chunk goes out."""
        worker = self._worker.get((ventilator, chunk.lane))
        if not worker:
            return
        allowed = self._allowed.get((worker, chunk.lane), self._allowed.get((worker, 0), 0))
        if chunk.sequence > max(allowed, self._allowed.get((worker, -1), 0)):
            raise Violation(f"{worker} was sent {chunk.sequence} on lane {chunk.lane}, having asked for {allowed}")


class Promises:
    """Each task once, in its turn if that is asked for, and acked when it is safe."""

    def __init__(self, plan: Plan, disk: Disk) -> None:
        self._plan, self._disk = plan, disk
        self._checked = -1

    def check(self) -> None:
        """After every event."""
        output = self._disk.output
        if len(output) == self._checked:
            return
        self._checked = len(output)
        tasks = [task for task, _ in output]
        if len(set(tasks)) != len(tasks):
            raise Violation(f"written twice: {sorted(task for task in tasks if tasks.count(task) > 1)}")
        if self._plan.keep_order and tasks != sorted(tasks):
            raise Violation(f"out of order: {tasks}")

    def check_ack(self, ack: Ack) -> None:
        """An Ack is said."""
        safe = self._disk.safe()
        for low, high in settled_of(ack.low, ack.ranges):
            if not safe.settled.covers(low, high):
                raise Violation(f"acked {low}-{high}, which is not on the disk")
            if safe.read < high and self._plan.journal:
                raise Violation(f"acked {low}-{high}, but only what is below {safe.read} can be known again")
        for retry in ack.retries:
            if safe.tries.fewer(retry.low, retry.high, retry.tries):
                raise Violation(f"{retry} is not on the disk")

    def check_rows(self) -> None:
        """Each try of a task was written down once, the last one included, but for those that went with a worker."""
        rows = self._disk.rows
        if len(set(rows)) != len(rows):
            raise Violation(f"a try has two rows: {sorted(row for row in rows if rows.count(row) > 1)}")
        for task, fate in self._disk.output if self._plan.wants == "log" else ():
            tries = sorted(tries for own, tries in rows if own == task)
            if fate != "poison" and tries != list(range(len(tries))):
                raise Violation(f"task {task} has rows of the tries {tries}")

    def check_lines(self) -> None:
        """Each line of a task that never failed before was shown once; in the order of tasks where that is asked."""
        shown = self._disk.shown
        if self._plan.keep_order and shown != sorted(shown):
            raise Violation(f"lines out of order: {shown}")
        for task, fate in self._disk.output:
            lines, tries = len(self._plan.lines(task, 0)), 1 + self._plan.retries
            if fate != "poison" and not lines <= shown.count(task) <= lines * tries:
                raise Violation(f"task {task} has {shown.count(task)} lines, not {lines}")

    def check_end(self) -> None:
        """Everybody has gone. Of a run that was ended early only what was written counts, which is checked before."""
        plan, fates = self._plan, dict(self._disk.output)
        if not plan.ends_early and sorted(fates) != list(range(plan.tasks)):
            raise Violation(f"never written: {sorted(set(range(plan.tasks)) - set(fates))}")
        if not plan.ends_early and self._disk.spill:
            raise Violation(f"still kept: {sorted(self._disk.spill)}")
        for task, fate in fates.items():
            innocent = fate == "poison" and not plan.loses_workers
            if fate != plan.fate(task) and (innocent or fate != "poison"):
                raise Violation(f"task {task} ended with {fate}, it should with {plan.fate(task)}")
        self.check_rows()
        if plan.wants == "live":
            self.check_lines()


def check_window(plan: Plan, station: Station) -> None:
    """After every event, of the ventilator."""
    assert isinstance(station, Ventilator)
    held = station.feeding.stock.size + station.desk.lanes.size
    group = (plan.group - 1) * (4 + plan.large)
    if held > plan.window + ONE_READ + plan.large + group:  # a group is read to its end
        raise Violation(f"the ventilator keeps {held} bytes, its window is {plan.window}")


def check_outcome(plan: Plan, process: Process, fates: set[str], *, cut_off: bool) -> None:
    """At the end, of sink and ventilator; `cut_off`: it was out of reach until the sink had gone."""
    early = {*((0, 130) if plan.stop else ()), *((errors.INCOMPLETE,) if cut_off or plan.full < inf else ())}
    early |= {errors.TERMINATED} if plan.ventilator_dies < inf else set()
    failed = any(fate != "ok" for fate in fates)
    if process.station.outcome not in early | ({0, 1} if plan.halt else {int(failed)}):
        raise Violation(f"{process.name} ended with {process.station.outcome}: {process.station.reason}")
