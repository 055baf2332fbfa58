"""Children by fork, and their end.

Promises: when the block is left, however that comes about, none of its children lives and none is a zombie; they don't
outlive a parent that is killed either. A child never returns into the code of its parent. Fork before a context is
made, or make one of your own in the child.
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
    """A process for each of the works, ends with what it returns; who lives at the end is killed. Gives the pids."""
    sys.stdout.flush()  # else each child has what was not written yet, and writes it, too
    sys.stderr.flush()
    pids: list[int] = []
    try:
        for work in works:
            signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)  # else ^C may come when nobody knows the pid yet
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
    """How this child has ended: its exit code, or a signal's negative number; None if it still runs after `seconds`."""
    with closing(os.fdopen(os.pidfd_open(pid))) as watched:
        poll = select.poll()
        poll.register(watched, select.POLLIN)
        if not poll.poll(seconds * 1000):
            return None
    ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # it stays, so that nobody else can get its pid
    assert ended
    return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status


def _child(work: Callable[[], int | None], parent: int) -> NoReturn:
    """Do the work, and end here, or with the parent."""
    code = 1
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        if os.getppid() == parent:
            code = work() or 0
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BaseException:  # noqa: BLE001 -- the last place that can tell it
        traceback.print_exc()
    finally:
        with suppress(OSError):
            sys.stdout.flush()
        os._exit(code)
