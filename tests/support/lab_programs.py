"""The lab's programs as processes: started in a session of their own, so that whatever they leave behind is seen."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.processes import ROOT

TIMEOUT_SECONDS = 90.0  # seconds; what takes longer hangs
RESERVED = 64  # ports; no test has as many


@contextmanager
def start_program(*arguments: object, folder: Path | None = None) -> Iterator[subprocess.Popen[str]]:
    """`pipe lab WORDS`; its temporary files are in `folder`. All of its session is killed at the end."""
    program = subprocess.Popen(
        [sys.executable, "-m", "pipeline", "lab", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, **({"TMPDIR": str(folder)} if folder else {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield program
    finally:
        with suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)
        program.communicate()


def wait_for_end(program: subprocess.Popen[str]) -> tuple[int, str]:
    """Its exit code and what it printed since it was last read."""
    printed, _ = program.communicate(timeout=TIMEOUT_SECONDS)
    return program.returncode, printed


def run_lab(*arguments: object) -> tuple[int, str]:
    """Run `pipe lab WORDS` to its end."""
    with start_program(*arguments) as program:
        return wait_for_end(program)


def wait_until_ready(program: subprocess.Popen[str]) -> None:
    """Wait for the first line that it prints."""
    assert program.stdout
    assert program.stdout.readline() == "ready\n"


def becomes_true(condition: Callable[[], object]) -> bool:
    """Whether it becomes true in time."""
    until = time.monotonic() + TIMEOUT_SECONDS
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def is_session_empty(session: int) -> bool:
    """Whether no process of this session is left."""
    try:
        os.killpg(session, 0)
    except ProcessLookupError:
        return True
    return False


def own_host() -> str:
    """A loopback address for the default ports, which no other process of tests has, and nobody else."""
    return "127." + ".".join(
        str(part) for part in (64 + (os.getpid() >> 16), os.getpid() >> 8 & 255, os.getpid() & 255)
    )


_reserved: deque[socket.socket] = deque()


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, and that the kernel gives to nobody else while the test runs.

    A socket that is bound and does not listen keeps a port from those who ask for any. With SO_REUSEADDR on both sides,
    as libzmq has it, the port can still be bound by its number.
    """
    for _ in range(count):
        keeper = socket.socket()
        keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        keeper.bind(("127.0.0.1", 0))
        _reserved.append(keeper)
    found = [keeper.getsockname()[1] for keeper in list(_reserved)[-count:]]
    while len(_reserved) > RESERVED:
        _reserved.popleft().close()
    return found


def table_rows(printed: str) -> list[list[str]]:
    """The cells of a table below its heads; they have two spaces between them."""
    return [re.split(r"  +", line.strip()) for line in printed.splitlines()[1:]]
