"""Families that try to outlive their keeper, and the condition that none of them has.

FAMILY is the text of a function for a script: it starts one process of each kind that survives a plain kill of its
parent, each writing its pid into a folder.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
"""The folder of the repository."""
FAMILY_SCRIPT = """
import os, subprocess, sys, time

def note(folder, name, pid):
    with open(f"{folder}/.{name}", "w") as file:
        file.write(str(pid))
    os.rename(f"{folder}/.{name}", f"{folder}/{name}")

def family(folder, name):
    'A plain child, one in the background of a shell, one in its own session, and a daemon; and this process.'
    plain = subprocess.Popen(["sleep", "1000"])
    note(folder, f"{name}-plain", plain.pid)
    shell = f"sleep 1000 & echo $! >{folder}/.{name}-sh; mv {folder}/.{name}-sh {folder}/{name}-sh"
    subprocess.run(["sh", "-c", shell])
    session = subprocess.Popen(["sh", "-c", "sleep 1000; sleep 1000"], start_new_session=True)
    note(folder, f"{name}-session", session.pid)
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            note(folder, f"{name}-daemon", os.getpid())
            os.execvp("sleep", ["sleep", "1000"])
        os._exit(0)
    os.wait()
    note(folder, name, os.getpid())
"""
MEMBER_SUFFIXES = ("", "-plain", "-sh", "-session", "-daemon")


def run_script(code: str, *arguments: object) -> subprocess.Popen[str]:
    """A Python process that runs FAMILY and then `code`, with the repository on its path."""
    words = [sys.executable, "-c", FAMILY_SCRIPT + code, *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
    return subprocess.Popen(words, cwd=ROOT, text=True, **pipes)  # type: ignore[call-overload, no-any-return]


def read_line(process: subprocess.Popen[str], seconds: float = 60.0) -> str:
    """The next line that it writes, alone, to stdout."""
    assert process.stdout is not None
    assert select.select([process.stdout], [], [], seconds)[0], "waited in vain"
    return process.stdout.readline()


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait for a condition; fail after so many seconds. They only end a test that hangs, and promise nothing."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def wait_for_pids(folder: Path, *names: str) -> dict[str, int]:
    """Wait until the families of these names are complete, and name their members' pids."""
    wanted = [name + kind for name in names for kind in MEMBER_SUFFIXES]
    wait_until(lambda: all((folder / name).exists() for name in wanted))
    members = {name: int((folder / name).read_text()) for name in wanted}
    assert all(map(is_alive, members.values()))
    return members


def assert_none_alive(members: dict[str, int]) -> None:
    """Within 2 seconds, all of them are gone: nothing else ends them, for each sleeps 1000 seconds."""
    # A turn takes at least 5 ms, so 400 are never less than 2 s. They are more only where the scheduler delays this
    # process, and it delays those that kill likewise: with 8 processes for each CPU, the slowest needed 16 turns.
    for _ in range(400):
        left = {name for name, pid in members.items() if is_alive(pid)}
        if not left:
            return
        time.sleep(0.005)
    for name in left:
        os.kill(members[name], 9)
    raise AssertionError(f"orphans: {sorted(left)}")
