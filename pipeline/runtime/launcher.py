"""The launcher: children and their roster. It forks the posts of a run, watches them, and buries what they leave.

It is the keeper of all: it runs no user code, holds no ZeroMQ context, and when it ends nothing is left below
it. It decides nothing; the roster does. It waits for events only, and never looks around in between.
"""

from __future__ import annotations

import math
import select
import time
from typing import TYPE_CHECKING

from msgspec import Struct

from pipeline.model.errors import PipelineError
from pipeline.model.state_machine import NEVER
from pipeline.runtime.supervisor import (
    ForwardSignal,
    ProcessFailed,
    SendSignal,
    ShowMessage,
    StartProcess,
    Supervisor,
    SupervisorAction,
)
from pipeline.system.processes import ForkedProcess, become_subreaper, fork, kill_descendants
from pipeline.system.signals import STATUS_SIGNAL, SignalPipe

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class ProcessSpec(Struct, frozen=True):
    """A process of the run: what it runs, answering with an exit code; and what the next one runs when it has died.

    None: it is not replaced. Names mean what they mean to the roster: the sink, the ventilator, workers.
    """

    name: str
    run: Callable[[], int]
    restart: Callable[[], int] | None = None


def launch(specs: Sequence[ProcessSpec], print_message: Callable[[str], None], *, verbose: bool = False) -> int:
    """Run all posts, the sink first, until the last has ended; the exit code of the run. `verbose` names each pid."""
    become_subreaper()
    with SignalPipe() as signals:
        try:
            return ProcessWatcher(specs, print_message, verbose=verbose).run(signals)
        finally:
            kill_descendants()


class ProcessWatcher:
    """The living children, by the descriptor that tells of their end."""

    def __init__(self, specs: Sequence[ProcessSpec], print_message: Callable[[str], None], *, verbose: bool) -> None:
        self._specs = {post.name: post for post in specs}
        self._next_runs = {post.name: post.run for post in specs}
        self._print_message = print_message
        self._verbose = verbose
        self._supervisor = Supervisor({post.name: post.restart is not None for post in specs})
        self._processes: dict[str, ForkedProcess] = {}
        self._name_by_pidfd: dict[int, str] = {}
        self._poll = select.poll()

    def run(self, signals: SignalPipe) -> int:
        """From the first start to the last end."""
        self._poll.register(signals.fileno(), select.POLLIN)
        self._execute(self._supervisor.tick(time.monotonic()))
        while not self._supervisor.done:
            ready = dict(self._poll.poll(self._poll_milliseconds()))
            # What a person asked comes first: it explains the deaths that came with it.
            for signum in signals.read():
                self._execute(
                    self._status_request_actions()
                    if signum == STATUS_SIGNAL
                    else self._supervisor.on_stop_signal(signum, time.monotonic())
                )
            for pidfd in ready.keys() & self._name_by_pidfd.keys():
                self._reap(self._name_by_pidfd[pidfd])
            self._execute(self._supervisor.tick(time.monotonic()))
        return self._supervisor.exit_code

    def _status_request_actions(self) -> list[SupervisorAction]:
        """The sink knows what runs."""
        return [ForwardSignal("sink", STATUS_SIGNAL)]

    def _poll_milliseconds(self) -> int | None:
        """Milliseconds to the roster's deadline, rounded up."""
        if self._supervisor.deadline == NEVER:
            return None
        return max(0, math.ceil(1000 * (self._supervisor.deadline - time.monotonic())))

    def _reap(self, name: str) -> None:
        """Reap one that has ended. What it has left is ours now, and goes before another comes."""
        child = self._processes.pop(name)
        del self._name_by_pidfd[child.pidfd]
        self._poll.unregister(child.pidfd)
        status = child.reap()
        if status:
            kill_descendants(except_pids={other.pid for other in self._processes.values()})
        self._execute(self._supervisor.on_exit(name, status, time.monotonic()))

    def _execute(self, actions: Sequence[SupervisorAction]) -> None:
        """Do what the roster says."""
        for decision in actions:
            match decision:
                case StartProcess(name):
                    self._start(name, self._next_runs.pop(name))
                case ForwardSignal(name, signum) if name in self._processes:
                    self._processes[name].forward_signal(signum)
                case SendSignal(name, signum) if name in self._processes:
                    self._processes[name].send_signal(signum)
                case ProcessFailed(name, reason):
                    self._print_message(f"{name} {reason}")
                case ShowMessage(text):
                    self._print_message(text)

    def _start(self, name: str, run: Callable[[], int]) -> None:
        self._next_runs[name] = self._specs[name].restart or run
        try:
            child = fork(run)
        except PipelineError as error:
            self._print_message(f"{name}: {error}")
            self._execute(self._supervisor.on_exit(name, error.exit_code, time.monotonic()))
            return
        self._processes[name] = child
        self._name_by_pidfd[child.pidfd] = name
        self._poll.register(child.pidfd, select.POLLIN)
        if self._verbose:
            self._print_message(f"{name} {child.pid}")
