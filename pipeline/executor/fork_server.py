"""Fork server: a small process that imports the user's module once and forks the warm processes.

The worker forks it before it has a ZeroMQ context, and never forks afterwards.

Invariants:
  - the fork server is the parent of all warm processes: it alone reaps and signals them, so no signal can reach another
    process that got the same pid;
  - when a warm process dies, all that its tasks started dies: its session, and daemons, which it inherits as subreaper;
  - when the worker closes its end of the control socket, or dies, the fork server kills all its descendants and ends;
  - it runs no task.
"""

from __future__ import annotations

import codecs
import gc
import os
import select
import signal
import socket
import struct
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, NoReturn

from pipeline.executor import callable_loader
from pipeline.executor.child_channel import MAX_RESULT_BYTES, HaltGate, SharedBatch, receive_all
from pipeline.executor.limits import UNLIMITED_BYTES
from pipeline.executor.task_process import kill_sessions
from pipeline.model.errors import UsageError
from pipeline.system.processes import become_subreaper, kill_descendants, list_children

ORDER_FORMAT = struct.Struct("<BI")  # kind, slot
SPAWN_ORDER = 0  # every other kind is the number of a signal to send
EVENT_FORMAT = struct.Struct("<BIi")
LOAD_FAILED, STARTED, EXITED = range(3)
SURROGATES = "pipe-surrogates"
"""Error handler of the streams to which the user's code prints."""
MAX_EVENT_BYTES = 64 << 10
MAX_DESCRIPTORS = 1 << 20
MAX_SHARED_BATCHES = 8
SHUTDOWN_MILLISECONDS = 2000  # for the fork server to kill and reap its processes


class ForkServerEvent(NamedTuple):
    """A report of the fork server: the pid of STARTED, the wait status of EXITED, the reason of LOAD_FAILED."""

    kind: int
    slot: int
    value: int
    text: str


class ForkServer:
    """The worker's side of the fork server. Nothing waits, except `close`."""

    def __init__(
        self, call: str, init: str, max_result_bytes: int = UNLIMITED_BYTES, halt_gate: HaltGate | None = None
    ) -> None:
        """Fork it. This process must not have a ZeroMQ context, nor threads."""
        self._control, server_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._pids: dict[int, int] = {}
        self._pid = os.fork()
        if self._pid == 0:
            _ForkServerProcess(server_end, call, init, max_result_bytes, halt_gate or HaltGate(0)).run()
        server_end.close()

    def fileno(self) -> int:
        """Return the descriptor to poll for events; -1 when closed."""
        return self._control.fileno()

    def spawn(self, slot: int, channel: socket.socket, shared_batches: Sequence[SharedBatch]) -> None:
        """Order a warm process that uses this socket and these shared memories."""
        with suppress(OSError):  # `read_events` reports a dead fork server
            descriptors = [channel.fileno(), *(shared_batch.descriptor for shared_batch in shared_batches)]
            socket.send_fds(self._control, [ORDER_FORMAT.pack(SPAWN_ORDER, slot)], descriptors)

    def send_signal(self, slot: int, signum: int) -> None:
        """Order a signal to the process of this slot and its first group. Its death will be an event."""
        with suppress(OSError):
            self._control.send(ORDER_FORMAT.pack(signum, slot))

    def read_events(self) -> tuple[list[ForkServerEvent], bool]:
        """Return all events that have arrived, and whether the fork server is alive."""
        messages, is_alive = receive_all(self._control, MAX_EVENT_BYTES)
        events = [
            ForkServerEvent._make((*EVENT_FORMAT.unpack_from(message), message[EVENT_FORMAT.size :].decode()))
            for message in messages
        ]
        for event in events:
            self._pids[event.slot] = event.value if event.kind == STARTED else 0
        return events, is_alive

    def close(self) -> None:
        """End the fork server and all warm processes, and wait for their end."""
        if self.fileno() < 0:
            return
        _, is_alive = self.read_events()
        self._control.close()
        pidfd = os.pidfd_open(self._pid)
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        # before its first process, it may be in a long import, and has no process to kill
        has_ended = poll.poll(SHUTDOWN_MILLISECONDS if is_alive and self._pids else 0)
        os.close(pidfd)
        if not has_ended or not is_alive:
            for pid in (self._pid, *filter(None, self._pids.values())):
                signal_process(pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(self._pid, 0)


class _ForkServerProcess:
    """The forked process itself; it knows its warm processes by their pidfds."""

    def __init__(
        self, control: socket.socket, call: str, init: str, max_result_bytes: int, halt_gate: HaltGate
    ) -> None:
        self._control, self._call, self._init, self._max_result_bytes = control, call, init, max_result_bytes
        self._halt_gate = halt_gate
        self._children: dict[int, tuple[int, int]] = {}
        """Slot and pid, by pidfd."""
        self._module_pids: list[int] = []
        """Processes that the user's module has started."""
        self._poll = select.poll()
        self._function: Callable[..., Any] = len
        self._prepare: Callable[..., Any] | None = None

    def run(self) -> NoReturn:
        """Import, then follow orders until the worker is gone. Do not return, whatever happens."""
        try:
            _detach(self._control.fileno())
            gc.enable()  # a worker of `pipe run` has disabled it for its start
            self._function = callable_loader.load_callable(self._call, "--call")
            self._prepare = callable_loader.load_callable(self._init, "--init") if self._init else None
            self._module_pids = list_children()
            import pipeline.executor.warm_process  # noqa: F401 - for the warm processes; the worker does not need it

            gc.collect()
            gc.freeze()  # imported objects stay shared: a collection in a warm process must not write to their pages
            self._poll.register(self._control, select.POLLIN)
            while self._handle_events():
                pass
        except UsageError as error:
            text = str(error).encode(errors="replace")[: MAX_EVENT_BYTES // 2]
            self._control.send(EVENT_FORMAT.pack(LOAD_FAILED, 0, 0) + text)
            while self._control.recv(ORDER_FORMAT.size):
                pass
        except Exception as error:  # noqa: BLE001 - reported
            _report_error(error)
        finally:
            kill_sessions({pid for _, pid in self._children.values()})
            for _, pid in self._children.values():
                signal_process(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            kill_descendants()
            os._exit(0)

    def _handle_events(self) -> bool:
        """Handle an order, or deaths; return False when the worker is gone."""
        for descriptor, _ in self._poll.poll():
            if descriptor != self._control.fileno():
                self._reap(descriptor)
            elif not self._handle_order():
                return False
        return True

    def _handle_order(self) -> bool:
        """Follow one order; return False when the worker is gone."""
        order, descriptors, _, _ = socket.recv_fds(
            self._control, ORDER_FORMAT.size, MAX_SHARED_BATCHES + 1, socket.MSG_CMSG_CLOEXEC
        )
        if not order:
            return False
        kind, slot = ORDER_FORMAT.unpack(order)
        if kind == SPAWN_ORDER:
            self._fork_child(slot, socket.socket(fileno=descriptors[0]), descriptors[1:])
        else:
            for child_slot, pid in self._children.values():
                if child_slot == slot:
                    signal_process(pid, kind)
        return True

    def _fork_child(self, slot: int, channel: socket.socket, memory_fds: list[int]) -> None:
        pid = os.fork()
        if pid == 0:
            self._child_main(channel, memory_fds)
        channel.close()
        for memory_fd in memory_fds:
            os.close(memory_fd)
        pidfd = os.pidfd_open(pid)
        self._children[pidfd] = slot, pid
        self._poll.register(pidfd, select.POLLIN)
        self._control.send(EVENT_FORMAT.pack(STARTED, slot, pid))

    def _child_main(self, channel: socket.socket, memory_fds: list[int]) -> NoReturn:
        """Run the warm process. Do not return, whatever happens."""
        try:
            os.setsid()
            become_subreaper()
            self._control.close()
            for pidfd in self._children:
                os.close(pidfd)
            from pipeline.executor import warm_process

            max_result_bytes = min(self._max_result_bytes, MAX_RESULT_BYTES)
            call_spec = warm_process.CallSpec(self._function, self._prepare, max_result_bytes, self._halt_gate)
            warm_process.run_child(channel, [SharedBatch(memory_fd) for memory_fd in memory_fds], call_spec)
        except Exception as error:  # noqa: BLE001 - reported
            _report_error(error)
        finally:
            os._exit(0)

    def _reap(self, pidfd: int) -> None:
        """Reap a dead process, kill what its tasks left running, and report it."""
        slot, pid = self._children.pop(pidfd)
        self._poll.unregister(pidfd)
        os.close(pidfd)
        kill_sessions({pid})
        _, wait_status = os.waitpid(pid, 0)
        kill_descendants(except_pids={*self._module_pids, *(other for _, other in self._children.values())})
        self._control.send(EVENT_FORMAT.pack(EXITED, slot, wait_status))


def signal_process(pid: int, signum: int) -> None:
    """Signal the group that a process leads, or only the process if it leads none yet."""
    with suppress(ProcessLookupError, PermissionError):
        try:
            os.killpg(pid, signum)
        except ProcessLookupError:
            os.kill(pid, signum)


def _report_error(error: Exception) -> None:
    """Print a bug of pipe. An OSError is none: the worker is gone."""
    if not isinstance(error, OSError):
        sys.excepthook(type(error), error, error.__traceback__)


def _encode_surrogates(error: UnicodeError) -> tuple[str | bytes, int]:
    """Encode lone surrogates as the bytes that they stand for; escape those that stand for none."""
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.lookup_error("backslashreplace")(error)


def _detach(control: int) -> None:
    """Keep nothing of the worker: no terminal, no signals, no descriptor but `control`. Prints go to stderr."""
    os.setsid()
    become_subreaper()
    signal.set_wakeup_fd(-1)
    for signum in signal.valid_signals():
        if callable(signal.getsignal(signum)):
            signal.signal(signum, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the worker handles Ctrl-C
    # `pkill -USR1 pipe` reaches this process too, but only the worker answers; tasks have the default handler again
    signal.signal(signal.SIGUSR1, lambda *_: None)
    null_fd = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null_fd, 0)
    os.dup2(2, 1)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - for the life of this process, as the next
    codecs.register_error(SURROGATES, _encode_surrogates)
    sys.stdout = sys.stderr = open(  # noqa: SIM115
        2, "w", buffering=1, encoding="utf-8", errors=SURROGATES, closefd=False
    )
    os.closerange(3, control)
    os.closerange(control + 1, MAX_DESCRIPTORS)
