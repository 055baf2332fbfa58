"""The arithmetic of exec, compared with the kernel."""

from __future__ import annotations

import subprocess

import pytest

from pipeline.system.exec_limits import MAX_WORD_BYTES, environment_size, max_exec_bytes, words_size

PROGRAM = "/bin/true"


def can_execute(stack_kib: str, environment: dict[str, str], words: list[str]) -> bool:
    """Return whether a process with this stack limit can execute PROGRAM with these words."""
    command = ["/bin/sh", "-c", f'ulimit -S -s {stack_kib}; exec {PROGRAM} "$@"', "sh", *words]
    done = subprocess.run(command, check=False, cwd="/", env=environment, stderr=subprocess.DEVNULL)
    return done.returncode == 0


@pytest.mark.parametrize("variable_bytes", [10, 100_000])
@pytest.mark.parametrize("stack_kib", ["256", "600", "2048"])
@pytest.mark.parametrize("word", ["", "a word of 24 characters!"])
def test_exec_limit_is_that_of_the_kernel(stack_kib: str, variable_bytes: int, word: str) -> None:
    environment = {"PWD": "/", "LARGE": "x" * variable_bytes}
    used = environment_size({name.encode(): value.encode() for name, value in environment.items()})
    room = max_exec_bytes(int(stack_kib) << 10) - used - words_size([PROGRAM.encode()]) - len(PROGRAM) - 1
    count, rest = divmod(room, words_size([word.encode()]))
    full = [word + "x" * rest, *[word] * (count - 1)]
    assert can_execute(stack_kib, environment, full)
    assert not can_execute(stack_kib, environment, [full[0] + "x", *full[1:]])


def test_exec_limit_has_bounds() -> None:
    assert (max_exec_bytes(64 << 10), max_exec_bytes(8 << 20), max_exec_bytes(-1)) == (128 << 10, 2 << 20, 6 << 20)
    assert can_execute("8192", {}, ["x" * (MAX_WORD_BYTES - 1)])
