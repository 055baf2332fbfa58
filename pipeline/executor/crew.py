"""The crew: the warm children of one executor, one a slot, and another in the place of each that dies.

It hears what children and nursery say, and knows when it is hopeless: the function is none, preparing fails, or the
nursery is gone. It knows nothing of the tasks that are given to the slots, and never waits but to close.
"""

from __future__ import annotations

import select
import signal
from time import monotonic

from pipeline.executor.batch import failure_from_status
from pipeline.executor.callslot import WarmSlot
from pipeline.executor.limits import MAX_OUTPUT_BYTES
from pipeline.executor.nursery import EXITED, LOAD_FAILED, ForkServer
from pipeline.words.errands import ExecutorFailed
from pipeline.words.errors import INCOMPLETE, USAGE
from pipeline.words.notices import CallableLoading
from pipeline.words.station import NEVER
from pipeline.words.watch import NOTIFY_AFTER_SECONDS

MAX_START_FAILURES = 3
"""Children in a row that may die before they are ready."""


class WarmPool:
    """`slots` by their numbers; `broken` once no task can run here, and why."""

    def __init__(self, call: str, init: str, slots: int, max_result_bytes: int = MAX_OUTPUT_BYTES) -> None:
        """Fork the nursery; `most` bytes a result may have. The process must have no ZeroMQ context, nor threads."""
        self.failure: ExecutorFailed | None = None
        self._start_failures = 0
        self._call, self.deadline = call, monotonic() + NOTIFY_AFTER_SECONDS
        """When to say that nobody is ready yet; NEVER once somebody was, or it is said."""
        self._fork_server = ForkServer(call, init, max_result_bytes)
        self._poll = select.epoll()
        self._poll.register(self._fork_server, select.EPOLLIN)
        self.slots = [self._start_child(number) for number in range(slots)]

    @property
    def is_closed(self) -> bool:
        """Whether all are gone."""
        return self._poll.closed

    def fileno(self) -> int:
        """What becomes readable when anybody has said something."""
        return self._poll.fileno()

    def poll(self) -> list[tuple[WarmSlot, int]] | None:
        """Take in what has been said; the slots whose children have died, with the wait status. None: silence."""
        ready = {descriptor for descriptor, _ in self._poll.poll(0)}
        if not ready:
            return None
        for slot in self.slots:
            if slot.channel.fileno() in ready and not slot.read_messages():
                self._poll.unregister(slot.channel)
            if slot.init_error:
                self._fail(f"--init failed: {slot.init_error}", USAGE)
        return self._read_deaths() if self._fork_server.fileno() in ready else []

    def take_loading_notice(self, now: float) -> list[CallableLoading]:
        """A word for the person if all of them take long to get ready; once."""
        if any(slot.is_ready for slot in self.slots) or self.failure:
            self.deadline = NEVER
        if now < self.deadline:
            return []
        self.deadline = NEVER
        return [CallableLoading(self._call)]

    def replace_child(self, slot: WarmSlot, wait_status: int) -> None:
        """The slot's child has died of `status`, and its tasks are settled: put another in its place."""
        slot.read_messages()
        if slot.init_error:
            self._fail(f"--init failed: {slot.init_error}", USAGE)
        self._start_failures = 0 if slot.is_ready else self._start_failures + 1
        if self._start_failures >= MAX_START_FAILURES:
            how = failure_from_status(0, wait_status).text
            self._fail(f"warm children end before their first task ({how}, {MAX_START_FAILURES} in a row)", INCOMPLETE)
        slot.close()
        if not self.failure:
            self.slots[slot.number] = self._start_child(slot.number)

    def stop_child(self, slot: WarmSlot, signum: int = signal.SIGKILL) -> None:
        """Kill the slot's child, or ask it to end; its death will be heard of. It gets nothing more to do."""
        slot.is_stopping = True
        self._fork_server.send_signal(slot.number, signum)

    def close(self) -> None:
        """Kill all children and wait until they and the nursery are gone. May be called twice."""
        if not self.is_closed:
            self._poll.close()
            self._fork_server.close()
            for slot in self.slots:
                slot.close()

    def _read_deaths(self) -> list[tuple[WarmSlot, int]]:
        """The nursery has said something."""
        reports, alive = self._fork_server.read_events()
        for report in reports:
            if report.kind == LOAD_FAILED:
                self._fail(report.text, USAGE)
        if not alive:
            self._poll.unregister(self._fork_server)
            self._fail("the process that starts the warm children has died", INCOMPLETE)
        return [(self.slots[report.slot], report.value) for report in reports if report.kind == EXITED]

    def _start_child(self, number: int) -> WarmSlot:
        """A slot whose child is on its way."""
        slot = WarmSlot(number, self._call)
        self._poll.register(slot.channel, select.EPOLLIN)
        self._fork_server.spawn(number, slot.child_end, slot.shared_batches)
        slot.child_end.close()
        return slot

    def _fail(self, reason: str, exit_code: int) -> None:
        """No task can run here any more; the first reason counts."""
        self.failure = self.failure or ExecutorFailed(reason, exit_code)
