"""State machine: which processes of a run to start, restart, stop.

One post of a run over its lives: when the next one begins, and when it has died too often.

Deaths are in a row while lives are short; each one makes the pause before the next life longer, up to a bound. Pure: it
is told what time it is, starts nothing, and does not know what the process is for.

What a roster decides: who is started, who is told to stop, and what the person hears of it.

Frozen and closed, like the words of the line, but they never travel: the launcher does what they say.

The roster: which processes of a run should live. Pure: told who ended and what time it is, it says what to do.

The sink speaks for the run: a person's wish to stop goes to it alone, and its exit code is the run's. Workers that
die are started again, and so are a sink and a ventilator that can go on where they were and were killed or fell over a
bug of ours; any other end of these two is the run's. The sink is told of a ventilator that died and is not replaced:
it ends the run, and no other sink is started. Whoever does not leave in time is sent SIGTERM, then SIGKILL.
Starts nothing, and asks no clock, itself.
"""

from __future__ import annotations

from signal import SIGINT, SIGKILL, SIGRTMIN, SIGTERM, Signals
from typing import TYPE_CHECKING

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
)
from pipeline.model.state_machine import NEVER, VENTILATOR

if TYPE_CHECKING:
    from collections.abc import Mapping


RESTART_BACKOFF_SECONDS = 0.5
"""Seconds before the first new start; doubled at each death in a row."""
MAX_BACKOFF_SECONDS = 2.0
"""Seconds that a pause is at most: while nobody takes its place, a run stands still."""
MAX_RESTARTS = 20
"""Deaths in a row after which it is given up.

A task that takes its workers along is convicted only after it has done so alone, several times, and there may be
several such tasks: so many deaths are a run that goes on, and no reason to end it.
"""
STABLE_AFTER_SECONDS = 30.0
"""Seconds of life after which a death is no longer in a row with the one before."""


class ManagedProcess(Struct):
    """`due` is when to start it (NEVER: not planned), `deaths` how many there were in a row."""

    name: str
    is_restartable: bool
    start_at: float = -NEVER
    is_running: bool = False
    started_at: float = 0.0
    consecutive_failures: int = 0

    @property
    def is_alive_or_due(self) -> bool:
        """Whether it lives, or will."""
        return self.is_running or self.start_at < NEVER

    def mark_started(self, now: float) -> None:
        """It is started."""
        self.start_at, self.is_running, self.started_at = NEVER, True, now

    def schedule_restart(self, now: float) -> float:
        """It has died, and is started again in so many seconds; 0 if it has died too often."""
        self.consecutive_failures = 1 if now - self.started_at > STABLE_AFTER_SECONDS else self.consecutive_failures + 1
        if self.consecutive_failures >= MAX_RESTARTS:
            return 0.0
        pause = min(RESTART_BACKOFF_SECONDS * 2.0 ** (self.consecutive_failures - 1), MAX_BACKOFF_SECONDS)
        self.start_at = now + pause
        return pause


class ProcessSet:
    """The lives of all posts, by name, in their starting order; all begin at once."""

    def __init__(self, restartable: Mapping[str, bool]) -> None:
        self.by_name = {name: ManagedProcess(name, again) for name, again in restartable.items()}

    @property
    def is_any_alive_or_due(self) -> bool:
        """Whether any lives, or will."""
        return any(life.is_alive_or_due for life in self.by_name.values())

    @property
    def next_start_at(self) -> float:
        """When the next is to start."""
        return min(life.start_at for life in self.by_name.values())

    def start_due(self, now: float) -> list[str]:
        """The names of those that start now."""
        due = [life for life in self.by_name.values() if life.start_at <= now]
        for life in due:
            life.mark_started(now)
        return [life.name for life in due]

    def running_names(self) -> list[str]:
        """The names of those that live."""
        return [life.name for life in self.by_name.values() if life.is_running]

    def disable_starts(self, except_for: ManagedProcess | None) -> None:
        """No more lives begin, but of this one."""
        for life in self.by_name.values():
            if life is not except_for:
                life.start_at, life.is_restartable = NEVER, False


VENTILATOR_DEAD = SIGRTMIN + 3
"""Tells the sink that the ventilator has died and will not be restarted. Only the launcher sends it."""


class StartProcess(Struct, frozen=True):
    """Start this one. It counts as living from now on."""

    name: str


class ForwardSignal(Struct, frozen=True):
    """Let this one know that a person asked to stop, with SIGINT or SIGTERM; or that there is VENTILATOR_DEAD."""

    name: str
    signum: int


class SendSignal(Struct, frozen=True):
    """Send this one a signal."""

    name: str
    signum: int


class ProcessFailed(Struct, frozen=True):
    """For the person: this one is not started again, and why."""

    name: str
    reason: str


class ShowMessage(Struct, frozen=True):
    """For the person."""

    text: str


SupervisorAction = StartProcess | ForwardSignal | SendSignal | ProcessFailed | ShowMessage


SINK = "sink"
TERMINATE_GRACE_SECONDS = 5.0
"""Seconds to end after each word before a harsher one."""
EXIT_GRACE_SECONDS = 2.0
"""Seconds to end by oneself after the sink, which had waited for all goodbyes."""
PLANNED_EXIT_CODES = {OK, TASKS_FAILED, INTERRUPTED, TERMINATED, STDOUT_CLOSED}
"""Exit codes of a sink or ventilator that ended with the line's knowledge."""
STOP_MESSAGES: dict[int, str] = {
    SIGINT: "stopping: running tasks finish, ^C again to kill them",
    SIGTERM: "stopping: running tasks finish, once more to kill them",
}
NO_RESTART_REASONS = {SINK: "there is no journal to go on from", VENTILATOR: "its input can't be read again"}
"""Why the run ends with one that is not started again."""


def describe_exit(status: int) -> str:
    """How a process ended, as a sentence's end; `status` is an exit code, or minus a signal's number."""
    return f"was killed by {Signals(-status).name}" if status < 0 else f"ended with exit code {status}"


class TerminationEscalation:
    """Words to those who should leave, each harsher than the one before. `at` is when the next is due."""

    def __init__(self) -> None:
        self.deadline = NEVER
        self._signum = SIGTERM

    def expect_exit_within(self, seconds: float, now: float) -> None:
        """They have so long, if not less already."""
        self.deadline = min(self.deadline, now + seconds)

    def escalate_if_due(self, names: list[str], now: float) -> list[SupervisorAction]:
        """They did not end in time, if it is that late."""
        if now < self.deadline:
            return []
        return [ShowMessage(f"{', '.join(names)} did not end in time: {self._signum.name}"), *self.escalate(names, now)]

    def escalate(self, names: list[str], now: float) -> list[SupervisorAction]:
        """SIGTERM, SIGKILL the next time. Who listens takes a bare one for an earlier one's echo."""
        signum, self._signum, self.deadline = self._signum, SIGKILL, now + TERMINATE_GRACE_SECONDS
        words = (SendSignal,) if signum == SIGKILL else (SendSignal, ForwardSignal)
        return [word(name, signum) for name in names for word in words]


class Supervisor:
    """Who should live. `restart` names all posts in their starting order, and says who is replaced.

    One is the sink; a ventilator may be there; all others are workers. After `done`, `outcome` is the
    run's exit code.
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
        """Nobody lives, and nobody will."""
        return not self._processes.is_any_alive_or_due

    @property
    def exit_code(self) -> int:
        """The run's exit code, once done."""
        return self._fallback_exit_code if self._exit_code is None else self._exit_code

    @property
    def deadline(self) -> float:
        """When `tick` wants to be called next; before the first call, at once."""
        return min(self._escalation.deadline, self._processes.next_start_at)

    def tick(self, now: float) -> list[SupervisorAction]:
        """Time has passed: who is to start, and who must hear a harsher word."""
        said: list[SupervisorAction] = [StartProcess(name) for name in self._processes.start_due(now)]
        return [*said, *self._escalation.escalate_if_due(self._processes.running_names(), now)]

    def on_stop_signal(self, signum: int, now: float) -> list[SupervisorAction]:
        """A person asked to stop, with SIGINT or SIGTERM: first soon, then now."""
        self._stop_request_count += 1
        self._disable_starts()
        self._fallback_exit_code = 128 + signum
        said: list[SupervisorAction] = [ShowMessage(STOP_MESSAGES[signum])] if self._stop_request_count == 1 else []
        if self._sink.consecutive_failures and not self._sink.is_running:  # it was to be replaced
            return [*said, *self._terminate_all(now)]
        if self._stop_request_count > 1:
            self._escalation.expect_exit_within(TERMINATE_GRACE_SECONDS, now)
        told = [SINK] if self._sink.is_running else self._processes.running_names()
        return [*said, *(ForwardSignal(name, signum) for name in told)]

    def on_exit(self, name: str, status: int, now: float) -> list[SupervisorAction]:
        """A process has ended; `status` is its exit code, or minus the signal's number."""
        life = self._processes.by_name[name]
        life.is_running = False
        if life is self._sink:
            return self._on_sink_exit(status, now)
        if self._is_over:
            return []
        decide = self._on_ventilator_exit if name == VENTILATOR else self._on_worker_exit
        return decide(life, status, now)

    def _on_sink_exit(self, status: int, now: float) -> list[SupervisorAction]:
        """With the sink the run is over, unless another one goes on; the others know, unless it died."""
        if pause := _schedule_replacement(self._sink, status, now):
            return [_replacement_message(self._sink, status, pause)]
        lost = _failure_actions(self._sink, status, is_over=self._is_over)
        self._disable_starts()
        if self._exit_code is None:
            self._exit_code = status if status >= 0 else self._fallback_exit_code
        if status not in PLANNED_EXIT_CODES:
            return [*lost, *self._terminate_all(now)]
        self._escalation.expect_exit_within(EXIT_GRACE_SECONDS, now)
        # a worker that still lives has had its KILL, or started too late for it and would wait for another run
        return [ForwardSignal(life.name, SIGTERM) for life in self._workers() if life.is_running]

    def _on_ventilator_exit(self, process: ManagedProcess, status: int, now: float) -> list[SupervisorAction]:
        """Its work is done, or another one goes on with it, or the run can't be completed."""
        if status in PLANNED_EXIT_CODES:
            # the sink is replaced even now: what is left to do is its own
            self._disable_starts(self._sink)
            return []
        if pause := _schedule_replacement(process, status, now):
            return [_replacement_message(process, status, pause)]
        is_dead = _is_crash(status) or status == USAGE  # any other end it has told the sink itself
        return [
            *_failure_actions(process, status),
            *self._fail_run(status, now, VENTILATOR_DEAD if is_dead else SIGTERM),
        ]

    def _on_worker_exit(self, process: ManagedProcess, status: int, now: float) -> list[SupervisorAction]:
        """It has had its KILL, or it never can work, or it is started again."""
        if status == OK:
            return []
        if status == USAGE:
            return self._fail_run(status, now)
        if pause := process.schedule_restart(now):
            return [_replacement_message(process, status, pause)]
        given_up = ProcessFailed(process.name, f"{describe_exit(status)}, {MAX_RESTARTS} times in a row")
        if any(other.is_alive_or_due for other in self._workers()):
            return [given_up]
        return [given_up, *self._fail_run(status, now)]

    def _fail_run(self, status: int, now: float, signum: int = SIGTERM) -> list[SupervisorAction]:
        """The run can't be completed. Running tasks have a grace after SIGTERM, none after VENTILATOR_DEAD."""
        self._disable_starts()
        self._exit_code = status if status > 0 else INCOMPLETE
        if not self._sink.is_running:
            return self._terminate_all(now)
        self._escalation.expect_exit_within(TERMINATE_GRACE_SECONDS, now)
        return [ForwardSignal(SINK, signum)]

    def _terminate_all(self, now: float) -> list[SupervisorAction]:
        """What they hold has nowhere to go any more: a second word, that nothing be finished first."""
        names = self._processes.running_names()
        return [*self._escalation.escalate(names, now), *(ForwardSignal(name, SIGTERM) for name in names)]

    def _disable_starts(self, except_for: ManagedProcess | None = None) -> None:
        """Nobody is started any more."""
        self._is_over = True
        self._processes.disable_starts(except_for)

    def _workers(self) -> list[ManagedProcess]:
        return [life for name, life in self._processes.by_name.items() if name not in {SINK, VENTILATOR}]


def _is_crash(status: int) -> bool:
    """Whether it was killed or fell over a bug of ours; any other end was its own decision."""
    return status < 0 or status == INTERNAL_ERROR


def _schedule_replacement(process: ManagedProcess, status: int, now: float) -> float:
    """Seconds until a sink or ventilator that ended so is replaced; 0 if it is not."""
    return process.schedule_restart(now) if process.is_restartable and _is_crash(status) else 0.0


def _replacement_message(process: ManagedProcess, status: int, backoff: float) -> SupervisorAction:
    return ShowMessage(f"{process.name} {describe_exit(status)}; starting another in {backoff:g} s")


def _failure_actions(process: ManagedProcess, status: int, *, is_over: bool = False) -> list[SupervisorAction]:
    """A sink or ventilator is not replaced. Who ended by itself has said why."""
    if process.consecutive_failures >= MAX_RESTARTS:
        return [ProcessFailed(process.name, f"{describe_exit(status)}, {MAX_RESTARTS} times in a row")]
    why = "" if is_over else f"; {NO_RESTART_REASONS[process.name]}"
    return [ProcessFailed(process.name, describe_exit(status) + why)] if status < 0 else []
