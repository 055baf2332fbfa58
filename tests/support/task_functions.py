"""What tasks do in tests: callables for --call. A task is a word, and sometimes a file beside it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time


def words(path: str) -> int:
    """How many words a file has."""
    with open(path, "rb") as file:
        return len(file.read().split())


def hold_the_gil(task: str) -> str:
    """One call into C that lets no other thread run for about NAME:SECONDS; leaves a line in ./executed."""
    name, _, seconds = task.partition(":")
    with open("executed", "a") as file:
        file.write(f"{name}\n")
    started = time.perf_counter()
    sum(range(2_000_000))
    speed = 2_000_000 / (time.perf_counter() - started)
    sum(range(int(speed * float(seconds))))
    return name


def die(task: str) -> str:
    """End this process in the way that the task names, or answer with the task."""
    match task:
        case "segfault":
            ctypes.string_at(0)
        case "exit":
            os._exit(7)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "abort":
            os.abort()
        case "raise":
            raise ValueError(task)
    return task


not_callable = 5


def daemon(note: str = "") -> None:
    """Start a daemon that sleeps: out of its parent's session, and nobody's child; its pid in the file `note`."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            if note:
                with open(note, "w") as file:
                    file.write(str(os.getpid()))
            os.execvp("sleep", ["sleep", "1000"])  # noqa: S606 - there is nothing for a shell to do
        os._exit(0)
    os.wait()


if __name__ == "__main__":
    daemon(*sys.argv[2:])


def wait_for(path: str) -> int:
    """How often this was begun, as soon as there is that file; PATH.begun has a dot for each."""
    with open(f"{path}.begun", "a") as begun:
        begun.write(".")
    while not os.path.exists(path):
        time.sleep(0.01)
    return os.path.getsize(f"{path}.begun")
