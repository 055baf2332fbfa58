"""Signals that ask this process to stop, or for its status, as a descriptor to poll.

Theory of operation: Ctrl-C, `timeout` or systemd may send one signal to several processes of a run, and a monitor
forwards it, too. Invariants:
  - a monitor forwards signals to its child under real-time numbers that no terminal sends, so that one Ctrl-C counts
    once;
  - a handler does nothing: the interpreter writes the number of each signal into the pipe that is polled;
  - on exit from the context, all handlers are restored.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, ClassVar, Self

from pipeline.model.events import VENTILATOR_DEAD, WORKER_DEAD

if TYPE_CHECKING:
    from collections.abc import Collection

ALL_SIGNALS = signal.valid_signals()
"""A call takes 0.1 ms."""
STATUS_SIGNAL = signal.SIGUSR1
"""Asks which tasks are running."""
FORWARDED_SIGNALS: dict[int, int] = {
    signal.SIGINT: signal.SIGRTMIN,
    signal.SIGTERM: signal.SIGRTMIN + 1,
    STATUS_SIGNAL: signal.SIGRTMIN + 2,
    VENTILATOR_DEAD: VENTILATOR_DEAD,
    WORKER_DEAD: WORKER_DEAD,
}
"""The signals that a monitor sends to its child instead. Real-time signals queue: two are never merged into one."""
MEANING: dict[int, int] = {
    signal.SIGINT: signal.SIGINT,
    signal.SIGTERM: signal.SIGTERM,
    signal.SIGHUP: signal.SIGTERM,
    FORWARDED_SIGNALS[signal.SIGINT]: signal.SIGINT,
    FORWARDED_SIGNALS[signal.SIGTERM]: signal.SIGTERM,
    STATUS_SIGNAL: STATUS_SIGNAL,
    FORWARDED_SIGNALS[STATUS_SIGNAL]: STATUS_SIGNAL,
    VENTILATOR_DEAD: VENTILATOR_DEAD,
    WORKER_DEAD: WORKER_DEAD,
}


class SignalPipe:
    """A context that receives SIGINT, SIGTERM, SIGUSR1 and, unless it was ignored (nohup), SIGHUP.

    A process has at most one. A process with a monitor ignores SIGINT and SIGHUP, which the monitor forwards. Both may
    receive a SIGTERM: it counts once.
    """

    has_monitor: ClassVar[bool] = False
    """Whether this process has a monitor."""

    def __init__(self, ignore: Collection[int] = ()) -> None:
        handled: set[int] = {
            signal.SIGTERM,
            STATUS_SIGNAL,
            *(FORWARDED_SIGNALS.values() if self.has_monitor else {signal.SIGINT}),
        }
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            handled.add(signal.SIGHUP)
        self._ignored_signals = {*ignore, signal.SIGINT} if self.has_monitor else set(ignore)
        self._handled_signals = handled - self._ignored_signals
        self._received_counts: Counter[int] = Counter()
        self._reported_counts: Counter[int] = Counter()

    def __enter__(self) -> Self:
        """Install the handlers; signals that a monitor has forwarded before become readable now."""
        self._read_fd, self._write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._previous_wakeup_fd = signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
        self._previous_handlers = {signum: signal.signal(signum, signal.SIG_IGN) for signum in self._ignored_signals}
        self._previous_handlers |= {signum: signal.signal(signum, _do_nothing) for signum in self._handled_signals}
        self._previous_mask = signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED_SIGNALS.values())
        return self

    def __exit__(self, *_: object) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._previous_mask)
        for signum, handler in self._previous_handlers.items():
            signal.signal(signum, handler)
        signal.set_wakeup_fd(self._previous_wakeup_fd)
        os.close(self._read_fd)
        os.close(self._write_fd)

    def fileno(self) -> int:
        """Return a descriptor that is readable after a signal: a handler alone does not wake a poll."""
        return self._read_fd

    def read(self) -> list[int]:
        """Return what was received since the last call: SIGINT, SIGTERM (also for SIGHUP), SIGUSR1, *_DEAD."""
        received: list[int] = []
        with suppress(BlockingIOError):
            while signums := os.read(self._read_fd, 4096):
                received += [MEANING[signum] for signum in signums if self._is_new(signum)]
        return received

    def _is_new(self, signum: int) -> bool:
        """Count a signal; return whether it is another request, not the same one on another way (monitor, group)."""
        if signum not in self._handled_signals:
            return False
        meaning = MEANING[signum]
        if meaning == STATUS_SIGNAL:
            return True
        self._received_counts[signum] += 1
        if self._received_counts[signum] <= self._reported_counts[meaning]:
            return False
        self._reported_counts[meaning] += 1
        return True


def _do_nothing(*_: object) -> None:
    """Handle a signal: its number is in the pipe."""


def reset_in_child() -> None:
    """Reset all handlers in a forked child, but ignore SIGINT and SIGHUP, which the monitor forwards.

    Forwarded signals stay blocked, and so pending, until a SignalPipe is entered.
    """
    signal.set_wakeup_fd(-1)
    for signum in ALL_SIGNALS:
        if callable(signal.getsignal(signum)):
            signal.signal(signum, signal.SIG_DFL)
    signal.signal(STATUS_SIGNAL, signal.SIG_IGN)  # the default would end the process
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, FORWARDED_SIGNALS.values())
    SignalPipe.has_monitor = True
