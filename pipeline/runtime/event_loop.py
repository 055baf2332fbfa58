"""The event loop: carries messages between one state machine and its adapters, and tells it the time.

- A turn polls until a file is ready or a deadline is due, then delivers the messages of every ready adapter.
- The state machine gets its tick only when everything that had arrived is delivered. Otherwise a peer whose messages
  wait in a socket would look dead.
- Signals become messages. The loop makes no decisions.
"""

from __future__ import annotations

import math
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import cache
from operator import attrgetter
from typing import Any, Literal, Protocol

import zmq

from pipeline.model import errors
from pipeline.model.errors import InternalError, PipelineError
from pipeline.model.events import (
    VENTILATOR_DEAD,
    WORKER_DEAD,
    CallableLoading,
    PeerRejected,
    StatusRequested,
    VentilatorDead,
    VersionMismatch,
    Waiting,
    WorkerDead,
)
from pipeline.model.messages import StopRequest
from pipeline.model.state_machine import Adapter, Address, LaneAddress, Message, PeerAddress, Port, Send, StateMachine
from pipeline.system.signals import STATUS_SIGNAL

HISTORY_SIZE = 50
"""Messages kept for the traceback of an internal error."""
STALL_SECONDS = 0.5
"""A poll that ends this late means that this process or the machine was suspended, so much may have arrived."""
NOTICES: dict[int, Message] = {
    STATUS_SIGNAL: StatusRequested(),
    VENTILATOR_DEAD: VentilatorDead(),
    WORKER_DEAD: WorkerDead(),
}
"""The messages of signals that are not a request to stop."""
SIGNAL_NAMES: dict[int, str] = {signal.SIGINT: "^C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "SIGHUP"}


class SignalSource(Protocol):
    """Source of signals."""

    def fileno(self) -> int:
        """Return a descriptor that is readable when signals have arrived."""

    def read(self) -> list[int]:
        """Return the signals that have arrived."""


class EventLoop:
    """One state machine with its adapters, polled until it is done."""

    def __init__(
        self,
        machine: StateMachine,
        adapters: dict[Port, Adapter],
        signals: SignalSource,
        monitor_fd: int | None = None,
        notify: Callable[[Message], None] = lambda _: None,
    ) -> None:
        self._machine, self._adapters = machine, adapters
        if os.environ.get("PIPE_FAILPOINT"):  # only tests need the import
            from pipeline.runtime.failpoints import with_failpoints

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
        """Run until the state machine is done or the monitoring process is gone; return the exit code.

        Raises:
            InternalError: a bug in pipe, with the last messages.
        """
        try:
            self._send(self._machine.tick(time.monotonic()))
            while not self._machine.done and not self._is_monitor_gone:
                self._run_once()
        except PipelineError:
            raise
        except Exception as error:
            history = "\n  ".join(f"> {message!s:.300}" for message in self._recent_messages)
            raise InternalError(f"{type(error).__name__}: {error}\nrecent messages:\n  {history}") from error
        return errors.INCOMPLETE if self._is_monitor_gone else self._machine.exit_code

    def _run_once(self) -> None:
        """Poll, deliver all messages and those that follow from them, then call `tick` if it is due."""
        started_at = time.monotonic()
        timeout_ms = self._poll_timeout(started_at)
        ports = self._poll_ports(timeout_ms)
        has_stalled = time.monotonic() - started_at > STALL_SECONDS + timeout_ms / 1000
        while ports:
            for port in ports:
                for message in self._adapters[port].receive():
                    self._deliver(message)
                    if self._machine.done:
                        return
            self._update_poller(ports)
            # after a stall, drain all sockets before `tick` checks heartbeats; otherwise live peers look dead
            ports = self._take_pending_ports() or (self._poll_ports(0) if has_stalled else [])
        if self._machine.deadline <= time.monotonic():
            self._send(self._machine.tick(time.monotonic()))

    def _poll_timeout(self, now: float) -> int:
        """Return the milliseconds until the next deadline."""
        self._update_poller(self._pending_ports)
        deadline = min(self._machine.deadline, *(adapter.deadline for adapter in self._adapters.values()))
        return 0 if self._pending_ports or deadline <= now else math.ceil(min(deadline - now, 3600.0) * 1000)

    def _poll_ports(self, timeout_ms: int) -> list[Port]:
        """Return the ports to receive from: readable, due, or sent to since the last turn."""
        ready = [file for file, _ in self._poller.poll(timeout_ms)]
        now = time.monotonic()
        due = [port for port, adapter in self._adapters.items() if adapter.deadline <= now]
        for file in ready:
            if file == self._signals.fileno():
                self._on_signals()
            elif file == self._monitor_fd:
                self._is_monitor_gone = True
        readable = [self._port_by_pollable[file] for file in ready if file in self._port_by_pollable]
        return list(dict.fromkeys((*readable, *due, *self._take_pending_ports())))

    def _take_pending_ports(self) -> list[Port]:
        """Return the ports that were sent to since the last call: their adapters may have an answer."""
        pending, self._pending_ports = self._pending_ports, set()
        return list(pending)

    def _update_poller(self, ports: Iterable[Port]) -> None:
        """Register what the adapters of these ports want polled now; the others have not changed."""
        for port in ports:
            files, registered = self._adapters[port].pollables(), self._pollables.get(port, [])
            if files == registered:
                continue
            for file in registered:
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
            mode: Literal["soon", "now"] = "soon" if self._stop_count == 1 else "now"
            request = StopRequest(mode, SIGNAL_NAMES.get(number, str(number)))
            self._notify(request)
            self._deliver(request)

    def _deliver(self, message: Message) -> None:
        kind: Any = type(message)  # hashable, which mypy does not see for so large a union
        self._recent_messages.append(_summarize(kind)(message))
        self._send(self._machine.receive(message, time.monotonic()))
        if isinstance(message, PeerRejected | CallableLoading | Waiting) or (
            isinstance(message, VersionMismatch) and not message.peer and not self._machine.done
        ):
            self._notify(message)  # a notice of an adapter, for the user only

    def _send(self, sends: list[Send]) -> None:
        for send in sends:
            port = _port_for(send.to)
            if port is Port.USER:
                self._notify(send.message)
            else:
                self._adapters[port].send(send.to, send.message)
                self._pending_ports.add(port)


@cache
def _summarize(kind: type) -> attrgetter[Any]:
    """Return a getter of type name and small fields. It leaves out bodies, which the history would keep in memory."""
    bodies = {"bytes", "Result", "LargeResult", "LargeContent"}
    return attrgetter(
        "__class__.__name__", *(name for name, hint in kind.__annotations__.items() if hint not in bodies)
    )


def _port_for(to: Address) -> Port:
    if isinstance(to, LaneAddress):
        return Port.LANES
    return Port.REGISTRY if isinstance(to, PeerAddress) else to
