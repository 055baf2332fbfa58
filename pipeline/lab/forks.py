"""Forked children that end with their parent.

Invariants:
  - when the block is left for any reason, all its children are dead and reaped;
  - children do not outlive a killed parent;
  - a child never returns into the code of its parent.
Fork before making a context, or make a new one in the child.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import NoReturn

INTERRUPTED = 130
PR_SET_PDEATHSIG = 1
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def fork_children(works: Iterable[Callable[[], int | None]]) -> Iterator[list[int]]:
    """Run each function in a child, which exits with what it returns. Yield the pids; kill the children at the end."""
    sys.stdout.flush()  # otherwise each child would write the buffered text again
    sys.stderr.flush()
    pids: list[int] = []
    try:
        for work in works:
            signal.pthread_sigmask(
                signal.SIG_BLOCK, STOP_SIGNALS
            )  # otherwise Ctrl-C could arrive before the pid is known
            parent, pid = os.getpid(), os.fork()
            if not pid:
                _child(work, parent)
            pids.append(pid)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        yield pids
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def wait_for_exit(pid: int, seconds: float) -> int | None:
    """Return the exit code of this child, or the negative signal number; None if it still runs after `seconds`."""
    with closing(os.fdopen(os.pidfd_open(pid))) as watched:
        poll = select.poll()
        poll.register(watched, select.POLLIN)
        if not poll.poll(seconds * 1000):
            return None
    ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # it stays a zombie, so that its pid is not reused
    assert ended
    return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status


def _child(work: Callable[[], int | None], parent: int) -> NoReturn:
    """Run the function and exit; die with the parent."""
    code = 1
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        if os.getppid() == parent:
            code = work() or 0
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BaseException:  # noqa: BLE001 -- the last place that can report it
        traceback.print_exc()
    finally:
        with suppress(OSError):
            sys.stdout.flush()
        os._exit(code)
