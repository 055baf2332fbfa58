"""Pool of warm processes, one for each slot; a dead one is replaced.

Invariants:
  - a process has one batch to run and, while tasks are short, one more, so that it never waits for the worker;
  - each batch in flight has a shared memory of its own;
  - the pool fails for good when the callable cannot be loaded or prepared, or the fork server dies;
  - nothing waits, except `close`.

The fork server starts and signals the processes. `CallExecutor` decides which tasks run.
"""

from __future__ import annotations

import select
import signal
import socket
from time import monotonic

from pipeline.executor import child_channel
from pipeline.executor.batch import Batch, failed_result, failure_from_status
from pipeline.executor.child_channel import HaltGate, SharedBatch
from pipeline.executor.fork_server import EXITED, LOAD_FAILED, ForkServer
from pipeline.executor.limits import UNLIMITED_BYTES, TaskLimits, TimeoutWatch
from pipeline.executor.task_queue import TaskSlice
from pipeline.model.errors import INCOMPLETE, USAGE
from pipeline.model.events import CallableLoading, ExecutorFailed, TasksFinished
from pipeline.model.messages import FailureKind, RecordFormat, RunningTask
from pipeline.model.ranges import RangeSet
from pipeline.model.records import terminator
from pipeline.model.state_machine import NEVER, NOTIFY_AFTER_SECONDS

MAX_START_FAILURES = 3  # processes in a row that may die before they are ready
MAX_BATCHES = 2  # of one process at a time
LONG_TASK_SECONDS = 0.1
"""Run time after which a batch is checked: finished tasks are reported, and tasks after a long one are reclaimed."""
MAX_CALL_CHARS = 120  # of a call in status displays
FAILURE_KINDS: dict[int, FailureKind] = {child_channel.FAILED: "exception", child_channel.TOO_LARGE: "size"}


class WarmPool:
    """The slots of one executor. `failure` is set once no task can run here."""

    def __init__(self, call: str, init: str, slots: int, max_result_bytes: int = UNLIMITED_BYTES) -> None:
        """Fork the fork server. This process must not have a ZeroMQ context, nor threads."""
        self.failure: ExecutorFailed | None = None
        self.deadline = monotonic() + NOTIFY_AFTER_SECONDS
        """When to report that no process is ready yet; NEVER once one was ready, or it is reported."""
        self._call, self._start_failures = call, 0
        self.halt_gate = HaltGate(slots)
        self._fork_server = ForkServer(call, init, max_result_bytes, self.halt_gate)
        self._poll = select.epoll()
        self._poll.register(self._fork_server, select.EPOLLIN)
        self.slots = [self._start_child(number) for number in range(slots)]

    @property
    def is_closed(self) -> bool:
        return self._poll.closed

    def fileno(self) -> int:
        """Return the descriptor that is readable when any process has sent something."""
        return self._poll.fileno()

    def poll(self) -> list[tuple[WarmSlot, int]] | None:
        """Read all messages; return the slots whose processes died, with the wait status. None: no message."""
        ready = {descriptor for descriptor, _ in self._poll.poll(0)}
        if not ready:
            return None
        for slot in self.slots:
            if slot.channel.fileno() in ready and not slot.read_messages():
                self._poll.unregister(slot.channel)
            self._check_init(slot)
        return self._read_deaths() if self._fork_server.fileno() in ready else []

    def take_loading_notice(self, now: float) -> list[CallableLoading]:
        """Return a notice for the user, once, if no process is ready in time."""
        if any(slot.is_ready for slot in self.slots) or self.failure:
            self.deadline = NEVER
        if now < self.deadline:
            return []
        self.deadline = NEVER
        return [CallableLoading(self._call)]

    def replace_child(self, slot: WarmSlot, wait_status: int) -> None:
        """Start another process in the slot of a dead one, whose tasks are settled."""
        slot.read_messages()
        self._check_init(slot)
        self._start_failures = 0 if slot.is_ready else self._start_failures + 1
        if self._start_failures >= MAX_START_FAILURES:
            reason = failure_from_status(0, wait_status).text
            self._fail(f"{MAX_START_FAILURES} warm processes in a row died while starting ({reason})", INCOMPLETE)
        slot.close()
        if not self.failure:
            self.slots[slot.number] = self._start_child(slot.number)

    def stop_child(self, slot: WarmSlot, signum: int = signal.SIGKILL) -> None:
        """Signal the slot's process to end and give it no further tasks. Its death is reported by `poll`."""
        slot.is_stopping = True
        self._fork_server.send_signal(slot.number, signum)

    def close(self) -> None:
        """Kill all processes and wait for their end and the fork server's. May be called twice."""
        if not self.is_closed:
            self._poll.close()
            self._fork_server.close()
            for slot in self.slots:
                slot.close()

    def _start_child(self, number: int) -> WarmSlot:
        slot = WarmSlot(number, self._call)
        self._poll.register(slot.channel, select.EPOLLIN)
        self._fork_server.spawn(number, slot.child_end, slot.shared_batches)
        slot.child_end.close()
        return slot

    def _read_deaths(self) -> list[tuple[WarmSlot, int]]:
        events, is_alive = self._fork_server.read_events()
        for event in events:
            if event.kind == LOAD_FAILED:
                self._fail(event.text, USAGE)
        if not is_alive:
            self._poll.unregister(self._fork_server)
            self._fail("the fork server of the warm processes died", INCOMPLETE)
        return [(self.slots[event.slot], event.value) for event in events if event.kind == EXITED]

    def _check_init(self, slot: WarmSlot) -> None:
        if slot.init_error:
            self._fail(f"--init failed: {slot.init_error}", USAGE)

    def _fail(self, reason: str, exit_code: int) -> None:
        """Record why no task can run here any more; the first reason counts."""
        self.failure = self.failure or ExecutorFailed(reason, exit_code)


class WarmSlot:
    """One slot for the life of one warm process: its batches, the running one first, and the socket to it.

    `is_stopping` is set when the process was signalled, or is known to be dead.
    """

    def __init__(self, number: int, call: str = "") -> None:
        self.number, self._call = number, call
        self.is_ready = self.is_stopping = False
        self.init_error = ""
        self.batches: list[Batch] = []
        self.timeout_watch = TimeoutWatch()
        self._timed_out_record: bytes | None = None
        """Record of the task that exceeded its time limit, until its process has ended."""
        self.shared_batches = [SharedBatch() for _ in range(MAX_BATCHES)]
        self.channel, self.child_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channel.setblocking(False)

    def can_accept(self, max_batches: int) -> bool:
        """Return whether the slot may get a batch: it has fewer than `max_batches`, and none takes long."""
        is_fast = all(batch.last_running is None for batch in self.batches)
        return self.is_ready and not self.is_stopping and is_fast and len(self.batches) < max_batches

    def send_batch(
        self, records: TaskSlice, record_format: RecordFormat, now: float, *, closes_gate: bool = False
    ) -> bool:
        """Send a batch to the process; return False if the process is dead."""
        used = [batch.shared_batch for batch in self.batches]
        which = next(index for index, shared_batch in enumerate(self.shared_batches) if shared_batch not in used)
        batch = Batch(self.shared_batches[which], records, record_format, self._call, self.number + 1)
        info, shape = records.chunk_info, child_channel.SHAPES.index(record_format.shape)
        separator = child_channel.NO_TERMINATOR if record_format.block else terminator(record_format)[0]
        sizes = which, records.count, len(records.body), separator
        header = child_channel.BATCH_HEADER.pack(
            *(*sizes, records.first, info.attempt, self.number + 1, shape, record_format.collect_metrics),
            *(child_channel.HALT_EVENTS.index(record_format.halt_event), closes_gate),
        )
        try:
            self.channel.send(header + info.run.encode()[: child_channel.MAX_RUN_NAME_BYTES])
        except OSError:
            self.is_stopping = True
            return False
        batch.closes_gate = closes_gate
        self.batches.append(batch)
        self.batches[0].start(now, now + LONG_TASK_SECONDS)
        return True

    def read_messages(self) -> bool:
        """Handle all messages of the process; return False if no more can come."""
        messages, is_open = child_channel.receive_all(self.channel, child_channel.MAX_MESSAGE_BYTES)
        for message in messages:
            self._on_message(message)
        return is_open

    def running_task(self) -> int:
        """Return the running or next task; -1 if there is none. It is read from the shared memory."""
        running = self._find_running()
        return running[0].first + running[1] if running else -1

    def take_finished(self, now: float) -> list[TasksFinished]:
        """Report tasks that have finished and are not discarded."""
        counts = [batch.finished_count() for batch in self.batches]
        self.read_messages()  # a failure is sent before its task is published, so now all failures are here
        finished = zip(self.batches, counts, strict=True)
        return [report for batch, count in finished for report in batch.take_finished(count, now)]

    def check_progress(self, now: float) -> tuple[list[TasksFinished], list[TaskSlice]]:
        """Report finished tasks of a slow batch; reclaim those after a task that ran at the last check already."""
        batch, running = self.batches[0], self.running_task()
        reports = self.take_finished(now)
        rest = self.reclaim_unstarted() if running == batch.last_running else []
        batch.last_running = running
        has_one_left = sum(batch.count - batch.reported_count for batch in self.batches) <= 1
        batch.check_at = NEVER if has_one_left else now + LONG_TASK_SECONDS / 2
        return reports, rest

    def finish_batch(self, now: float) -> list[TaskSlice]:
        """Remove the first batch; return its tasks that did not run. Call `take_finished` before."""
        batch = self.batches.pop(0)
        batch.shared_batch.shrink()
        if self.batches:
            self.batches[0].start(now, now + LONG_TASK_SECONDS)
        return batch.split_off(batch.reported_count)

    def reclaim_unstarted(self) -> list[TaskSlice]:
        """Stop the process after its running task; remove and return the tasks that it will not start."""
        # first stop, then look: the process publishes a task before it checks whether to start the next one
        for batch in self.batches:
            batch.shared_batch.stop_after_current()
        rest, has_running = [], False
        for batch in self.batches:
            end = 0 if has_running else batch.finished_count() + 1
            has_running = has_running or end <= batch.count
            rest += batch.split_off(end)
        return rest

    def discard(self, ranges: RangeSet) -> bool:
        """Do not report these tasks; return whether any task of the slot is discarded."""
        for batch in self.batches:
            batch.discarded.update(ranges.intersection(batch.first, batch.first + batch.count))
        if self.timeout_watch.task in ranges:
            self._timed_out_record = None
        return any(len(batch.discarded) for batch in self.batches)

    def mark_timed_out(self, limits: TaskLimits, now: float) -> None:
        """Record that the observed task exceeded its limit: only the timeout is reported of it."""
        task = self.timeout_watch.task
        self.timeout_watch.mark_stopped(limits, now)
        batch = self._batch_of(task)
        self._timed_out_record = batch.record(task - batch.first)
        batch.discarded.add(task, task + 1)

    def on_death(self, wait_status: int) -> tuple[list[TasksFinished], list[TaskSlice]]:
        """Return the failure of the task that the process ran, and all tasks after it. Call `take_finished` before."""
        running, watch = self._find_running(), self.timeout_watch
        failures = running[0].fail_task(running[1], wait_status) if running else []
        if self._timed_out_record is not None:
            failure = watch.timeout_failure(wait_status)
            failures.append(failed_result(failure, self._timed_out_record, watch.timeout_seconds))
        rest = [records for batch in self.batches for records in batch.split_off(batch.reported_count)]
        self.batches.clear()
        return failures, rest

    def list_running(self, now: float) -> list[RunningTask]:
        """Return the running task, if any, for status displays. Its time counts from the first observation."""
        task, watch = self.running_task() if self.is_ready else -1, self.timeout_watch
        if task < 0:
            return []
        watch.observe(task, now)
        batch = self._batch_of(task)
        call = batch.describe_call(task - batch.first)[: 2 * MAX_CALL_CHARS].decode(errors="backslashreplace")
        return [RunningTask(task, self.number + 1, round(now - watch.running_since, 3), call[:MAX_CALL_CHARS])]

    def close(self) -> None:
        self.channel.close()
        for shared_batch in self.shared_batches:
            shared_batch.close()

    def _find_running(self) -> tuple[Batch, int] | None:
        """Return the batch and the index of the running or next task."""
        for batch in self.batches:
            index = batch.finished_count()
            if index < batch.count and batch.seconds is None:
                return batch, index
        return None

    def _batch_of(self, task: int) -> Batch:
        return next(batch for batch in self.batches if batch.first <= task < batch.first + batch.count)

    def _on_message(self, message: bytes) -> None:
        """Handle a message, which belongs to the first batch that the process has not finished."""
        kind, index, seconds = child_channel.CHILD_MESSAGE.unpack_from(message)
        batch = next((batch for batch in self.batches if batch.seconds is None), None)
        if kind == child_channel.READY:
            self.is_ready = True
        elif kind == child_channel.INIT_FAILED:
            self.init_error = "\n".join(child_channel.decode_texts(message)).rstrip()
        elif batch and kind in FAILURE_KINDS:
            batch.failures[index] = FAILURE_KINDS[kind], *child_channel.decode_texts(message)
        elif batch:
            batch.seconds = seconds
            if len(message) > child_channel.CHILD_MESSAGE.size:
                batch.resource_usage = child_channel.RESOURCE_USAGE.unpack_from(
                    message, child_channel.CHILD_MESSAGE.size
                )
