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

from pipeline.executor import callee, sessions
from pipeline.executor.arena import LARGEST, Arena
from pipeline.executor.hearing import heard
from pipeline.executor.limits import MOST_OUTPUT
from pipeline.house.processes import become_subreaper, children, kill_descendants
from pipeline.words.errors import UsageError

ORDER = struct.Struct("<BI")
SPAWN = 0
"""The order for a child; every other is the number of a signal for the one in that slot."""
REPORT = struct.Struct("<BIi")
UNFIT, BORN, DIED = range(3)
LONGEST = 64 << 10
MOST_DESCRIPTORS = 1 << 20
MOST_ARENAS = 8
GRACE = 2000
"""Milliseconds that a nursery gets to kill and reap its children."""


class Report(NamedTuple):
    """What the nursery tells. `value` is the pid of a BORN, the wait status of a DIED; `text` says why all is UNFIT."""

    what: int
    slot: int
    value: int
    text: str


class Nursery:
    """The agent's side: orders out, reports in. Nothing waits but `close`."""

    def __init__(self, call: str, init: str, most: int = MOST_OUTPUT) -> None:
        """Fork it; `most` bytes a result may have. The process must not have a ZeroMQ context, nor threads."""
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._pids: dict[int, int] = {}
        self._pid = os.fork()
        if self._pid == 0:
            _Ward(theirs, call, init, most).run()
        theirs.close()

    def fileno(self) -> int:
        """What to poll for reports; -1 when closed."""
        return self._control.fileno()

    def spawn(self, slot: int, talk: socket.socket, arenas: Sequence[Arena]) -> None:
        """Ask for a child in `slot` that talks over this socket and works in these arenas."""
        with contextlib.suppress(OSError):  # a dead nursery tells it by its silence, in `reports`
            descriptors = [talk.fileno(), *(arena.descriptor for arena in arenas)]
            socket.send_fds(self._control, [ORDER.pack(SPAWN, slot)], descriptors)

    def signal(self, slot: int, signum: int) -> None:
        """Send the child in `slot`, and its first group, a signal. Its death is reported."""
        with contextlib.suppress(OSError):
            self._control.send(ORDER.pack(signum, slot))

    def reports(self) -> tuple[list[Report], bool]:
        """All that has come, and whether the nursery lives."""
        words, alive = heard(self._control, LONGEST)
        come = [Report._make((*REPORT.unpack_from(word), word[REPORT.size :].decode())) for word in words]
        for report in come:
            self._pids[report.slot] = report.value if report.what == BORN else 0
        return come, alive

    def close(self) -> None:
        """End the nursery and all children, waiting for them to be gone."""
        if self.fileno() < 0:
            return
        _, alive = self.reports()
        self._control.close()
        watch = os.pidfd_open(self._pid)
        poll = select.poll()
        poll.register(watch, select.POLLIN)
        # before its first child it may be deep in an import, and has nobody to kill
        orderly = poll.poll(GRACE if alive and self._pids else 0)
        os.close(watch)
        if not orderly or not alive:
            for pid in (self._pid, *filter(None, self._pids.values())):
                send(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._pid, 0)


class _Ward:
    """The nursery from the inside: who lives, by the descriptor that tells of the death."""

    def __init__(self, control: socket.socket, call: str, init: str, most: int) -> None:
        self._control, self._call, self._init, self._most = control, call, init, most
        self._living: dict[int, tuple[int, int]] = {}
        self._imported: list[int] = []
        """The processes that the person's module has started."""
        self._poll = select.poll()
        self._function: Callable[..., Any] = len
        self._prepare: Callable[..., Any] | None = None

    def run(self) -> NoReturn:
        """Import, then obey until the agent is gone. Whatever happens, this process goes no further than here."""
        try:
            _alone(self._control.fileno())
            self._function = callee.find(self._call, "--call")
            self._prepare = callee.find(self._init, "--init") if self._init else None
            self._imported = children()
            import pipeline.executor.warm  # noqa: F401 - for the children; the agent does without

            gc.collect()
            gc.freeze()  # what is imported stays shared: no collection in a child shall write to its pages
            self._poll.register(self._control, select.POLLIN)
            while self._turn():
                pass
        except UsageError as error:
            self._control.send(REPORT.pack(UNFIT, 0, 0) + str(error).encode(errors="replace")[: LONGEST // 2])
            while self._control.recv(ORDER.size):
                pass
        except Exception as error:  # noqa: BLE001 - told below
            _confess(error)
        finally:
            sessions.kill({pid for _, pid in self._living.values()})
            for _, pid in self._living.values():
                send(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            kill_descendants()
            os._exit(0)

    def _turn(self) -> bool:
        """Take what has come: an order, or deaths. False when the agent is gone."""
        for descriptor, _ in self._poll.poll():
            if descriptor != self._control.fileno():
                self._bury(descriptor)
            elif not self._obey():
                return False
        return True

    def _obey(self) -> bool:
        """One order of the agent; False when it is gone."""
        order, descriptors, _, _ = socket.recv_fds(self._control, ORDER.size, MOST_ARENAS + 1, socket.MSG_CMSG_CLOEXEC)
        if not order:
            return False
        what, slot = ORDER.unpack(order)
        if what == SPAWN:
            self._bear(slot, socket.socket(fileno=descriptors[0]), descriptors[1:])
        else:
            for number, pid in self._living.values():
                if number == slot:
                    send(pid, what)
        return True

    def _bear(self, slot: int, talk: socket.socket, memories: list[int]) -> None:
        """Fork the child of `slot`."""
        pid = os.fork()
        if pid == 0:
            self._raise(talk, memories)
        talk.close()
        for memory in memories:
            os.close(memory)
        watch = os.pidfd_open(pid)
        self._living[watch] = slot, pid
        self._poll.register(watch, select.POLLIN)
        self._control.send(REPORT.pack(BORN, slot, pid))

    def _raise(self, talk: socket.socket, memories: list[int]) -> NoReturn:
        """The child's whole life."""
        try:
            os.setsid()
            become_subreaper()
            self._control.close()
            for watch in self._living:
                os.close(watch)
            from pipeline.executor import warm

            work = warm.Work(self._function, self._prepare, min(self._most, LARGEST))
            warm.live(talk, [Arena(memory) for memory in memories], work)
        except Exception as error:  # noqa: BLE001 - told below
            _confess(error)
        finally:
            os._exit(0)

    def _bury(self, watch: int) -> None:
        """Reap a dead child and end what its tasks left running; tell the agent."""
        slot, pid = self._living.pop(watch)
        self._poll.unregister(watch)
        os.close(watch)
        sessions.kill({pid})
        _, status = os.waitpid(pid, 0)
        kill_descendants(keep={*self._imported, *(other for _, other in self._living.values())})
        self._control.send(REPORT.pack(DIED, slot, status))


def send(pid: int, signum: int) -> None:
    """Send a signal to the group that a process leads, or to itself if it leads none yet."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        try:
            os.killpg(pid, signum)
        except ProcessLookupError:
            os.kill(pid, signum)


def _unasked(*_: object) -> None:
    """Do nothing: `pkill -USR1 pipe` asks everybody."""


def _confess(error: Exception) -> None:
    """Show a bug of ours; that the agent is gone is none."""
    if not isinstance(error, OSError):
        sys.excepthook(type(error), error, error.__traceback__)


def _alone(control: int) -> None:
    """Keep nothing of the agent's: no terminal, no signals, no descriptor but `control`; prints go to stderr."""
    os.setsid()
    become_subreaper()
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the agent alone counts ^C
    signal.signal(signal.SIGUSR1, _unasked)  # it alone says what runs; what tasks start has the default again
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - for this process's whole life, as the next
    sys.stdout = sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    os.closerange(3, control)
    os.closerange(control + 1, MOST_DESCRIPTORS)
