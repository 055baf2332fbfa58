"""Processes: fork, keepers, and the end of all descendants.

A forked process has a *keeper*, its parent, which runs no user code. Each of the two watches the other and,
when it dies, kills all that is left below: so nothing outlives a `kill -9` of either, daemonised tasks included,
because every process made here is a subreaper and inherits its orphans. Nothing here knows ZeroMQ. Linux only.
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
from pipeline.system.signals import FORWARDED_SIGNALS, SignalPipe, reset_in_child

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

PR_SET_CHILD_SUBREAPER = 36


class ProcessLinks(Struct):
    """This process among its relatives: the end of its keeper's pipe, and the pipe its own children watch."""

    monitor_fd: int | None = None
    child_pipe: tuple[int, int] | None = None


_links = ProcessLinks()


def monitor_fd() -> int | None:
    """A descriptor that becomes readable (at its end) when this process's keeper dies; None without a keeper."""
    return _links.monitor_fd


class ForkedProcess(Struct, frozen=True):
    """A forked process. `pidfd` becomes readable when it has ended."""

    pid: int
    pidfd: int

    def send_signal(self, signum: int) -> None:
        """Send a signal; nothing happens if it has ended."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signum)

    def forward_signal(self, signum: int) -> None:
        """Pass on a signal that this process was sent, or VENTILATOR_DEAD: the child's Signals report it as such."""
        self.send_signal(FORWARDED_SIGNALS[signum])

    def reap(self) -> int:
        """Wait for its end, once: the exit code, or minus the signal's number."""
        _, status = os.waitpid(self.pid, 0)
        os.close(self.pidfd)
        return os.waitstatus_to_exitcode(status)


def fork(run: Callable[[], int]) -> ForkedProcess:
    """A child that runs `run` and ends with its exit code (70 and a traceback after an exception).

    It is a subreaper with default signals, save that SIGINT and SIGHUP are ignored and that what its keeper
    passes on waits until it listens. Raises PipelineError when the system allows no more processes.
    """
    _links.child_pipe = _links.child_pipe or os.pipe()
    sys.stdout.flush()  # else the child would write our text again
    sys.stderr.flush()
    # No signal may run our handlers in the child, nor wake our poll from there.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            _child_main(run)
        return ForkedProcess(pid, os.pidfd_open(pid))
    except OSError as error:
        raise PipelineError(f"can't start another process: {error.strerror}") from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _child_main(run: Callable[[], int]) -> NoReturn:
    """The child's whole life. It never returns into its parent's stack."""
    code = INTERNAL_ERROR
    try:
        _reset_inherited_state()
        code = run()
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BaseException:  # noqa: BLE001  whatever it is, it ends here
        import traceback

        traceback.print_exc()
    finally:
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _reset_inherited_state() -> None:
    """What a fresh child lets go of, and what it keeps of its parent's: one end of a pipe."""
    reset_in_child()
    if _links.monitor_fd is not None:
        os.close(_links.monitor_fd)
    if _links.child_pipe is not None:
        _links.monitor_fd, ours = _links.child_pipe
        os.close(ours)
    _links.child_pipe = None
    become_subreaper()


def become_subreaper() -> None:
    """From now on orphaned descendants become children of this process, not of init."""
    import ctypes  # costs start-up time

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise PipelineError(f"can't become a subreaper: {os.strerror(ctypes.get_errno())}")


def list_children() -> list[int]:
    """The pids of this process's children, zombies too."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:  # spares the import
        return []
    import psutil  # costs start-up time

    return [child.pid for child in psutil.Process().children()]


def kill_descendants(except_pids: Collection[int] = (), timeout: float = 2.0) -> list[int]:
    """Kill and reap all descendants of this subreaper but those in and below the children `keep`.

    Wave by wave: killed children leave us theirs, however they daemonise or fork meanwhile, and a parent never
    outlives its child to start the next one. Answers with the pids that are left after `within` seconds.
    """
    if not list_children():
        return []
    import psutil  # costs start-up time

    deadline = time.monotonic() + timeout
    while strays := [child for child in psutil.Process().children() if child.pid not in except_pids]:
        left = deadline - time.monotonic()
        if left <= 0:
            break
        for stray in strays:
            with suppress(psutil.Error):
                stray.kill()
        psutil.wait_procs(strays, timeout=left)
    return [stray.pid for stray in strays]


def reap_orphans(own_pids: Collection[int]) -> None:
    """Reap what this process has inherited and what has ended since, up to the first of its `own` children.

    A task may leave processes in the background, and each is a zombie below us when it ends: they would become as
    many as there are numbers. Only for a forked child, all of whose own children are known to the caller.
    """
    if _links.monitor_fd is None:
        return
    with suppress(ChildProcessError):
        while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if ended.si_pid in own_pids:
                return
            os.waitpid(ended.si_pid, 0)


def run_under_monitor(run: Callable[[], int]) -> int:
    """Run `run` in a child whose keeper this process is, and answer with its exit code; nothing is left below.

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
        kill_descendants()
    if status < 0:
        raise PipelineError(f"the worker {describe_exit(status)}")
    return status
