"""The one loop: carries messages between one station and its edges. The only place where a station meets time.

A turn waits for files or the deadline, lets every ready edge speak, and gives the station its tick only when all that
had arrived is known, so that nobody is thought silent whose words were waiting. Signals become messages. No decisions.
"""

from __future__ import annotations

import math
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import cache
from operator import attrgetter
from typing import Any, Protocol

import zmq

from pipeline.model import errors
from pipeline.model.errors import InternalError, PipelineError
from pipeline.model.events import (
    VENTILATOR_DEAD,
    CallableLoading,
    PeerRejected,
    StatusRequested,
    VentilatorDead,
    VersionMismatch,
    Waiting,
)
from pipeline.model.messages import StopRequest
from pipeline.model.state_machine import Adapter, Address, LaneAddress, Message, PeerAddress, Port, StateMachine
from pipeline.runtime.failpoints import with_failpoints
from pipeline.system.signals import STATUS_SIGNAL

HISTORY_SIZE = 50
"""Words remembered for the story of a bug."""
STALL_SECONDS = 0.5
"""Seconds that a wait was too long: this process was stopped, or the machine asleep, and much may have arrived."""
NOTICES: dict[int, Message] = {STATUS_SIGNAL: StatusRequested(), VENTILATOR_DEAD: VentilatorDead()}
"""What the station receives for a signal that is not a request to stop."""
SIGNAL_NAMES: dict[int, str] = {signal.SIGINT: "^C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "SIGHUP"}


class SignalSource(Protocol):
    """Where signals arrive."""

    def fileno(self) -> int:
        """Readable when one has."""

    def read(self) -> list[int]:
        """Those that have."""


class EventLoop:
    """One station, its edges, and what wakes them."""

    def __init__(
        self,
        machine: StateMachine,
        adapters: dict[Port, Adapter],
        signals: SignalSource,
        monitor_fd: int | None = None,
        notify: Callable[[Message], None] = lambda _: None,
    ) -> None:
        self._machine, self._adapters = with_failpoints(machine, adapters)
        self._signals, self._monitor_fd, self._notify = signals, monitor_fd, notify
        self._poller = zmq.Poller()
        self._pollables: dict[Port, list[object]] = {}
        self._port_by_pollable: dict[object, Port] = {}
        self._pending_ports: set[Port] = set(adapters)
        self._stop_count = 0
        self._recent_messages: deque[Any] = deque(maxlen=HISTORY_SIZE)
        self._is_monitor_gone = False
        for fd in (signals.fileno(), monitor_fd):
            if fd is not None:
                self._poller.register(fd, zmq.POLLIN)

    def run(self) -> int:
        """Until the station is done; its exit code. Raises StationError for a bug of ours, with the last words."""
        try:
            self._send(self._machine.tick(time.monotonic()))
            while not self._machine.done and not self._is_monitor_gone:
                self._run_once()
        except PipelineError:
            raise
        except Exception as error:
            story = "\n  ".join(f"> {word!s:.300}" for word in self._recent_messages)
            raise InternalError(f"{type(error).__name__}: {error}\nthe last words were:\n  {story}") from error
        return errors.INCOMPLETE if self._is_monitor_gone else self._machine.exit_code

    def _run_once(self) -> None:
        """Wait, hear all that is ready and what that leads to, then let the station have its tick."""
        before = time.monotonic()
        wait = self._poll_timeout(before)
        ports = self._poll_ports(wait)
        stalled = time.monotonic() - before > STALL_SECONDS + wait / 1000
        while ports:
            for port in ports:
                for message in self._adapters[port].receive():
                    self._deliver(message)
                    if self._machine.done:
                        return
            self._update_poller(ports)
            ports = self._take_pending_ports() or (
                self._poll_ports(0) if stalled else []
            )  # nobody is silent whose words wait
        if self._machine.deadline <= time.monotonic():
            self._send(self._machine.tick(time.monotonic()))

    def _poll_timeout(self, now: float) -> int:
        """Milliseconds until somebody wants to be asked."""
        self._update_poller(self._pending_ports)
        deadline = min(self._machine.deadline, *(edge.deadline for edge in self._adapters.values()))
        return 0 if self._pending_ports or deadline <= now else math.ceil(min(deadline - now, 3600.0) * 1000)

    def _poll_ports(self, timeout_ms: int) -> list[Port]:
        """Which edges to ask: the ready, the due, and those that were just spoken to."""
        ready = [file for file, _ in self._poller.poll(timeout_ms)]
        now = time.monotonic()
        due = [port for port, edge in self._adapters.items() if edge.deadline <= now]
        for file in ready:
            if file == self._signals.fileno():
                self._on_signals()
            elif file == self._monitor_fd:
                self._is_monitor_gone = True
        heard = [self._port_by_pollable[file] for file in ready if file in self._port_by_pollable]
        return list(dict.fromkeys((*heard, *due, *self._take_pending_ports())))

    def _take_pending_ports(self) -> list[Port]:
        """The edges that were spoken to since the last call: they may have an answer."""
        touched, self._pending_ports = self._pending_ports, set()
        return list(touched)

    def _update_poller(self, ports: Iterable[Port]) -> None:
        """Poll what these edges want polled now; the others have not changed."""
        for port in ports:
            files, before = self._adapters[port].pollables(), self._pollables.get(port, [])
            if files == before:
                continue
            for file in before:
                bare = file[0] if isinstance(file, tuple) else file
                if self._port_by_pollable.pop(bare, None):
                    self._poller.unregister(bare)
            for file in files:
                bare, mask = file if isinstance(file, tuple) else (file, zmq.POLLIN)
                self._poller.register(bare, mask)
                self._port_by_pollable[bare] = port
            self._pollables[port] = files

    def _on_signals(self) -> None:
        for number in self._signals.read():
            if notice := NOTICES.get(number):
                self._deliver(notice)
                continue
            self._stop_count += 1
            self._notify(
                stop := StopRequest("soon" if self._stop_count == 1 else "now", SIGNAL_NAMES.get(number, str(number)))
            )
            self._deliver(stop)

    def _deliver(self, message: Message) -> None:
        kind: Any = type(message)  # hashable, which mypy can't see of so large a union
        self._recent_messages.append(_summarize(kind)(message))
        self._send(self._machine.receive(message, time.monotonic()))
        if isinstance(message, PeerRejected | CallableLoading | Waiting) or (
            isinstance(message, VersionMismatch) and not message.peer and not self._machine.done
        ):
            self._notify(message)  # the edge's to notice, and no station's business

    def _send(self, sends: list) -> None:  # type: ignore[type-arg]
        for send in sends:
            port = _port_for(send.to)
            if port is Port.USER:
                self._notify(send.message)
            else:
                self._adapters[port].send(send.to, send.message)
                self._pending_ports.add(port)


@cache
def _summarize(kind: type) -> attrgetter[Any]:
    """What the story keeps of a word: its kind and small fields, but no body, which would live on with it."""
    return attrgetter(
        "__class__.__name__", *(name for name, hint in kind.__annotations__.items() if hint not in {"bytes", "Result"})
    )


def _port_for(to: Address) -> Port:
    if isinstance(to, LaneAddress):
        return Port.LANES
    return Port.REGISTRY if isinstance(to, PeerAddress) else to
