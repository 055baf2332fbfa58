"""Processes: fork, monitor, and the end of all descendants. Linux only.

The parent of a forked process is its *monitor*: it runs no user code. Invariants:
  - each of the two notices when the other dies, and kills all processes that are left below itself;
  - each forked process is a subreaper, so it inherits its orphans, daemonised tasks included;
  - hence nothing survives a `kill -9` of either.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from msgspec import Struct

from pipeline.model.errors import INTERNAL_ERROR, PipelineError, describe_exit
from pipeline.system.libc import call_libc
from pipeline.system.signals import ALL_SIGNALS, FORWARDED_SIGNALS, SignalPipe, reset_in_child

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

PR_SET_CHILD_SUBREAPER = 36
"""From linux/prctl.h."""


class ProcessLinks(Struct):
    """The pipes to this process's monitor and to its own children. A pipe's end says that the process has died."""

    monitor_fd: int | None = None
    child_pipe: tuple[int, int] | None = None


_links = ProcessLinks()


def monitor_fd() -> int | None:
    """Return a descriptor that becomes readable when this process's monitor dies; None without a monitor."""
    return _links.monitor_fd


def run_under_monitor(run: Callable[[], int], *, keep_background: bool = False) -> int:
    """Run `run` in a child with this process as its monitor, kill what is left, and return the exit code.

    With `keep_background`, nothing is killed after exit code 0.

    Raises PipelineError when a signal killed the child.
    """
    become_subreaper()
    with SignalPipe() as signals:
        child = fork(run)
        poll = select.poll()
        poll.register(child.pidfd, select.POLLIN)
        poll.register(signals.fileno(), select.POLLIN)
        while child.pidfd not in dict(poll.poll()):
            for signum in signals.read():
                child.forward_signal(signum)
        status = child.reap()
        if status or not keep_background:
            kill_descendants()
    if status < 0:
        raise PipelineError(f"the worker {describe_exit(status)}")
    return status


class ForkedProcess(Struct, frozen=True):
    """A forked process. `pidfd` becomes readable when it has ended."""

    pid: int
    pidfd: int

    def send_signal(self, signum: int) -> None:
        """Send a signal, unless the process has ended."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signum)

    def forward_signal(self, signum: int) -> None:
        """Forward a signal that this process received, or a notice; the child's SignalPipe returns it."""
        self.send_signal(FORWARDED_SIGNALS[signum])

    def has_failed(self) -> bool:
        """Return whether the process has ended with another exit code than 0, without reaping it."""
        ended = os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return ended is not None and (ended.si_code, ended.si_status) != (os.CLD_EXITED, 0)

    def reap(self) -> int:
        """Wait for the end, once; return the exit code, or minus the signal's number."""
        _, status = os.waitpid(self.pid, 0)
        os.close(self.pidfd)
        return os.waitstatus_to_exitcode(status)


def fork(run: Callable[[], int]) -> ForkedProcess:
    """Fork a child that runs `run` and exits with its result (70 and a traceback after an exception).

    The child is a subreaper with default signal handlers, but it ignores SIGINT and SIGHUP, and forwarded signals stay
    pending until it reads them. Raises PipelineError when the system allows no more processes.
    """
    _links.child_pipe = _links.child_pipe or os.pipe()
    sys.stdout.flush()  # else the child would write our text again
    sys.stderr.flush()
    # No signal may run our handlers in the child, nor wake our poll from there.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ALL_SIGNALS)
    try:
        pid = os.fork()
        if pid == 0:
            _child_main(run)
        return ForkedProcess(pid, os.pidfd_open(pid))
    except OSError as error:
        raise PipelineError(f"cannot start another process: {error.strerror}") from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _child_main(run: Callable[[], int]) -> NoReturn:
    """Run the child, and never return into the parent's stack."""
    code = INTERNAL_ERROR
    try:
        _reset_inherited_state()
        code = run()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:  # noqa: BLE001 -- nothing may pass os._exit
        import traceback

        traceback.print_exc()
    finally:
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _reset_inherited_state() -> None:
    """Drop the parent's handlers and pipes, and keep one end of its pipe as the link to the monitor."""
    reset_in_child()
    if _links.monitor_fd is not None:
        os.close(_links.monitor_fd)
    if _links.child_pipe is not None:
        _links.monitor_fd, write_fd = _links.child_pipe
        os.close(write_fd)
    _links.child_pipe = None
    become_subreaper()


def become_subreaper() -> None:
    """Make orphaned descendants become children of this process, not of init."""
    if call_libc("prctl", PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise PipelineError("cannot become a subreaper: prctl() failed", "use Linux 3.4 or newer, and allow prctl()")


def list_children() -> list[int]:
    """Return the pids of this process's children, including zombies."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:  # spares the import
        return []
    import psutil  # costs start-up time

    return [child.pid for child in psutil.Process().children()]


def kill_descendants(except_pids: Collection[int] = (), timeout: float = 2.0) -> list[int]:
    """Kill and reap all descendants of this subreaper but the children `except_pids` and those below them.

    Killed children leave their own to us, however they daemonise or fork meanwhile, so we kill in waves: a parent never
    outlives its child to start the next one. Return the pids that are left after `timeout` seconds.
    """
    if not list_children():
        return []
    import psutil  # costs start-up time

    deadline = time.monotonic() + timeout
    while children := [child for child in psutil.Process().children() if child.pid not in except_pids]:
        seconds_left = deadline - time.monotonic()
        if seconds_left <= 0:
            break
        for child in children:
            with suppress(psutil.Error):
                child.kill()
        psutil.wait_procs(children, timeout=seconds_left)
    return [child.pid for child in children]


def reap_orphans(own_pids: Collection[int]) -> None:
    """Reap inherited processes that have ended, up to the first of `own_pids` that has ended.

    Processes that a task leaves in the background become zombies below this process, and would use up all pids. Only
    for a forked child whose own children are all in `own_pids`.
    """
    if _links.monitor_fd is None:
        return
    with suppress(ChildProcessError):
        while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if ended.si_pid in own_pids:
                return
            os.waitpid(ended.si_pid, 0)
