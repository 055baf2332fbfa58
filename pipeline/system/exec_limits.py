"""How large a command may be: the arithmetic of Linux for the words and the environment that exec takes.

Each word and each variable counts with its final NUL and a pointer, and the path of the program without a pointer.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable, Mapping

MAX_WORD_BYTES = 32 * os.sysconf("SC_PAGE_SIZE")
"""Limit of one word or variable with its NUL: MAX_ARG_STRLEN, which is 128 KiB with pages of 4 KiB."""
MIN_EXEC_BYTES, MAX_EXEC_BYTES = 128 << 10, 6 << 20
"""Bounds of the limit for all words and variables, however small or large the stack may become."""
POINTER_BYTES = 8


def max_exec_bytes(stack_bytes: int | None = None) -> int:
    """Return the limit for all words and variables: a quarter of the stack limit, by default of this process."""
    stack = resource.getrlimit(resource.RLIMIT_STACK)[0] if stack_bytes is None else stack_bytes
    quarter = MAX_EXEC_BYTES if stack == resource.RLIM_INFINITY else stack // 4
    return max(MIN_EXEC_BYTES, min(quarter, MAX_EXEC_BYTES))


def words_size(words: Iterable[bytes]) -> int:
    """Return the bytes that these words take."""
    return sum(len(word) + 1 + POINTER_BYTES for word in words)


def environment_size(environment: Mapping[bytes, bytes]) -> int:
    """Return the bytes that these variables take."""
    return sum(len(name) + len(value) + 2 + POINTER_BYTES for name, value in environment.items())
