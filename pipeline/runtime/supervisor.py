"""State machine: which processes of a run to start, restart and stop.

- The sink speaks for the run: it alone receives the user's request to stop, and its exit code is that of the run.
- Workers that die are restarted. So are a sink and a ventilator that can resume and were killed or crashed; any other
  end of these two ends the run.
- WORKER_DEAD tells the ventilator that a worker has died, so that its tasks are sent to another one at once.
- VENTILATOR_DEAD reports to the sink that the ventilator has died for good. The sink ends the run; no other sink is
  started.
- A process that does not exit in time receives SIGTERM, then SIGKILL.
- Restarts are delayed by a backoff, and given up after MAX_RESTARTS failures in a row.
It starts no process and reads no clock: the launcher executes the actions that it returns.
"""

from __future__ import annotations

from collections.abc import Mapping
from signal import SIGINT, SIGKILL, SIGTERM

from msgspec import Struct

from pipeline.model.errors import (
    INCOMPLETE,
    INTERNAL_ERROR,
    INTERRUPTED,
    OK,
    STDOUT_CLOSED,
    TASKS_FAILED,
    TERMINATED,
    USAGE,
    describe_exit,
)
from pipeline.model.events import VENTILATOR_DEAD, WORKER_DEAD
from pipeline.model.state_machine import NEVER, VENTILATOR

RESTART_BACKOFF_SECONDS = 0.1
"""Delay of the first restart; doubled at each failure in a row."""
MAX_BACKOFF_SECONDS = 1.0
"""Longest delay: until the restart of a sink or ventilator, the run stands still."""
MAX_RESTARTS = 20
"""Failures in a row after which a process is given up.

A poison task crashes several workers before it is found, and there may be several such tasks, so fewer failures are no
reason to end a run.
"""
STABLE_AFTER_SECONDS = 30.0
"""A process that has run for longer starts a new row of failures."""
TERMINATE_GRACE_SECONDS = 5.0
"""Time to exit after each signal before a harsher one."""
EXIT_GRACE_SECONDS = 2.0
"""Time to exit after the sink, which has waited for the Goodbye of every other station."""
SINK = "sink"
PLANNED_EXIT_CODES = {OK, TASKS_FAILED, INTERRUPTED, TERMINATED, STDOUT_CLOSED}
"""Exit codes of a sink or ventilator of which the other stations were notified."""
STOP_MESSAGES: dict[int, str] = {
    SIGINT: "stopping after running tasks finish; press Ctrl-C again to kill them",
    SIGTERM: "stopping after running tasks finish; send SIGTERM again to kill them",
}
NO_RESTART_REASONS = {
    SINK: "cannot restart it without a journal",
    VENTILATOR: "cannot restart it, since its input cannot be read again",
}


class StartProcess(Struct, frozen=True):
    """Start this process. It counts as running from now on."""

    name: str


class ForwardSignal(Struct, frozen=True):
    """Forward a request to stop (SIGINT or SIGTERM), or a notice."""

    name: str
    signum: int


class SendSignal(Struct, frozen=True):
    """Send the signal itself."""

    name: str
    signum: int


class ProcessFailed(Struct, frozen=True):
    """For the user: the process is not restarted."""

    name: str
    reason: str


class ShowMessage(Struct, frozen=True):
    """For the user."""

    text: str


SupervisorAction = StartProcess | ForwardSignal | SendSignal | ProcessFailed | ShowMessage


class Supervisor:
    """The processes of a run. `restartable` names all in their starting order: sink, ventilator, workers.

    After `done`, `exit_code` is that of the run.
    """

    def __init__(self, restartable: Mapping[str, bool]) -> None:
        self._processes, self._escalation = ProcessSet(restartable), TerminationEscalation()
        self._sink = self._processes.by_name[SINK]
        self._is_over = False
        self._stop_request_count = 0
        self._exit_code: int | None = None
        self._fallback_exit_code = INCOMPLETE

    @property
    def done(self) -> bool:
        """Whether no process is running or due to start."""
        return not self._processes.is_any_alive_or_due

    @property
    def exit_code(self) -> int:
        """The run's exit code, once done."""
        return self._fallback_exit_code if self._exit_code is None else self._exit_code

    @property
    def deadline(self) -> float:
        """When `tick` is to be called next; before the first call, at once."""
        return min(self._escalation.deadline, self._processes.next_start_at)

    def tick(self, now: float) -> list[SupervisorAction]:
        """Start processes that are due, and signal those that did not exit in time."""
        starts: list[SupervisorAction] = [StartProcess(name) for name in self._processes.start_due(now)]
        return [*starts, *self._escalation.escalate_if_due(self._processes.running_names(), now)]

    def on_stop_signal(self, signum: int, now: float) -> list[SupervisorAction]:
        """Handle a user's request to stop, with SIGINT or SIGTERM: the second one kills running tasks."""
        self._stop_request_count += 1
        self._disable_starts()
        self._fallback_exit_code = 128 + signum
        messages: list[SupervisorAction] = [ShowMessage(STOP_MESSAGES[signum])] if self._stop_request_count == 1 else []
        if self._sink.consecutive_failures and not self._sink.is_running:  # its restart was due
            return [*messages, *self._terminate_all(now)]
        if self._stop_request_count > 1:
            self._escalation.expect_exit_within(TERMINATE_GRACE_SECONDS, now)
        receivers = [SINK] if self._sink.is_running else self._processes.running_names()
        return [*messages, *(ForwardSignal(name, signum) for name in receivers)]

    def on_exit(self, name: str, status: int, now: float) -> list[SupervisorAction]:
        """Handle the end of a process; `status` is its exit code, or minus the signal's number."""
        process = self._processes.by_name[name]
        process.is_running = False
        if process is self._sink:
            return self._on_sink_exit(status, now)
        if self._is_over:
            return []
        handle = self._on_ventilator_exit if name == VENTILATOR else self._on_worker_exit
        return handle(process, status, now)

    def _on_sink_exit(self, status: int, now: float) -> list[SupervisorAction]:
        if delay := _schedule_replacement(self._sink, status, now):
            return [_replacement_message(self._sink, status, delay)]
        failures = _failure_actions(self._sink, status, is_over=self._is_over)
        self._disable_starts()
        if self._exit_code is None:
            self._exit_code = status if status >= 0 else self._fallback_exit_code
        if status not in PLANNED_EXIT_CODES:
            return [*failures, *self._terminate_all(now)]
        self._escalation.expect_exit_within(EXIT_GRACE_SECONDS, now)
        # a worker that still runs has received Kill, or has started too late for it and would wait for another run
        return [ForwardSignal(process.name, SIGTERM) for process in self._workers() if process.is_running]

    def _on_ventilator_exit(self, process: ManagedProcess, status: int, now: float) -> list[SupervisorAction]:
        if status in PLANNED_EXIT_CODES:
            # the sink may still be restarted: it can finish alone
            self._disable_starts(self._sink)
            return []
        if delay := _schedule_replacement(process, status, now):
            return [_replacement_message(process, status, delay)]
        is_dead = _is_crash(status) or status == USAGE  # after any other end, it has notified the sink itself
        return [
            *_failure_actions(process, status),
            *self._fail_run(status, now, VENTILATOR_DEAD if is_dead else SIGTERM),
        ]

    def _on_worker_exit(self, process: ManagedProcess, status: int, now: float) -> list[SupervisorAction]:
        if status == OK:
            return []
        if status == USAGE:  # no worker of this run can work
            return self._fail_run(status, now)
        told: list[SupervisorAction] = [ForwardSignal(VENTILATOR, WORKER_DEAD)]
        if delay := process.schedule_restart(now):
            return [_replacement_message(process, status, delay), *told]
        failure = ProcessFailed(process.name, f"{describe_exit(status)}, {MAX_RESTARTS} times in a row")
        if any(other.is_alive_or_due for other in self._workers()):
            return [failure, *told]
        return [failure, *told, *self._fail_run(status, now)]

    def _fail_run(self, status: int, now: float, signum: int = SIGTERM) -> list[SupervisorAction]:
        """End a run that cannot be completed. Running tasks may finish after SIGTERM, not after VENTILATOR_DEAD."""
        self._disable_starts()
        self._exit_code = status if status > 0 else INCOMPLETE
        if not self._sink.is_running:
            return self._terminate_all(now)
        self._escalation.expect_exit_within(TERMINATE_GRACE_SECONDS, now)
        return [ForwardSignal(SINK, signum)]

    def _terminate_all(self, now: float) -> list[SupervisorAction]:
        """Stop all processes at once: without a sink, running tasks need not finish, hence the second signal."""
        names = self._processes.running_names()
        return [*self._escalation.escalate(names, now), *(ForwardSignal(name, SIGTERM) for name in names)]

    def _disable_starts(self, except_for: ManagedProcess | None = None) -> None:
        self._is_over = True
        self._processes.disable_starts(except_for)

    def _workers(self) -> list[ManagedProcess]:
        return [process for name, process in self._processes.by_name.items() if name not in {SINK, VENTILATOR}]


def _is_crash(status: int) -> bool:
    return status < 0 or status == INTERNAL_ERROR


def _schedule_replacement(process: ManagedProcess, status: int, now: float) -> float:
    """Return the delay until a sink or ventilator that ended so is restarted; 0 if it is not."""
    return process.schedule_restart(now) if process.is_restartable and _is_crash(status) else 0.0


def _replacement_message(process: ManagedProcess, status: int, delay: float) -> SupervisorAction:
    return ShowMessage(f"warning: {process.name} {describe_exit(status)}; restarting in {delay:g} s")


def _failure_actions(process: ManagedProcess, status: int, *, is_over: bool = False) -> list[SupervisorAction]:
    """Report a sink or ventilator that is not restarted, unless it has reported its end itself."""
    if process.consecutive_failures >= MAX_RESTARTS:
        return [ProcessFailed(process.name, f"{describe_exit(status)}, {MAX_RESTARTS} times in a row")]
    reason = "" if is_over else f"; {NO_RESTART_REASONS[process.name]}"
    return [ProcessFailed(process.name, describe_exit(status) + reason)] if status < 0 else []


class ManagedProcess(Struct):
    """One process over its restarts. `start_at` is NEVER if no start is planned."""

    name: str
    is_restartable: bool
    start_at: float = -NEVER
    is_running: bool = False
    started_at: float = 0.0
    consecutive_failures: int = 0

    @property
    def is_alive_or_due(self) -> bool:
        return self.is_running or self.start_at < NEVER

    def mark_started(self, now: float) -> None:
        self.start_at, self.is_running, self.started_at = NEVER, True, now

    def schedule_restart(self, now: float) -> float:
        """Return the delay until the restart; 0 after too many failures in a row."""
        is_stable = now - self.started_at > STABLE_AFTER_SECONDS
        self.consecutive_failures = 1 if is_stable else self.consecutive_failures + 1
        if self.consecutive_failures >= MAX_RESTARTS:
            return 0.0
        delay = min(RESTART_BACKOFF_SECONDS * 2.0 ** (self.consecutive_failures - 1), MAX_BACKOFF_SECONDS)
        self.start_at = now + delay
        return delay


class ProcessSet:
    """All processes by name, in their starting order. At first, all are due."""

    def __init__(self, restartable: Mapping[str, bool]) -> None:
        self.by_name = {name: ManagedProcess(name, is_restartable) for name, is_restartable in restartable.items()}

    @property
    def is_any_alive_or_due(self) -> bool:
        return any(process.is_alive_or_due for process in self.by_name.values())

    @property
    def next_start_at(self) -> float:
        return min(process.start_at for process in self.by_name.values())

    def start_due(self, now: float) -> list[str]:
        """Mark due processes as started and return their names."""
        due = [process for process in self.by_name.values() if process.start_at <= now]
        for process in due:
            process.mark_started(now)
        return [process.name for process in due]

    def running_names(self) -> list[str]:
        return [process.name for process in self.by_name.values() if process.is_running]

    def disable_starts(self, except_for: ManagedProcess | None) -> None:
        """Start no other process than this one any more."""
        for process in self.by_name.values():
            if process is not except_for:
                process.start_at, process.is_restartable = NEVER, False


class TerminationEscalation:
    """Signals for processes that should exit, each harsher than the one before. `deadline` is when the next is due."""

    def __init__(self) -> None:
        self.deadline = NEVER
        self._signum = SIGTERM

    def expect_exit_within(self, seconds: float, now: float) -> None:
        """Set the deadline, unless it is earlier already."""
        self.deadline = min(self.deadline, now + seconds)

    def escalate_if_due(self, names: list[str], now: float) -> list[SupervisorAction]:
        """Signal the processes, if any still runs, after the deadline."""
        if now < self.deadline or not names:
            return []
        text = f"warning: {', '.join(names)} did not exit in time; sending {self._signum.name}"
        return [ShowMessage(text), *self.escalate(names, now)]

    def escalate(self, names: list[str], now: float) -> list[SupervisorAction]:
        """Send SIGTERM; the next time, SIGKILL."""
        signum, self._signum, self.deadline = self._signum, SIGKILL, now + TERMINATE_GRACE_SECONDS
        # SIGTERM is forwarded, too: a process takes a bare one for the echo of a forwarded one
        actions = (SendSignal,) if signum == SIGKILL else (SendSignal, ForwardSignal)
        return [action(name, signum) for name in names for action in actions]
