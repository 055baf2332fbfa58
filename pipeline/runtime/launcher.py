"""The launcher: starts the processes of a run, waits for them, and cleans up what they leave.

- It runs no user code and has no ZeroMQ context. When it ends, no descendant is left.
- It makes no decisions: the Supervisor does.
- It waits for events and never polls at intervals.
"""

from __future__ import annotations

import gc
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
from pipeline.system.processes import ForkedProcess, become_subreaper, fork, kill_descendants, list_children
from pipeline.system.signals import STATUS_SIGNAL, SignalPipe

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class ProcessSpec(Struct, frozen=True):
    """A process of the run: what it runs, and what its replacement runs (None: no replacement).

    If it `keeps_background`, what it leaves when it ends with 0 keeps running, also after the run.
    """

    name: str
    run: Callable[[], int]
    restart: Callable[[], int] | None = None
    keeps_background: bool = False


def launch(specs: Sequence[ProcessSpec], print_message: Callable[[str], None], *, verbose: bool = False) -> int:
    """Run all processes, the sink first, and return the exit code of the run. `verbose` shows each pid."""
    become_subreaper()
    with SignalPipe() as signals:
        watcher = ProcessWatcher(specs, print_message, verbose=verbose)
        try:
            return watcher.run(signals)
        finally:
            kill_descendants(watcher.kept_pids)


class ProcessWatcher:
    """The running processes, by the pidfds that report their end."""

    def __init__(self, specs: Sequence[ProcessSpec], print_message: Callable[[str], None], *, verbose: bool) -> None:
        self._specs = {spec.name: spec for spec in specs}
        self._next_runs = {spec.name: spec.run for spec in specs}
        self._print_message = print_message
        self._verbose = verbose
        self._supervisor = Supervisor({spec.name: spec.restart is not None for spec in specs})
        # then only processes that keep it have descendants
        self._keeps_background = any(spec.keeps_background for spec in specs)
        self.kept_pids: set[int] = set()
        """Children that were left by processes which keep their background."""
        self._processes: dict[str, ForkedProcess] = {}
        self._name_by_pidfd: dict[int, str] = {}
        self._poll = select.poll()

    def run(self, signals: SignalPipe) -> int:
        """Run from the first start to the last exit."""
        self._poll.register(signals.fileno(), select.POLLIN)
        gc.freeze()  # a collection in a child would copy the pages that it shares with this process
        self._execute(self._supervisor.tick(time.monotonic()))
        gc.enable()  # after the forks: the processes enable it when their imports are done
        while not self._supervisor.done:
            ready = dict(self._poll.poll(self._poll_milliseconds()))
            # signals first: a request to stop explains the exits that come with it
            for signum in signals.read():
                if signum == STATUS_SIGNAL:
                    self._execute([ForwardSignal("sink", STATUS_SIGNAL)])  # the sink knows what runs
                else:
                    self._execute(self._supervisor.on_stop_signal(signum, time.monotonic()))
            for pidfd in ready.keys() & self._name_by_pidfd.keys():
                self._reap(self._name_by_pidfd[pidfd])
            self._execute(self._supervisor.tick(time.monotonic()))
        return self._supervisor.exit_code

    def _poll_milliseconds(self) -> int | None:
        """Return the milliseconds until the supervisor's deadline, rounded up; None if there is no deadline."""
        if self._supervisor.deadline == NEVER:
            return None
        return max(0, math.ceil(1000 * (self._supervisor.deadline - time.monotonic())))

    def _reap(self, name: str) -> None:
        """Reap a process that has ended."""
        process = self._processes.pop(name)
        del self._name_by_pidfd[process.pidfd]
        self._poll.unregister(process.pidfd)
        status = process.reap()
        if status and self._specs[name].keeps_background == self._keeps_background:
            # its descendants are ours now; kill them before its replacement starts
            kill_descendants({*self._own_pids(), *self.kept_pids})
        elif not status and self._specs[name].keeps_background:
            self._keep_background()
        self._execute(self._supervisor.on_exit(name, status, time.monotonic()))

    def _keep_background(self) -> None:
        """Spare what a process has left; nothing if another has crashed meanwhile: then it may have left that."""
        left = set(list_children()) - self._own_pids()
        others = [process for name, process in self._processes.items() if self._specs[name].keeps_background]
        if not any(process.has_failed() for process in others):
            self.kept_pids |= left

    def _own_pids(self) -> set[int]:
        return {process.pid for process in self._processes.values()}

    def _execute(self, actions: Sequence[SupervisorAction]) -> None:
        for action in actions:
            match action:
                case StartProcess(name):
                    self._start(name, self._next_runs.pop(name))
                case ForwardSignal(name, signum) if name in self._processes:
                    self._processes[name].forward_signal(signum)
                case SendSignal(name, signum) if name in self._processes:
                    self._processes[name].send_signal(signum)
                case ProcessFailed(name, reason):
                    self._print_message(f"error: {name} {reason}")
                case ShowMessage(text):
                    self._print_message(text)

    def _start(self, name: str, run: Callable[[], int]) -> None:
        self._next_runs[name] = self._specs[name].restart or run
        try:
            process = fork(run)
        except PipelineError as error:
            self._print_message(f"error: {name}: {error}")
            self._execute(self._supervisor.on_exit(name, error.exit_code, time.monotonic()))
            return
        self._processes[name] = process
        self._name_by_pidfd[process.pidfd] = name
        self._poll.register(process.pidfd, select.POLLIN)
        if self._verbose:
            self._print_message(f"{name} {process.pid}")
