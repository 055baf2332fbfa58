"""The invariants of every run, checked after each event, with each chunk and Ack, and at the end.

  - each task is written once, in order if the plan says so;
  - everything that an Ack reports is on the disk;
  - a lane carries no more than its credit, and the ventilator keeps no more than its window;
  - with `--halt`, a worker that has seen the outcomes that end the run starts no task, and what has ended is written;
  - at the end all tasks are written, and the exit codes match their outcomes.
A broken invariant raises Violation.
"""

from __future__ import annotations

from math import inf

from pipeline.model import errors
from pipeline.model.messages import Ack, Chunk, Heartbeat
from pipeline.model.ranges import settled_ranges
from pipeline.model.state_machine import StateMachine
from pipeline.ventilator.ventilator import Ventilator
from tests.simulation.disk import MAX_READ_BYTES, SimulatedDisk
from tests.simulation.event_log import EventLog, Violation
from tests.simulation.plan import SimulationPlan
from tests.simulation.process import SimulatedProcess


class CreditCheck:
    """Checks that no lane carries more than its credit."""

    def __init__(self) -> None:
        self._credit_limits: dict[tuple[str, int], int] = {}
        """Highest sequence that each worker allows, by lane; lane -1: on any lane that it does not know yet."""
        self._workers: dict[tuple[str, int], str] = {}

    def on_registration(self, ventilator: str, lane: int, worker: str) -> None:
        """Record the worker of a lane; empty if that worker has reconnected meanwhile."""
        self._workers[ventilator, lane] = worker

    def on_heartbeat(self, worker: str, heartbeat: Heartbeat) -> None:
        for lane, allowed in (
            (heartbeat.lane, heartbeat.credit_limit),
            (-1, heartbeat.credit_limit - heartbeat.last_sequence),
        ):
            self._credit_limits[worker, lane] = max(allowed, self._credit_limits.get((worker, lane), 0))

    def check_chunk(self, ventilator: str, chunk: Chunk) -> None:
        worker = self._workers.get((ventilator, chunk.lane))
        if not worker:
            return
        allowed = self._credit_limits.get((worker, chunk.lane), self._credit_limits.get((worker, 0), 0))
        if chunk.sequence > max(allowed, self._credit_limits.get((worker, -1), 0)):
            raise Violation(f"{worker} was sent {chunk.sequence} on lane {chunk.lane}, its credit limit is {allowed}")


class Invariants:
    """Checks the output of one run."""

    def __init__(self, plan: SimulationPlan, disk: SimulatedDisk, log: EventLog) -> None:
        self._plan, self._disk, self._log = plan, disk, log
        self._checked_count = -1

    def check_output(self) -> None:
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
        durable = self._disk.durable_ledger()
        for low, high in settled_ranges(ack.low_watermark, ack.ranges):
            if not durable.settled.covers(low, high):
                raise Violation(f"acked {low}-{high}, which is not on the disk")
            if durable.checksum_watermark < high and self._plan.has_journal:
                raise Violation(
                    f"acked {low}-{high}, but only what is below {durable.checksum_watermark} has checksums"
                )
        for retry in ack.retries:
            if durable.attempts.find_below(retry.low, retry.high, retry.attempt):
                raise Violation(f"{retry} is not on the disk")

    def check_rows(self) -> None:
        """Check that each attempt of a task was logged once, except those that were lost with their worker."""
        rows = self._disk.rows
        if len(set(rows)) != len(rows):
            raise Violation(f"an attempt has two rows: {sorted(row for row in rows if rows.count(row) > 1)}")
        for task, fate in self._disk.output if self._plan.report_mode == "log" else ():
            attempts = sorted(attempt for row_task, attempt in rows if row_task == task)
            if fate != "poison" and attempts != list(range(len(attempts))):
                raise Violation(f"task {task} has rows of the attempts {attempts}")

    def check_lines(self) -> None:
        """Check that the lines of each attempt were shown once; in order if the plan says so."""
        shown = self._disk.shown_lines
        if self._plan.keep_order and shown != sorted(shown):
            raise Violation(f"lines out of order: {shown}")
        for task, fate in self._disk.output:
            lines, attempts = len(self._plan.output_lines(task, 0)), 1 + self._plan.retries
            if fate != "poison" and not lines <= shown.count(task) <= lines * attempts:
                raise Violation(f"task {task} has {shown.count(task)} lines, not {lines}")

    def check_end(self) -> None:
        """Check the outcome of all tasks; a run that ends early may leave some out."""
        plan, fates = self._plan, dict(self._disk.output)
        if not plan.ends_early and sorted(fates) != list(range(plan.tasks)):
            raise Violation(f"never written: {sorted(set(range(plan.tasks)) - set(fates))}")
        if not plan.ends_early and self._disk.spill:
            raise Violation(f"still in the spill: {sorted(self._disk.spill)}")
        for task, fate in fates.items():
            is_unjust = fate == "poison" and not plan.loses_workers
            if fate != plan.outcome(task) and (is_unjust or fate != "poison"):
                raise Violation(f"task {task} ended with {fate}, it should with {plan.outcome(task)}")
        # a worker that is killed at once leaves with outputs that are still to be transferred
        is_cut_off = plan.large_lines > 0 and plan.halt is not None and plan.halt.mode == "now"
        is_only_halted = plan.halt and not (plan.faults or plan.stop_mode or plan.has_poison_tasks or is_cut_off)
        unwritten = (
            self._log.ended
            - fates.keys()
            - {  # a resumed run will write what is in the spill
                task
                for result in self._disk.spill.values()
                for task in range(result.first, result.first + result.count)
            }
        )
        if is_only_halted and plan.ventilator_dies == inf and unwritten:
            raise Violation(f"ended, but not written: {sorted(unwritten)}")
        self.check_rows()
        if plan.report_mode == "live":
            self.check_lines()


def check_window(plan: SimulationPlan, station: StateMachine) -> None:
    """Check the bytes that the ventilator keeps."""
    assert isinstance(station, Ventilator)
    held = station.dispatcher.task_store.size + station.registry.lanes.size
    group = (plan.group - 1) * (4 + plan.padding_bytes)
    if held > plan.window + MAX_READ_BYTES + plan.padding_bytes + group:  # a checksum group is read to its end
        raise Violation(f"the ventilator keeps {held} bytes, its window is {plan.window}")


def check_outcome(plan: SimulationPlan, process: SimulatedProcess, outcomes: set[str], *, is_unreachable: bool) -> None:
    """Check the exit code of sink or ventilator. It is `is_unreachable` if it was cut off until the sink had ended."""
    early = {
        *((0, 130) if plan.stop_mode else ()),
        *((errors.INCOMPLETE,) if is_unreachable or plan.effective_disk_full_at < inf else ()),
    }
    early |= {errors.TERMINATED} if plan.ventilator_dies < inf else set()
    failed = any(fate != "ok" for fate in outcomes)
    if process.station.exit_code not in early | ({0, 1} if plan.halt else {int(failed)}):
        raise Violation(f"{process.name} ended with {process.station.exit_code}: {process.station.stop_reason}")
