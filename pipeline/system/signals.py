"""The signals that ask this process to stop, as something to poll.

Wishes of a person reach a kept process through its keeper, under signals that no terminal sends, so that one ^C
counts once, however many processes the terminal, `timeout` or systemd sent it to. A handler does nothing: the
interpreter writes each signal's number into the pipe that is polled. After the context all is as it was.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, ClassVar, Self

from pipeline.model.events import VENTILATOR_DEAD

if TYPE_CHECKING:
    from collections.abc import Collection

STATUS_SIGNAL = signal.SIGUSR1
"""Somebody wants to know what runs now."""
FORWARDED_SIGNALS: dict[int, int] = {
    signal.SIGINT: signal.SIGRTMIN,
    signal.SIGTERM: signal.SIGRTMIN + 1,
    STATUS_SIGNAL: signal.SIGRTMIN + 2,
    VENTILATOR_DEAD: VENTILATOR_DEAD,
}
"""What a keeper sends to its child for a signal of its own. Real-time signals queue: two are never taken for one."""

MEANING: dict[int, int] = {
    signal.SIGINT: signal.SIGINT,
    signal.SIGTERM: signal.SIGTERM,
    signal.SIGHUP: signal.SIGTERM,
    FORWARDED_SIGNALS[signal.SIGINT]: signal.SIGINT,
    FORWARDED_SIGNALS[signal.SIGTERM]: signal.SIGTERM,
    STATUS_SIGNAL: STATUS_SIGNAL,
    FORWARDED_SIGNALS[STATUS_SIGNAL]: STATUS_SIGNAL,
    VENTILATOR_DEAD: VENTILATOR_DEAD,
}


class SignalPipe:
    """SIGINT, SIGTERM, SIGUSR1 and, unless it was ignored (nohup), SIGHUP. One at a time in a process, as a context.

    A kept process leaves SIGINT and SIGHUP to its keeper. A SIGTERM may come to both; it then counts once.
    """

    has_monitor: ClassVar[bool] = False
    """Whether this process has a keeper."""

    def __init__(self, ignore: Collection[int] = ()) -> None:
        heard: set[int] = {
            signal.SIGTERM,
            STATUS_SIGNAL,
            *(FORWARDED_SIGNALS.values() if self.has_monitor else {signal.SIGINT}),
        }
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            heard.add(signal.SIGHUP)
        self._ignored_signals = {*ignore, signal.SIGINT} if self.has_monitor else set(ignore)
        self._handled_signals = heard - self._ignored_signals
        self._received_counts: Counter[int] = Counter()
        self._reported_counts: Counter[int] = Counter()

    def __enter__(self) -> Self:
        """Listen; what a keeper has passed on before is heard now."""
        self._read_fd, self._write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._previous_wakeup_fd = signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
        self._previous_handlers = {signum: signal.signal(signum, signal.SIG_IGN) for signum in self._ignored_signals}
        self._previous_handlers |= {signum: signal.signal(signum, _do_nothing) for signum in self._handled_signals}
        self._previous_mask = signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED_SIGNALS.values())
        return self

    def __exit__(self, *_: object) -> None:
        """Everything as it was before."""
        signal.pthread_sigmask(signal.SIG_SETMASK, self._previous_mask)
        for signum, before in self._previous_handlers.items():
            signal.signal(signum, before)
        signal.set_wakeup_fd(self._previous_wakeup_fd)
        os.close(self._read_fd)
        os.close(self._write_fd)

    def fileno(self) -> int:
        """Readable when a signal has come: a handler alone does not wake a poll."""
        return self._read_fd

    def read(self) -> list[int]:
        """What has come since the last call, in order: SIGINT, SIGTERM (also for SIGHUP), SIGUSR1, VENTILATOR_DEAD."""
        asked: list[int] = []
        with suppress(BlockingIOError):
            while seen := os.read(self._read_fd, 4096):
                asked += [MEANING[signum] for signum in seen if self._is_new(signum)]
        return asked

    def _is_new(self, signum: int) -> bool:
        """Whether this is another wish. One may come several ways (keeper, group; TERM, HUP): the longest counts."""
        if signum not in self._handled_signals:
            return False
        if MEANING[signum] == STATUS_SIGNAL:
            return True
        self._received_counts[signum] += 1
        meaning = MEANING[signum]
        if self._received_counts[signum] <= self._reported_counts[meaning]:
            return False
        self._reported_counts[meaning] += 1
        return True


def _do_nothing(*_: object) -> None:
    """Handle a signal: its number is in the pipe."""


def reset_in_child() -> None:
    """In a fresh child: default signals, save that SIGINT and SIGHUP are ignored, as the keeper counts them.

    What the keeper passes on waits until there is somebody to hear it.
    """
    signal.set_wakeup_fd(-1)
    for signum in signal.valid_signals():
        if callable(signal.getsignal(signum)):
            signal.signal(signum, signal.SIG_DFL)
    signal.signal(STATUS_SIGNAL, signal.SIG_IGN)  # until somebody listens: nobody dies of a question
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, FORWARDED_SIGNALS.values())
    SignalPipe.has_monitor = True
