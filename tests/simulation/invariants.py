"""What must be so on every simulated line: after each event, with each chunk and each Ack, and at the end.

A task is written once, in its turn where order is asked for; what an Ack says is on the disk; no lane carries more than
was asked for; the ventilator keeps no more than its window. In the end all is written and the outcome told.
Each raises Violation.
"""

from __future__ import annotations

from math import inf

from pipeline.model import errors
from pipeline.model.messages import Ack, Chunk, Heartbeat
from pipeline.model.ranges import settled_ranges
from pipeline.model.state_machine import StateMachine
from pipeline.ventilator.ventilator import Ventilator
from tests.simulation.disk import MAX_READ_BYTES, SimulatedDisk
from tests.simulation.event_log import Violation
from tests.simulation.plan import SimulationPlan
from tests.simulation.process import SimulatedProcess


class CreditCheck:
    """No lane carries more than its worker has asked for."""

    def __init__(self) -> None:
        self._credit_limits: dict[tuple[str, int], int] = {}
        """The highest sequence each worker has asked for, by lane; -1: on any lane that it does not know yet."""
        self._workers: dict[tuple[str, int], str] = {}

    def on_registration(self, ventilator: str, lane: int, worker: str) -> None:
        """The lane is this worker's; empty: of one that has called again meanwhile, so that nobody hears it."""
        self._workers[ventilator, lane] = worker

    def on_heartbeat(self, worker: str, heartbeat: Heartbeat) -> None:
        """A worker asks for more."""
        for lane, allowed in (
            (heartbeat.lane, heartbeat.credit_limit),
            (-1, heartbeat.credit_limit - heartbeat.last_sequence),
        ):
            self._credit_limits[worker, lane] = max(allowed, self._credit_limits.get((worker, lane), 0))

    def check_chunk(self, ventilator: str, chunk: Chunk) -> None:
        """A chunk goes out."""
        worker = self._workers.get((ventilator, chunk.lane))
        if not worker:
            return
        allowed = self._credit_limits.get((worker, chunk.lane), self._credit_limits.get((worker, 0), 0))
        if chunk.sequence > max(allowed, self._credit_limits.get((worker, -1), 0)):
            raise Violation(f"{worker} was sent {chunk.sequence} on lane {chunk.lane}, having asked for {allowed}")


class Invariants:
    """Each task once, in its turn if that is asked for, and acked when it is safe."""

    def __init__(self, plan: SimulationPlan, disk: SimulatedDisk) -> None:
        self._plan, self._disk = plan, disk
        self._checked_count = -1

    def check_output(self) -> None:
        """After every event."""
        output = self._disk.output
        if len(output) == self._checked_count:
            return
        self._checked_count = len(output)
        tasks = [task for task, _ in output]
        if len(set(tasks)) != len(tasks):
            raise Violation(f"written twice: {sorted(task for task in tasks if tasks.count(task) > 1)}")
        if self._plan.keep_order and tasks != sorted(tasks):
            raise Violation(f"out of order: {tasks}")

    def check_ack(self, ack: Ack) -> None:
        """An Ack is said."""
        safe = self._disk.durable_ledger()
        for low, high in settled_ranges(ack.low_watermark, ack.ranges):
            if not safe.settled.covers(low, high):
                raise Violation(f"acked {low}-{high}, which is not on the disk")
            if safe.checksum_watermark < high and self._plan.has_journal:
                raise Violation(
                    f"acked {low}-{high}, but only what is below {safe.checksum_watermark} can be known again"
                )
        for retry in ack.retries:
            if safe.attempts.find_below(retry.low, retry.high, retry.attempt):
                raise Violation(f"{retry} is not on the disk")

    def check_rows(self) -> None:
        """Each try of a task was written down once, the last one included, but for those that went with a worker."""
        rows = self._disk.rows
        if len(set(rows)) != len(rows):
            raise Violation(f"a try has two rows: {sorted(row for row in rows if rows.count(row) > 1)}")
        for task, fate in self._disk.output if self._plan.report_mode == "log" else ():
            tries = sorted(tries for own, tries in rows if own == task)
            if fate != "poison" and tries != list(range(len(tries))):
                raise Violation(f"task {task} has rows of the tries {tries}")

    def check_lines(self) -> None:
        """Each line of a task that never failed before was shown once; in the order of tasks where that is asked."""
        shown = self._disk.shown_lines
        if self._plan.keep_order and shown != sorted(shown):
            raise Violation(f"lines out of order: {shown}")
        for task, fate in self._disk.output:
            lines, tries = len(self._plan.output_lines(task, 0)), 1 + self._plan.retries
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
            if fate != plan.outcome(task) and (innocent or fate != "poison"):
                raise Violation(f"task {task} ended with {fate}, it should with {plan.outcome(task)}")
        self.check_rows()
        if plan.report_mode == "live":
            self.check_lines()


def check_window(plan: SimulationPlan, station: StateMachine) -> None:
    """After every event, of the ventilator."""
    assert isinstance(station, Ventilator)
    held = station.dispatcher.task_store.size + station.registry.lanes.size
    group = (plan.group - 1) * (4 + plan.padding_bytes)
    if held > plan.window + MAX_READ_BYTES + plan.padding_bytes + group:  # a group is read to its end
        raise Violation(f"the ventilator keeps {held} bytes, its window is {plan.window}")


def check_outcome(plan: SimulationPlan, process: SimulatedProcess, outcomes: set[str], *, is_unreachable: bool) -> None:
    """At the end, of sink and ventilator; `cut_off`: it was out of reach until the sink had gone."""
    early = {
        *((0, 130) if plan.stop_mode else ()),
        *((errors.INCOMPLETE,) if is_unreachable or plan.effective_disk_full_at < inf else ()),
    }
    early |= {errors.TERMINATED} if plan.ventilator_dies < inf else set()
    failed = any(fate != "ok" for fate in outcomes)
    if process.station.exit_code not in early | ({0, 1} if plan.halt else {int(failed)}):
        raise Violation(f"{process.name} ended with {process.station.exit_code}: {process.station.stop_reason}")
