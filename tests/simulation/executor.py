"""Simulated executor: runs as many tasks as there are slots, each as long as the plan says.

It checks its record format and the records of each chunk, releases queued tasks and drops cancelled ones. While its
worker is frozen, no task ends.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial

from pipeline.executor.outcomes import OutcomeBuffer, TaskOutcome
from pipeline.model.events import CancelTasks, QueryActivity, ReleaseQueued, TasksReleased
from pipeline.model.messages import Chunk, PartialOutput, RecordFormat, RunningTask, TaskFailure, WorkerActivity
from pipeline.model.ranges import RangeSet
from pipeline.model.records import list_records
from pipeline.model.results import TaskMetrics, encode_metrics
from pipeline.model.state_machine import Message
from tests.simulation.clock import Clock
from tests.simulation.event_log import EventLog, Violation
from tests.simulation.plan import LINES_PER_TASK
from tests.simulation.process import SimulatedProcess


class SimulatedExecutor:
    """The slots of one worker, and its queued tasks."""

    def __init__(self, clock: Clock, log: EventLog, process: SimulatedProcess, on_crash: Callable[[], None]) -> None:
        self._clock, self._log, self._process, self._on_crash = clock, log, process, on_crash
        self._queue: deque[int] = deque()
        self._attempts: dict[int, int] = {}
        self._running: dict[int, float] = {}
        self._outcomes = OutcomeBuffer()
        self._record_format, self._run = RecordFormat(), ""

    def send(self, message: Message) -> None:
        match message:
            case RecordFormat():
                self._record_format = message
            case Chunk(first=first, count=count, body=body, attempt=attempt):
                report_mode, record_format = self._clock.plan.report_mode, self._record_format
                expected = (report_mode in {"metrics", "log"}, report_mode == "live")
                if (record_format.collect_metrics, record_format.stream_output) != expected:
                    raise Violation(f"{record_format} lacks the report options of the sink")
                if [int(record) for record in list_records(body, RecordFormat())] != list(range(first, first + count)):
                    raise Violation(f"chunk {first}+{count} has records of other tasks")
                self._run = message.run
                self._queue.extend(range(first, first + count))
                self._attempts.update(dict.fromkeys(range(first, first + count), attempt))
            case ReleaseQueued():
                returned, self._queue = RangeSet((task, task + 1) for task in self._queue), deque()
                self._process.deliver_soon(TasksReleased(returned.ranges()))
            case QueryActivity():
                running = tuple(
                    RunningTask(task, 1, self._clock.now - since, "") for task, since in self._running.items()
                )
                self._process.deliver_soon(WorkerActivity("", 0.0, 0, running))
            case CancelTasks(ranges):
                self._cancel(RangeSet(ranges))
            case _:
                pass
        self._start_tasks()

    def _cancel(self, cancelled: RangeSet) -> None:
        self._queue = deque(task for task in self._queue if task not in cancelled)
        self._outcomes.discard(cancelled.ranges())
        for task in [task for task in self._running if task in cancelled]:
            self._stop(task)

    def _start_tasks(self) -> None:
        clock, executions = self._clock, self._log.executions
        while self._queue and len(self._running) < clock.plan.slots:
            task = self._queue.popleft()
            self._running[task] = clock.now
            executions[task] = executions.get(task, 0) + 1
            seconds = clock.plan.seconds_of(task)
            for number in range(1, len(clock.plan.output_lines(task, self._attempts[task]))):
                clock.call_at(
                    clock.now + seconds * number / LINES_PER_TASK, partial(self._write_line, task, clock.now, number)
                )
            clock.call_at(clock.now + seconds, partial(self._finish_task, task, seconds))

    def _write_line(self, task: int, started_at: float, number: int) -> None:
        """Send another line, if the task still runs."""
        if self._process.is_running and self._running.get(task) == started_at:
            lines = self._clock.plan.output_lines(task, self._attempts[task])
            start = len(b"".join(lines[: number - 1]))
            self._process.deliver_soon(PartialOutput(self._run, task, self._attempts[task], start, lines[number - 1]))

    def _stop(self, task: int) -> None:
        self._log.busy_seconds += self._clock.now - self._running.pop(task)

    def _finish_task(self, task: int, seconds: float) -> None:
        if self._clock.now < self._process.frozen_until:
            self._clock.call_at(self._process.frozen_until, partial(self._finish_task, task, seconds))
        elif self._process.is_running and task in self._running:
            self._stop(task)
            record, output = b"%d\n" % task, b"".join(self._clock.plan.output_lines(task, self._attempts[task]))
            if self._clock.plan.is_poison(task):
                self._on_crash()
                return
            failed = self._clock.plan.fails(task, self._attempts[task])
            failure = TaskFailure(task, "exit", 1, "odd", "", len(record)) if failed else None
            metrics = TaskMetrics(self._clock.now - seconds, 0.0, seconds, 0.0, 0, 1, 0, b"", record)
            encoded = encode_metrics(metrics) if self._clock.plan.report_mode in {"metrics", "log"} else b""
            outcome = TaskOutcome(task, output, b"", failure, seconds, record if failed else b"", encoded)
            self._outcomes.add(outcome, self._clock.now)
            if self._clock.plan.has_batched_reports:
                self._clock.call_at(self._clock.now + 0.05, self._report)
            else:
                self._report()
            self._start_tasks()

    def _report(self) -> None:
        for finished in self._outcomes.flush():
            self._process.deliver_soon(finished)
