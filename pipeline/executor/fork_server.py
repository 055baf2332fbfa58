"""The nursery: a small process that imports the person's module once and forks warm children from then on.

It is forked before the agent has a ZeroMQ context, so that the agent never forks afterwards. It is the parent of all
children: it alone reaps and signals them, so no signal can meet a process number that is somebody else's by now.
When a child dies, all that its tasks have started dies, too: what is left in its session, and the daemons, which are
the child's by then, since it is a subreaper, as the nursery is. When the agent closes its end of the control socket,
or dies, the nursery kills all that is below it and ends. It runs no task.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
import struct
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

from pipeline.executor import callable_loader, task_process
from pipeline.executor.child_channel import MAX_RESULT_BYTES, SharedBatch, receive_all
from pipeline.executor.limits import MAX_OUTPUT_BYTES
from pipeline.model.errors import UsageError
from pipeline.system.processes import become_subreaper, kill_descendants, list_children

ORDER_FORMAT = struct.Struct("<BI")
SPAWN_ORDER = 0
"""The order for a child; every other is the number of a signal for the one in that slot."""
EVENT_FORMAT = struct.Struct("<BIi")
LOAD_FAILED, STARTED, EXITED = range(3)
MAX_EVENT_BYTES = 64 << 10
MAX_DESCRIPTORS = 1 << 20
MAX_SHARED_BATCHES = 8
SHUTDOWN_MILLISECONDS = 2000
"""Milliseconds that a nursery gets to kill and reap its children."""


class ForkServerEvent(NamedTuple):
    """What the nursery tells. `value` is the pid of a BORN, the wait status of a DIED; `text` says why all is UNFIT."""

    kind: int
    slot: int
    value: int
    text: str


class ForkServer:
    """The agent's side: orders out, reports in. Nothing waits but `close`."""

    def __init__(self, call: str, init: str, max_result_bytes: int = MAX_OUTPUT_BYTES) -> None:
        """Fork it; `most` bytes a result may have. The process must not have a ZeroMQ context, nor threads."""
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._pids: dict[int, int] = {}
        self._pid = os.fork()
        if self._pid == 0:
            _ForkServerProcess(theirs, call, init, max_result_bytes).run()
        theirs.close()

    def fileno(self) -> int:
        """What to poll for reports; -1 when closed."""
        return self._control.fileno()

    def spawn(self, slot: int, channel: socket.socket, shared_batches: Sequence[SharedBatch]) -> None:
        """Ask for a child in `slot` that talks over this socket and works in these arenas."""
        with contextlib.suppress(OSError):  # a dead nursery tells it by its silence, in `reports`
            descriptors = [channel.fileno(), *(arena.descriptor for arena in shared_batches)]
            socket.send_fds(self._control, [ORDER_FORMAT.pack(SPAWN_ORDER, slot)], descriptors)

    def send_signal(self, slot: int, signum: int) -> None:
        """Send the child in `slot`, and its first group, a signal. Its death is reported."""
        with contextlib.suppress(OSError):
            self._control.send(ORDER_FORMAT.pack(signum, slot))

    def read_events(self) -> tuple[list[ForkServerEvent], bool]:
        """All that has come, and whether the nursery lives."""
        words, alive = receive_all(self._control, MAX_EVENT_BYTES)
        come = [
            ForkServerEvent._make((*EVENT_FORMAT.unpack_from(word), word[EVENT_FORMAT.size :].decode()))
            for word in words
        ]
        for report in come:
            self._pids[report.slot] = report.value if report.kind == STARTED else 0
        return come, alive

    def close(self) -> None:
        """End the nursery and all children, waiting for them to be gone."""
        if self.fileno() < 0:
            return
        _, alive = self.read_events()
        self._control.close()
        watch = os.pidfd_open(self._pid)
        poll = select.poll()
        poll.register(watch, select.POLLIN)
        # before its first child it may be deep in an import, and has nobody to kill
        orderly = poll.poll(SHUTDOWN_MILLISECONDS if alive and self._pids else 0)
        os.close(watch)
        if not orderly or not alive:
            for pid in (self._pid, *filter(None, self._pids.values())):
                signal_process(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._pid, 0)


class _ForkServerProcess:
    """The nursery from the inside: who lives, by the descriptor that tells of the death."""

    def __init__(self, control: socket.socket, call: str, init: str, max_result_bytes: int) -> None:
        self._control, self._call, self._init, self._max_result_bytes = control, call, init, max_result_bytes
        self._children: dict[int, tuple[int, int]] = {}
        self._module_pids: list[int] = []
        """The processes that the person's module has started."""
        self._poll = select.poll()
        self._function: Callable[..., Any] = len
        self._prepare: Callable[..., Any] | None = None

    def run(self) -> NoReturn:
        """Import, then obey until the agent is gone. Whatever happens, this process goes no further than here."""
        try:
            _detach(self._control.fileno())
            self._function = callable_loader.load_callable(self._call, "--call")
            self._prepare = callable_loader.load_callable(self._init, "--init") if self._init else None
            self._module_pids = list_children()
            import pipeline.executor.warm_process  # noqa: F401 - for the children; the agent does without

            gc.collect()
            gc.freeze()  # what is imported stays shared: no collection in a child shall write to its pages
            self._poll.register(self._control, select.POLLIN)
            while self._handle_events():
                pass
        except UsageError as error:
            self._control.send(
                EVENT_FORMAT.pack(LOAD_FAILED, 0, 0) + str(error).encode(errors="replace")[: MAX_EVENT_BYTES // 2]
            )
            while self._control.recv(ORDER_FORMAT.size):
                pass
        except Exception as error:  # noqa: BLE001 - told below
            _report_error(error)
        finally:
            task_process.kill_sessions({pid for _, pid in self._children.values()})
            for _, pid in self._children.values():
                signal_process(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            kill_descendants()
            os._exit(0)

    def _handle_events(self) -> bool:
        """Take what has come: an order, or deaths. False when the agent is gone."""
        for descriptor, _ in self._poll.poll():
            if descriptor != self._control.fileno():
                self._reap(descriptor)
            elif not self._handle_order():
                return False
        return True

    def _handle_order(self) -> bool:
        """One order of the agent; False when it is gone."""
        order, descriptors, _, _ = socket.recv_fds(
            self._control, ORDER_FORMAT.size, MAX_SHARED_BATCHES + 1, socket.MSG_CMSG_CLOEXEC
        )
        if not order:
            return False
        what, slot = ORDER_FORMAT.unpack(order)
        if what == SPAWN_ORDER:
            self._fork_child(slot, socket.socket(fileno=descriptors[0]), descriptors[1:])
        else:
            for number, pid in self._children.values():
                if number == slot:
                    signal_process(pid, what)
        return True

    def _fork_child(self, slot: int, channel: socket.socket, memory_fds: list[int]) -> None:
        """Fork the child of `slot`."""
        pid = os.fork()
        if pid == 0:
            self._child_main(channel, memory_fds)
        channel.close()
        for memory in memory_fds:
            os.close(memory)
        watch = os.pidfd_open(pid)
        self._children[watch] = slot, pid
        self._poll.register(watch, select.POLLIN)
        self._control.send(EVENT_FORMAT.pack(STARTED, slot, pid))

    def _child_main(self, channel: socket.socket, memory_fds: list[int]) -> NoReturn:
        """The child's whole life."""
        try:
            os.setsid()
            become_subreaper()
            self._control.close()
            for watch in self._children:
                os.close(watch)
            from pipeline.executor import warm_process

            work = warm_process.CallSpec(self._function, self._prepare, min(self._max_result_bytes, MAX_RESULT_BYTES))
            warm_process.run_child(channel, [SharedBatch(memory) for memory in memory_fds], work)
        except Exception as error:  # noqa: BLE001 - told below
            _report_error(error)
        finally:
            os._exit(0)

    def _reap(self, pidfd: int) -> None:
        """Reap a dead child and end what its tasks left running; tell the agent."""
        slot, pid = self._children.pop(pidfd)
        self._poll.unregister(pidfd)
        os.close(pidfd)
        task_process.kill_sessions({pid})
        _, status = os.waitpid(pid, 0)
        kill_descendants(except_pids={*self._module_pids, *(other for _, other in self._children.values())})
        self._control.send(EVENT_FORMAT.pack(EXITED, slot, status))


def signal_process(pid: int, signum: int) -> None:
    """Send a signal to the group that a process leads, or to itself if it leads none yet."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        try:
            os.killpg(pid, signum)
        except ProcessLookupError:
            os.kill(pid, signum)


def _ignore_signal(*_: object) -> None:
    """Do nothing: `pkill -USR1 pipe` asks everybody."""


def _report_error(error: Exception) -> None:
    """Show a bug of ours; that the agent is gone is none."""
    if not isinstance(error, OSError):
        sys.excepthook(type(error), error, error.__traceback__)


def _detach(control: int) -> None:
    """Keep nothing of the agent's: no terminal, no signals, no descriptor but `control`; prints go to stderr."""
    os.setsid()
    become_subreaper()
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the agent alone counts ^C
    signal.signal(signal.SIGUSR1, _ignore_signal)  # it alone says what runs; what tasks start has the default again
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - for this process's whole life, as the next
    sys.stdout = sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    os.closerange(3, control)
    os.closerange(control + 1, MAX_DESCRIPTORS)
