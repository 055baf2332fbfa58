"""Simulated executor: runs as many tasks as there are slots, each as long as the plan says.

It checks its record format and the records of each chunk, releases queued tasks and drops cancelled ones. While its
worker is frozen, no task ends.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial

from pipeline.executor.outcomes import OutcomeBuffer, TaskOutcome
from pipeline.model.events import CancelTasks, HaltLimit, QueryActivity, ReleaseQueued, TasksFinished, TasksReleased
from pipeline.model.messages import Chunk, PartialOutput, RecordFormat, RunningTask, TaskFailure, WorkerActivity
from pipeline.model.option_values import count_halt_events
from pipeline.model.ranges import RangeSet
from pipeline.model.records import list_records
from pipeline.model.results import LargeContent, TaskMetrics, encode_metrics
from pipeline.model.state_machine import NEVER, Message
from tests.simulation.clock import Clock
from tests.simulation.event_log import EventLog, Violation
from tests.simulation.plan import LINES_PER_TASK
from tests.simulation.process import SimulatedProcess

STDERR_BYTES = 2
"""Last bytes of a large content that are said to be stderr."""


class SimulatedContent(LargeContent):
    """Content of a large result; it grows like the file of a sink."""

    def __init__(self, body: bytes = b"") -> None:
        self.body = body

    def read(self, start: int, size: int) -> bytes:
        return self.body[start : start + size]


class SimulatedExecutor:
    """The slots of one worker, and its queued tasks."""

    def __init__(self, clock: Clock, log: EventLog, process: SimulatedProcess, on_crash: Callable[[], None]) -> None:
        self._clock, self._log, self._process, self._on_crash = clock, log, process, on_crash
        self._queue: deque[int] = deque()
        self._attempts: dict[int, int] = {}
        self._running: dict[int, float] = {}
        self._outcomes = OutcomeBuffer()
        self._record_format, self._run = RecordFormat(), ""
        self._halt_limit = NEVER
        self._halt_events: set[int] = set()
        """The tasks that ended for good with the halt event."""
        self._sent_reports: list[TasksFinished] = []
        self._arrived_reports: list[TasksFinished] = []
        """Those that the worker may not have read."""

    def send(self, message: Message) -> None:
        match message:
            case RecordFormat():
                self._record_format = message
                self._halt_limit = 1 if message.halt_event else NEVER
                self._outcomes.record_format, self._halt_events = message, set()
            case HaltLimit(event_count):
                self._halt_limit = event_count
            case Chunk(first=first, count=count, body=body, attempt=attempt):
                report_mode, record_format = self._clock.plan.report_mode, self._record_format
                expected = (report_mode in {"metrics", "log"}, report_mode == "live")
                halt = self._clock.plan.halt
                if record_format != RecordFormat(False, False, "line", *expected, halt.event if halt else ""):
                    raise Violation(f"{record_format} lacks the report options of the sink")
                if [int(record) for record in list_records(body, RecordFormat())] != list(range(first, first + count)):
                    raise Violation(f"chunk {first}+{count} has records of other tasks")
                self._run = message.run
                self._queue.extend(range(first, first + count))
                self._attempts.update(dict.fromkeys(range(first, first + count), attempt))
            case ReleaseQueued():
                self._report()
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
        if self._halt_limit < NEVER:  # other messages of this turn may lower it
            self._clock.call_soon(self._start_tasks)
        else:
            self._start_tasks()

    def _cancel(self, cancelled: RangeSet) -> None:
        self._queue = deque(task for task in self._queue if task not in cancelled)
        self._outcomes.discard(cancelled.ranges())
        for task in [task for task in self._running if task in cancelled]:
            self._stop(task)

    @property
    def _can_start(self) -> bool:
        """Whether the outcomes that the worker does not know cannot end the run. Only a simulated worker reads late."""
        if self._halt_limit == NEVER:
            return True
        self._arrived_reports = [report for report in self._arrived_reports if report in self._process.inbox]
        reports = [report.result for report in (*self._sent_reports, *self._arrived_reports)]
        counts = [
            count_halt_events(self._record_format.halt_event, result.count, len(result.failures)) for result in reports
        ]
        return self._outcomes.event_count + sum(counts) < self._halt_limit

    def _start_tasks(self) -> None:
        clock, executions = self._clock, self._log.executions
        while self._queue and len(self._running) < clock.plan.slots and self._can_start:
            if len(self._halt_events) >= clock.plan.halt_count:
                raise Violation(f"{self._process.name} starts a task after {clock.plan.halt}")
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
            is_final = not failed or self._attempts[task] == self._clock.plan.retries
            if is_final and count_halt_events(self._record_format.halt_event, 1, failed):
                self._halt_events.add(task)
            if is_final and not self._process.is_killing:
                self._log.ended.add(task)
            metrics = TaskMetrics(self._clock.now - seconds, 0.0, seconds, 0.0, 0, 1, 0, b"", record)
            encoded = encode_metrics(metrics) if self._clock.plan.report_mode in {"metrics", "log"} else b""
            outcome = TaskOutcome(task, output, b"", failure, seconds, record if failed else b"", encoded)
            if self._clock.plan.is_large(task):
                sizes = len(output) - STDERR_BYTES, STDERR_BYTES
                outcome = outcome._replace(output=b"", large_sizes=sizes, content=SimulatedContent(output))
            self._outcomes.add(outcome)
            if self._outcomes.event_count >= self._halt_limit:
                self._report()
            elif self._clock.plan.has_batched_reports:
                self._clock.call_at(self._clock.now + 0.05, self._report)
            else:
                self._report()
            self._start_tasks()

    def _report(self) -> None:
        for finished in self._outcomes.flush():
            self._sent_reports.append(finished)
            self._clock.call_soon(partial(self._deliver, finished))

    def _deliver(self, finished: TasksFinished) -> None:
        self._sent_reports.remove(finished)
        self._arrived_reports = [*self._arrived_reports, finished] if self._halt_limit < NEVER else []
        self._process.deliver(finished)
